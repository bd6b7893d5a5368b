//! Looks at rows where they come in or become wider, before what works on them next makes more of them.
//!
//! It changes no row. Neighbours: `width`, which measures, and [`Pace`], which is asked for smaller batches.

use super::files::footers_read;
use super::weight::Weight;
use super::width::{is_narrow, longest, widest};
use super::{LARGE_VALUES, Pace};
use crate::holding;
use crate::passing::{Onlooker, Passing};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::exec_datafusion_err;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::recursive_query::RecursiveQueryExec;
use datafusion::physical_plan::scalar_subquery::ScalarSubqueryExec;
use datafusion::physical_plan::union::{InterleaveExec, UnionExec};
use datafusion::physical_plan::unnest::UnnestExec;
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec};
use datafusion::physical_plan::{ChildrenPropertiesMode, ExecutionPlan, ReplaceChildrenOptions};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The plan with a gauge wherever rows come in, become wider or become more.
pub(super) fn gauged(
    plan: Arc<dyn ExecutionPlan>,
    pace: &Arc<Pace>,
    pool: &Arc<dyn MemoryPool>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let plan = plan.transform_up(|step| {
        let weight = Weight::of(step.as_ref())?;
        let step = with_inputs_gauged(step, weight, pace, pool)?;
        if !(is_wide(&step.schema()) && widens(step.as_ref(), weight)) {
            return Ok(Transformed::yes(step));
        }
        let sum = Arc::new(Sum::new(pace, pool, Meets::Once { copies: 1 }, 1));
        let properties = Arc::clone(step.properties());
        let gauge = Passing::above(footers_read(step, &sum), Gauge { sum, place: 0 });
        let gauge = gauge.with_properties(properties);
        Ok(Transformed::yes(Arc::new(gauge) as Arc<dyn ExecutionPlan>))
    });
    plan.map(|plan| plan.data)
}

fn is_wide(schema: &SchemaRef) -> bool {
    schema.fields().iter().any(|field| !is_narrow(field.data_type()))
}

/// Whether rows come into being here, or may be wider than those that come.
fn widens(step: &dyn ExecutionPlan, weight: Weight) -> bool {
    step.children().is_empty()
        || (step.is::<ProjectionExec>() && weight != Weight::default())
        || step.is::<AggregateExec>()
        || step.is::<WindowAggExec>()
        || step.is::<BoundedWindowAggExec>()
}

/// Gauges below a step that puts each of its inputs' rows beside many, or copies them several times over.
fn with_inputs_gauged(
    step: Arc<dyn ExecutionPlan>,
    Weight { copies, .. }: Weight,
    pace: &Arc<Pace>,
    pool: &Arc<dyn MemoryPool>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let inputs = step.children().len();
    let passes = step.is::<UnionExec>() || step.is::<InterleaveExec>() || step.is::<RecursiveQueryExec>();
    let meets = match inputs {
        1 if step.is::<UnnestExec>() => Meets::ItsElements,
        1 if copies > 1 => Meets::Once { copies },
        0 | 1 => return Ok(step),
        _ if passes => return Ok(step),
        _ => Meets::Many { copies: copies + 1 },
    };
    let sum = Arc::new(Sum::new(pace, pool, meets, inputs));
    let gauge = |(place, input): (usize, &Arc<dyn ExecutionPlan>)| {
        // What a scalar subquery gives on are the rows of its first input; the others are one value each, which any of them may have.
        if place == 0 && step.is::<ScalarSubqueryExec>() || !is_wide(&input.schema()) {
            return Arc::clone(input);
        }
        // One look is enough, the sterner.
        let input = input.downcast_ref::<Passing<Gauge>>().map_or(input, |gauge| &gauge.input);
        Arc::new(Passing::above(Arc::clone(input), Gauge { sum: Arc::clone(&sum), place })) as _
    };
    let inputs = step.children().into_iter().enumerate().map(gauge).collect();
    let alike = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Keep);
    step.replace_children(inputs, alike)
}

/// How often what comes is made anew in one batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meets {
    /// Each row stays one, and is copied so often: they only come together, with those of the batches before and after.
    Once { copies: usize },
    /// A row may stand in each row of a batch, so often.
    Many { copies: usize },
    /// A row may stand in each row of a batch, and beside each element of its own list, however many those are.
    ItsElements,
}

/// What one step may make in one batch, of all its inputs together.
#[derive(Debug)]
pub(super) struct Sum {
    pace: Arc<Pace>,
    pool: Arc<dyn MemoryPool>,
    meets: Meets,
    /// The widest row of each input so far. Only grows; each is written by its gauge, and read by all of the step.
    widest: Vec<AtomicUsize>,
    /// The most that was beyond a share, counted until the query ends. Of all partitions together, from the first that needs it.
    reservation: Mutex<Option<MemoryReservation>>,
}

