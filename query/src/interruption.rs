//! Makes a plan such that it can be ended at any time, and leaves the threads to others now and then.
//!
//! The engine sees to that only where rows are read. A join makes many rows of few: where it gives them on, a pause after some of them is enough. Where it gives
//! none on (its condition holds for no pair, or it only looks which rows have a partner) it works through all pairs of one side's rows with a batch of the
//! other's without coming back, for minutes or hours: there, only its condition is code that can be ours. It fails when the query's deadline has passed, and
//! moves the runtime's other tasks to another thread when it takes long.
//!
//! What remains is the work on one batch by one operator: an expression of a row each, or a window over one partition. It ends by itself.

use crate::deadline::Deadline;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, FieldRef, Schema};
use datafusion::common::JoinType;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::lit;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::joins::utils::JoinFilter;
use datafusion::physical_plan::joins::{HashJoinExec, NestedLoopJoinExec, NestedLoopJoinExecBuilder};
use datafusion::physical_plan::unnest::UnnestExec;
use std::cell::Cell;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::block_in_place;
use tokio::time::Instant;

/// How long a thread works on a join before its other tasks are moved: what else the program does waits no longer, and moving them costs far less.
const SHIFT: Duration = Duration::from_millis(10);

/// The plan, made to pause now and then where a step gives more than it takes, and to fail within a batch's time when the deadline has passed.
pub(crate) fn interruptible(
    plan: Arc<dyn ExecutionPlan>,
    deadline: &Deadline,
) -> Result<Arc<dyn ExecutionPlan>> {
    let plan = plan.transform_up(|step| {
        let step = watched(step, deadline)?;
        let multiplies = step.children().len() > 1 || step.is::<UnnestExec>();
        Ok(match multiplies {
            true => Transformed::yes(Arc::new(CooperativeExec::new(step)) as Arc<dyn ExecutionPlan>),
            false => Transformed::no(step),
        })
    });
    plan.map(|plan| plan.data)
}

/// A join whose condition looks at the deadline. Other joins are not planned: they have to be asked for by settings.
fn watched(step: Arc<dyn ExecutionPlan>, deadline: &Deadline) -> Result<Arc<dyn ExecutionPlan>> {
    if let Some(join) = step.downcast_ref::<NestedLoopJoinExec>() {
        let filter = watching(join.filter(), deadline);
        let join = NestedLoopJoinExecBuilder::from(join).with_filter(Some(filter)).build()?;
        return Ok(Arc::new(join));
    }
    if let Some(join) = step.downcast_ref::<HashJoinExec>()
        && (join.filter().is_some() || gives_no_pairs(*join.join_type()))
    {
        let filter = watching(join.filter(), deadline);
        return join.builder().with_filter(Some(filter)).build_exec();
    }
    Ok(step)
}

/// Whether the join only looks which rows have a partner. Every other one, without a condition, gives each pair on.
fn gives_no_pairs(join: JoinType) -> bool {
    !matches!(join, JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full)
}

fn watching(filter: Option<&JoinFilter>, deadline: &Deadline) -> JoinFilter {
    let watched = |condition| Arc::new(Watched { condition, deadline: deadline.clone() });
    match filter {
        Some(filter) => JoinFilter::new(
            watched(Arc::clone(filter.expression())),
            filter.column_indices().to_vec(),
            Arc::clone(filter.schema()),
        ),
        None => JoinFilter::new(watched(lit(true)), Vec::new(), Arc::new(Schema::empty())),
    }
}

/// A condition that is looked at again and again without a pause.
#[derive(Debug)]
struct Watched {
    condition: Arc<dyn PhysicalExpr>,
    deadline: Deadline,
}

impl PhysicalExpr for Watched {
    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let now = Instant::now();
        self.deadline.check(now)?;
        match shift_is_over(now) {
            true => handing_over(|| self.condition.evaluate(batch)),
            false => self.condition.evaluate(batch),
        }
    }

    fn return_field(&self, schema: &Schema) -> Result<FieldRef> {
        self.condition.return_field(schema)
    }

    fn data_type(&self, schema: &Schema) -> Result<DataType> {
        self.condition.data_type(schema)
    }

    fn nullable(&self, schema: &Schema) -> Result<bool> {
        self.condition.nullable(schema)
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.condition]
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        let condition = children.into_iter().next().unwrap_or_else(|| Arc::clone(&self.condition));
        Ok(Arc::new(Self { condition, deadline: self.deadline.clone() }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.condition.fmt_sql(f)
    }
}

impl fmt::Display for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.condition, f)
    }
}

impl PartialEq for Watched {
    fn eq(&self, other: &Self) -> bool {
        self.condition.eq(&other.condition)
    }
}

impl Eq for Watched {}

impl Hash for Watched {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.condition.hash(state);
    }
}

thread_local! {
    /// When this thread last began a shift.
    static SHIFT_BEGAN: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Whether this thread has worked on joins for so long that its other tasks have waited enough. If so, the next shift begins.
fn shift_is_over(now: Instant) -> bool {
    let over = SHIFT_BEGAN.get().is_none_or(|began| now.saturating_duration_since(began) >= SHIFT);
    if over {
        SHIFT_BEGAN.set(Some(now));
    }
    over
}

/// Works on while another thread takes over the tasks that wait for this one. A runtime of one thread has no other.
pub(crate) fn handing_over<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => block_in_place(|| {
            let done = work();
            // On a single core the other thread would else come too late to take them.
            std::thread::yield_now();
            done
        }),
        _ => work(),
    }
}
