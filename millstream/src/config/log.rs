//! Which log it is, embedded or Kafka, and how it keeps records.

use super::problem::Problem;
use super::raw::{Keep, Property, RawKafka, RawLog, RawSasl};
use super::secret::{SecretSource, check_secret};
use super::value::{Origin, Size, check_path};
use millstream_log::embedded::EmbeddedSettings;
use millstream_log::kafka::{KafkaSettings, Mechanism, Sasl, Tls};
use std::path::PathBuf;

/// Largest `segment_size`: a segment is trimmed only as a whole, so a larger one would hold on to too much of a disk.
const SEGMENT_MAX: u64 = 16 << 30;

/// Largest `reserve`: more is a slip of the unit, and a log that never has room.
const RESERVE_MAX: u64 = 1 << 40;

/// What names of Kafka begin with, unless it is configured.
const GROUP: &str = "millstream";

/// Longest group: what is made of it must still be a name in Kafka.
const GROUP_MAX: usize = 128;

/// The log.
#[derive(Debug, Clone)]
pub(crate) enum LogChoice {
    /// Segment files in the data directory: one process.
    Embedded(Embedded),
    /// Kafka: as many processes as there are.
    Kafka(Box<Kafka>),
}

/// The embedded log.
#[derive(Debug, Clone)]
pub(crate) struct Embedded {
    /// Its sizes.
    pub(crate) settings: EmbeddedSettings,
    /// What it keeps.
    pub(crate) keep: Keep,
}

/// The log on Kafka.
#[derive(Debug, Clone)]
pub(crate) struct Kafka {
    /// What the names of consumer groups begin with.
    pub(crate) group: String,
    /// What Millstream leaves in the topics; beyond that their own retention counts.
    pub(crate) keep: Keep,
    /// All but who we are.
    settings: KafkaSettings,
    sasl: Option<Login>,
}

/// Who we are for Kafka.
#[derive(Debug, Clone)]
struct Login {
    mechanism: Mechanism,
    user: String,
    password: SecretSource,
}

impl Kafka {
    /// What the log is opened with, its password read.
    ///
    /// # Errors
    /// If the file with the password cannot be read.
    pub(crate) fn settings(&self) -> anyhow::Result<KafkaSettings> {
        let sasl = match &self.sasl {
            Some(Login { mechanism, user, password }) => {
                Some(Sasl { mechanism: *mechanism, user: user.clone(), password: password.read()? })
            }
            None => None,
        };
        Ok(KafkaSettings { sasl, ..self.settings.clone() })
    }

    /// The files by which both sides know each other, where it is reached through TLS.
    pub(crate) fn tls(&self) -> Option<&Tls> {
        self.settings.tls.as_ref()
    }

    /// Where it is.
    pub(crate) fn brokers(&self) -> &str {
        &self.settings.brokers
    }

    /// Makes the log take what others let through.
    pub(super) fn take_records_of(&mut self, bytes: usize) {
        self.settings.record_max = self.settings.record_max.max(bytes);
    }
}

pub(super) fn check_log(
    log: RawLog,
    kafka: Option<RawKafka>,
    origin: &Origin,
    problems: &mut Vec<Problem>,
    warnings: &mut Vec<Problem>,
) -> Option<LogChoice> {
    let before = problems.len();
    let embedded = check_embedded(&log).map_err(|problem| problems.push(problem)).ok()?;
    let Some(kafka) = kafka else { return Some(LogChoice::Embedded(embedded)) };
    let Some(brokers) = kafka.brokers.clone() else {
        problems.push(
            Problem::new("kafka", "there is no `brokers`, so the other keys mean nothing")
                .hint("write brokers = \"host:9092\", or \"\" for the embedded log"),
        );
        return None;
    };
    if brokers.is_empty() {
        return Some(LogChoice::Embedded(embedded));
    }
    for key in changed(&embedded) {
        problems.push(Problem::new(key, "the log is Kafka, which does not know this key").hint(
            "leave it out; what Kafka keeps is said by `kafka.keep`, and by the topic's own `retention.ms`",
        ));
    }
    let kafka = check_kafka(kafka, brokers, origin, problems, warnings);
    kafka.filter(|_| problems.len() == before).map(|kafka| LogChoice::Kafka(Box::new(kafka)))
}

fn check_embedded(raw: &RawLog) -> Result<Embedded, Problem> {
    let mut settings = EmbeddedSettings::default();
    if let Some(partitions) = raw.partitions {
        if partitions == 0 {
            return Err(Problem::new("log.partitions", "must be at least 1"));
        }
        settings.partitions = partitions;
    }
    if let Some(Size(size)) = raw.segment_size {
        if !(1 << 20..=SEGMENT_MAX).contains(&size) {
            return Err(Problem::new("log.segment_size", "must be from 1MiB to 16GiB"));
        }
        settings.segment_bytes = size;
    }
    if let Some(Size(size)) = raw.reserve {
        if size > RESERVE_MAX {
            return Err(Problem::new("log.reserve", "must be at most 1TiB"));
        }
        settings.reserve_bytes = size;
    }
    Ok(Embedded { settings, keep: raw.keep.unwrap_or(Keep::Uncommitted) })
}

/// Keys of the embedded log that say something else than it does by itself. Printed defaults may stay where they are.
fn changed(embedded: &Embedded) -> impl Iterator<Item = &'static str> {
    let (own, settings) = (EmbeddedSettings::default(), &embedded.settings);
    let changed = [
        ("log.partitions", settings.partitions != own.partitions),
        ("log.segment_size", settings.segment_bytes != own.segment_bytes),
        ("log.reserve", settings.reserve_bytes != own.reserve_bytes),
        ("log.keep", embedded.keep != Keep::Uncommitted),
    ];
    changed.into_iter().filter(|(_, is_changed)| *is_changed).map(|(key, _)| key)
}

