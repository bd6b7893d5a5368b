//! Messages of QoS 0 that the log did not take: their clients hear nothing, so that the program's log must say it.

use std::sync::atomic::{AtomicU64, Ordering};
use tracing::warn;

/// How many were lost since it was told last. Connections count, the gateway tells now and then: a failing disk must not write a line for each.
#[derive(Debug, Default)]
pub(crate) struct Lost(AtomicU64);

impl Lost {
    pub(crate) fn count(&self, messages: u64) {
        self.0.fetch_add(messages, Ordering::Relaxed);
    }

    /// Says how many there are, if there are any.
    pub(crate) fn tell(&self) {
        let lost = self.0.swap(0, Ordering::Relaxed);
        if lost > 0 {
            warn!(lost, "messages of QoS 0 were lost, because the log did not take them");
        }
    }
}
