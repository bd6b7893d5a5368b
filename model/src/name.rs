//! Names and places that must not be swapped for each other.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// The name of a stream: it is its table's folder, and after `millstream.` its log topic.
///
/// `[a-z][a-z0-9_]*`, 1 to 64 characters: so it is a folder, a Kafka topic and an SQL name without quoting, anywhere.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StreamName(String);

/// Names that Millstream's own tables and log topics have.
pub const RESERVED_STREAMS: [&str; 4] = ["lifecycle", "notices", "quarantine", "unrouted"];

/// The stream of connects and disconnects. Its log topic is `millstream.lifecycle`.
pub const LIFECYCLE: &str = "lifecycle";

/// The log topic's name, without prefix, of messages that no stream claims; they have no table but quarantine.
pub const UNROUTED: &str = "unrouted";

/// The table of messages that could not become readings.
pub const QUARANTINE: &str = "quarantine";

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the name {0:?} is not of the form [a-z][a-z0-9_]* with at most 64 characters")]
pub struct BadName(pub String);

impl StreamName {
    /// Longest name, in characters.
    pub const MAX: usize = 64;

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The log topic that carries this stream.
    #[must_use]
    pub fn log_topic(&self) -> LogTopic {
        LogTopic(format!("millstream.{}", self.0))
    }

    /// Whether Millstream keeps this name for itself.
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        RESERVED_STREAMS.contains(&self.0.as_str())
    }
}

impl FromStr for StreamName {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let mut chars = text.chars();
        let head = chars.next().is_some_and(|first| first.is_ascii_lowercase());
        let tail = chars.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        if head && tail && text.len() <= Self::MAX {
            Ok(Self(text.to_owned()))
        } else {
            Err(BadName(text.to_owned()))
        }
    }
}

impl TryFrom<String> for StreamName {
    type Error = BadName;

    fn try_from(text: String) -> Result<Self, BadName> {
        text.parse()
    }
}

impl From<StreamName> for String {
    fn from(name: StreamName) -> Self {
        name.0
    }
}

impl fmt::Display for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A topic of the log (not of MQTT): `millstream.<stream>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogTopic(String);

impl LogTopic {
    /// Where notices of commits are written and read.
    #[must_use]
    pub fn notices() -> Self {
        Self("millstream.notices".to_owned())
    }

    /// Where connects and disconnects are written.
    #[must_use]
    pub fn lifecycle() -> Self {
        Self(format!("millstream.{LIFECYCLE}"))
    }

    /// Where messages go that no stream claims.
    #[must_use]
    pub fn unrouted() -> Self {
        Self(format!("millstream.{UNROUTED}"))
    }

    /// The topic as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for LogTopic {
    type Err = BadName;

    /// Reads `millstream.<name>`.
    fn from_str(text: &str) -> Result<Self, BadName> {
        let name = text.strip_prefix("millstream.").ok_or_else(|| BadName(text.to_owned()))?;
        name.parse::<StreamName>().map(|name| name.log_topic())
    }
}

impl fmt::Display for LogTopic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The number of a partition of a log topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Partition(pub i32);

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A place in one partition of the log. The first is 0, the next is always one more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Offset(pub i64);

impl Offset {
    /// Where every partition begins.
    pub const ZERO: Self = Self(0);

    /// The place behind this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One partition of one log topic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The log topic.
    pub topic: LogTopic,
    /// Which of its partitions.
    pub partition: Partition,
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_name_is_a_folder_a_topic_and_an_sql_name() {
        for good in ["a", "telemetry", "t2_x"] {
            assert_eq!(good.parse::<StreamName>().unwrap().as_str(), good);
        }
        for bad in ["", "Telemetry", "2t", "_t", "a-b", "a.b", "../x", "ä", &"x".repeat(65)] {
            assert_eq!(bad.parse::<StreamName>(), Err(BadName(bad.to_owned())));
        }
    }

    #[test]
    fn a_log_topic_reads_back() {
        let topic = "telemetry".parse::<StreamName>().unwrap().log_topic();
        assert_eq!(topic.as_str().parse(), Ok(topic));
        assert!("telemetry".parse::<LogTopic>().is_err());
    }
}
