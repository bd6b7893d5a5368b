//! One partition's part of a tail: where reading stands, and the pieces that are held.

use super::budget::Budget;
use super::chunk::{Chunk, Made};
use millstream_lake::ledger::Mark;
use millstream_log::LogReader;
use millstream_model::name::Offset;
use millstream_model::record::Stored;
use std::collections::VecDeque;
use std::sync::Arc;

/// One partition of the log.
#[derive(Debug)]
pub(super) struct Lane {
    /// The first offset that is held; what lies before is in files.
    start: Offset,
    /// The next offset to be read; everything from `start` to here is held.
    next: Offset,
    chunks: VecDeque<Arc<Chunk>>,
    /// The last record that was read: by it the log is recognised when reading begins again.
    read: Option<Mark>,
    /// Reads on behind `unmade`.
    pub(super) reader: Option<Box<dyn LogReader>>,
    /// Records from `next` on that were read and are not made into rows yet: who asked may have gone in between.
    pub(super) unmade: VecDeque<Stored>,
}

impl Lane {
    /// Nothing is held; what comes next stands here.
    pub(super) fn at(start: Offset) -> Self {
        Self {
            start,
            next: start,
            chunks: VecDeque::new(),
            read: None,
            reader: None,
            unmade: VecDeque::new(),
        }
    }

    /// Stops reading; what comes next is asked for again.
    pub(super) fn close(&mut self) {
        self.reader = None;
        self.unmade.clear();
    }

    pub(super) fn next(&self) -> Offset {
        self.next
    }

    /// The record before `next`, if it was read here.
    pub(super) fn read(&self) -> Option<&Mark> {
        self.read.as_ref()
    }

    /// Holds nothing before `from` any more, and everything from there on that it held. Where it has not come so far, it begins anew.
    pub(super) fn begin(&mut self, from: Offset) {
        if from < self.start || self.next < from {
            *self = Self::at(from);
            return;
        }
        while self.chunks.front().is_some_and(|chunk| chunk.last() < from) {
            self.chunks.pop_front();
        }
        self.start = from;
    }

    /// Adds what follows; false if there is no memory for it.
    pub(super) fn push(&mut self, made: Made, read: Mark, budget: &Arc<Budget>) -> bool {
        let next = made.last.next();
        // Joined, both are in memory for a moment: where that is too much, they stay apart.
        let joined = self.chunks.back().and_then(|last| last.join(&made, budget));
        let kept = match joined {
            Some(joined) => {
                self.chunks.pop_back();
                Some(joined)
            }
            None => Chunk::keep(made, budget),
        };
        let Some(kept) = kept else { return false };
        self.chunks.push_back(kept);
        self.next = next;
        self.read = Some(read);
        true
    }

    /// The pieces with the offsets from `start` to before `next`; `None` if some are missing, which a fault of ours would be.
    pub(super) fn covered(&self) -> Option<Vec<Arc<Chunk>>> {
        let mut reached = self.start;
        for chunk in &self.chunks {
            let follows = chunk.first() <= reached && reached <= chunk.last();
            // Only the first may begin before what is asked for.
            if !follows || (chunk.first() < reached && reached != self.start) {
                return None;
            }
            reached = chunk.last().next();
        }
        (reached == self.next).then(|| self.chunks.iter().cloned().collect())
    }

    pub(super) fn start(&self) -> Offset {
        self.start
    }

    /// Bytes of memory that it holds.
    pub(super) fn bytes(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.bytes()).sum()
    }

    /// The oldest piece.
    pub(super) fn oldest(&self) -> Option<&Arc<Chunk>> {
        self.chunks.front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(first: i64, last: i64) -> Made {
        let (first, last) = (Offset(first), Offset(last));
        Made { first, last, readings: None, quarantined: None, received: None }
    }

    fn mark(offset: i64) -> Mark {
        Mark { offset: Offset(offset), fingerprint: String::new(), received_at: None }
    }

    /// Offsets 10 to 29, in four pieces that are not joined.
    fn filled(budget: &Arc<Budget>) -> Lane {
        let mut lane = Lane::at(Offset(10));
        for first in [10, 15, 20, 25] {
            lane.chunks.extend(Chunk::keep(made(first, first + 4), budget));
        }
        (lane.next, lane.read) = (Offset(30), Some(mark(29)));
        lane
    }

    #[test]
    fn what_is_held_has_every_offset_from_its_start_to_its_end() {
        let budget = Budget::new(1 << 20);
        let check = |from: i64, held: usize, next: i64| {
            let mut lane = filled(&budget);
            lane.begin(Offset(from));
            let covered = lane.covered().map(|chunks| chunks.len());
            assert_eq!((covered, lane.start(), lane.next()), (Some(held), Offset(from), Offset(next)));
        };
        check(10, 4, 30);
        check(14, 4, 30);
        check(15, 3, 30);
        check(29, 1, 30);
        check(30, 0, 30);
        // Committed beyond what was read; and before what is held, as nobody asks.
        check(31, 0, 31);
        check(9, 0, 9);
    }

    #[test]
    fn a_hole_shows() {
        let budget = Budget::new(1 << 20);
        let mut lane = filled(&budget);
        lane.chunks.remove(1);
        assert!(lane.covered().is_none());
        let mut lane = filled(&budget);
        lane.chunks.pop_back();
        assert!(lane.covered().is_none());
        let mut lane = filled(&budget);
        lane.chunks.insert(2, Chunk::keep(made(18, 19), &budget).unwrap());
        assert!(lane.covered().is_none());
    }

    #[test]
    fn pieces_are_joined_and_memory_is_given_back() {
        let budget = Budget::new(1 << 20);
        let mut lane = Lane::at(Offset(0));
        for first in 0..50 {
            assert!(lane.push(made(first, first), mark(first), &budget));
        }
        assert_eq!((lane.chunks.len(), lane.next(), lane.covered().is_some()), (1, Offset(50), true));
        let left = budget.take(budget.limit() - lane.bytes());
        assert!(left.is_some());
        assert!(budget.take(1).is_none());
        assert!(!lane.push(made(50, 50), mark(50), &budget));
        lane.begin(Offset(50));
        assert!(lane.push(made(50, 50), mark(50), &budget));
    }
}
