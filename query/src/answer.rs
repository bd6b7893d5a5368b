//! What a query gives: its rows as they come, and what it cost.

use crate::error::QueryError;
use crate::limits::TimeLimit;
use crate::pace::Current;
use crate::rescue::rescued;
use crate::tail::{Looked, add_tails};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use datafusion::datasource::source::DataSourceExec;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::StreamExt;
use millstream_model::time::Micros;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The rows of a query. Dropping it ends the query.
pub struct Answer {
    sql: String,
    batches: SendableRecordBatchStream,
    plan: Current,
    started: Instant,
    time: TimeLimit,
    tails: Vec<Arc<Looked>>,
}

/// What a query has read so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ScanMetrics {
    /// Files of the tables it read, at the versions it read.
    pub files_total: u64,
    /// Files that were left out because by their partition or statistics no row of theirs could count.
    pub files_pruned: u64,
    /// Bytes read from files.
    pub bytes_read: u64,
    /// What was taken from the tail of the log; `None` where no table has one, or it was not asked.
    pub tail: Option<TailMetrics>,
}

/// What a query took from the tails of its tables: from what is in the log and not in files yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TailMetrics {
    /// Rows that the plan took from it so far; where statistics alone were the answer, the rows that they counted.
    pub rows: u64,
    /// When the newest message that stands in it was received; `None` if nothing waits.
    pub newest: Option<Micros>,
    /// When the log began to be looked at: everything acknowledged before is in the answer.
    pub as_of: Micros,
}

impl Answer {
    pub(crate) fn new(
        sql: String,
        batches: SendableRecordBatchStream,
        plan: Current,
        started: Instant,
        time: TimeLimit,
    ) -> Self {
        Self { sql, batches, plan, started, time, tails: Vec::new() }
    }

    /// The same answer, which was given with these tails.
    pub(crate) fn with_tails(self, tails: Vec<Arc<Looked>>) -> Self {
        Self { tails, ..self }
    }

    /// The same answer with each batch changed into one of another schema.
    pub(crate) fn mapped<F>(self, schema: SchemaRef, change: F) -> Self
    where
        F: Fn(RecordBatch) -> Result<RecordBatch, ArrowError> + Send + 'static,
    {
        let changed = self.batches.map(move |batch| batch.and_then(|batch| Ok(change(batch)?)));
        Self { batches: Box::pin(RecordBatchStreamAdapter::new(schema, changed)), ..self }
    }

    /// Names and types of the columns.
    #[must_use]
    pub fn schema(&self) -> SchemaRef {
        self.batches.schema()
    }

    /// The next rows; `None` at the end.
    ///
    /// # Errors
    /// When the query fails on the way, or has worked for longer than it may.
    pub async fn next(&mut self) -> Result<Option<RecordBatch>, QueryError> {
        let Self { sql, batches, time, .. } = self;
        let next = async { batches.next().await.transpose() };
        let next = async { next.await.map_err(|error| QueryError::from_datafusion(error, sql)) };
        time.spend(rescued(next)).await
    }

    /// All rows, in memory: for results known to be small.
    ///
    /// # Errors
    /// When the query fails on the way.
    pub async fn collect(mut self) -> Result<Vec<RecordBatch>, QueryError> {
        let mut batches = Vec::new();
        while let Some(batch) = self.next().await? {
            batches.push(batch);
        }
        Ok(batches)
    }

    /// How long it has been running.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// What was read so far. A table whose answer was known from its statistics alone does not count.
    #[must_use]
    pub fn metrics(&self) -> ScanMetrics {
        let mut metrics = ScanMetrics::default();
        let plan = self.plan.plan();
        add_scans(plan.as_ref(), &mut metrics);
        metrics.tail = add_tails(plan.as_ref(), &self.tails);
        metrics
    }
}

fn add_scans(plan: &dyn ExecutionPlan, metrics: &mut ScanMetrics) {
    if plan.is::<DataSourceExec>()
        && let Some(set) = plan.metrics()
    {
        let sum = |name: &str| set.sum_by_name(name).map_or(0, |value| value.as_usize() as u64);
        metrics.files_total += sum(millstream_lake::provider::FILES_TOTAL);
        metrics.files_pruned += sum(millstream_lake::provider::FILES_PRUNED);
        metrics.bytes_read += sum("bytes_scanned");
    }
    for child in plan.children() {
        add_scans(child.as_ref(), metrics);
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").field("sql", &self.sql).finish_non_exhaustive()
    }
}
