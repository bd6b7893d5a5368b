//! What can go wrong in a log.

use millstream_model::fault::Fault;
use millstream_model::name::{Offset, TopicPartition};
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
}

impl LogError {
    /// What a caller can do.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Full { .. } | Self::Io { .. } => Fault::Retry,
            Self::Unknown { .. } => Fault::Reload,
            Self::TooLarge { .. }
            | Self::Trimmed { .. }
            | Self::BeyondEnd { .. }
            | Self::Damaged { .. }
            | Self::InUse { .. } => Fault::Stop,
        }
    }
}
