//! What all parts of a replay count together.

use crate::replay::bad_line::{BadLine, BadLines, Place};
use crate::replay::message::Message;
use crate::replay::progress::{Phase, Snapshot};
use crate::replay::settings::Qos;
use crate::replay::summary::{Latency, Refusal, Refusals, Summary};
use hdrhistogram::Histogram;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Longest latency that is told from longer ones, in microseconds: one hour.
const LATENCY_MAX_MICROS: u64 = 3_600_000_000;

/// Digits of a latency that are kept.
const LATENCY_DIGITS: u8 = 3;

/// How many refused messages are named.
const REFUSALS_NAMED_MAX: usize = 5;

/// Written by the dispatcher and the clients, read by whoever shows the progress. The numbers need not fit each other at every instant.
#[derive(Debug)]
pub(crate) struct Tally {
    qos: Qos,
    read: AtomicU64,
    published: AtomicU64,
    acknowledged: AtomicU64,
    resent: AtomicU64,
    clients: AtomicU64,
    reconnects: AtomicU64,
    refused: AtomicU64,
    bad_lines: Mutex<BadLines>,
    refusals: Mutex<Vec<Refusal>>,
    latencies: Mutex<Option<Histogram<u64>>>,
}

impl Tally {
    pub(crate) fn new(qos: Qos) -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            qos,
            read: zero(),
            published: zero(),
            acknowledged: zero(),
            resent: zero(),
            clients: zero(),
            reconnects: zero(),
            refused: zero(),
            bad_lines: Mutex::default(),
            refusals: Mutex::default(),
            // The bounds are constants that the library accepts; without it there would be no latencies, nothing worse.
            latencies: Mutex::new(Histogram::new_with_bounds(1, LATENCY_MAX_MICROS, LATENCY_DIGITS).ok()),
        }
    }

    pub(crate) fn read(&self) {
        add(&self.read);
    }

    pub(crate) fn published(&self) {
        add(&self.published);
    }

    pub(crate) fn resent(&self) {
        add(&self.resent);
    }

    pub(crate) fn client(&self) {
        add(&self.clients);
    }

    pub(crate) fn reconnected(&self) {
        add(&self.reconnects);
    }

    pub(crate) fn acknowledged(&self, latency: Duration) {
        add(&self.acknowledged);
        if let Some(latencies) = lock(&self.latencies).as_mut() {
            latencies.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).max(1));
        }
    }

    pub(crate) fn refused(&self, message: &Message, reason: String) {
        add(&self.refused);
        let mut refusals = lock(&self.refusals);
        if refusals.len() < REFUSALS_NAMED_MAX {
            refusals.push(Refusal { place: message.place.clone(), topic: message.topic.to_string(), reason });
        }
    }

    /// A line of which no message was made.
    pub(crate) fn bad_line(&self, place: &Place, reason: &BadLine) {
        lock(&self.bad_lines).add(place, reason);
    }

    /// A message that no broker was asked to take: it counts as a bad line, no longer as read.
    pub(crate) fn unpublishable(&self, place: &Place, reason: &BadLine) {
        self.read.fetch_sub(1, Ordering::Relaxed);
        self.bad_line(place, reason);
    }

    pub(crate) fn snapshot(&self, phase: Phase, total: Option<u64>, elapsed: Duration) -> Snapshot {
        let (published, acknowledged) = (get(&self.published), get(&self.acknowledged));
        let acknowledging = self.qos != Qos::AtMostOnce;
        Snapshot {
            phase,
            total,
            read: get(&self.read),
            published,
            acknowledged,
            done: if acknowledging { acknowledged } else { published },
            in_flight: if acknowledging {
                published.saturating_sub(acknowledged + get(&self.refused))
            } else {
                0
            },
            resent: get(&self.resent),
            reconnects: get(&self.reconnects),
            bad_lines: lock(&self.bad_lines).count,
            elapsed,
            rate: 0.0,
        }
    }

    pub(crate) fn summary(&self, elapsed: Duration, shift_hours: Option<i64>, cancelled: bool) -> Summary {
        let (read, published, acknowledged, refused) =
            (get(&self.read), get(&self.published), get(&self.acknowledged), get(&self.refused));
        let acknowledging = self.qos != Qos::AtMostOnce;
        Summary {
            read,
            published,
            acknowledged,
            unpublished: read.saturating_sub(published),
            unacknowledged: if acknowledging { published.saturating_sub(acknowledged + refused) } else { 0 },
            resent: get(&self.resent),
            clients: get(&self.clients),
            reconnects: get(&self.reconnects),
            refused: Refusals { count: refused, first: lock(&self.refusals).clone() },
            bad_lines: lock(&self.bad_lines).clone(),
            shift_hours,
            cancelled,
            elapsed,
            acknowledged_per_second: per_second(acknowledged, elapsed),
            latency: lock(&self.latencies).as_ref().filter(|latencies| !latencies.is_empty()).map(latency),
        }
    }
}

/// So many in this time, per second; 0 for no time.
pub(crate) fn per_second(count: u64, elapsed: Duration) -> f64 {
    let seconds = elapsed.as_secs_f64();
    if seconds > 0.0 { count as f64 / seconds } else { 0.0 }
}

fn latency(latencies: &Histogram<u64>) -> Latency {
    let at = |quantile| Duration::from_micros(latencies.value_at_quantile(quantile));
    Latency { p50: at(0.5), p90: at(0.9), p99: at(0.99), max: Duration::from_micros(latencies.max()) }
}

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// Nothing that could panic runs while one of these is held, and counters are whole after any of their changes.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
