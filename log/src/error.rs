//! What can go wrong in a log.

use millstream_model::fault::Fault;
use millstream_model::name::{LogTopic, Offset, TopicPartition};
use std::path::PathBuf;
use std::sync::Arc;
use thiserror::Error;

/// A failure of the log. Clonable, because one failed write fails every append that went with it.
#[derive(Debug, Clone, Error)]
pub enum LogError {
    /// A record is larger than the log takes.
    #[error("a record of {size} bytes is larger than the log's limit of {limit}")]
    TooLarge {
        /// Bytes of the record.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// There is no room. Nothing was written; appends succeed again when there is room.
    #[error("no room on the disk of {path}: {free} bytes are free and {reserve} are kept in reserve")]
    Full {
        /// The log's directory.
        path: PathBuf,
        /// Bytes free.
        free: u64,
        /// Bytes that are kept free.
        reserve: u64,
    },
    /// Reading or writing a file failed. Nothing of the append can be read later.
    #[error("{action} {path}")]
    Io {
        /// What was tried, as in "write".
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: Arc<std::io::Error>,
    },
    /// Whether the records were appended is not known.
    #[error("the append's outcome is unknown: {detail}")]
    Unknown {
        /// Why.
        detail: String,
    },
    /// The records from the wanted offset on were trimmed.
    #[error("{partition} begins at offset {first}; offset {wanted} was trimmed")]
    Trimmed {
        /// The partition.
        partition: TopicPartition,
        /// What was asked for.
        wanted: Offset,
        /// The oldest that is there.
        first: Offset,
    },
    /// The wanted offset lies behind the end.
    #[error("{partition} ends before offset {next}; offset {wanted} was never written")]
    BeyondEnd {
        /// The partition.
        partition: TopicPartition,
        /// What was asked for.
        wanted: Offset,
        /// The next offset that will be written.
        next: Offset,
    },
    /// The storage holds something else than was written.
    #[error("{path} is damaged at byte {at}: {detail}; `millstream log repair` would {repair}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where in it.
        at: u64,
        /// What was found.
        detail: String,
        /// What repairing would do.
        repair: String,
    },
    /// Another process has the log open.
    #[error(
        "{path} is in use by another millstream (process {holder}); stop it first, or give another directory with --data"
    )]
    InUse {
        /// The log's directory.
        path: PathBuf,
        /// Process id as the lock file says, or "unknown".
        holder: String,
    },
    /// The log was closed by its owner.
    #[error("the log is closed")]
    Closed,
    /// A setting that cannot be.
    #[error("the Kafka setting {setting} {detail}")]
    Setting {
        /// Its name, as in `properties."acks"`.
        setting: String,
        /// What is wrong with it, without the value if that may be a secret.
        detail: String,
    },
    /// No broker answered in time.
    #[error(
        "failed to {action}: no Kafka broker of {brokers} answers ({detail}); is it running, and is that its address?"
    )]
    Unreachable {
        /// What was tried, as in "look up topic millstream.telemetry".
        action: String,
        /// The brokers of the settings.
        brokers: String,
        /// What the connections failed by.
        detail: String,
    },
    /// A broker answered with an error that may pass.
    #[error("failed to {action}: Kafka says {detail}")]
    Broker {
        /// What was tried.
        action: String,
        /// The broker's words.
        detail: String,
    },
    /// A broker refuses us, now and later.
    #[error("failed to {action}: Kafka refuses it: {detail}; {advice}")]
    Refused {
        /// What was tried.
        action: String,
        /// The broker's words.
        detail: String,
        /// What a person can do.
        advice: &'static str,
    },
    /// A topic is not fit to be a log.
    #[error("the Kafka topic {topic} {detail}")]
    Topic {
        /// The topic.
        topic: LogTopic,
        /// What about it, and what to do.
        detail: String,
    },
    /// There is a hole in a partition.
    #[error(
        "{partition} has no record at offset {wanted}, the next is {found}: somebody wrote to it in transactions, compacted it, or lost a part of it; millstream never skips what it cannot account for"
    )]
    Missing {
        /// The partition.
        partition: TopicPartition,
        /// What should have come.
        wanted: Offset,
        /// What came.
        found: Offset,
    },
    /// A header that the log cannot keep as it is.
    #[error("a header's name, {name:?}, contains a NUL character")]
    Header {
        /// Its name.
        name: String,
    },
}

impl LogError {
    /// What a caller can do.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Full { .. }
            | Self::Io { .. }
            | Self::Closed
            | Self::Unreachable { .. }
            | Self::Broker { .. } => Fault::Retry,
            Self::Unknown { .. } => Fault::Reload,
            Self::TooLarge { .. }
            | Self::Trimmed { .. }
            | Self::BeyondEnd { .. }
            | Self::Damaged { .. }
            | Self::InUse { .. }
            | Self::Setting { .. }
            | Self::Refused { .. }
            | Self::Topic { .. }
            | Self::Missing { .. }
            | Self::Header { .. } => Fault::Stop,
        }
    }
}
