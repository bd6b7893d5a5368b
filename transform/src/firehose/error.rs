//! What can stop a firehose.

use millstream_lake::LakeError;
use millstream_log::LogError;
use millstream_model::fault::Fault;
use millstream_model::name::{LogTopic, Offset, Partition, TopicPartition};
use millstream_readings::{SchemaError, TransformError};
use std::time::Duration;
use thiserror::Error;

/// Why a firehose stopped. All that passes by itself is tried again and never comes out of `run`, unless the program stops meanwhile.
#[derive(Debug, Error)]
pub enum FirehoseError {
    /// The table holds more of the partition than the log does.
    #[error(
        "table {table} holds {partition} up to offset {committed}, but the log ends before offset {next}: it is not the log that the table was filled from, or it has lost its end; \
         nothing was changed; put the log or the folders of the ingestion bucket back from a backup; or {}",
        another(.partition, *.committed)
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
         it is not the log that the table was filled from; nothing was changed; put the log or the folders of the ingestion bucket back from a backup; or {}",
        another(.partition, *.committed)
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
         nothing was changed; put the log back from a backup that has them; or give them up: {} writes into the table that offsets \
         {wanted} to {} are lost, and goes on at offset {first}",
        accepting(.partition),
        .first.0 - 1
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
    /// Another partition of the topic is another one than it was, and whether this one is cannot be told.
    #[error(
        "table {table} holds {partition} up to offset {committed}, but its log does not say any more what the record there looked like, and no other partition is \
         the one that it was: to read {partition} again could double what the table has, not to could lose what the log has; nothing was changed; put the log or the \
         folders of the ingestion bucket back from a backup; or let this log's messages go to a stream of another name, with `start = \"earliest\"`"
    )]
    Unrecognised {
        /// The table.
        table: String,
        /// The partition.
        partition: TopicPartition,
        /// Last offset in the table.
        committed: Offset,
    },
    /// The log has a record and does not give it.
    #[error("the log did not give the record at offset {offset} of {partition} within {waited:?}")]
    Silent {
        /// The partition.
        partition: TopicPartition,
        /// The offset.
        offset: Offset,
        /// How long it was waited for.
        waited: Duration,
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
    /// It was told to stop, and did not learn from its group whether any of the log is its own to commit.
    #[error(
        "the group that shares out {topic} did not deal this worker a share within {waited:?} of the stop; nothing is lost: what the log still holds is committed by others, or at the next start"
    )]
    NoShare {
        /// The topic.
        topic: LogTopic,
        /// How long it was waited for.
        waited: Duration,
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
            // Somebody who commits faster has trimmed meanwhile, or it is another log now: what it is is seen when the partitions are owned again.
            Self::Log(LogError::Trimmed { .. } | LogError::BeyondEnd { .. }) => Fault::Reload,
            Self::Log(error) => error.fault(),
            Self::Silent { .. } => Fault::Retry,
            Self::Lost { .. } | Self::Interrupted { .. } => Fault::Reload,
            Self::OtherLog { .. }
            | Self::OtherRecord { .. }
            | Self::Gap { .. }
            | Self::Unrecognised { .. }
            | Self::Property { .. }
            | Self::ColumnType { .. }
            | Self::ColumnCase { .. }
            | Self::Decision(_)
            | Self::Columns { .. }
            | Self::Undrained { .. }
            | Self::NoShare { .. }
            | Self::Definition { .. } => Fault::Stop,
        }
    }
}

impl FirehoseError {
    /// The one partition at which it failed, where the error names it.
    #[must_use]
    pub fn partition(&self) -> Option<Partition> {
        match self {
            Self::OtherLog { partition, .. }
            | Self::OtherRecord { partition, .. }
            | Self::Gap { partition, .. }
            | Self::Unrecognised { partition, .. }
            | Self::Silent { partition, .. }
            | Self::Log(LogError::Trimmed { partition, .. } | LogError::BeyondEnd { partition, .. }) => {
                Some(partition.partition)
            }
            Self::Undrained { source, .. } => source.partition(),
            _ => None,
        }
    }
}

/// The way on with another log, and what it costs.
fn another(partition: &TopicPartition, committed: Offset) -> String {
    format!(
        "take this log for what it is: {} keeps all rows, writes into the table that what the former log held behind offset {committed} \
         is lost, and goes on with what this log holds and the former one did not",
        accepting(partition)
    )
}

/// The command that accepts what is missing, of all stages in one process and of the one alone.
fn accepting(partition: &TopicPartition) -> String {
    let topic = partition.topic.as_str();
    let stream = topic.strip_prefix("millstream.").unwrap_or(topic);
    format!(
        "`millstream up --accept-gap {stream}` (where the stages run apart, `millstream firehose --accept-gap {stream}`)"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_model::name::{LogTopic, StreamName};

    fn place(topic: LogTopic) -> TopicPartition {
        TopicPartition { topic, partition: Partition(0) }
    }

    #[test]
    fn a_refusal_names_the_command_and_what_it_costs() {
        let partition = place("telemetry".parse::<StreamName>().unwrap().log_topic());
        let table = "telemetry".to_owned();
        let gap = FirehoseError::Gap {
            table: table.clone(),
            partition: partition.clone(),
            wanted: Offset(3),
            first: Offset(9),
        };
        assert_eq!(
            gap.to_string(),
            "millstream.telemetry/0 begins at offset 9, but table telemetry holds it only up to before offset 3: the records between are gone from the log; \
             nothing was changed; put the log back from a backup that has them; or give them up: `millstream up --accept-gap telemetry` \
             (where the stages run apart, `millstream firehose --accept-gap telemetry`) writes into the table that offsets 3 to 8 are lost, and goes on at offset 9"
        );
        let other = FirehoseError::OtherLog { table, partition, committed: Offset(9), next: Offset(4) };
        assert_eq!(
            other.to_string(),
            "table telemetry holds millstream.telemetry/0 up to offset 9, but the log ends before offset 4: it is not the log that the table was filled from, or it \
             has lost its end; nothing was changed; put the log or the folders of the ingestion bucket back from a backup; or take this log for what it is: \
             `millstream up --accept-gap telemetry` (where the stages run apart, `millstream firehose --accept-gap telemetry`) keeps all rows, writes into the table that what the former log held behind offset 9 is lost, and goes on with \
             what this log holds and the former one did not"
        );
    }

    #[test]
    fn messages_that_no_stream_claims_have_a_name_there_too() {
        let partition = place(LogTopic::unrouted());
        let gap = FirehoseError::Gap {
            table: "quarantine".to_owned(),
            partition,
            wanted: Offset(0),
            first: Offset(1),
        };
        assert!(gap.to_string().contains("--accept-gap unrouted`"), "{gap}");
    }
}
