//! Wills that wait for their delay (MQTT-3.1.3-9): a client that comes back to its session before is not gone.
//!
//! A Will is kept when its connection ends, and published when its delay is over, when the session ends, or when the gateway stops; if whoever left it would
//! still be let in at that moment. It is in memory only: a process that dies loses those that wait, as it loses the Wills of the clients that are connected.

use crate::gateway::Shared;
use crate::gateway::message;
use crate::gateway::wire::Will;
use crate::identity::access::{Denial, Identity};
use crate::lifecycle::{Event, Happening};
use millstream_log::LogError;
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::warn;

/// Bytes of Wills that wait. One that finds no room is published at once.
const WAITING_BYTES: usize = 32 << 20;

/// What a Will takes beside its texts, its payload, and who it is of.
const WILL_BYTES: usize = 512;

/// A Will, and what is known of who leaves it.
#[derive(Debug)]
pub(crate) struct Testament {
    pub(crate) will: Will,
    pub(crate) client_id: Arc<str>,
    pub(crate) identity: Arc<Identity>,
    /// The protocol's version, as lifecycle events have it.
    pub(crate) protocol: &'static str,
    pub(crate) address: SocketAddr,
}

impl Testament {
    fn size(&self) -> usize {
        self.will.size() + self.client_id.len() + self.identity.size() + WILL_BYTES
    }
}

/// The Wills that wait, one per client identifier.
#[derive(Debug, Default)]
pub(crate) struct Wills {
    waiting: Mutex<Waiting>,
    /// Tells who waits for the first one that there is another first one.
    changed: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    /// By deadline; the number tells those apart that have the same.
    by_deadline: BTreeMap<(Instant, u64), Testament>,
    by_client: HashMap<Arc<str>, (Instant, u64)>,
    bytes: usize,
    count: u64,
}

impl Wills {
    /// Keeps a Will; gives it back where there is no room. The client has none here: it was taken when the connection began.
    pub(crate) fn keep(&self, testament: Testament, delay: Duration) -> Option<Testament> {
        let mut waiting = self.waiting();
        let bytes = waiting.bytes + testament.size();
        if bytes > WAITING_BYTES {
            return Some(testament);
        }
        let key = (Instant::now() + delay, waiting.count);
        waiting.bytes = bytes;
        waiting.count += 1;
        waiting.by_client.insert(Arc::clone(&testament.client_id), key);
        waiting.by_deadline.insert(key, testament);
        drop(waiting);
        self.changed.notify_one();
        None
    }

    /// Takes a client's Will.
    pub(crate) fn take(&self, client_id: &str) -> Option<Testament> {
        let mut waiting = self.waiting();
        let key = waiting.by_client.get(client_id).copied()?;
        waiting.remove(key)
    }

    /// Takes all.
    pub(crate) fn take_all(&self) -> Vec<Testament> {
        std::mem::take(&mut *self.waiting()).by_deadline.into_values().collect()
    }

    /// Waits for the first delay that is over, and takes its Will. For one caller. Cancel-safe.
    pub(crate) async fn due(&self) -> Testament {
        loop {
            let first = self.waiting().by_deadline.first_key_value().map(|(key, _)| *key);
            let Some(key) = first else {
                self.changed.notified().await;
                continue;
            };
            tokio::select! {
                () = tokio::time::sleep_until(key.0) => {}
                () = self.changed.notified() => continue,
            }
            // Its client may have come back meanwhile.
            if let Some(due) = self.waiting().remove(key) {
                return due;
            }
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn remove(&mut self, key: (Instant, u64)) -> Option<Testament> {
        let testament = self.by_deadline.remove(&key)?;
        self.by_client.remove(&testament.client_id);
        self.bytes -= testament.size();
        Some(testament)
    }
}

/// Appends Wills to the log, and waits for its answers, but not for ever. The Will of a client that would not be let in any more is dropped: it may have waited
/// for days. Whether its topic is the client's own was asked at its CONNECT, and need not be asked again: a client whose rules have changed would not be let in.
pub(crate) async fn publish(shared: &Shared, wills: Vec<Testament>) {
    let limit = Instant::now() + shared.settings.drain_timeout;
    let mut appended = Vec::with_capacity(wills.len());
    for testament in wills {
        if let Err(denial) = shared.access.stands(&testament.identity, shared.clock.now()) {
            deny(shared, &testament, &denial);
            continue;
        }
        let Testament { will, client_id, .. } = testament;
        let route = shared.routes.route(&will.topic, &client_id);
        let record = message::will_record(will, &route, shared.clock.now());
        let pending = tokio::time::timeout_at(limit, shared.log.append(&route.log_topic, vec![record])).await;
        appended.push((client_id, pending));
    }
    for (client_id, pending) in appended {
        let outcome = match pending {
            Ok(Ok(pending)) => tokio::time::timeout_at(limit, pending).await,
            Ok(Err(error)) => Ok(Err(error)),
            Err(late) => Err(late),
        };
        let outcome = outcome.unwrap_or_else(|late| Err(LogError::Unknown { detail: late.to_string() }));
        if let Err(error) = outcome {
            warn!(%client_id, error = &error as &dyn std::error::Error, "the log did not take a Will");
        }
    }
}

/// Says that a Will is not published, as of other messages that their client may not publish.
fn deny(shared: &Shared, testament: &Testament, denial: &Denial) {
    let Testament { will, client_id, identity, protocol, address } = testament;
    shared.counters.deny();
    shared.lifecycle.tell(Event {
        event: Happening::Denied,
        client_id: client_id.to_string(),
        protocol,
        address: *address,
        reason: denial.reason(),
        detail: Some(format!("its Will on {}: {denial}", will.topic)),
        messages: None,
        session_present: None,
        identity: identity.name(),
        denied: None,
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn left_by(client_id: &str, payload: usize) -> Testament {
        let will = Will {
            topic: "t".to_owned(),
            qos: 0,
            retain: false,
            payload: Bytes::from(vec![0; payload]),
            delay: 1,
            content_type: None,
            user_properties: Vec::new(),
        };
        Testament {
            will,
            client_id: client_id.into(),
            identity: Arc::new(Identity::anonymous()),
            protocol: "5",
            address: ([127, 0, 0, 1], 1).into(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn wills_come_when_they_are_due_unless_they_were_taken() {
        let wills = Wills::default();
        for (name, seconds) in ["d0", "d1", "d2", "d3"].into_iter().zip([30, 10, 20, 10]) {
            assert!(wills.keep(left_by(name, 1), Duration::from_secs(seconds)).is_none());
        }
        assert_eq!(&*wills.take("d2").unwrap().client_id, "d2");
        assert!(wills.take("d2").is_none() && wills.take("other").is_none());
        let begun = Instant::now();
        for (name, seconds) in [("d1", 10), ("d3", 10), ("d0", 30)] {
            assert_eq!(&*wills.due().await.client_id, name);
            assert_eq!(begun.elapsed().as_secs(), seconds);
        }
        assert_eq!(wills.waiting().bytes, 0);
    }

    #[tokio::test]
    async fn a_will_that_finds_no_room_is_given_back() {
        let wills = Wills::default();
        let half = WAITING_BYTES / 2;
        assert!(wills.keep(left_by("d1", half), Duration::from_secs(u32::MAX.into())).is_none());
        assert!(wills.keep(left_by("d2", half), Duration::from_secs(1)).is_some());
        assert_eq!(wills.take_all().len(), 1);
        assert!(wills.keep(left_by("d2", half), Duration::from_secs(1)).is_none());
    }
}
