//! How a Kafka cluster is reached, and what its topics are to be like.

use crate::error::LogError;
use crate::kafka::context::{log_level, statistics};
use millstream_model::secret::Secret;
use rdkafka::ClientConfig;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// How the log on Kafka works.
#[derive(Clone)]
pub struct KafkaSettings {
    /// Brokers to begin with, `host:port`, separated by commas.
    pub brokers: String,
    /// The name under which the brokers know this program; also the group id of consumers that read by themselves, which never join it.
    pub client_id: String,
    /// How many partitions a new topic gets. An existing topic keeps what it has.
    pub partitions: u16,
    /// How many copies a new topic has.
    pub replication: u16,
    /// TLS to the brokers; `None` is plain text.
    pub tls: Option<Tls>,
    /// Who we are to the brokers.
    pub sasl: Option<Sasl>,
    /// Any properties of librdkafka; they win over everything else, but for those on which the log's promises stand: these are refused.
    pub properties: BTreeMap<String, String>,
    /// So many bytes of records wait at most to become durable; then `append` waits. An append that is larger by itself takes all of it.
    pub queue_bytes: usize,
    /// Bytes that one record may have, as [`Record::size`](millstream_model::record::Record::size) counts them. Where a topic takes less, that counts.
    pub record_max: usize,
    /// After so long an append that the brokers did not confirm is answered with [`LogError::Unknown`].
    pub append_timeout: Duration,
    /// How long one request of another kind may take; also how long opening waits for the first broker.
    pub request_timeout: Duration,
    /// After so long without a sign of life a member of a group is taken for dead, and the others get its partitions.
    pub session_timeout: Duration,
    /// So long a member may hold back what it is to give up, until it has flushed.
    pub release_timeout: Duration,
}

/// TLS to the brokers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// Certificates of the authorities that the brokers' are signed by, PEM; the system's if not given.
    pub ca: Option<PathBuf>,
    /// Our own certificate, PEM, where the brokers ask for one.
    pub certificate: Option<PathBuf>,
    /// Its key, PEM.
    pub key: Option<PathBuf>,
    /// What the key is encrypted with.
    pub key_password: Option<Secret>,
}

/// User and password, and how they are shown to the brokers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sasl {
    /// How.
    pub mechanism: Mechanism,
    /// The user.
    pub user: String,
    /// The user's password.
    pub password: Secret,
}

/// A SASL mechanism.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    /// The password goes over the wire: only with TLS, then.
    Plain,
    /// The password stays here.
    ScramSha256,
    /// The same with the longer hash.
    ScramSha512,
}

/// How many requests a client may have under way to one broker.
pub(crate) const IN_FLIGHT: &str = "max.in.flight.requests.per.connection";

/// Properties on which the log's promises stand, each with what stands on it.
const KEPT: [(&str, &str); 21] = [
    ("bootstrap.servers", "give it as `brokers`"),
    ("metadata.broker.list", "give it as `brokers`"),
    ("client.id", "give it as `client_id`"),
    ("group.id", "groups are named by the log"),
    ("acks", "what is acknowledged must be on all replicas in sync"),
    ("request.required.acks", "what is acknowledged must be on all replicas in sync"),
    ("delivery.report.only.error", "an append is answered when its delivery is reported"),
    ("enable.idempotence", "without it a retry doubles records or changes their order"),
    (IN_FLIGHT, "with more than one, what is acknowledged may be doubled when a broker fails"),
    ("max.in.flight", "with more than one, what is acknowledged may be doubled when a broker fails"),
    ("retries", "an append is tried for as long as it may take (message.timeout.ms)"),
    ("message.send.max.retries", "an append is tried for as long as it may take (message.timeout.ms)"),
    ("partitioner", "a device's partition is chosen by the log"),
    ("queue.buffering.max.messages", "the queue is bounded by bytes, in front of librdkafka"),
    ("queue.buffering.max.kbytes", "the queue is bounded by bytes, in front of librdkafka"),
    ("enable.auto.commit", "what is committed stands in the tables"),
    ("enable.auto.offset.store", "what is committed stands in the tables"),
    ("auto.offset.reset", "a gap is never skipped"),
    ("enable.partition.eof", "readers wait at the end"),
    ("partition.assignment.strategy", "members take and give up single partitions"),
    ("transactional.id", "the log does not use transactions"),
];

/// Other names of properties that are set here. Librdkafka takes both, and which one wins is chance.
const ALIASES: [(&str, &str); 5] = [
    ("queue.buffering.max.ms", "linger.ms"),
    ("delivery.timeout.ms", "message.timeout.ms"),
    ("compression.type", "compression.codec"),
    ("max.partition.fetch.bytes", "fetch.message.max.bytes"),
    ("sasl.mechanism", "sasl.mechanisms"),
];

impl KafkaSettings {
    /// The defaults, with these brokers.
    #[must_use]
    pub fn new(brokers: impl Into<String>) -> Self {
        Self {
            brokers: brokers.into(),
            client_id: "millstream".to_owned(),
            partitions: 4,
            replication: 1,
            tls: None,
            sasl: None,
            properties: BTreeMap::new(),
            queue_bytes: 32 * 1024 * 1024,
            // As the embedded log: a message of 128 KiB or the head of a larger one, and all the user properties that a packet of 1 MiB can carry.
            record_max: 2 * 1024 * 1024,
            append_timeout: Duration::from_secs(30),
            request_timeout: Duration::from_secs(15),
            session_timeout: Duration::from_secs(10),
            release_timeout: Duration::from_secs(60),
        }
    }

