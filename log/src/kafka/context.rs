//! What librdkafka has to say: its lines and errors go to our own log, each once in a while, however often it repeats them. Its statistics tell whether a client
//! still knows a broker.

use crate::kafka::settings::KafkaSettings;
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The same thing is said again after so long at the earliest.
const QUIET: Duration = Duration::from_secs(60);

/// So many different things are remembered as said. Librdkafka has fewer kinds of lines.
const KINDS_MAX: usize = 256;

/// Librdkafka's word for a remark about a property that another kind of client would use: all our clients get all properties that were passed through.
const PROPERTY_OF_OTHERS: &str = "CONFWARN";

/// How often librdkafka tells its statistics, unless the user wants them otherwise.
pub(crate) const STATISTICS: Duration = Duration::from_secs(5);

/// The property for it.
pub(crate) const STATISTICS_INTERVAL: &str = "statistics.interval.ms";

/// A client without brokers looks for them again within moments, if it does. One that has none so many statistics in a row never will.
const BARE_MAX: u8 = 2;

/// What a client of Kafka reports to. Clones share what was said.
#[derive(Debug, Clone)]
pub(crate) struct Voice {
    shared: Arc<Shared>,
    /// How many statistics in a row had no broker. Each client's own.
    bare: Arc<AtomicU8>,
}

#[derive(Debug)]
struct Shared {
    /// What the client is for, as in "producer".
    client: &'static str,
    /// Whether the user wants to read statistics.
    tells_statistics: bool,
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
    pub(crate) fn new(client: &'static str, settings: &KafkaSettings) -> Self {
        let tells_statistics = settings.properties.contains_key(STATISTICS_INTERVAL);
        Self {
            shared: Arc::new(Shared { client, tells_statistics, said: Mutex::default() }),
            bare: Arc::default(),
        }
    }

    /// The same voice for one client more.
    pub(crate) fn for_another(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), bare: Arc::default() }
    }

    /// Whether the client knows no broker any more and will never look for one: whoever has it makes another.
    ///
    /// Librdkafka drops each broker that is missing in an answer about the cluster, and a cluster whose only broker was away for a while may for a moment answer that
    /// it has none. Then it begins anew with the configured ones, unless the next answer comes before it has begun: that one cancels it for ever
    /// (librdkafka's issue 5301, not mended in 2.15).
    pub(crate) fn is_stranded(&self) -> bool {
        self.bare.load(Ordering::SeqCst) >= BARE_MAX
    }

    /// What the statistics say of the brokers that the client knows.
    fn count_brokers(&self, statistics: &[u8]) {
        if self.is_stranded() {
            return;
        }
        let statistics: rdkafka::Statistics = match serde_json::from_slice(statistics) {
            Ok(statistics) => statistics,
            Err(error) => {
                tracing::debug!(target: TARGET, client = self.shared.client, %error, "statistics that cannot be read");
                return;
            }
        };
        let is_real = |source: &str| matches!(source, "configured" | "learned");
        if statistics.brokers.values().any(|broker| is_real(&broker.source)) {
            self.bare.store(0, Ordering::SeqCst);
        } else if self.bare.fetch_add(1, Ordering::SeqCst) + 1 == BARE_MAX {
            let client = self.shared.client;
            tracing::warn!(target: TARGET, client, "a client has lost all brokers, and is replaced");
        }
    }

    /// Has the client be taken for stranded, whatever it knows, and for ever.
    pub(crate) fn strand(&self) {
        self.bare.store(BARE_MAX, Ordering::SeqCst);
    }

    /// Why connections failed, as far as that was said since a moment.
    pub(crate) fn trouble_since(&self, since: Instant) -> Option<Trouble> {
        self.said().trouble.clone().filter(|trouble| trouble.at >= since)
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        self.shared.said.lock().unwrap_or_else(PoisonError::into_inner)
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
        let client = self.shared.client;
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
            let client = self.shared.client;
            tracing::warn!(target: TARGET, client, %error, reason, left_unsaid, "Kafka cannot be reached as it should");
        }
    }

    fn stats(&self, _statistics: rdkafka::Statistics) {}

    fn stats_raw(&self, statistics: &[u8]) {
        self.count_brokers(statistics);
        if !self.shared.tells_statistics {
            return;
        }
        let statistics = String::from_utf8_lossy(statistics);
        tracing::info!(target: TARGET, client = self.shared.client, %statistics, "librdkafka's statistics");
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
        let voice = Voice::new("test", &KafkaSettings::new("b:9092"));
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
        let voice = Voice::new("test", &KafkaSettings::new("b:9092"));
        let before = Instant::now();
        voice.error(KafkaError::Global(RDKafkaErrorCode::Authentication), "wrong password");
        voice.error(KafkaError::Global(RDKafkaErrorCode::AllBrokersDown), "1/1 brokers are down");
        assert_eq!(voice.trouble_since(before).unwrap().reason, "wrong password");
        assert!(voice.trouble_since(Instant::now() + QUIET).is_none());
    }
}
