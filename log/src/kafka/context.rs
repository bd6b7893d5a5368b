//! What librdkafka has to say: its lines and errors go to our own log, each once in a while, however often it repeats them. Its statistics tell whether a client
//! still knows a broker.

use crate::kafka::settings::{KafkaSettings, millis};
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The same thing is said again after so long at the earliest.
const QUIET: Duration = Duration::from_secs(60);

/// So many different things are remembered as said. Librdkafka has fewer kinds of lines.
const KINDS_MAX: usize = 256;

/// Librdkafka's word for a remark about a property that another kind of client would use: all our clients get all properties that were passed through.
const PROPERTY_OF_OTHERS: &str = "CONFWARN";

/// How often librdkafka tells its statistics, at least.
const STATISTICS: Duration = Duration::from_secs(5);

/// How often the user wants to read them, in milliseconds; 0 is never.
const STATISTICS_INTERVAL: &str = "statistics.interval.ms";

/// Statistics come so much early or late.
const JITTER: Duration = Duration::from_millis(50);

/// A client without brokers looks for them again within moments, if it does. One that has had none for so long never will.
const BARE: Duration = Duration::from_secs(8);

/// What a client of Kafka reports to. Clones share what was said.
#[derive(Debug, Clone)]
pub(crate) struct Voice {
    shared: Arc<Shared>,
    /// Each client's own.
    life: Arc<Life>,
}

/// What is known of one client by its statistics. Written by librdkafka's callbacks, read by whoever has the client.
#[derive(Debug, Default)]
struct Life {
    is_stranded: AtomicBool,
    said: Mutex<Vitals>,
}

#[derive(Debug, Default)]
struct Vitals {
    /// Since when it has no brokers.
    bare_since: Option<Instant>,
    /// When its statistics were told to the user.
    told: Option<Instant>,
}

/// As much of librdkafka's statistics as is of interest: all of them may be megabytes.
#[derive(Deserialize)]
struct Statistics {
    brokers: BTreeMap<String, Broker>,
}

#[derive(Deserialize)]
struct Broker {
    source: String,
}

#[derive(Debug)]
struct Shared {
    /// What the client is for, as in "producer".
    client: &'static str,
    /// How often the user wants to read statistics.
    tells: Option<Duration>,
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
        let shared = Shared { client, tells: told_every(settings), said: Mutex::default() };
        Self { shared: Arc::new(shared), life: Arc::default() }
    }

    /// The same voice for one client more.
    pub(crate) fn for_another(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), life: Arc::default() }
    }

    /// Whether the client knows no broker any more and will never look for one: whoever has it makes another.
    ///
    /// Librdkafka drops each broker that is missing in an answer about the cluster, and a cluster whose only broker was away for a while may for a moment answer that
    /// it has none. Then it begins anew with the configured ones, unless the next answer comes before it has begun: that one cancels it for ever
    /// (librdkafka's issue 5301, not mended in 2.15).
    pub(crate) fn is_stranded(&self) -> bool {
        self.life.is_stranded.load(Ordering::SeqCst)
    }

    /// What the statistics say of the brokers that the client knows.
    fn count_brokers(&self, statistics: &[u8], now: Instant) {
        let Statistics { brokers } = match serde_json::from_slice(statistics) {
            Ok(statistics) => statistics,
            Err(error) => {
                if let Some(left_unsaid) = self.turn("statistics") {
                    let client = self.shared.client;
                    tracing::info!(target: TARGET, client, %error, left_unsaid, "statistics of librdkafka that cannot be read");
                }
                return;
            }
        };
        let mut vitals = self.vitals();
        if brokers.values().any(|broker| matches!(broker.source.as_str(), "configured" | "learned")) {
            vitals.bare_since = None;
        } else if now.saturating_duration_since(*vitals.bare_since.get_or_insert(now)) >= BARE
            && !self.is_stranded()
        {
            let client = self.shared.client;
            tracing::warn!(target: TARGET, client, "a client has lost all brokers, and is replaced");
            self.strand();
        }
    }

    /// Has the client be taken for stranded, for ever.
    pub(crate) fn strand(&self) {
        self.life.is_stranded.store(true, Ordering::SeqCst);
    }

    /// Whether it is time that the user reads statistics again.
    fn tells(&self, now: Instant) -> bool {
        let Some(every) = self.shared.tells else { return false };
        let mut vitals = self.vitals();
        let tells = vitals.told.is_none_or(|told| now.saturating_duration_since(told) >= every);
        if tells {
            vitals.told = Some(now);
        }
        tells
    }

    /// Why connections failed, as far as that was said since a moment.
    pub(crate) fn trouble_since(&self, since: Instant) -> Option<Trouble> {
        self.said().trouble.clone().filter(|trouble| trouble.at >= since)
    }

    fn vitals(&self) -> MutexGuard<'_, Vitals> {
        self.life.said.lock().unwrap_or_else(PoisonError::into_inner)
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
        let now = Instant::now();
        self.count_brokers(statistics, now);
        // Librdkafka's clock and ours differ by a little.
        if !self.tells(now + JITTER) {
            return;
        }
        let statistics = String::from_utf8_lossy(statistics);
        tracing::info!(target: TARGET, client = self.shared.client, %statistics, "librdkafka's statistics");
    }
}