    /// What all clients have in common, then what this kind of client needs, then the properties that were passed through.
    ///
    /// # Errors
    /// [`LogError::Setting`] for a property that cannot be passed through, or that only makes sense with another.
    pub(crate) fn client(&self, own: &[(&str, &str)]) -> Result<ClientConfig, LogError> {
        self.check()?;
        let mut config = ClientConfig::new();
        config.set_log_level(log_level());
        config.set("bootstrap.servers", &self.brokers);
        config.set("client.id", &self.client_id);
        // A broker that is back is found within seconds, not within ten.
        config.set("reconnect.backoff.max.ms", "2000");
        config.set(
            "socket.connection.setup.timeout.ms",
            millis(self.request_timeout.max(Duration::from_secs(1))),
        );
        // Idle connections that a broker closes are no news.
        config.set("log.connection.close", "false");
        config.set("socket.keepalive.enable", "true");
        // Topics are made on purpose, with their partitions.
        config.set("allow.auto.create.topics", "false");
        self.security(&mut config);
        for (name, value) in own {
            config.set(*name, *value);
        }
        for (name, value) in &self.properties {
            if let Some((alias, real)) = ALIASES.iter().find(|(alias, real)| name == alias || name == real) {
                config.remove(alias);
                config.remove(real);
            }
            config.set(name, value);
        }
        // By them a client that has lost all brokers is found.
        let (name, value) = statistics(self);
        config.set(name, value);
        Ok(config)
    }

    fn security(&self, config: &mut ClientConfig) {
        let protocol = match (&self.tls, &self.sasl) {
            (None, None) => "plaintext",
            (Some(_), None) => "ssl",
            (None, Some(_)) => "sasl_plaintext",
            (Some(_), Some(_)) => "sasl_ssl",
        };
        config.set("security.protocol", protocol);
        if let Some(tls) = &self.tls {
            match &tls.ca {
                Some(ca) => config.set("ssl.ca.location", ca.to_string_lossy()),
                // The authorities of the system, wherever it keeps them.
                None => config.set("ssl.ca.location", "probe"),
            };
            let paths = [("ssl.certificate.location", &tls.certificate), ("ssl.key.location", &tls.key)];
            for (name, path) in paths {
                if let Some(path) = path {
                    config.set(name, path.to_string_lossy());
                }
            }
            if let Some(password) = &tls.key_password {
                config.set("ssl.key.password", password.expose());
            }
        }
        if let Some(sasl) = &self.sasl {
            config.set("sasl.mechanisms", sasl.mechanism.name());
            config.set("sasl.username", &sasl.user);
            config.set("sasl.password", sasl.password.expose());
        }
    }

    fn check(&self) -> Result<(), LogError> {
        let wrong = |setting: &str, detail: &str| {
            Err(LogError::Setting { setting: setting.to_owned(), detail: detail.to_owned() })
        };
        if self.brokers.trim().is_empty() {
            return wrong("brokers", "is empty: give at least one host:port");
        }
        if self.partitions == 0 || self.replication == 0 {
            return wrong("partitions, replication", "must be 1 or more");
        }
        if let Some(tls) = &self.tls
            && tls.certificate.is_some() != tls.key.is_some()
        {
            return wrong("certificate, key", "must be given both or neither");
        }
        let timeouts = ["message.timeout.ms", "delivery.timeout.ms"];
        let is_zero = |value: &String| {
            value.trim().trim_start_matches("0x").parse::<i64>().is_ok_and(|number| number == 0)
        };
        if let Some(name) = timeouts.iter().find(|name| self.properties.get(**name).is_some_and(is_zero)) {
            let why = "cannot be 0: an append that the brokers never confirm would never be answered";
            return wrong(&format!("properties.\"{name}\""), why);
        }
        match KEPT.iter().find(|(name, _)| self.properties.contains_key(*name)) {
            Some((name, why)) => wrong(&format!("properties.\"{name}\""), &format!("cannot be set: {why}")),
            None => Ok(()),
        }
    }
}

impl Mechanism {
    fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

/// A duration as librdkafka's properties have it.
pub(crate) fn millis(duration: Duration) -> String {
    duration.as_millis().to_string()
}

/// Whether the value of a property must not be shown.
pub(crate) fn is_secret(property: &str) -> bool {
    ["password", "secret", "token", "pem", "key", "oauthbearer", "assertion"]
        .iter()
        .any(|word| property.contains(word))
}

impl fmt::Debug for KafkaSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |(name, value): (&String, &String)| {
            (name.clone(), if is_secret(name) { "***".to_owned() } else { value.clone() })
        };
        let properties: BTreeMap<_, _> = self.properties.iter().map(shown).collect();
        f.debug_struct("KafkaSettings")
            .field("brokers", &self.brokers)
            .field("client_id", &self.client_id)
            .field("partitions", &self.partitions)
            .field("replication", &self.replication)
            .field("tls", &self.tls)
            .field("sasl", &self.sasl)
            .field("properties", &properties)
            .finish_non_exhaustive()
    }
}
