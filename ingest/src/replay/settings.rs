//! What a replay is asked to do. Values only; the components it works with are passed beside them.

use crate::replay::error::ReplayError;
use crate::replay::template::TopicTemplate;
use millstream_model::stream::TimeUnit;
use millstream_model::time::Micros;
use std::fmt;
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::time::Duration;

/// All settings of one replay.
#[derive(Debug, Clone)]
pub struct ReplaySettings {
    /// What is read, and how a record becomes a message.
    pub input: Input,
    /// How fast it goes.
    pub pace: Pace,
    /// To whom it is published, and how.
    pub connection: Connection,
}

impl ReplaySettings {
    /// Publishes these files to this broker, everything else by default.
    #[must_use]
    pub fn new(files: Vec<PathBuf>, topic: TopicTemplate, broker: Broker) -> Self {
        Self { input: Input::new(files, topic), pace: Pace::default(), connection: Connection::new(broker) }
    }

    /// Finds settings that contradict each other.
    pub(crate) fn check(&self) -> Result<(), ReplayError> {
        let refuse = |detail: &str| Err(ReplayError::Settings { detail: detail.to_owned() });
        let positive = |number: Option<f64>| number.is_none_or(|number| number.is_finite() && number > 0.0);
        if self.input.files.is_empty() {
            return refuse("there is no file to publish");
        }
        if !positive(self.pace.rate) || !positive(self.pace.speed) {
            return refuse("rate and speed must be positive numbers");
        }
        if self.input.time_field.is_none()
            && (self.pace.speed.is_some() || self.input.rebase != Rebase::AsRecorded)
        {
            return refuse("a speed or a shift of the event times needs the name of the time field");
        }
        if self.connection.client_id_prefix.is_empty() {
            return refuse("the prefix of the client ids is empty");
        }
        Ok(())
    }
}

/// What is read, and how a record becomes a message.
#[derive(Debug, Clone)]
pub struct Input {
    /// Read one behind the other, in this order. Gzip is recognised by its content.
    pub files: Vec<PathBuf>,
    /// `None`: by the file's name (`.csv`, `.ndjson`, `.jsonl`, `.json`, each also with `.gz`), else by its first character.
    pub format: Option<InputFormat>,
    /// The topic of a record. The fields in it stay in the payload.
    pub topic: TopicTemplate,
    /// The field with the event time; needed for a shift and for a speed.
    pub time_field: Option<String>,
    /// How a number in the time field counts.
    pub time_unit: TimeUnit,
    /// Whether event times are shifted.
    pub rebase: Rebase,
    /// CSV cells that mean "no value".
    pub missing: Vec<String>,
    /// What becomes of them.
    pub write_missing: WriteMissing,
    /// What becomes of lines that cannot be published.
    pub on_bad_line: OnBadLine,
    /// Publishes at most so many messages.
    pub limit: Option<u64>,
}

impl Input {
    fn new(files: Vec<PathBuf>, topic: TopicTemplate) -> Self {
        Self {
            files,
            format: None,
            topic,
            time_field: None,
            time_unit: TimeUnit::Auto,
            rebase: Rebase::AsRecorded,
            missing: vec![String::new(), "NA".to_owned()],
            write_missing: WriteMissing::LeaveOut,
            on_bad_line: OnBadLine::Skip,
            limit: None,
        }
    }
}

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputFormat {
    /// Comma-separated, with a header; a row becomes a JSON object.
    Csv,
    /// A JSON value a line, published byte for byte.
    Ndjson,
}

/// Whether event times are shifted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rebase {
    /// Event times stay as they are.
    AsRecorded,
    /// All event times are shifted by the same number of whole hours, the largest for which none lies after this instant. Costs a first pass over the files.
    EndAt(Micros),
}

/// What becomes of a CSV cell without a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteMissing {
    /// The field is left out of the object.
    LeaveOut,
    /// The field is null.
    Null,
}

/// What becomes of a line that cannot be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnBadLine {
    /// It is counted, the first ones are named in the summary, and the next line is read.
    Skip,
    /// The replay ends with an error.
    Fail,
}

/// How fast messages are published; without limits as fast as they are acknowledged. With both, the slower one holds.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pace {
    /// Messages per second, over all clients.
    pub rate: Option<f64>,
    /// Relative to the event times: 60 is an hour a minute. Where the event times go back by more than an hour (the next device's part of a file), the
    /// measure begins anew there; smaller steps back are published at once.
    pub speed: Option<f64>,
}

/// To whom it is published, and how.
#[derive(Debug, Clone)]
pub struct Connection {
    /// The broker's address.
    pub broker: Broker,
    /// `None`: plain text.
    pub tls: Option<TlsFiles>,
    /// Version of the protocol.
    pub version: MqttVersion,
    /// Which acknowledgement is asked for.
    pub qos: Qos,
    /// How many connections.
    pub clients: Clients,
    /// Unacknowledged messages per client; the broker's receive maximum may be less.
    pub in_flight: NonZeroU16,
    /// Client ids are `<prefix>-<run id>-<index>`.
    pub client_id_prefix: String,
    /// `None`: a random one, so that two replays do not take each other's sessions.
    pub run_id: Option<String>,
    /// Silence after which a connection is probed; the broker may ask for less. Zero: never.
    pub keep_alive: Duration,
    /// How long the broker keeps a session without a connection (MQTT 5).
    pub session_expiry: Duration,
    /// User and password, where the broker asks for them.
    pub credentials: Option<Credentials>,
    /// From dialling to the broker's answer.
    pub connect_timeout: Duration,
    /// What happens when a connection is lost.
    pub reconnect: Reconnect,
    /// A connection on which messages wait and none was acknowledged for so long is taken for dead.
    pub ack_timeout: Duration,
    /// How long a cancelled replay waits for the acknowledgements that are still on their way.
    pub drain_timeout: Duration,
}

