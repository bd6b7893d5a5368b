//! The step of a plan that gives the rows of a tail, and counts them.

use super::view::Rows;
use crate::answer::TailMetrics;
use arrow::array::AsArray;
use arrow::array::{Array, RecordBatch};
use arrow::compute::{max, min};
use arrow::datatypes::{DataType, Date32Type, SchemaRef};
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{ColumnStatistics, ScalarValue, Statistics};
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::statistics::StatisticsArgs;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties, ReplaceChildrenOptions,
};
use futures::stream;
use millstream_model::time::Micros;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What one query was told of a tail. Whatever may still read its rows holds this.
#[derive(Debug)]
pub(crate) struct Looked {
    pub(super) rows: Rows,
    newest: Option<Micros>,
    as_of: Micros,
    /// Rows that were offered to plans. Written when a scan is planned.
    offered: AtomicU64,
}

impl Looked {
    pub(super) fn new(rows: Rows, newest: Option<Micros>, as_of: Micros) -> Self {
        Self { rows, newest, as_of, offered: AtomicU64::new(0) }
    }
}

/// Gives batches that are in memory.
#[derive(Debug)]
pub(super) struct TailExec {
    /// By partition.
    batches: Vec<Vec<RecordBatch>>,
    schema: SchemaRef,
    looked: Arc<Looked>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl TailExec {
    /// All batches have this schema. They are given by as many partitions as asked for, if there are so many.
    pub(super) fn new(
        schema: SchemaRef,
        batches: Vec<RecordBatch>,
        partitions: usize,
        looked: &Arc<Looked>,
    ) -> Self {
        let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        // The same of each plan, and a query may be planned more than once.
        looked.offered.store(rows as u64, Ordering::Relaxed);
        let share = rows.div_ceil(partitions.max(1)).max(1);
        let mut shares = vec![Vec::new()];
        let mut taken = 0;
        for batch in batches {
            if taken >= share {
                shares.push(Vec::new());
                taken = 0;
            }
            taken += batch.num_rows();
            if let Some(last) = shares.last_mut() {
                last.push(batch);
            }
        }
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&schema)),
            Partitioning::UnknownPartitioning(shares.len()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Self {
            batches: shares,
            schema,
            looked: Arc::clone(looked),
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
        }
    }

    fn statistics_of<'b>(&self, batches: impl Iterator<Item = &'b RecordBatch> + Clone) -> Statistics {
        let rows: usize = batches.clone().map(RecordBatch::num_rows).sum();
        let column = |place: usize| {
            let columns = batches.clone().map(|batch| batch.column(place));
            let nulls = columns.clone().map(|column| column.logical_null_count()).sum();
            let (min_value, max_value) = dates(columns);
            ColumnStatistics {
                null_count: Precision::Exact(nulls),
                min_value,
                max_value,
                ..ColumnStatistics::new_unknown()
            }
        };
        Statistics {
            num_rows: Precision::Exact(rows),
            total_byte_size: Precision::Absent,
            column_statistics: (0..self.schema.fields().len()).map(column).collect(),
        }
    }

    fn rows(&self) -> u64 {
        self.metrics.clone_inner().output_rows().unwrap_or(0) as u64
    }
}

/// Between what the dates of a column lie: exact, as the files of a table say it of their partition column.
fn dates<'c>(
    columns: impl Iterator<Item = &'c Arc<dyn Array>> + Clone,
) -> (Precision<ScalarValue>, Precision<ScalarValue>) {
    let exact = |date: Option<i32>| match date {
        Some(date) => Precision::Exact(ScalarValue::Date32(Some(date))),
        None => Precision::Absent,
    };
    if columns.clone().any(|column| *column.data_type() != DataType::Date32) {
        return (Precision::Absent, Precision::Absent);
    }
    let least = columns.clone().filter_map(|column| min(column.as_primitive::<Date32Type>())).min();
    let greatest = columns.filter_map(|column| max(column.as_primitive::<Date32Type>())).max();
    (exact(least), exact(greatest))
}

impl DisplayAs for TailExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows: usize = self.batches.iter().flatten().map(RecordBatch::num_rows).sum();
        write!(f, "TailExec: rows={rows}")
    }
}

impl ExecutionPlan for TailExec {
    fn name(&self) -> &'static str {
        "TailExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn with_new_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(&self, partition: usize, _: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let batches = self.batches.get(partition).cloned().unwrap_or_default();
        let counted = BaselineMetrics::new(&self.metrics, partition);
        let rows = batches.into_iter().map(move |batch| {
            counted.record_output(batch.num_rows());
            Ok(batch)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), stream::iter(rows))))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn statistics_from_inputs(
        &self,
        _: &[Arc<Statistics>],
        args: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        let statistics = match args.partition() {
            Some(partition) => self.statistics_of(self.batches.get(partition).into_iter().flatten()),
            None => self.statistics_of(self.batches.iter().flatten()),
        };
        Ok(Arc::new(statistics))
    }
}

/// What a plan has taken so far from the tails that its query looked at; `None` if there were none.
pub(crate) fn add_tails(plan: &dyn ExecutionPlan, looked: &[Arc<Looked>]) -> Option<TailMetrics> {
    let as_of = looked.iter().map(|each| each.as_of).min()?;
    let rows = looked.iter().map(|each| match taken(plan, each) {
        Some(rows) => rows,
        // No step of the plan gives them: their number alone was the answer.
        None => each.offered.load(Ordering::Relaxed),
    });
    Some(TailMetrics { rows: rows.sum(), newest: looked.iter().filter_map(|each| each.newest).max(), as_of })
}

/// Rows that the steps for this tail gave; `None` if there is no such step.
fn taken(plan: &dyn ExecutionPlan, looked: &Arc<Looked>) -> Option<u64> {
    let own = plan.downcast_ref::<TailExec>().filter(|exec| Arc::ptr_eq(&exec.looked, looked));
    let below = plan.children().into_iter().filter_map(|child| taken(child.as_ref(), looked));
    own.map(TailExec::rows).into_iter().chain(below).reduce(|all, rows| all + rows)
}
