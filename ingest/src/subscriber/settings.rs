//! What a subscriber is told: the broker, what to subscribe to, and its limits.

use millstream_model::secret::Secret;
use std::fmt;
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;
use thiserror::Error;

/// One subscription to a broker.
#[derive(Debug, Clone)]
pub struct SubscriberSettings {
    /// Names the subscription in the program's log and in metrics.
    pub name: String,
    /// Where the broker is.
    pub broker: Broker,
    /// The protocol's version.
    pub version: MqttVersion,
    /// Topic filters; at least one. [`check_filter`] says which are possible.
    pub filters: Vec<String>,
    /// Subscribers that name the same group share the messages (`$share/<group>/<filter>`); without one, each gets all. [`check_group`] says which are possible.
    pub group: Option<String>,
    /// The broker keeps what was not acknowledged under this name, so it must stay the same across restarts, and no two processes may have the same.
    pub client_id: String,
    /// User, where the broker asks for one.
    pub user: Option<String>,
    /// The user's password.
    pub password: Option<Secret>,
    /// Certificates that the broker's is checked against, PEM; the system's if there is none. Read again at each connection, as the next two are.
    pub ca: Option<PathBuf>,
    /// Our own certificate and those that signed it, PEM, for brokers that know clients by it.
    pub certificate: Option<PathBuf>,
    /// The certificate's key, PEM.
    pub key: Option<PathBuf>,
    /// The connection is probed when nothing was heard for this long; at least a second. A broker that does not answer within as much again is given up.
    pub keep_alive: Duration,
    /// How long the broker is asked to keep the session without a connection (MQTT 5; with 3.1.1 the broker decides). Whole seconds; none is a session that begins
    /// and ends with the connection, also with 3.1.1.
    pub session_expiry: Duration,
    /// A file of this subscription alone, in which it says that the broker has given it a session. By it the next process knows whether a broker that has none has
    /// lost it; without one it does not. The folder is made if it is not there.
    pub session_mark: Option<PathBuf>,
    /// Messages that may wait for the log: the receive maximum. A broker of MQTT 5 holds back what is beyond; of one of 3.1.1 nothing more is read.
    pub receive_max: NonZeroU16,
    /// Bytes of messages that may wait for the log; then nothing more is read.
    pub in_flight_bytes: usize,
    /// Bytes of one packet with its header that are kept in memory; of a larger one only so much, and the rest is skipped as it comes. It is never less than what
    /// the longest topic takes, 64 KiB and some bytes.
    pub packet_max: u32,
    /// Bytes of one payload. Of a larger one only the head is kept, and it says how long it was.
    pub message_max: usize,
    /// Bytes that are kept of a payload that is too large.
    pub truncated_keep: usize,
    /// Time from dialling to the broker's answer to our CONNECT.
    pub connect_timeout: Duration,
    /// The pause before a reconnect grows from here,
    pub retry_min: Duration,
    /// to here; each is shortened by a random part of up to half, so that a fleet does not return in step.
    pub retry_max: Duration,
    /// How long a subscriber that stops, or whose connection ends, waits for the log to answer.
    pub drain_timeout: Duration,
}

impl SubscriberSettings {
    /// Shares no group, is nobody, and has the usual limits. Its client id is made of its name: who shares a group gives it one that the others do not have.
    #[must_use]
    pub fn new(name: &str, broker: Broker, filters: Vec<String>) -> Self {
        Self {
            client_id: format!("millstream-{name}"),
            name: name.to_owned(),
            broker,
            version: MqttVersion::V5,
            filters,
            group: None,
            user: None,
            password: None,
            ca: None,
            certificate: None,
            key: None,
            keep_alive: Duration::from_secs(30),
            session_expiry: Duration::from_secs(7 * 24 * 3600),
            session_mark: None,
            receive_max: NonZeroU16::new(1024).unwrap_or(NonZeroU16::MIN),
            in_flight_bytes: 64 << 20,
            packet_max: 1 << 20,
            message_max: 128 << 10,
            truncated_keep: 64 << 10,
            connect_timeout: Duration::from_secs(10),
            retry_min: Duration::from_millis(250),
            retry_max: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(5),
        }
    }

    /// The filters as they are subscribed to.
    pub(crate) fn subscriptions(&self) -> impl Iterator<Item = String> {
        self.filters.iter().map(|filter| match &self.group {
            Some(group) => format!("$share/{group}/{filter}"),
            None => filter.clone(),
        })
    }
}

