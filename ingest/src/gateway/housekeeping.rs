//! What a gateway does beside its connections, each in a task of its own, so that none waits for another or holds up a connection.

use crate::gateway::{Shared, wills};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

/// How often sessions that have expired are forgotten. They count as gone before that.
const PURGE_INTERVAL: Duration = Duration::from_secs(600);

/// How often lost messages are told at most.
const LOST_INTERVAL: Duration = Duration::from_secs(10);

/// How often files with credentials and certificates are looked at: a device that is revoked should not stay for long, and a look costs a few microseconds.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Looks after which connected clients are asked whether they may stay even if no file has changed: certificates expire.
const LOOKS_TO_EXPIRY: u32 = 30;

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
        if shared.access.has_files() {
            tasks.spawn(watch_access(Arc::clone(shared), stop.clone()));
        }
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

async fn watch_access(shared: Arc<Shared>, stop: CancellationToken) {
    let mut due = tokio::time::interval(LOOK_INTERVAL);
    let mut looks: u32 = 0;
    while stop.run_until_cancelled(due.tick()).await.is_some() {
        looks = looks.wrapping_add(1);
        let (shared, is_due) = (Arc::clone(&shared), looks.is_multiple_of(LOOKS_TO_EXPIRY));
        // On a thread for what blocks: it reads files, and new authorities are thousands of signatures to check.
        let looked = tokio::task::spawn_blocking(move || {
            let now = shared.clock.now();
            if shared.access.reload(now) || is_due {
                shared.registry.expel(|identity| shared.access.stands(identity, now).err());
            }
        });
        if let Err(failed) = looked.await {
            error!(error = %failed, "a change of credentials could not be looked at");
        }
    }
}

async fn publish_wills(shared: Arc<Shared>, stop: CancellationToken) {
    while let Some(due) = stop.run_until_cancelled(shared.wills.due()).await {
        wills::publish(&shared, vec![due]).await;
    }
}
