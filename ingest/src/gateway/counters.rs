//! What metrics read of a gateway: raised by its connections, read by whoever shows them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::OwnedSemaphorePermit;

/// Refusals that are counted from the start, at none: of what was not there before, no monitor sees how it grows.
const WATCHED: [&str; 8] = [
    "certificate_expired",
    "certificate_revoked",
    "connections_max",
    "device_revoked",
    "no_credential",
    "unknown_certificate",
    "unknown_user",
    "wrong_password",
];

/// What happens at a gateway, counted. Clones count together.
#[derive(Debug, Clone)]
pub struct Counters(Arc<Cells>);

impl Default for Counters {
    fn default() -> Self {
        let refused = Mutex::new(WATCHED.map(|code| (code, 0)).into());
        Self(Arc::new(Cells { refused, ..Cells::default() }))
    }
}

#[derive(Debug, Default)]
struct Cells {
    connected: AtomicU64,
    accepted: AtomicU64,
    refused: Mutex<BTreeMap<&'static str, u64>>,
    messages: AtomicU64,
    bytes: AtomicU64,
    acknowledged: AtomicU64,
    denied: AtomicU64,
    lost: AtomicU64,
    in_flight: AtomicU64,
    in_flight_bytes: AtomicU64,
}

/// The counters at one moment. Each is exact; together they may be an instant apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Clients that are connected now.
    pub connected: u64,
    /// Clients that were let in, so far.
    pub accepted: u64,
    /// Clients that were told that they are not.
    pub refused: u64,
    /// Messages that were given to the log.
    pub messages: u64,
    /// Bytes of these messages, with what the log keeps beside their payloads.
    pub bytes: u64,
    /// Messages whose PUBACK or PUBREC was written: the log has them.
    pub acknowledged: u64,
    /// Messages that their device may not publish.
    pub denied: u64,
    /// Messages of QoS 0 that the log did not take.
    pub lost: u64,
    /// Messages that wait for the log now.
    pub in_flight: u64,
    /// Bytes of those.
    pub in_flight_bytes: u64,
}

impl Counters {
    /// As they are now.
    #[must_use]
    pub fn read(&self) -> Counts {
        let of = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
        let cells = &*self.0;
        Counts {
            connected: of(&cells.connected),
            accepted: of(&cells.accepted),
            refused: self.refusals().values().sum(),
            messages: of(&cells.messages),
            bytes: of(&cells.bytes),
            acknowledged: of(&cells.acknowledged),
            denied: of(&cells.denied),
            lost: of(&cells.lost),
            in_flight: of(&cells.in_flight),
            in_flight_bytes: of(&cells.in_flight_bytes),
        }
    }

    /// Clients that were refused so far, by the code of the reason; only codes that occurred, or that are watched for.
    #[must_use]
    pub fn refusals(&self) -> BTreeMap<&'static str, u64> {
        self.0.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A client was let in; it is connected as long as the returned value lives.
    pub(crate) fn accept(&self) -> Connected {
        self.0.accepted.fetch_add(1, Ordering::Relaxed);
        self.0.connected.fetch_add(1, Ordering::Relaxed);
        Connected(self.clone())
    }

    pub(crate) fn refuse(&self, reason: &'static str) {
        *self.0.refused.lock().unwrap_or_else(PoisonError::into_inner).entry(reason).or_default() += 1;
    }

    /// A message was given to the log; it waits for it as long as the returned value lives.
    pub(crate) fn take(&self, room: OwnedSemaphorePermit, bytes: usize) -> Taken {
        let bytes = bytes as u64;
        self.0.messages.fetch_add(1, Ordering::Relaxed);
        self.0.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.0.in_flight.fetch_add(1, Ordering::Relaxed);
        self.0.in_flight_bytes.fetch_add(bytes, Ordering::Relaxed);
        Taken { counters: self.clone(), bytes, _room: room }
    }

    pub(crate) fn acknowledge(&self) {
        self.0.acknowledged.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn deny(&self) {
        self.0.denied.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn lose(&self, messages: u64) {
        self.0.lost.fetch_add(messages, Ordering::Relaxed);
    }
}

/// A client that is connected.
#[derive(Debug)]
pub(crate) struct Connected(Counters);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.0.connected.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A message that waits for the log, and the room that it takes meanwhile.
#[derive(Debug)]
pub(crate) struct Taken {
    counters: Counters,
    bytes: u64,
    _room: OwnedSemaphorePermit,
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.counters.0.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.counters.0.in_flight_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::wire::Refusal;
    use crate::identity::access::Denial;
    use crate::identity::certificate::Untimely;
    use millstream_model::time::Micros;
    use tokio::sync::Semaphore;

    #[tokio::test]
    async fn what_is_there_counts_until_it_is_dropped() {
        let counters = Counters::default();
        let room = Arc::new(Semaphore::new(10));
        let connected = counters.accept();
        let taken = counters.take(Arc::clone(&room).acquire_many_owned(7).await.unwrap(), 7);
        let expected = Counts {
            connected: 1,
            accepted: 1,
            messages: 1,
            bytes: 7,
            in_flight: 1,
            in_flight_bytes: 7,
            ..Counts::default()
        };
        assert_eq!(counters.read(), expected);
        drop((connected, taken));
        let expected = Counts { connected: 0, in_flight: 0, in_flight_bytes: 0, ..expected };
        assert_eq!((counters.read(), room.available_permits()), (expected, 10));
    }

    /// By the very codes that the refusals have.
    #[test]
    fn what_is_watched_for_is_there_before_it_happens() {
        let counters = Counters::default();
        for refusal in [
            Refusal::Connections,
            Denial::NoCredential.into(),
            Denial::UnknownUser.into(),
            Denial::WrongPassword.into(),
            Denial::UnknownCertificate(String::new()).into(),
            Denial::CertificateRevoked.into(),
            Denial::Untimely(Untimely::Expired(Micros(0))).into(),
            Denial::Revoked("d1".parse().unwrap()).into(),
        ] {
            assert_eq!(counters.refusals().get(refusal.reason()), Some(&0), "{refusal:?}");
            counters.refuse(refusal.reason());
            assert_eq!(counters.refusals().get(refusal.reason()), Some(&1));
        }
        assert!(counters.refusals().values().all(|refused| *refused == 1), "{:?}", counters.refusals());
    }
}
