//! Stages of the pipeline as supervised tasks: each has a name, each is joined, the first failure is the one that is told.

use std::future::Future;
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Tasks that begin and end together.
#[derive(Debug)]
pub(crate) struct Stage {
    name: &'static str,
    token: CancellationToken,
    tasks: JoinSet<(String, anyhow::Result<()>)>,
}

impl Stage {
    /// A stage without tasks.
    pub(crate) fn new(name: &'static str) -> Self {
        Self { name, token: CancellationToken::new(), tasks: JoinSet::new() }
    }

    /// The token that tells this stage's tasks to drain and end.
    pub(crate) fn token(&self) -> CancellationToken {
        self.token.clone()
    }

    /// Starts a task.
    pub(crate) fn spawn(
        &mut self,
        task: impl Into<String>,
        run: impl Future<Output = anyhow::Result<()>> + Send + 'static,
    ) {
        let task = task.into();
        self.tasks.spawn(async move { (task, run.await) });
    }

    /// Starts a task on other threads.
    pub(crate) fn spawn_on(
        &mut self,
        threads: &Handle,
        task: impl Into<String>,
        run: impl Future<Output = anyhow::Result<()>> + Send + 'static,
    ) {
        let task = task.into();
        self.tasks.spawn_on(async move { (task, run.await) }, threads);
    }

    /// Returns when a task has ended although nobody told it to: always a failure. Cancel-safe.
    pub(crate) async fn failed(&mut self) -> anyhow::Error {
        match self.tasks.join_next().await {
            Some(ended) => match self.outcome(ended) {
                Ok(()) => anyhow::anyhow!("a task of the stage {} ended by itself", self.name),
                Err(error) => error,
            },
            None => std::future::pending().await,
        }
    }

    /// Tells the tasks to drain, and waits for all of them.
    ///
    /// # Errors
    /// The first failure of a task.
    pub(crate) async fn drain(&mut self) -> anyhow::Result<()> {
        self.token.cancel();
        let mut first = Ok(());
        while let Some(ended) = self.tasks.join_next().await {
            let outcome = self.outcome(ended);
            first = first.and(outcome);
        }
        tracing::debug!(stage = self.name, "drained");
        first
    }

    fn outcome(
        &self,
        ended: Result<(String, anyhow::Result<()>), tokio::task::JoinError>,
    ) -> anyhow::Result<()> {
        match ended {
            Ok((task, outcome)) => {
                outcome.map_err(|error| error.context(format!("{} {task} failed", self.name)))
            }
            Err(error) => {
                Err(anyhow::Error::new(error).context(format!("a task of the stage {} panicked", self.name)))
            }
        }
    }
}
