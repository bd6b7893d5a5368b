//! What can stop a firehose.

use millstream_lake::LakeError;
use millstream_log::LogError;
use millstream_model::fault::Fault;
use millstream_model::name::{Offset, QUARANTINE, TopicPartition};
use millstream_readings::{SchemaError, TransformError};
use thiserror::Error;

/// Why a firehose stopped. All that passes by itself is tried again and never comes out of `run`, unless the program stops meanwhile.
#[derive(Debug, Error)]
pub enum FirehoseError {
    /// The table holds more of the partition than the log does.
    #[error(
        "table {table} holds {partition} up to offset {committed}, but the log ends before offset {next}: it is not the log that the table was filled from, or it has lost its end; \
         nothing was changed; put the log's directory or the folders of the ingestion bucket back from a backup; or, giving up what the table holds, {}",
        anew(.table)
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
         it is not the log that the table was filled from; nothing was changed; put the log's directory or the folders of the ingestion bucket back from a backup; \
         or, giving up what the table holds, {}",
        anew(.table)
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
         nothing was changed; put the log's directory back from a backup that has them; or, giving up them and what the table and the log hold, {}",
        all_anew(.table, .partition)
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
    /// A column would differ only by case from one that the table has.
    #[error(
        "table {table} cannot have the column {column} beside {in_table}, which differs only by case; give the column another name"
    )]
    ColumnCase {
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// The table's column.
        in_table: String,
    },
    /// The end of decoding was lost: the runtime is shutting down, or it panicked. The messages are in the log.
    #[error("failed to finish decoding for table {table}")]
    Interrupted {
        /// The table.
        table: String,
        /// What the runtime said.
        source: tokio::task::JoinError,
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
            Self::Lost { .. } | Self::Interrupted { .. } => Fault::Reload,
            Self::OtherLog { .. }
            | Self::OtherRecord { .. }
            | Self::Gap { .. }
            | Self::Property { .. }
            | Self::ColumnType { .. }
            | Self::ColumnCase { .. }
            | Self::Decision(_)
            | Self::Columns { .. }
            | Self::Undrained { .. }
            | Self::Definition { .. } => Fault::Stop,
        }
    }
}

/// How a table begins anew with the log that there is. Quarantine is no table for itself: what the streams' last commits put there is looked up in it.
fn anew(table: &str) -> String {
    if table == QUARANTINE {
        return EVERYTHING.to_owned();
    }
    format!(
        "stop the program and move the folder `{table}` of the ingestion bucket away: the table begins anew with what the log holds now"
    )
}

/// How a table and its part of the log begin anew.
fn all_anew(table: &str, partition: &TopicPartition) -> String {
    if table == QUARANTINE {
        return EVERYTHING.to_owned();
    }
    let topic = &partition.topic;
    format!(
        "stop the program and move the folder `{table}` of the ingestion bucket and the folder `{topic}` of the log's directory away: both begin anew"
    )
}

const EVERYTHING: &str = "stop the program and move all folders of the ingestion bucket and the log's directory away: everything begins anew";

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_model::name::{LogTopic, Partition, StreamName};

    fn gap(table: &str, topic: LogTopic) -> String {
        let partition = TopicPartition { topic, partition: Partition(0) };
        FirehoseError::Gap { table: table.to_owned(), partition, wanted: Offset(3), first: Offset(9) }
            .to_string()
    }

    #[test]
    fn a_refusal_says_what_a_person_can_do_today() {
        let topic = "telemetry".parse::<StreamName>().unwrap().log_topic();
        assert_eq!(
            gap("telemetry", topic),
            "millstream.telemetry/0 begins at offset 9, but table telemetry holds it only up to before offset 3: the records between are gone from the log; \
             nothing was changed; put the log's directory back from a backup that has them; or, giving up them and what the table and the log hold, \
             stop the program and move the folder `telemetry` of the ingestion bucket and the folder `millstream.telemetry` of the log's directory away: \
             both begin anew"
        );
        assert!(gap(QUARANTINE, LogTopic::unrouted()).ends_with(EVERYTHING));
    }
}
