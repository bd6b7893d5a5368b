//! A try at something as a task of its own and within a time, so that neither a defect nor an endless computation in it is the end of whoever tries.

use super::error::ReportError;
use std::time::Duration;
use tokio::time::timeout;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

/// Tries of one owner, one after another. Those that were given up are joined by [`Attempts::settled`].
#[derive(Debug)]
pub(crate) struct Attempts(TaskTracker);

impl Attempts {
    pub(crate) fn new() -> Self {
        let tasks = TaskTracker::new();
        // Closed, it can be waited for; it takes tasks nevertheless.
        tasks.close();
        Self(tasks)
    }

    /// What became of the work. When this is dropped, or the time is over, the work is given up at its next pause.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        limit: Duration,
        work: impl Future<Output = Result<T, ReportError>> + Send + 'static,
    ) -> Result<T, ReportError> {
        let task = AbortOnDropHandle::new(self.0.spawn(work));
        match timeout(limit, task).await {
            Ok(Ok(done)) => done,
            Ok(Err(panicked)) => Err(ReportError::Panicked(panicked)),
            Err(_elapsed) => Err(ReportError::TooLong { limit }),
        }
    }

    /// Returns when nothing that was given up is still at work.
    pub(crate) async fn settled(&self) {
        self.0.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    const LIMIT: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn whatever_becomes_of_the_work_the_owner_goes_on() {
        let attempts = Attempts::new();
        let panicked = attempts.run(LIMIT, async { panic!("on purpose") }).await;
        assert!(matches!(panicked, Err::<(), _>(ReportError::Panicked(_))), "{panicked:?}");
        let refused =
            attempts.run(LIMIT, async { Err::<(), _>(ReportError::Contended { attempts: 1 }) }).await;
        assert!(matches!(refused, Err(ReportError::Contended { .. })), "{refused:?}");

        let held = Arc::new(());
        let hold = Arc::clone(&held);
        let endless = async move {
            std::future::pending::<()>().await;
            drop(hold);
            Ok(())
        };
        let late = attempts.run(LIMIT, endless).await;
        assert!(matches!(late, Err(ReportError::TooLong { limit: LIMIT })), "{late:?}");
        attempts.settled().await;
        assert_eq!(Arc::strong_count(&held), 1, "what was given up is gone");
        assert_eq!(attempts.run(LIMIT, async { Ok(7) }).await.unwrap(), 7);
    }
}
