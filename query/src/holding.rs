//! The memory of operators that hold rows and do not say so.
//!
//! The engine counts what sorting, grouping and joining keep in memory, and nothing of what window functions do: `avg(temp) over (partition by device_id)` keeps all rows of a table,
//! and all of them once more while it computes. So what goes into them is counted on the way, and whoever would hold more than there is ends like every other
//! query that needs too much memory. Neighbour: `session` puts it into each plan.
//!
//! What this does not count: a frame that is bounded by values (`range between interval '1 day' preceding …`), since nobody knows how many rows lie in it.

use crate::passing::{Onlooker, Passing};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::logical_expr::{WindowFrame, WindowFrameBound, WindowFrameUnits};
use datafusion::physical_expr::window::{StandardWindowExpr, WindowExpr};
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec};
use datafusion::physical_plan::{ChildrenPropertiesMode, ExecutionPlan, ReplaceChildrenOptions};
use std::sync::{Arc, OnceLock};

/// Frames of up to so many rows are not counted: some batches more or less.
const ROWS_FREE: u64 = 1 << 17;

/// How often a row that is held is there: as it came, and in the one batch that is computed.
const COPIES: u64 = 2;

/// The plan, with everything counted that goes into window functions.
pub(crate) fn counted(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let plan = plan.transform_up(|step| {
        let held = held(step.as_ref());
        let Some((held, input)) = held.zip(step.children().first().map(|&input| Arc::clone(input))) else {
            return Ok(Transformed::no(step));
        };
        let input = Arc::new(Passing::above(input, Counted { held, reservation: OnceLock::new() }));
        let alike = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Keep);
        Ok(Transformed::yes(step.replace_children(vec![input], alike)?))
    });
    plan.map(|plan| plan.data)
}

/// How many of the rows that come an operator may hold at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Held {
    All,
    Rows(u64),
}

/// None where it holds few.
fn held(step: &dyn ExecutionPlan) -> Option<Held> {
    if step.is::<WindowAggExec>() {
        return Some(Held::All);
    }
    let window = step.downcast_ref::<BoundedWindowAggExec>()?;
    let rows = window.window_expr().iter().map(|expr| reach(expr.as_ref())).max()?;
    (rows > ROWS_FREE).then_some(Held::Rows(rows))
}

/// How many rows before and behind a row its value depends on, as far as they are told by their number.
fn reach(expr: &dyn WindowExpr) -> u64 {
    let WindowFrame { units, start_bound, end_bound, .. } = &**expr.get_window_frame();
    let framed = match units {
        WindowFrameUnits::Rows => bound(start_bound).saturating_add(bound(end_bound)),
        WindowFrameUnits::Range | WindowFrameUnits::Groups => 0,
    };
    framed.max(shift(expr).unwrap_or(0))
}

/// How far a function looks that goes by no frame, as `lag(temp, 1000000)` does: back by what it would see at the end of time, ahead by what at its beginning. One that looks
/// for a value that is not null says that it sees everything, and then keeps no more than it needs.
fn shift(expr: &dyn WindowExpr) -> Option<u64> {
    let function = expr.as_any().downcast_ref::<StandardWindowExpr>()?.get_standard_func_expr();
    let evaluator = function.create_evaluator().ok().filter(|evaluator| !evaluator.uses_window_frame())?;
    let at = if evaluator.is_causal() { usize::MAX - 1 } else { 0 };
    let seen = evaluator.get_range(at, usize::MAX).ok()?;
    let everything = seen.start == 0 && seen.end >= usize::MAX - 1;
    (!everything).then_some(seen.len() as u64)
}

fn bound(bound: &WindowFrameBound) -> u64 {
    match bound {
        WindowFrameBound::Preceding(ScalarValue::UInt64(rows))
        | WindowFrameBound::Following(ScalarValue::UInt64(rows)) => rows.unwrap_or(0),
        _ => 0,
    }
}

/// Counts what passes as held until the query ends.
#[derive(Debug)]
struct Counted {
    held: Held,
    /// Of all partitions together, from the first that begins.
    reservation: OnceLock<Arc<MemoryReservation>>,
}

impl Onlooker for Counted {
    const NAME: &'static str = "CountedExec";

    fn anew(&self) -> Self {
        Self { held: self.held, reservation: OnceLock::new() }
    }

    fn look(
        &self,
        context: &TaskContext,
    ) -> impl FnMut(RecordBatch) -> Result<Vec<RecordBatch>> + Send + 'static {
        let register = || Arc::new(MemoryConsumer::new("window functions").register(context.memory_pool()));
        let reservation = Arc::clone(self.reservation.get_or_init(register));
        let mut tally = Tally { held: self.held, rows: 0, bytes: 0, reserved: 0 };
        move |batch| {
            reservation.try_grow(tally.take(batch.num_rows(), bytes_in(&batch)))?;
            Ok(vec![batch])
        }
    }
}

/// What of one partition came so far.
#[derive(Debug)]
struct Tally {
    held: Held,
    rows: u64,
    bytes: u64,
    reserved: u64,
}

impl Tally {
    /// Takes some rows more; says for how many bytes more there must be room.
    fn take(&mut self, rows: usize, bytes: usize) -> usize {
        self.rows = self.rows.saturating_add(rows as u64);
        self.bytes = self.bytes.saturating_add(bytes as u64);
        let held = match self.held {
            Held::Rows(most) if most < self.rows => self.bytes / self.rows * most,
            _ => self.bytes,
        };
        let needed = held.saturating_mul(COPIES).max(self.reserved);
        let more = needed - self.reserved;
        self.reserved = needed;
        usize::try_from(more).unwrap_or(usize::MAX)
    }
}

/// What the rows of a batch take, whatever else lies in the buffers that they share with others.
pub(crate) fn bytes_in(batch: &RecordBatch) -> usize {
    batch.columns().iter().map(bytes_of).sum()
}

/// The same of one column.
pub(crate) fn bytes_of(column: &ArrayRef) -> usize {
    let apart = match column.data_type() {
        DataType::Utf8View => column.as_string_view().total_buffer_bytes_used(),
        DataType::BinaryView => column.as_binary_view().total_buffer_bytes_used(),
        _ => 0,
    };
    let own = column.to_data().get_slice_memory_size();
    own.unwrap_or_else(|_| column.get_array_memory_size()).saturating_add(apart)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_reserved_and_no_more_than_the_frame_has() {
        let check = |held, batches: &[(usize, usize)], expected: &[usize]| {
            let mut tally = Tally { held, rows: 0, bytes: 0, reserved: 0 };
            let found: Vec<_> = batches.iter().map(|(rows, bytes)| tally.take(*rows, *bytes)).collect();
            assert_eq!(found, expected, "{held:?}");
        };
        check(Held::All, &[(10, 80), (0, 0), (5, 40)], &[160, 0, 80]);
        check(Held::Rows(20), &[(10, 80), (10, 80), (10, 80), (10, 80)], &[160, 160, 0, 0]);
    }
}
