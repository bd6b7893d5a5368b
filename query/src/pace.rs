//! How many rows of a query go together, so that wide ones stay within the limit of memory.
//!
//! The engine cuts batches by rows, 8,192 of them, whatever the rows take, and makes a batch before anybody has counted it: a join of texts of 100 KB makes 1.6 GB at once, a text that
//! a subquery has gathered is copied into each row, and the pool of memory hears of it afterwards, if at all. So a query begins with as many rows to a batch as ever, and `gauge` stands
//! wherever rows come in or become wider. Where a full batch of the widest that it sees would take more than a share of the memory, the query is begun again with
//! as few rows to a batch as fit (`attempts`), which is possible until its first row has been given away. After that, and where a single row is too wide, the room is reserved before the
//! batch is made, or the query ends like every other that needs too much memory. Functions whose results are larger than what they are given ask here, too.
//!
//! Rows that are not wide cost one look at the greatest length in each batch (`width`).
//!
//! Before a file's first batch there is nothing to look at but its footer (`files`), which tells what its rows take on average.
//!
//! What this cannot see: a file's first batch where few of its rows are far wider than the others, and values within aggregates, which the engine counts itself.

mod attempts;
mod files;
mod gauge;
mod weight;
mod width;

pub(crate) use attempts::{Attempts, Current};

use crate::carried::Carried;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Under what name their room is reserved: an error names it.
pub(crate) const LARGE_VALUES: &str = "rows with large values";

/// What one batch may take is the memory through this, and through the partitions that run at a time: so many batches of each are under way in a plan of some
/// depth, some of them copied while they are made.
const SHARES: usize = 16;

/// However many partitions there are, a full batch of ordinary rows is none of wide ones: a KiB each, if that is not a larger part of the memory than this.
const SHARE_BYTES_ORDINARY: usize = 8 << 20;
const SHARES_ORDINARY: usize = 64;

/// No batch is made smaller for less, however little memory there is.
const SHARE_BYTES_MIN: usize = 64 << 10;

/// Nor may one take more: larger batches are not quicker.
const SHARE_BYTES_MAX: usize = 32 << 20;

/// What a call may make beyond its share once the query cannot be begun again.
const SHARES_LATE: usize = 8;

/// Bytes that one batch may take, of a session with so much memory that runs so many partitions at a time.
pub(crate) fn share(memory_bytes: usize, partitions: usize) -> usize {
    let ordinary = SHARE_BYTES_ORDINARY.min(memory_bytes / SHARES_ORDINARY);
    (memory_bytes / SHARES / partitions.max(1)).max(ordinary).clamp(SHARE_BYTES_MIN, SHARE_BYTES_MAX)
}

/// Whether a query may begin again: written by whoever meets wide rows and by whoever gives the first rows away, whichever comes first.
const OPEN: usize = 0;
/// Rows have been given away. Every other number is that of rows with which it is to begin again.
const SETTLED: usize = usize::MAX;

/// One attempt at a query. Functions and plans find it in the settings; there is none while a plan is made.
#[derive(Debug)]
pub(crate) struct Pace {
    /// Rows of a batch.
    rows: usize,
    /// Bytes that a batch may take.
    share: usize,
    /// How many functions that make large values of small ones work on the same batch, where they are most. Written before the attempt begins.
    calls: AtomicUsize,
    stands: AtomicUsize,
}

impl Pace {
    fn new(rows: usize, share: usize) -> Self {
        Self { rows, share, calls: AtomicUsize::new(1), stands: AtomicUsize::new(OPEN) }
    }

    /// Asks for batches so small that what takes so many bytes now fits. True: this attempt is over, and whoever works on it is to fail. False: it must go on
    /// as it is.
    pub(crate) fn gives_up(&self, bytes: usize) -> bool {
        if self.rows <= 1 {
            return false;
        }
        let rows = (self.rows as u128 * self.share as u128 / (bytes as u128).max(1)) as usize;
        // At least so much fewer: that makes seven attempts at most.
        let rows = rows.clamp(1, self.rows.div_ceil(4));
        match self.stands.compare_exchange(OPEN, rows, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => true,
            Err(stands) => stands != SETTLED,
        }
    }

    /// The same for a function that makes so many bytes of so many rows, beside others that work on the same batch.
    pub(crate) fn gives_up_for_call(&self, bytes: u64, rows: usize) -> bool {
        let row = usize::try_from(bytes).unwrap_or(usize::MAX) / rows.max(1);
        let calls = self.calls.load(Ordering::Relaxed).max(1);
        self.gives_up(row.saturating_mul(self.rows).saturating_mul(calls))
    }

    /// The first rows are about to be given away: false if the attempt is over.
    fn settles(&self) -> bool {
        let settled = self.stands.compare_exchange(OPEN, SETTLED, Ordering::AcqRel, Ordering::Acquire);
        settled.is_ok_and(|_| true) || self.stands.load(Ordering::Acquire) == SETTLED
    }

    /// With how many rows to a batch to begin again.
    fn next(&self) -> Option<usize> {
        match self.stands.load(Ordering::Acquire) {
            OPEN | SETTLED => None,
            rows => Some(rows),
        }
    }

    /// Bytes that one call of a function may make for a batch, before it asks for smaller ones.
    pub(crate) fn call_bytes(&self) -> usize {
        self.share / self.calls.load(Ordering::Relaxed).max(1)
    }

    /// The same where asking is of no use any more.
    pub(crate) fn call_bytes_late(&self) -> usize {
        self.call_bytes().saturating_mul(SHARES_LATE)
    }
}

impl Carried for Pace {
    const NAME: &'static str = "millstream_pace";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_is_given_up_for_one_whose_batches_fit_until_rows_are_given_away() {
        let check = |rows: usize, bytes: usize, expected: Option<usize>| {
            let pace = Pace::new(rows, 1 << 20);
            assert_eq!((pace.gives_up(bytes), pace.next()), (expected.is_some(), expected), "{rows} {bytes}");
            assert_eq!(pace.settles(), expected.is_none());
        };
        check(8192, 64 << 20, Some(128));
        check(8192, 2 << 20, Some(2048));
        check(8192, usize::MAX, Some(1));
        check(2, 2 << 20, Some(1));
        check(1, 1 << 30, None);
        let late = Pace::new(8192, 1 << 20);
        assert!(late.settles() && late.settles());
        assert!(!late.gives_up(64 << 20));
        assert_eq!(late.next(), None);
    }

    #[test]
    fn the_more_there_is_the_more_a_batch_may_take() {
        assert_eq!(share(1 << 30, 2), 32 << 20);
        assert_eq!(share(1 << 30, 8), 8 << 20);
        assert_eq!(share(1 << 30, 64), 8 << 20);
        assert_eq!(share(64 << 20, 64), 1 << 20);
        assert_eq!(share(32 << 20, 2), 1 << 20);
        assert_eq!(share(0, 0), 64 << 10);
    }
}
