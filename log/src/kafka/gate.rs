//! The gate in front of the producer: appends come through one by one, and none while a producer is being replaced.

use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// What becomes of appends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Queue {
    /// They go to the client.
    Open,
    /// A producer is being replaced. What it still took would be confirmed, or given up, after what the new one takes.
    Shut,
    /// There will be no other.
    Closed,
}

/// Through it appends come to the client.
#[derive(Debug)]
pub(crate) struct Gate {
    /// Held while an append is numbered and queued, which never waits: so that the numbers are the order of the queue.
    turn: Mutex<()>,
    /// Written by who has the turn.
    queue: watch::Sender<Queue>,
}

/// Nobody else comes through.
pub(crate) struct Turn<'a> {
    gate: &'a Gate,
    _held: MutexGuard<'a, ()>,
}

impl Gate {
    pub(crate) fn new() -> Self {
        Self { turn: Mutex::default(), queue: watch::Sender::new(Queue::Open) }
    }

    /// Waits until no producer is being replaced.
    pub(crate) async fn passable(&self) {
        // It fails only where this is gone.
        drop(self.queue.subscribe().wait_for(|queue| *queue != Queue::Shut).await);
    }

    pub(crate) fn turn(&self) -> Turn<'_> {
        Turn { gate: self, _held: self.turn.lock().unwrap_or_else(PoisonError::into_inner) }
    }
}

impl Turn<'_> {
    pub(crate) fn queue(&self) -> Queue {
        *self.gate.queue.borrow()
    }

    pub(crate) fn set(&self, queue: Queue) {
        self.gate.queue.send_replace(queue);
    }
}