/// The protocol's version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MqttVersion {
    /// MQTT 5.
    V5,
    /// MQTT 3.1.1, where the broker has no 5.
    V311,
}

impl fmt::Display for MqttVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V5 => "5",
            Self::V311 => "3.1.1",
        })
    }
}

impl FromStr for MqttVersion {
    type Err = BadVersion;

    fn from_str(text: &str) -> Result<Self, BadVersion> {
        match text {
            "5" => Ok(Self::V5),
            "3.1.1" => Ok(Self::V311),
            _ => Err(BadVersion(text.to_owned())),
        }
    }
}

/// A version that is not spoken.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("MQTT {0:?} is not known; there are \"5\" and \"3.1.1\"")]
pub struct BadVersion(String);

/// Where a broker is: `mqtt://host:port` or, through TLS, `mqtts://host:port`. The ports are 1883 and 8883 where none is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broker {
    /// Name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// What MQTT goes through.
    pub transport: Transport,
}

/// What MQTT goes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// TCP as it is.
    Plain,
    /// TLS over TCP.
    Tls,
}

/// Why a broker's address was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BadBroker {
    /// Neither of the two schemes.
    #[error("a broker is written mqtt://host:port, or mqtts://host:port for TLS")]
    Scheme,
    /// `user@` before the host.
    #[error("user and password have keys of their own, they do not belong into the address")]
    Credentials,
    /// Nothing before the port, or something that no host is called.
    #[error("the address has no host, or one with characters that no host has")]
    Host,
    /// Not 1 to 65535.
    #[error("{0:?} is no port")]
    Port(String),
}

impl FromStr for Broker {
    type Err = BadBroker;

    fn from_str(text: &str) -> Result<Self, BadBroker> {
        let (scheme, rest) = text.split_once("://").ok_or(BadBroker::Scheme)?;
        let (transport, usual) = match scheme {
            "mqtt" => (Transport::Plain, 1883),
            "mqtts" => (Transport::Tls, 8883),
            _ => return Err(BadBroker::Scheme),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains('@') {
            return Err(BadBroker::Credentials);
        }
        // An IPv6 address stands in brackets, because it has colons of its own.
        let (host, port) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, "")) => (host, None),
            Some((host, after)) => (host, Some(after.strip_prefix(':').ok_or(BadBroker::Host)?)),
            None => rest.split_once(':').map_or((rest, None), |(host, port)| (host, Some(port))),
        };
        if host.is_empty() || host.contains(|c: char| c.is_whitespace() || "/?#[]".contains(c)) {
            return Err(BadBroker::Host);
        }
        let port = match port {
            None => usual,
            Some(port) => match port.parse() {
                Ok(number) if number > 0 => number,
                _ => return Err(BadBroker::Port(port.to_owned())),
            },
        };
        Ok(Self { host: host.to_owned(), port, transport })
    }
}

impl fmt::Display for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, transport } = self;
        let scheme = match transport {
            Transport::Plain => "mqtt",
            Transport::Tls => "mqtts",
        };
        if host.contains(':') {
            write!(f, "{scheme}://[{host}]:{port}")
        } else {
            write!(f, "{scheme}://{host}:{port}")
        }
    }
}

/// Why a filter or a group was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BadFilter {
    /// Filters have at least one character.
    #[error("a topic filter cannot be empty")]
    Empty,
    /// Longer than the protocol can say.
    #[error("the topic filter is {0} bytes long, more than {FILTER_MAX}")]
    TooLong(usize),
    /// NUL stands in no text of MQTT.
    #[error("a topic filter cannot contain NUL")]
    Nul,
    /// `#` stands elsewhere than as the whole last level.
    #[error("`#` must be the whole last level")]
    RestNotLast,
    /// `+` stands beside other characters.
    #[error("the level {0:?} mixes a wildcard with text; a wildcard is a level of its own")]
    Mixed(String),
    /// `$share/` is written by us.
    #[error("give the group by `group`, and the filter without `$share/`")]
    Shared,
    /// A group is one level without wildcards.
    #[error("a group has at least one character, and neither `/`, `+`, `#` nor NUL")]
    Group,
}

/// Longest filter in bytes, so that `$share/` and a group still fit before it.
const FILTER_MAX: usize = 60_000;

