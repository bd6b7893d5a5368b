//! When the work of one query is to end.
//!
//! `limits` sets it, and makes it pass when the answer is given up; `interruption` looks at it from where the engine works without a pause. It ends nothing
//! by itself.

use datafusion::error::DataFusionError;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// Long after every query.
const NEVER: u64 = u64::MAX;

/// A moment that can be moved. Its clones are one: what works on a query on other threads sees where it was moved.
#[derive(Debug, Clone)]
pub(crate) struct Deadline {
    began: Instant,
    /// Nanoseconds after `began`.
    passes: Arc<AtomicU64>,
}

impl Deadline {
    /// None so far.
    pub(crate) fn new() -> Self {
        Self { began: Instant::now(), passes: Arc::new(AtomicU64::new(NEVER)) }
    }

    /// Lets it pass after some time from now.
    pub(crate) fn set(&self, left: Duration) {
        let after = self.began.elapsed().saturating_add(left);
        self.passes.store(u64::try_from(after.as_nanos()).unwrap_or(NEVER), Ordering::Relaxed);
    }

    /// Puts it off until it is set again.
    pub(crate) fn lift(&self) {
        self.passes.store(NEVER, Ordering::Relaxed);
    }

    /// Lets it pass now.
    pub(crate) fn pass(&self) {
        self.passes.store(0, Ordering::Relaxed);
    }

    /// Fails when it has passed.
    pub(crate) fn check(&self, now: Instant) -> Result<(), DataFusionError> {
        let elapsed = now.saturating_duration_since(self.began).as_nanos();
        match elapsed < u128::from(self.passes.load(Ordering::Relaxed)) {
            true => Ok(()),
            false => Err(DataFusionError::Execution("the query was ended".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_passes_when_its_time_is_over_or_it_is_let_pass() {
        let deadline = Deadline::new();
        let passed = |deadline: &Deadline| deadline.check(Instant::now()).is_err();
        assert!(!passed(&deadline));
        let elsewhere = deadline.clone();
        deadline.set(Duration::from_secs(2));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(!passed(&elsewhere));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(passed(&elsewhere));
        deadline.lift();
        assert!(!passed(&elsewhere));
        deadline.set(Duration::MAX);
        assert!(!passed(&elsewhere));
        deadline.pass();
        assert!(passed(&elsewhere));
    }
}
