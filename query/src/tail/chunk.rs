//! A piece of a tail: what a run of one partition's messages became.

use super::budget::{Budget, Lease};
use arrow::array::{AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::Int64Type;
use millstream_model::column::reserved;
use millstream_model::name::Offset;
use millstream_model::time::Micros;
use std::sync::Arc;

/// Pieces are joined up to so many rows: many small ones cost each query more than copying them once.
const JOINED_ROWS: usize = 4096;

/// And up to so many bytes, for each join copies all that was joined before.
const JOINED_BYTES: usize = 1 << 20;

/// What was made of the messages `first..=last` of a partition, before it is kept.
#[derive(Debug, Clone)]
pub(super) struct Made {
    pub(super) first: Offset,
    pub(super) last: Offset,
    /// Rows of the stream's table, by offset; `None` where its messages can only become quarantine.
    pub(super) readings: Option<RecordBatch>,
    /// Rows of the quarantine table, by offset; `None` where there are none.
    pub(super) quarantined: Option<RecordBatch>,
    /// When the first and the last of the messages that say so were received.
    pub(super) received: Option<(Micros, Micros)>,
}

/// The same, kept in memory.
#[derive(Debug)]
pub(super) struct Chunk {
    made: Made,
    lease: Lease,
}

impl Made {
    /// About how much memory it takes, in bytes.
    pub(super) fn bytes(&self) -> usize {
        let rows = self.batches().map(RecordBatch::get_array_memory_size);
        size_of::<Chunk>() + rows.sum::<usize>()
    }

    fn rows(&self) -> usize {
        self.batches().map(RecordBatch::num_rows).sum()
    }

    fn batches(&self) -> impl Iterator<Item = &RecordBatch> {
        self.readings.iter().chain(&self.quarantined)
    }

    /// Both as one, where that is worth it; `next` follows directly.
    fn join(&self, next: &Self) -> Option<Self> {
        if self.rows() + next.rows() > JOINED_ROWS || self.bytes() + next.bytes() > JOINED_BYTES {
            return None;
        }
        let received = [self.received, next.received].into_iter().flatten();
        Some(Self {
            first: self.first,
            last: next.last,
            readings: joined(self.readings.as_ref(), next.readings.as_ref())?,
            quarantined: joined(self.quarantined.as_ref(), next.quarantined.as_ref())?,
            received: received.reduce(|(first, last), (from, to)| (first.min(from), last.max(to))),
        })
    }
}

/// The rows of both; `None` if they have other columns.
fn joined(before: Option<&RecordBatch>, after: Option<&RecordBatch>) -> Option<Option<RecordBatch>> {
    match (before, after) {
        (Some(before), Some(after)) if before.schema() == after.schema() => {
            concat_batches(before.schema_ref(), [before, after]).ok().map(Some)
        }
        (Some(_), Some(_)) => None,
        (one, other) => Some(one.or(other).cloned()),
    }
}

impl Chunk {
    /// Keeps it; `None` if there is no memory for it.
    pub(super) fn keep(made: Made, budget: &Arc<Budget>) -> Option<Arc<Self>> {
        let lease = budget.take(made.bytes())?;
        Some(Arc::new(Self { made, lease }))
    }

    /// Both as one, where that is worth it and there is memory for it; `next` follows directly.
    pub(super) fn join(&self, next: &Made, budget: &Arc<Budget>) -> Option<Arc<Self>> {
        Self::keep(self.made.join(next)?, budget)
    }

    pub(super) fn first(&self) -> Offset {
        self.made.first
    }

    pub(super) fn last(&self) -> Offset {
        self.made.last
    }

    pub(super) fn bytes(&self) -> usize {
        self.lease.bytes()
    }

    pub(super) fn received(&self) -> Option<(Micros, Micros)> {
        self.made.received
    }

    /// Its readings of the offsets from here on.
    pub(super) fn readings(&self, from: Offset) -> Option<RecordBatch> {
        self.rest(self.made.readings.as_ref()?, from)
    }

    /// Its rows of quarantine of the offsets from here on.
    pub(super) fn quarantined(&self, from: Offset) -> Option<RecordBatch> {
        self.rest(self.made.quarantined.as_ref()?, from)
    }

    fn rest(&self, rows: &RecordBatch, from: Offset) -> Option<RecordBatch> {
        let skipped = match rows.column_by_name(reserved::OFFSET) {
            Some(offsets) if self.made.first < from => {
                let offsets = offsets.as_primitive::<Int64Type>().values();
                offsets.partition_point(|offset| *offset < from.0)
            }
            _ => 0,
        };
        let rest = rows.num_rows() - skipped;
        (rest > 0).then(|| rows.slice(skipped, rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::StringArray;

    /// One message that became a row of so many bytes.
    fn made(offset: i64, bytes: usize) -> Made {
        let text = StringArray::from(vec!["x".repeat(bytes)]);
        let rows = RecordBatch::try_from_iter([("text", Arc::new(text) as _)]).unwrap();
        let offset = Offset(offset);
        Made { first: offset, last: offset, readings: Some(rows), quarantined: None, received: None }
    }

    #[test]
    fn small_pieces_are_joined_and_large_ones_stay_apart() {
        let joined = made(0, 10).join(&made(1, 10)).unwrap();
        assert_eq!((joined.rows(), joined.first, joined.last), (2, Offset(0), Offset(1)));
        assert!(made(0, JOINED_BYTES / 2).join(&made(1, JOINED_BYTES / 2)).is_none());
    }
}
