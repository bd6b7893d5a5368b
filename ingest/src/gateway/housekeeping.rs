//! What a gateway does beside its connections, each in a task of its own, so that none waits for another or holds up a connection.

use crate::gateway::{Shared, wills};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// How often sessions that have expired are forgotten. They count as gone before that.
const PURGE_INTERVAL: Duration = Duration::from_secs(600);

/// How often lost messages are told at most.
const LOST_INTERVAL: Duration = Duration::from_secs(10);

/// The tasks, until they are stopped.
#[derive(Debug)]
pub(crate) struct Housekeeping {
    tasks: JoinSet<()>,
    stop: CancellationToken,
}

impl Housekeeping {
    pub(crate) fn start(shared: &Arc<Shared>) -> Self {
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(purge(Arc::clone(shared), stop.clone()));
        tasks.spawn(tell_losses(Arc::clone(shared), stop.clone()));
        tasks.spawn(publish_wills(Arc::clone(shared), stop.clone()));
        Self { tasks, stop }
    }

    /// Ends the tasks, does for the last time what they did, and waits for the log no longer than it takes twice to drain a connection.
    pub(crate) async fn stop(mut self, shared: &Shared) {
        self.stop.cancel();
        let ended = tokio::time::timeout(shared.settings.drain_timeout, async {
            while self.tasks.join_next().await.is_some() {}
        });
        if ended.await.is_err() {
            warn!("a task of the gateway was cut because it did not end in time");
            self.tasks.shutdown().await;
        }
        wills::publish(shared, shared.wills.take_all()).await;
        shared.lost.tell();
    }
}

async fn purge(shared: Arc<Shared>, stop: CancellationToken) {
    let mut due = tokio::time::interval(PURGE_INTERVAL);
    while stop.run_until_cancelled(due.tick()).await.is_some() {
        if let Err(error) = shared.sessions.purge(shared.clock.now()).await {
            warn!(error = &error as &dyn std::error::Error, "expired sessions cannot be forgotten");
        }
    }
}

async fn tell_losses(shared: Arc<Shared>, stop: CancellationToken) {
    let mut due = tokio::time::interval(LOST_INTERVAL);
    while stop.run_until_cancelled(due.tick()).await.is_some() {
        shared.lost.tell();
    }
}

async fn publish_wills(shared: Arc<Shared>, stop: CancellationToken) {
    while let Some(due) = stop.run_until_cancelled(shared.wills.due()).await {
        wills::publish(&shared, vec![due]).await;
    }
}
