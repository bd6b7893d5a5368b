//! The memory that the tails of all tables may take together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes that may be held, and those that are.
#[derive(Debug)]
pub(super) struct Budget {
    limit: usize,
    held: AtomicUsize,
}

impl Budget {
    pub(super) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, held: AtomicUsize::new(0) })
    }

    /// The most bytes.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// The bytes that are taken.
    pub(super) fn held(&self) -> usize {
        self.held.load(Ordering::Acquire)
    }

    /// Takes so many bytes; `None` if there are not so many left.
    pub(super) fn take(self: &Arc<Self>, bytes: usize) -> Option<Lease> {
        let taken = self.held.fetch_update(Ordering::AcqRel, Ordering::Acquire, |held| {
            held.checked_add(bytes).filter(|sum| *sum <= self.limit)
        });
        taken.is_ok().then(|| Lease { budget: Arc::clone(self), bytes })
    }
}

/// Bytes that were taken, until this is dropped: with the last query that reads what takes them.
#[derive(Debug)]
pub(super) struct Lease {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Lease {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.budget.held.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_given_than_there_is_and_what_is_dropped_is_given_again() {
        let budget = Budget::new(10);
        let six = budget.take(6).unwrap();
        assert!(budget.take(5).is_none());
        let four = budget.take(4).unwrap();
        assert!(budget.take(1).is_none() && budget.held() == 10);
        drop(six);
        assert!(budget.take(usize::MAX).is_none());
        assert_eq!(budget.take(6).map(|lease| lease.bytes()), Some(6));
        drop(four);
    }
}