/// Longest group in bytes.
const GROUP_MAX: usize = 256;

/// Whether a topic filter can be subscribed to (MQTT-4.7.1-1 to 3).
///
/// # Errors
/// What is wrong with it.
pub fn check_filter(filter: &str) -> Result<(), BadFilter> {
    if filter.is_empty() {
        return Err(BadFilter::Empty);
    }
    if filter.len() > FILTER_MAX {
        return Err(BadFilter::TooLong(filter.len()));
    }
    if filter.contains('\0') {
        return Err(BadFilter::Nul);
    }
    if filter.starts_with("$share/") {
        return Err(BadFilter::Shared);
    }
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        match level {
            "#" if levels.peek().is_some() => return Err(BadFilter::RestNotLast),
            "#" | "+" => {}
            _ if level.contains(['#', '+']) => return Err(BadFilter::Mixed(level.to_owned())),
            _ => {}
        }
    }
    Ok(())
}

/// Whether a group can share a subscription (MQTT-4.8.2-1).
///
/// # Errors
/// If not.
pub fn check_group(group: &str) -> Result<(), BadFilter> {
    let good = !group.is_empty() && group.len() <= GROUP_MAX && !group.contains(['/', '+', '#', '\0']);
    if good { Ok(()) } else { Err(BadFilter::Group) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_brokers_address_reads_back() {
        let check = |text: &str, expected: &str| {
            assert_eq!(text.parse::<Broker>().unwrap().to_string(), expected, "{text}");
        };
        check("mqtt://broker", "mqtt://broker:1883");
        check("mqtts://broker.example/", "mqtts://broker.example:8883");
        check("mqtt://10.0.0.1:1884", "mqtt://10.0.0.1:1884");
        check("mqtts://[::1]:8884", "mqtts://[::1]:8884");
        check("mqtt://[fe80::1]", "mqtt://[fe80::1]:1883");
    }

    #[test]
    fn a_bad_address_says_what_is_wrong() {
        let check = |text: &str, expected: BadBroker| {
            assert_eq!(text.parse::<Broker>().unwrap_err(), expected, "{text}");
        };
        check("broker:1883", BadBroker::Scheme);
        check("tcp://broker:1883", BadBroker::Scheme);
        check("mqtt://u:p@broker", BadBroker::Credentials);
        check("mqtt://:1883", BadBroker::Host);
        check("mqtt://", BadBroker::Host);
        check("mqtt://broker/path", BadBroker::Host);
        check("mqtt://[::1]x", BadBroker::Host);
        check("mqtt://broker:0", BadBroker::Port("0".to_owned()));
        check("mqtt://broker:70000", BadBroker::Port("70000".to_owned()));
        check("mqtt://broker:", BadBroker::Port(String::new()));
    }

    #[test]
    fn filters_and_groups_are_as_mqtt_wants_them() {
        let check = |filter: &str, expected: Result<(), BadFilter>| {
            assert_eq!(check_filter(filter), expected, "{filter}");
        };
        check("#", Ok(()));
        check("devices/+/telemetry", Ok(()));
        check("/a//b/#", Ok(()));
        check("$SYS/#", Ok(()));
        check("", Err(BadFilter::Empty));
        check("a/#/b", Err(BadFilter::RestNotLast));
        check("a/b#", Err(BadFilter::Mixed("b#".to_owned())));
        check("a+/b", Err(BadFilter::Mixed("a+".to_owned())));
        check("a\0", Err(BadFilter::Nul));
        check("$share/g/a", Err(BadFilter::Shared));
        assert_eq!(check_group("millstream"), Ok(()));
        for bad in ["", "a/b", "a+", "#"] {
            assert_eq!(check_group(bad), Err(BadFilter::Group), "{bad}");
        }
    }

    #[test]
    fn a_group_stands_before_each_filter() {
        let broker = "mqtt://broker".parse().unwrap();
        let settings = SubscriberSettings::new("plant", broker, vec!["a/#".to_owned(), "b".to_owned()]);
        assert_eq!(settings.subscriptions().collect::<Vec<_>>(), ["a/#", "b"]);
        let settings = SubscriberSettings { group: Some("g".to_owned()), ..settings };
        assert_eq!(settings.subscriptions().collect::<Vec<_>>(), ["$share/g/a/#", "$share/g/b"]);
    }
}