/// What came last, of one partition: twice as many rows as a batch may have, at most.
#[derive(Debug, Default)]
struct Recent {
    now: Amount,
    before: Amount,
}

#[derive(Debug, Clone, Copy, Default)]
struct Amount {
    rows: usize,
    bytes: usize,
}

impl Recent {
    /// Counts a batch, and returns what may come to lie in one of so many rows.
    fn add(&mut self, rows: usize, bytes: usize, rows_max: usize) -> Amount {
        if self.now.rows + rows > rows_max {
            self.before = std::mem::take(&mut self.now);
        }
        self.now.rows += rows;
        self.now.bytes = self.now.bytes.saturating_add(bytes);
        let Amount { rows, bytes } = self.before;
        Amount { rows: self.now.rows + rows, bytes: self.now.bytes.saturating_add(bytes) }
    }
}

impl Sum {
    fn new(pace: &Arc<Pace>, pool: &Arc<dyn MemoryPool>, meets: Meets, inputs: usize) -> Self {
        let (pace, pool) = (Arc::clone(pace), Arc::clone(pool));
        let widest = (0..inputs).map(|_| AtomicUsize::new(0)).collect();
        Self { pace, pool, meets, widest, reservation: Mutex::default() }
    }

    /// Fails where so many rows of this width have no room, which are about to be read.
    pub(super) fn take_unread(&self, width: usize, rows: usize) -> Result<()> {
        let bytes = width.saturating_mul(rows.min(self.pace.rows));
        match bytes > self.pace.share {
            true => self.make_room(bytes, width.saturating_mul(self.pace.rows)),
            false => Ok(()),
        }
    }

    /// Fails where what is made of this batch has no room.
    fn take(&self, place: usize, batch: &RecordBatch, recent: &mut Recent) -> Result<()> {
        let Pace { rows, share, .. } = *self.pace;
        let copies = match self.meets {
            Meets::Once { copies } | Meets::Many { copies } => copies,
            Meets::ItsElements => 1,
        };
        let enough = share / rows / copies;
        let found = widest(batch, enough);
        if let Some(widest) = self.widest.get(place) {
            widest.fetch_max(found, Ordering::Relaxed);
        }
        let width = self.widest.iter().map(|widest| widest.load(Ordering::Relaxed)).sum::<usize>();
        let widest = width.saturating_mul(rows);
        let (bytes, full) = match self.meets {
            Meets::Once { .. } if found <= enough => return Ok(()),
            // One wide row does not make the others wide.
            Meets::Once { .. } => {
                let last = recent.add(batch.num_rows(), holding::bytes_in(batch), rows);
                (last.bytes, last.bytes.div_ceil(last.rows.max(1)).saturating_mul(rows))
            }
            Meets::Many { .. } => (widest, widest),
            Meets::ItsElements => {
                let elements = batch.columns().iter().map(longest).max().unwrap_or(0);
                let bytes = widest.max(found.saturating_mul(elements));
                (bytes, bytes)
            }
        };
        let (bytes, full) = (bytes.saturating_mul(copies), full.saturating_mul(copies));
        match bytes > share {
            true => self.make_room(bytes, full.max(bytes)),
            false => Ok(()),
        }
    }

    /// Room for a batch of so many bytes, where a full one has as many as `full`.
    fn make_room(&self, bytes: usize, full: usize) -> Result<()> {
        if self.pace.gives_up(full) {
            return Err(exec_datafusion_err!("rows of so many bytes go together in fewer at a time"));
        }
        let mut reservation = self.reservation.lock().unwrap_or_else(PoisonError::into_inner);
        let register = || MemoryConsumer::new(LARGE_VALUES).register(&self.pool);
        let reservation = reservation.get_or_insert_with(register);
        let more = (bytes - self.pace.share).saturating_sub(reservation.size());
        reservation.try_grow(more)
    }
}

/// Looks at one input of a step.
#[derive(Debug, Clone)]
struct Gauge {
    sum: Arc<Sum>,
    /// Which input of the step this is.
    place: usize,
}

impl Onlooker for Gauge {
    const NAME: &'static str = "GaugeExec";

    fn anew(&self) -> Self {
        self.clone()
    }

    fn look(&self, _: &TaskContext) -> impl FnMut(RecordBatch) -> Result<Vec<RecordBatch>> + Send + 'static {
        let Self { sum, place } = self.clone();
        let mut recent = Recent::default();
        move |batch| {
            sum.take(place, &batch, &mut recent)?;
            Ok(pieces(batch, sum.pace.rows))
        }
    }
}

/// The batch in pieces of no more rows than that.
fn pieces(batch: RecordBatch, rows: usize) -> Vec<RecordBatch> {
    let all = batch.num_rows();
    if all <= rows {
        return vec![batch];
    }
    (0..all).step_by(rows).map(|at| batch.slice(at, rows.min(all - at))).collect()
}