impl Connection {
    /// MQTT 5, QoS 1, one client.
    #[must_use]
    pub fn new(broker: Broker) -> Self {
        Self {
            broker,
            tls: None,
            version: MqttVersion::V5,
            qos: Qos::AtLeastOnce,
            clients: Clients::Count(NonZeroU16::MIN),
            in_flight: NonZeroU16::MIN.saturating_add(255),
            client_id_prefix: "replay".to_owned(),
            run_id: None,
            keep_alive: Duration::from_secs(30),
            session_expiry: Duration::from_secs(3600),
            credentials: None,
            connect_timeout: Duration::from_secs(10),
            reconnect: Reconnect::default(),
            ack_timeout: Duration::from_secs(60),
            drain_timeout: Duration::from_secs(10),
        }
    }
}

/// TLS to the broker: PEM files.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TlsFiles {
    /// Authorities that the broker's certificate is checked by; the system's if there is none.
    pub ca: Option<PathBuf>,
    /// Our own certificate, where the broker asks for one.
    pub certificate: Option<PathBuf>,
    /// The certificate's private key.
    pub key: Option<PathBuf>,
}

/// Where the broker listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broker {
    /// Name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl fmt::Display for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Version of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MqttVersion {
    /// 3.1.1
    V311,
    /// 5.0
    V5,
}

/// Which acknowledgement is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Qos {
    /// None: nothing is counted as acknowledged, nothing is sent again.
    AtMostOnce,
    /// PUBACK.
    AtLeastOnce,
    /// PUBREC, PUBREL, PUBCOMP.
    ExactlyOnce,
}

/// How many connections, and which messages go over which. All messages of a topic go over one, so they stay in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clients {
    /// So many, chosen by a hash of the topic.
    Count(NonZeroU16),
    /// One for each topic, as real devices would; topics beyond the maximum share.
    PerTopic {
        /// Most connections.
        max: NonZeroU16,
    },
}

/// User and password. The password shows in no output.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user's name.
    pub user: String,
    /// The password, if there is one.
    pub password: Option<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let password = self.password.as_ref().map(|_| "<redacted>");
        f.debug_struct("Credentials").field("user", &self.user).field("password", &password).finish()
    }
}

/// What happens when a connection is lost: it is made anew after a wait that doubles each time, half of it random.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reconnect {
    /// The first wait.
    pub first: Duration,
    /// The longest wait.
    pub longest: Duration,
    /// Attempts of a client that was never connected: a wrong address should be said soon.
    pub first_attempts: u32,
    /// Attempts since the last acknowledgement.
    pub attempts: u32,
    /// Time since the last acknowledgement after which no attempt is made any more.
    pub give_up_after: Duration,
}

impl Default for Reconnect {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(100),
            longest: Duration::from_secs(5),
            first_attempts: 5,
            attempts: 100,
            give_up_after: Duration::from_secs(300),
        }
    }
}

impl Reconnect {
    /// The wait before an attempt, for a random number from 0 to 1.
    pub(crate) fn wait(&self, attempt: u32, random: f64) -> Duration {
        // 2^16 times the first wait is beyond every sensible longest one.
        let doubled = self.first.saturating_mul(1 << attempt.min(16)).min(self.longest);
        doubled.mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> ReplaySettings {
        let broker = Broker { host: "127.0.0.1".to_owned(), port: 1883 };
        ReplaySettings::new(vec!["a.csv".into()], "t".parse().unwrap(), broker)
    }

    #[test]
    fn contradictions_are_refused() {
        let check = |change: fn(&mut ReplaySettings), good: bool| {
            let mut settings = settings();
            change(&mut settings);
            assert_eq!(settings.check().is_ok(), good, "{settings:?}");
        };
        check(|_| (), true);
        check(|s| s.input.files.clear(), false);
        check(|s| s.pace.rate = Some(0.0), false);
        check(|s| s.pace.rate = Some(f64::INFINITY), false);
        check(|s| s.pace.speed = Some(60.0), false);
        check(|s| s.input.rebase = Rebase::EndAt(Micros(0)), false);
        check(|s| s.connection.client_id_prefix.clear(), false);
        check(
            |s| {
                s.input.time_field = Some("ts".to_owned());
                s.pace.speed = Some(60.0);
            },
            true,
        );
    }

    #[test]
    fn a_password_is_not_shown() {
        let mut settings = settings();
        settings.connection.credentials =
            Some(Credentials { user: "ann".to_owned(), password: Some("secret".to_owned()) });
        let shown = format!("{settings:?}");
        assert!(shown.contains("ann") && !shown.contains("secret"), "{shown}");
    }

    #[test]
    fn waits_double_up_to_the_longest_and_half_of_them_is_random() {
        let reconnect = Reconnect {
            first: Duration::from_millis(100),
            longest: Duration::from_secs(1),
            ..Reconnect::default()
        };
        let check = |attempt, random, millis| {
            assert_eq!(reconnect.wait(attempt, random), Duration::from_millis(millis), "{attempt} {random}")
        };
        check(0, 1.0, 100);
        check(0, 0.0, 50);
        check(2, 1.0, 400);
        check(40, 1.0, 1000);
        check(u32::MAX, 0.0, 500);
    }
}
