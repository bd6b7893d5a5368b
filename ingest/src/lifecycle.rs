//! The stream of connects, disconnects and refusals: `millstream.lifecycle`.
//!
//! Best effort and bounded: an event that finds the queue full, or that the log does not take, is dropped and counted. No connection ever waits for it.

use crate::clock::Clock;
use bytes::Bytes;
use millstream_log::{Log, LogError};
use millstream_model::arrival::Arrival;
use millstream_model::name::LogTopic;
use millstream_model::record::Record;
use millstream_model::time::Micros;
use serde::Serialize;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;
use tracing::warn;

/// Events that may wait for the log: about 300 bytes each, so less than a megabyte.
const QUEUE_MAX: usize = 2048;

/// Events that go to the log in one append.
const BATCH_MAX: usize = 256;

/// Refusals that are told a minute. Everybody who reaches the port can cause them, and each would be a row; the metrics count them all.
const REFUSALS_MAX: u32 = 600;

/// Longest device id, in bytes.
const DEVICE_ID_MAX: usize = 256;

/// MQTT topic that the events say they came by. No device can forge it: the gateway refuses to publish under [`OWN_TOPICS`].
const TOPIC: &str = "$millstream/lifecycle";

/// Where the MQTT topics begin that only Millstream itself writes to.
pub(crate) const OWN_TOPICS: &str = "$millstream/";

/// What happened to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Happening {
    /// A CONNECT was accepted.
    Connect,
    /// An accepted connection ended.
    Disconnect,
    /// A CONNECT was refused.
    Refused,
    /// An accepted client published to a topic that is not its own; told once for each connection. Or it left a Will, and was not let in any more by the time
    /// that it should have been published.
    Denied,
}

/// One event, as it stands in its record.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Event {
    /// What happened.
    pub(crate) event: Happening,
    /// Whose connection.
    pub(crate) client_id: String,
    /// `3.1.1` or `5`.
    pub(crate) protocol: &'static str,
    /// Address and port of the peer.
    pub(crate) address: SocketAddr,
    /// A fixed code, as in `keep_alive_timeout`.
    pub(crate) reason: &'static str,
    /// The same for a person, where there is more to say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) detail: Option<String>,
    /// Messages that this connection published, on its disconnect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) messages: Option<u64>,
    /// Whether the client found its session, on its connect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) session_present: Option<bool>,
    /// Who the client is, where that is known: the device's name, or its certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) identity: Option<String>,
    /// Messages that this connection may not publish, on its disconnect, if there were any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) denied: Option<u64>,
}

#[derive(Serialize)]
struct Line<'a> {
    /// RFC 3339.
    ts: String,
    #[serde(flatten)]
    event: &'a Event,
}

/// Takes events. Clones share the queue; the writer ends when the last is gone.
#[derive(Debug, Clone)]
pub(crate) struct Lifecycle {
    events: mpsc::Sender<(Micros, Event)>,
    clock: Arc<dyn Clock>,
    refusals: Arc<Mutex<Refusals>>,
    /// Written by whoever finds the queue full, or too many refusals told, read by the writer.
    dropped: Arc<AtomicU64>,
}

/// How many were told in a minute.
#[derive(Debug, Default)]
struct Refusals {
    minute: i64,
    told: u32,
}

impl Refusals {
    /// Whether one more may be told now.
    fn take(&mut self, now: Micros) -> bool {
        let minute = now.0.div_euclid(60_000_000);
        if minute != self.minute {
            *self = Self { minute, told: 0 };
        }
        self.told = self.told.saturating_add(1);
        self.told <= REFUSALS_MAX
    }
}

/// The other end: writes the events to the log.
#[derive(Debug)]
pub(crate) struct LifecycleWriter {
    events: mpsc::Receiver<(Micros, Event)>,
    dropped: Arc<AtomicU64>,
}

impl Lifecycle {
    /// Both ends.
    pub(crate) fn new(clock: Arc<dyn Clock>) -> (Self, LifecycleWriter) {
        let (sender, receiver) = mpsc::channel(QUEUE_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        (
            Self { events: sender, clock, refusals: Arc::default(), dropped: Arc::clone(&dropped) },
            LifecycleWriter { events: receiver, dropped },
        )
    }

    /// Queues an event that happens now, or drops it where the queue is full, or strangers cause too many.
    pub(crate) fn tell(&self, event: Event) {
        let now = self.clock.now();
        let is_told = event.event != Happening::Refused
            || self.refusals.lock().unwrap_or_else(PoisonError::into_inner).take(now);
        if !is_told || self.events.try_send((now, event)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl LifecycleWriter {
    /// Writes until every [`Lifecycle`] is gone and the queue is empty.
    pub(crate) async fn run(mut self, log: Arc<dyn Log>) {
        let topic = LogTopic::lifecycle();
        let mut batch = Vec::with_capacity(BATCH_MAX);
        while self.events.recv_many(&mut batch, BATCH_MAX).await > 0 {
            let records: Vec<_> = batch.drain(..).filter_map(|(at, event)| record(at, &event)).collect();
            let events = records.len();
            if let Err(error) = append(log.as_ref(), &topic, records).await {
                warn!(events, error = &error as &dyn std::error::Error, "lifecycle events were lost");
            }
            let dropped = self.dropped.swap(0, Ordering::Relaxed);
            if dropped > 0 {
                warn!(
                    dropped,
                    refusals_max = REFUSALS_MAX,
                    "lifecycle events were dropped: more refusals than may be told a minute, or too many waited for the log"
                );
            }
        }
    }
}

async fn append(log: &dyn Log, topic: &LogTopic, records: Vec<Record>) -> Result<(), LogError> {
    log.append(topic, records).await?.await.map(drop)
}

fn record(at: Micros, event: &Event) -> Option<Record> {
    let value = serde_json::to_vec(&Line { ts: at.to_string(), event }).ok()?;
    let arrival = Arrival {
        topic: TOPIC.to_owned(),
        qos: 0,
        retain: false,
        dup: false,
        received_at: at,
        content_type: None,
        user_properties: Vec::new(),
        truncated_from: None,
    };
    Some(arrival.into_record(&device_id(&event.client_id), Bytes::from(value)))
}

/// A client id as a device id: what no device id may have in it is `_`. The column `client_id` has it as it is.
pub(crate) fn device_id(client_id: &str) -> String {
    let mut id = client_id.replace("..", "__").replace(|c: char| c == '/' || c.is_control(), "_");
    id.truncate(id.floor_char_boundary(DEVICE_ID_MAX));
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_client_id_makes_a_device_id() {
        let check = |client_id: &str, expected: &str| assert_eq!(device_id(client_id), expected);
        check("site/a/b", "site_a_b");
        check("../x\u{7}", "___x_");
        check(&"ä".repeat(200), &"ä".repeat(128));
    }

    #[test]
    fn refusals_are_told_so_often_a_minute() {
        let mut refusals = Refusals::default();
        let mut told = |minute: i64, count: u32| {
            (0..count).filter(|at| refusals.take(Micros(minute * 60_000_000 + i64::from(*at)))).count()
        };
        assert_eq!(told(29_000_000, 2_000), REFUSALS_MAX as usize);
        assert_eq!(told(29_000_001, 2_000), REFUSALS_MAX as usize);
        assert_eq!(told(29_000_002, 5), 5);
    }
}
