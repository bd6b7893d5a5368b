//! What librdkafka has to say: its lines and errors go to our own log, each once in a while, however often it repeats them.

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The same thing is said again after so long at the earliest.
const QUIET: Duration = Duration::from_secs(60);

/// So many different things are remembered as said. Librdkafka has fewer kinds of lines.
const KINDS_MAX: usize = 256;

/// Librdkafka's word for a remark about a property that another kind of client would use: all our clients get all properties that were passed through.
const PROPERTY_OF_OTHERS: &str = "CONFWARN";

/// What a client of Kafka reports to. Clones share what was said.
#[derive(Debug, Clone)]
pub(crate) struct Voice(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// What the client is for, as in "producer".
    client: &'static str,
    /// Written by librdkafka's callbacks, read by whoever has to explain a failure.
    said: Mutex<Said>,
}

#[derive(Debug, Default)]
struct Said {
    kinds: BTreeMap<String, Kind>,
    trouble: Option<Trouble>,
}

/// The last error of a connection.
#[derive(Debug, Clone)]
pub(crate) struct Trouble {
    pub(crate) at: Instant,
    pub(crate) code: Option<RDKafkaErrorCode>,
    /// In librdkafka's words, with the broker's name.
    pub(crate) reason: String,
}

#[derive(Debug)]
struct Kind {
    at: Instant,
    suppressed: u64,
}

impl Voice {
    pub(crate) fn new(client: &'static str) -> Self {
        Self(Arc::new(Shared { client, said: Mutex::default() }))
    }

    /// Why connections failed, as far as that was said since a moment.
    pub(crate) fn trouble_since(&self, since: Instant) -> Option<Trouble> {
        self.said().trouble.clone().filter(|trouble| trouble.at >= since)
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        self.0.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often a thing was left unsaid since it was said last; `None` if it is to be left unsaid now, too.
    fn turn(&self, kind: &str) -> Option<u64> {
        let mut said = self.said();
        let now = Instant::now();
        if let Some(kind) = said.kinds.get_mut(kind) {
            if now.duration_since(kind.at) < QUIET {
                kind.suppressed += 1;
                return None;
            }
            kind.at = now;
            return Some(std::mem::take(&mut kind.suppressed));
        }
        if said.kinds.len() >= KINDS_MAX {
            said.kinds.clear();
        }
        said.kinds.insert(kind.to_owned(), Kind { at: now, suppressed: 0 });
        Some(0)
    }
}

impl ClientContext for Voice {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        let client = self.0.client;
        // Nothing that librdkafka says needs a person by itself: it goes on trying, and what fails for good fails at a caller.
        match level {
            RDKafkaLogLevel::Debug => tracing::trace!(target: TARGET, client, facility, line, "librdkafka"),
            RDKafkaLogLevel::Info => tracing::debug!(target: TARGET, client, facility, line, "librdkafka"),
            _ if facility == PROPERTY_OF_OTHERS => {
                tracing::debug!(target: TARGET, client, facility, line, "librdkafka");
            }
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Warning => {
                if let Some(left_unsaid) = self.turn(facility) {
                    tracing::info!(target: TARGET, client, facility, line, left_unsaid, "librdkafka");
                }
            }
            _ => {
                if let Some(left_unsaid) = self.turn(facility) {
                    tracing::warn!(target: TARGET, client, facility, line, left_unsaid, "librdkafka");
                }
            }
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let is_alert = reason.contains("SSL routines") && reason.contains("alert");
        // A certificate of ours that the broker refuses shows after the handshake, as a connection that it breaks.
        let code = if is_alert { Some(RDKafkaErrorCode::SSL) } else { error.rdkafka_error_code() };
        // That all brokers are away says less than why each is.
        if code != Some(RDKafkaErrorCode::AllBrokersDown) {
            self.said().trouble = Some(Trouble { at: Instant::now(), code, reason: reason.to_owned() });
        }
        if let Some(left_unsaid) = self.turn(&format!("{code:?}")) {
            let client = self.0.client;
            tracing::warn!(target: TARGET, client, %error, reason, left_unsaid, "Kafka cannot be reached as it should");
        }
    }

    fn stats(&self, _statistics: rdkafka::Statistics) {}

    /// Asked for by `statistics.interval.ms`.
    fn stats_raw(&self, statistics: &[u8]) {
        let statistics = String::from_utf8_lossy(statistics);
        tracing::info!(target: TARGET, client = self.0.client, %statistics, "librdkafka's statistics");
    }
}

/// Whoever filters by it hears more, or less, of librdkafka.
const TARGET: &str = "millstream_log::kafka";

/// How much librdkafka is to tell at all.
pub(crate) fn log_level() -> RDKafkaLogLevel {
    if tracing::enabled!(target: TARGET, tracing::Level::TRACE) {
        RDKafkaLogLevel::Debug
    } else {
        RDKafkaLogLevel::Info
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_repeats_is_said_once_in_a_while() {
        let voice = Voice::new("test");
        assert_eq!(voice.turn("FAIL"), Some(0));
        for _ in 0..100 {
            assert_eq!(voice.turn("FAIL"), None);
        }
        assert_eq!(voice.turn("OTHER"), Some(0));
        voice.said().kinds.get_mut("FAIL").unwrap().at -= QUIET;
        assert_eq!(voice.turn("FAIL"), Some(100));
    }

    #[test]
    fn the_last_trouble_explains_a_failure_only_while_it_is_fresh() {
        let voice = Voice::new("test");
        let before = Instant::now();
        voice.error(KafkaError::Global(RDKafkaErrorCode::Authentication), "wrong password");
        voice.error(KafkaError::Global(RDKafkaErrorCode::AllBrokersDown), "1/1 brokers are down");
        assert_eq!(voice.trouble_since(before).unwrap().reason, "wrong password");
        assert!(voice.trouble_since(Instant::now() + QUIET).is_none());
    }
}
