//! How many queries run at once. Others wait, not too many of them and not for long.

use super::counters::{Counted, Counters};
use super::refusal::Refusal;
use axum::http::{StatusCode, header};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// Lets queries in, in the order in which they came.
pub(super) struct Admission {
    running: Arc<Semaphore>,
    waiting_max: usize,
    wait: Duration,
    counters: Counters,
}

/// The right to run one query, until it is dropped.
#[derive(Debug)]
pub(super) struct Permit {
    _running: OwnedSemaphorePermit,
    _counted: Counted,
}

impl Admission {
    pub(super) fn new(
        running_max: NonZeroUsize,
        waiting_max: usize,
        wait: Duration,
        counters: Counters,
    ) -> Self {
        let running = running_max.get().min(Semaphore::MAX_PERMITS);
        Self { running: Arc::new(Semaphore::new(running)), waiting_max, wait, counters }
    }

    /// Cancel-safe: who is dropped leaves the queue.
    pub(super) async fn admit(&self) -> Result<Permit, Refusal> {
        if let Ok(running) = Arc::clone(&self.running).try_acquire_owned() {
            return Ok(self.permit(running));
        }
        let Some(_place) = self.counters.wait(self.waiting_max) else {
            return Err(busy(format!("{} queries wait already", self.waiting_max)));
        };
        match timeout(self.wait, Arc::clone(&self.running).acquire_owned()).await {
            Ok(Ok(running)) => Ok(self.permit(running)),
            Ok(Err(closed)) => Err(busy(closed.to_string())),
            Err(_elapsed) => Err(busy(format!("no running query ended within {:?}", self.wait))),
        }
    }

    fn permit(&self, running: OwnedSemaphorePermit) -> Permit {
        Permit { _running: running, _counted: self.counters.run() }
    }
}

fn busy(why: String) -> Refusal {
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "busy", format!("too many queries at once: {why}"))
        .hint("ask again in a moment, or let more run, sql.running, and wait, sql.waiting and sql.wait")
        .with_header(header::RETRY_AFTER, "5")
}
