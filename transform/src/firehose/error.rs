//! What can stop a firehose.

use millstream_lake::LakeError;
use millstream_log::LogError;
use millstream_model::fault::Fault;
use millstream_model::name::{Offset, TopicPartition};
use millstream_readings::{SchemaError, TransformError};
use thiserror::Error;

/// Why a firehose stopped. All that passes by itself is tried again and never comes out of `run`, unless the program stops meanwhile.
#[derive(Debug, Error)]
pub enum FirehoseError {
    /// The table holds more of the partition than the log does.
    #[error(
        "table {table} holds {partition} up to offset {committed}, but the log ends before offset {next}: it is not the log that the table was filled from; \
         put that log back, or, to take up the new one from its beginning, raise the table property `millstream.epoch`"
    )]
    OtherLog {
        /// The table.
        table: String,
        /// The partition.
        partition: TopicPartition,
        /// Last offset in the table.
        committed: Offset,
        /// Next offset of the log.
        next: Offset,
    },
    /// The record at the last committed offset is another than the one that was committed.
    #[error(
        "the record at offset {committed} of {partition} is not the one that was committed to table {table} (fingerprint {found}, expected {expected}): \
         it is not the log that the table was filled from; put that log back, or, to take up the new one from its beginning, raise the table property `millstream.epoch`"
    )]
    OtherRecord {
        /// The table.
        table: String,
        /// The partition.
        partition: TopicPartition,
        /// The offset.
        committed: Offset,
        /// Fingerprint kept in the table.
        expected: String,
        /// Fingerprint of the record in the log.
        found: String,
    },
    /// Records that were never committed are gone from the log.
    #[error(
        "{partition} begins at offset {first}, but table {table} holds it only up to before offset {wanted}: the records between are gone from the log; \
         put a log back that has them, or, to go on without them, raise the table property `millstream.epoch` and take a log that begins at offset 0"
    )]
    Gap {
        /// The table.
        table: String,
        /// The partition.
        partition: TopicPartition,
        /// The offset that comes next for the table.
        wanted: Offset,
        /// The oldest offset of the log.
        first: Offset,
    },
    /// A table property of ours is not what we wrote.
    #[error("table {table} has {value:?} as its property `{property}`, which should be {expected}")]
    Property {
        /// The table.
        table: String,
        /// The property.
        property: &'static str,
        /// What it holds.
        value: String,
        /// What it should hold.
        expected: &'static str,
    },
    /// A column has another type in the table than the stream's definition gives it now.
    #[error(
        "column {column} of table {table} is {in_table}, but the stream now makes it {wanted}; give the column another name"
    )]
    ColumnType {
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// Its type in the table.
        in_table: String,
        /// Its type by the definition.
        wanted: String,
    },
    /// A commit was made that cannot be written down.
    #[error("failed to write the commit's decision")]
    Decision(#[from] serde_json::Error),
    /// The stream's definition does not work.
    #[error("the definition of stream {stream} does not work")]
    Definition {
        /// The stream.
        stream: String,
        /// Why.
        #[source]
        source: TransformError,
    },
    /// The stream's definition contradicts what its table has.
    #[error("the definition of stream {stream} does not fit its table")]
    Columns {
        /// The stream.
        stream: String,
        /// Why.
        #[source]
        source: SchemaError,
    },
    /// Another worker of the same log topic was faster.
    #[error("another worker wrote to table {table} meanwhile: {detail}")]
    Lost {
        /// The table.
        table: String,
        /// What was found.
        detail: String,
    },
    /// It was told to stop and could not commit what the log held. The next start commits it.
    #[error("the last messages are still in the log and not in the table, after {attempts} attempts")]
    Undrained {
        /// Attempts at the step that failed.
        attempts: u32,
        /// The last failure.
        #[source]
        source: Box<FirehoseError>,
    },
    /// The lake.
    #[error("the table's storage failed")]
    Lake(#[from] LakeError),
    /// The log.
    #[error("the log failed")]
    Log(#[from] LogError),
}

impl FirehoseError {
    /// What a caller can do.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Lake(error) => error.fault(),
            // Somebody who commits faster has trimmed meanwhile; whether records are really missing is seen when the partitions are owned again.
            Self::Log(LogError::Trimmed { .. }) => Fault::Reload,
            Self::Log(error) => error.fault(),
            Self::Lost { .. } => Fault::Reload,
            Self::OtherLog { .. }
            | Self::OtherRecord { .. }
            | Self::Gap { .. }
            | Self::Property { .. }
            | Self::ColumnType { .. }
            | Self::Decision(_)
            | Self::Columns { .. }
            | Self::Undrained { .. }
            | Self::Definition { .. } => Fault::Stop,
        }
    }
}
