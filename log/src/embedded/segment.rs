//! One segment file as readers see it: where it begins, how far it is durable, and roughly where which offset stands.

use crate::embedded::layout;
use millstream_model::name::Offset;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// One offset in so many bytes of a segment is remembered: a seek reads at most about so much too much, and the index of a full
/// segment of 128 MiB takes 32 KiB.
const INDEX_BYTES: u64 = 64 * 1024;

/// A file of batches. The writer moves the end; readers follow it. The index is written by whoever passes a place first.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) first: Offset,
    pub(crate) path: PathBuf,
    end: AtomicU64,
    index: Mutex<Vec<(Offset, u64)>>,
}

/// The segments of one partition, oldest first.
pub(crate) type Segments = Arc<[Arc<Segment>]>;

impl Segment {
    pub(crate) fn new(dir: &Path, first: Offset, end: u64) -> Self {
        let path = dir.join(layout::segment_name(first));
        Self { first, path, end: AtomicU64::new(end), index: Mutex::new(vec![(first, 0)]) }
    }

    /// Bytes that may be read.
    pub(crate) fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    pub(crate) fn set_end(&self, end: u64) {
        self.end.store(end, Ordering::Release);
    }

    /// Remembers that a batch that begins with this offset begins there, if that is worth remembering.
    pub(crate) fn note(&self, offset: Offset, at: u64) {
        let mut index = self.index();
        if index.last().is_none_or(|(_, last)| at >= last + INDEX_BYTES) {
            index.push((offset, at));
        }
    }

    /// The last known place from where a batch with this offset is found by going forwards.
    pub(crate) fn nearest(&self, offset: Offset) -> (Offset, u64) {
        let index = self.index();
        let behind = index.partition_point(|(known, _)| *known <= offset);
        index.get(behind.saturating_sub(1)).copied().unwrap_or((self.first, 0))
    }

    fn index(&self) -> MutexGuard<'_, Vec<(Offset, u64)>> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The segment that an offset belongs to.
pub(crate) fn holding(segments: &[Arc<Segment>], offset: Offset) -> Option<&Arc<Segment>> {
    let behind = segments.partition_point(|segment| segment.first <= offset);
    segments.get(behind.checked_sub(1)?)
}
