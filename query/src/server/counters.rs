//! What metrics read: how many queries run and wait, and what became of all of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Raised by the server, read by whoever shows them. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct Counters(Arc<Cells>);

#[derive(Debug, Default)]
struct Cells {
    running: AtomicU64,
    waiting: AtomicU64,
    total: AtomicU64,
    answered: AtomicU64,
    failed: AtomicU64,
    rows: AtomicU64,
    bytes: AtomicU64,
}

/// The counters at one moment. Each is exact; together they may be an instant apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Queries that run now.
    pub running: u64,
    /// Queries that wait for one of those to end.
    pub waiting: u64,
    /// Requests so far, those that were refused included.
    pub total: u64,
    /// Requests that were answered to the last row.
    pub answered: u64,
    /// Requests that were refused or failed. What is in `total` but neither here nor in `answered`, nor running or waiting, was given up by its client.
    pub failed: u64,
    /// Rows handed to clients.
    pub rows: u64,
    /// Bytes handed to clients, before any encoding of the connection.
    pub bytes: u64,
}

impl Counters {
    /// As they are now.
    #[must_use]
    pub fn read(&self) -> Counts {
        let of = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
        let Cells { running, waiting, total, answered, failed, rows, bytes } = &*self.0;
        Counts {
            running: of(running),
            waiting: of(waiting),
            total: of(total),
            answered: of(answered),
            failed: of(failed),
            rows: of(rows),
            bytes: of(bytes),
        }
    }

    /// A request has come.
    pub(super) fn begin(&self) -> Course {
        self.0.total.fetch_add(1, Ordering::Relaxed);
        Course(self.clone())
    }

    pub(super) fn run(&self) -> Counted {
        self.0.running.fetch_add(1, Ordering::Relaxed);
        Counted { counters: self.clone(), cell: |cells| &cells.running }
    }

    /// One more that waits, unless there are `most` already.
    pub(super) fn wait(&self, most: usize) -> Option<Counted> {
        let more = |waiting: u64| (waiting < most as u64).then_some(waiting + 1);
        self.0.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Counted { counters: self.clone(), cell: |cells| &cells.waiting })
    }
}

/// One request on its way.
#[derive(Debug, Clone)]
pub(super) struct Course(Counters);

impl Course {
    pub(super) fn deliver(&self, rows: usize, bytes: usize) {
        self.0.0.rows.fetch_add(rows as u64, Ordering::Relaxed);
        self.0.0.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn succeed(&self) {
        self.0.0.answered.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn fail(&self) {
        self.0.0.failed.fetch_add(1, Ordering::Relaxed);
    }
}

/// Counts as one until it is dropped, however that comes about.
#[derive(Debug)]
pub(super) struct Counted {
    counters: Counters,
    cell: fn(&Cells) -> &AtomicU64,
}

impl Drop for Counted {
    fn drop(&mut self) {
        (self.cell)(&self.counters.0).fetch_sub(1, Ordering::Relaxed);
    }
}