fn check_kafka(
    raw: RawKafka,
    brokers: String,
    origin: &Origin,
    problems: &mut Vec<Problem>,
    warnings: &mut Vec<Problem>,
) -> Option<Kafka> {
    check_brokers(&brokers, problems);
    let mut settings = KafkaSettings::new(brokers);
    settings.partitions = raw.partitions.unwrap_or(settings.partitions);
    settings.replication = raw.replication.unwrap_or(settings.replication);
    for (key, number) in
        [("kafka.partitions", settings.partitions), ("kafka.replication", settings.replication)]
    {
        if number == 0 {
            problems.push(Problem::new(key, "must be at least 1"));
        }
    }
    let group = raw.group.unwrap_or_else(|| GROUP.to_owned());
    let is_name = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if group.is_empty() || group.len() > GROUP_MAX || !group.chars().all(is_name) {
        problems.push(
            Problem::new(
                "kafka.group",
                format!("a group has 1 to {GROUP_MAX} letters, digits, `.`, `_` or `-`"),
            )
            .hint(format!("write group = \"{GROUP}\"")),
        );
    }
    let password =
        check_secret(origin, "kafka.password", raw.password, raw.password_file, problems, warnings);
    let uses_tls = raw.tls.unwrap_or(false);
    let mut file = |name: &str, path: Option<PathBuf>| {
        let key = format!("kafka.{name}");
        let checked = check_path(origin, &key, path.as_deref(), problems);
        if checked.is_some() && !uses_tls {
            problems.push(Problem::new(key, "without TLS it means nothing").hint("write tls = true"));
        }
        checked
    };
    let (ca, certificate, key) =
        (file("ca", raw.ca), file("certificate", raw.certificate), file("key", raw.key));
    let (certificate, key) = check_pair("kafka", certificate, key, problems).unzip();
    settings.tls = uses_tls.then_some(Tls { ca, certificate, key, key_password: None });
    let sasl = check_sasl(raw.sasl, raw.user, password, problems);
    let is_plain = sasl.as_ref().is_some_and(|sasl| sasl.mechanism == Mechanism::Plain);
    if is_plain && !uses_tls && !is_local(&settings.brokers) {
        warnings.push(
            Problem::new("kafka.sasl", "the password crosses the network in plain text")
                .hint("write tls = true, or take \"scram-sha-512\""),
        );
    }
    settings.client_id = raw.client_id.unwrap_or(settings.client_id);
    let text = |(name, value)| match value {
        Property::Text(text) => (name, text),
        Property::Number(number) => (name, number.to_string()),
        Property::Switch(switch) => (name, switch.to_string()),
    };
    settings.properties = raw.properties.into_iter().map(text).collect();
    Some(Kafka { group, keep: raw.keep.unwrap_or(Keep::Uncommitted), settings, sasl })
}

fn check_brokers(brokers: &str, problems: &mut Vec<Problem>) {
    for broker in brokers.split(',').map(str::trim) {
        let port = broker.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port);
        if port.and_then(|port| port.parse::<u16>().ok()).is_none_or(|port| port == 0) {
            problems.push(
                Problem::new("kafka.brokers", format!("{broker:?} is no host and port"))
                    .hint("write \"host:9092\", several separated by commas"),
            );
        }
    }
}

/// Whether all brokers are on this machine.
fn is_local(brokers: &str) -> bool {
    let local = ["127.", "localhost:", "[::1]:"];
    brokers.split(',').all(|broker| local.iter().any(|start| broker.trim().starts_with(start)))
}

fn check_sasl(
    mechanism: Option<RawSasl>,
    user: Option<String>,
    password: Option<SecretSource>,
    problems: &mut Vec<Problem>,
) -> Option<Login> {
    let Some(mechanism) = mechanism else {
        if user.is_some() || password.is_some() {
            problems.push(
                Problem::new("kafka.user", "there is no `sasl`, which says how user and password are sent")
                    .hint("write sasl = \"scram-sha-512\", \"scram-sha-256\" or \"plain\""),
            );
        }
        return None;
    };
    if user.as_deref().is_none_or(str::is_empty) {
        problems.push(Problem::new("kafka.sasl", "there is no `user`").hint("write user = \"NAME\""));
    }
    if password.is_none() {
        problems.push(
            Problem::new("kafka.sasl", "there is no password")
                .hint("name a file, password_file = \"FILE\", or set MILLSTREAM__KAFKA__PASSWORD"),
        );
    }
    let mechanism = match mechanism {
        RawSasl::Plain => Mechanism::Plain,
        RawSasl::ScramSha256 => Mechanism::ScramSha256,
        RawSasl::ScramSha512 => Mechanism::ScramSha512,
    };
    Some(Login { mechanism, user: user?, password: password? })
}

/// A certificate and its key: both, or neither.
pub(super) fn check_pair(
    table: &str,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    problems: &mut Vec<Problem>,
) -> Option<(PathBuf, PathBuf)> {
    let (lonely, other) = match (certificate, key) {
        (Some(certificate), Some(key)) => return Some((certificate, key)),
        (None, None) => return None,
        (Some(_), None) => ("certificate", "key"),
        (None, Some(_)) => ("key", "certificate"),
    };
    problems.push(
        Problem::new(format!("{table}.{lonely}"), format!("there is no `{other}` to it"))
            .hint("give certificate and key, or neither"),
    );
    None
}