/// Whoever filters by it hears more, or less, of librdkafka.
const TARGET: &str = "millstream_log::kafka";

/// How often the user wants to read statistics, if at all.
fn told_every(settings: &KafkaSettings) -> Option<Duration> {
    let asked = settings.properties.get(STATISTICS_INTERVAL)?.trim().parse().ok()?;
    (asked > 0).then(|| Duration::from_millis(asked))
}

/// How often librdkafka is to tell them, as a property of it.
pub(crate) fn statistics(settings: &KafkaSettings) -> (&'static str, String) {
    (STATISTICS_INTERVAL, millis(told_every(settings).map_or(STATISTICS, |every| every.min(STATISTICS))))
}

/// The same for a client whose statistics nobody takes.
pub(crate) fn no_statistics() -> (&'static str, &'static str) {
    (STATISTICS_INTERVAL, "0")
}

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
    fn a_client_is_stranded_once_it_has_had_no_broker_for_a_while() {
        let voice = Voice::new("test", &KafkaSettings::new("b:9092"));
        let begin = Instant::now();
        let says = |sources: &[&str], after: Duration| {
            let broker = |source: &&str| format!(r#""{source}:1":{{"source":"{source}","state":"UP"}}"#);
            let brokers: Vec<String> = sources.iter().map(broker).collect();
            let text = format!(r#"{{"name":"c","brokers":{{{}}},"topics":{{}}}}"#, brokers.join(","));
            voice.count_brokers(text.as_bytes(), begin + after);
            voice.is_stranded()
        };
        assert!(!says(&["learned", "logical"], Duration::ZERO));
        assert!(!says(&["logical"], BARE) && !says(&[], BARE));
        assert!(!says(&["configured"], BARE * 2), "it has begun anew");
        assert!(!says(&["logical"], BARE * 3));
        voice.count_brokers(b"{", begin + BARE * 4);
        assert!(!voice.is_stranded(), "that says nothing");
        assert!(says(&[], BARE * 4));
        assert!(!voice.for_another().is_stranded());
        assert!(says(&["learned"], BARE * 5), "whoever has it is making another");
    }

    #[test]
    fn statistics_are_told_as_often_as_the_user_asks() {
        let check = |asked: Option<&str>, told: Option<u64>, property: &str| {
            let mut settings = KafkaSettings::new("b:9092");
            settings.properties.extend(asked.map(|asked| (STATISTICS_INTERVAL.to_owned(), asked.to_owned())));
            assert_eq!(told_every(&settings), told.map(Duration::from_millis), "{asked:?}");
            assert_eq!(statistics(&settings).1, property, "{asked:?}");
        };
        check(None, None, "5000");
        check(Some("0"), None, "5000");
        check(Some("1000"), Some(1000), "1000");
        check(Some("60000"), Some(60_000), "5000");
        let mut settings = KafkaSettings::new("b:9092");
        settings.properties.insert(STATISTICS_INTERVAL.to_owned(), "60000".to_owned());
        let voice = Voice::new("test", &settings);
        let begin = Instant::now();
        assert!(voice.tells(begin) && !voice.tells(begin + Duration::from_secs(59)));
        assert!(voice.tells(begin + Duration::from_secs(60)));
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
