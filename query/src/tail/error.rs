//! Why what waits in the log cannot be part of an answer. Each says how to go on without it.

use crate::error::{Exceeded, QueryError, QueryErrorKind};
use millstream_lake::{GrowError, LakeError};
use millstream_log::LogError;
use millstream_model::name::{Offset, TopicPartition};
use millstream_model::time::Micros;
use millstream_readings::{SchemaError, TransformError};
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;

/// What every message about the tail ends with.
const WITHOUT: &str =
    "committed files alone can be asked: millstream sql --no-tail, or POST /v1/sql?tail=off";

/// Why a tail cannot be read.
#[derive(Debug, Error)]
pub(crate) enum TailError {
    /// The table could not be looked at.
    #[error(transparent)]
    Lake(#[from] LakeError),
    /// The log could not be read.
    #[error("read what waits in the log for {table}")]
    Log { table: String, source: LogError },
    /// The log did not answer, or did not give what it has.
    #[error("read what waits in the log for {table}: it gave no answer in {} s ({what})", waited.as_secs())]
    Silent { table: String, what: String, waited: Duration },
    /// The log ends before what is committed of it.
    #[error(
        "read what waits in the log for {table}: its files hold {partition} up to offset {committed}, but the log ends before offset {next}; it is not the log that they were filled from, or it has lost its end"
    )]
    OtherLog { table: String, partition: TopicPartition, committed: Offset, next: Offset },
    /// The record that was committed last is another one.
    #[error(
        "read what waits in the log for {table}: the record at offset {committed} of {partition} is not the one that was committed; it is not the log that the files were filled from"
    )]
    OtherRecord { table: String, partition: TopicPartition, committed: Offset },
    /// Records that are in no file are gone from the log.
    #[error(
        "read what waits in the log for {table}: {partition} begins at offset {first}, and the files hold it only up to before offset {wanted}; what lies between is gone from the log"
    )]
    Gap { table: String, partition: TopicPartition, wanted: Offset, first: Offset },
    /// The log was trimmed behind a commit, again and again, before it was read.
    #[error("read what waits in the log for {table}: it was committed and trimmed {looks} times meanwhile")]
    Moving { table: String, looks: usize },
    /// It takes more memory than there is for it: `needs` bytes at least, while `others` of the limit are taken by other tables, or by queries that still run.
    #[error(
        "{messages} messages of {table} wait in the log{}, and take more than the {limit} bytes of memory that there are for what waits{}",
        since.map(|since| format!(" since {since}")).unwrap_or_default(),
        if *others > 0 {
            format!("; {others} of them are taken by other tables, or by queries that still run")
        } else {
            String::new()
        }
    )]
    TooMuch { table: String, messages: i64, since: Option<Micros>, needs: usize, limit: usize, others: usize },
    /// The table contradicts the stream's definition.
    #[error("read what waits in the log for {table}")]
    Contradiction { table: String, source: GrowError },
    /// The schema kept with the table does not go with the stream's definition.
    #[error("read what waits in the log for {table}")]
    Columns { table: String, source: SchemaError },
    /// The stream's transform does not go with its fields.
    #[error("read what waits in the log for {table}")]
    Transform { table: String, source: TransformError },
    /// The table's epoch is no number.
    #[error("read what waits in the log for {table}: the epoch in its properties is no number")]
    Epoch { table: String },
    /// What is held is not what was asked for: a fault of ours, never an answer.
    #[error(
        "read what waits in the log for {table}: {partition} is not held from offset {from} to before {next}"
    )]
    Hole { table: String, partition: TopicPartition, from: Offset, next: Offset },
}

/// A [`TailError`] for everybody who waited for the same look.
#[derive(Debug, Clone)]
pub(crate) struct TailFailure(pub(super) Arc<TailError>);

impl fmt::Display for TailFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for TailFailure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

impl TailFailure {
    /// For whoever asked.
    pub(crate) fn to_query_error(&self) -> QueryError {
        let causes = std::iter::successors(self.source(), |&cause| cause.source()).map(ToString::to_string);
        let source = causes.reduce(|all, cause| format!("{all}: {cause}"));
        let error = match (&*self.0, source) {
            (TailError::TooMuch { .. }, _) => QueryError::limit(Exceeded::Memory, self.to_string())
                .hint("see why its firehose does not commit: system.partitions, or millstream doctor")
                .hint("or give it more: sql.tail_memory"),
            (_, Some(source)) => QueryError::storage(format!("failed to {self}"), source),
            (_, None) => QueryError::new(QueryErrorKind::Storage, format!("failed to {self}")),
        };
        match &*self.0 {
            TailError::Lake(_) => error,
            TailError::OtherLog { .. } | TailError::OtherRecord { .. } | TailError::Gap { .. } => error
                .hint("its firehose refuses that, too, and says what to do: millstream doctor")
                .hint(WITHOUT),
            _ => error.hint(WITHOUT),
        }
    }
}
