//! A piece of a tail: what a run of one partition's messages became.

use super::budget::{Budget, Lease};
use arrow::array::{AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::Int64Type;
use millstream_model::column::reserved;
use millstream_model::name::Offset;
use millstream_model::time::Micros;
use millstream_readings::Quarantined;
use std::sync::Arc;

/// Pieces are joined up to so many rows: many small ones cost each query more than copying them once.
const JOINED_ROWS: usize = 4096;

/// What was made of the messages `first..=last` of a partition, before it is kept.
#[derive(Debug, Clone)]
pub(super) struct Made {
    pub(super) first: Offset,
    pub(super) last: Offset,
    /// Rows of the stream's table, by offset; `None` where its messages can only become quarantine.
    pub(super) readings: Option<RecordBatch>,
    /// Messages that go to quarantine, by offset.
    pub(super) quarantined: Vec<Quarantined>,
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
    fn bytes(&self) -> usize {
        let quarantined = self.quarantined.iter().map(|message| {
            size_of::<Quarantined>()
                + message.payload.len()
                + message.topic.len()
                + message.detail.len()
                + message.device_id.len()
        });
        let readings = self.readings.as_ref().map_or(0, RecordBatch::get_array_memory_size);
        size_of::<Chunk>() + readings + quarantined.sum::<usize>()
    }

    fn rows(&self) -> usize {
        self.readings.as_ref().map_or(0, RecordBatch::num_rows) + self.quarantined.len()
    }

    /// Both as one, where that is worth it; `next` follows directly.
    fn join(&self, next: &Self) -> Option<Self> {
        if self.rows() + next.rows() > JOINED_ROWS {
            return None;
        }
        let readings = match (&self.readings, &next.readings) {
            (Some(before), Some(after)) if before.schema() == after.schema() => {
                Some(concat_batches(before.schema_ref(), [before, after]).ok()?)
            }
            (None, None) => None,
            _ => return None,
        };
        let received = [self.received, next.received].into_iter().flatten();
        Some(Self {
            first: self.first,
            last: next.last,
            readings,
            quarantined: self.quarantined.iter().chain(&next.quarantined).cloned().collect(),
            received: received.reduce(|(first, last), (from, to)| (first.min(from), last.max(to))),
        })
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

    /// Its rows of the offsets from here on.
    pub(super) fn readings(&self, from: Offset) -> Option<RecordBatch> {
        let readings = self.made.readings.as_ref()?;
        let skipped = match readings.column_by_name(reserved::OFFSET) {
            Some(offsets) if self.made.first < from => {
                let offsets = offsets.as_primitive::<Int64Type>().values();
                offsets.partition_point(|offset| *offset < from.0)
            }
            _ => 0,
        };
        let rest = readings.num_rows() - skipped;
        (rest > 0).then(|| readings.slice(skipped, rest))
    }

    /// Its quarantined messages of the offsets from here on.
    pub(super) fn quarantined(&self, from: Offset) -> &[Quarantined] {
        let all = &self.made.quarantined;
        &all[all.partition_point(|message| message.offset < from)..]
    }
}
