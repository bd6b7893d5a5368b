//! What the log says to its operators.

use super::{first, is_passing, settings_of, unique, within};
use crate::api::Log;
use crate::kafka::{KafkaLog, KafkaSettings};
use millstream_model::name::LogTopic;
use millstream_services::{Service, Services, services};
use std::collections::BTreeMap;
use std::fmt::{Debug, Write};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Everything that was said in this process since the first question, one line each: level, then the fields.
fn heard() -> &'static Mutex<Vec<String>> {
    static HEARD: OnceLock<Mutex<Vec<String>>> = OnceLock::new();
    HEARD.get_or_init(|| {
        // For all threads: librdkafka speaks on its own.
        tracing::subscriber::set_global_default(Ear).expect("nobody else listens in this process");
        Mutex::default()
    })
}

/// The lines that contain all of these.
fn lines(words: &[&str]) -> Vec<String> {
    let heard = heard().lock().unwrap();
    heard.iter().filter(|line| words.iter().all(|word| line.contains(word))).cloned().collect()
}

struct Ear;

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, " {}={value:?}", field.name()).unwrap();
    }
}

impl Subscriber for Ear {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO && metadata.target().starts_with("millstream_log")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(event.metadata().level().to_string());
        event.record(&mut line);
        heard().lock().unwrap().push(line.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_away_is_said_once_by_each_client_and_not_at_each_failure() {
    heard();
    let test = "a_broker_that_is_away_is_said_once_by_each_client_and_not_at_each_failure";
    let Some(own) = Services::own(test, &[Service::Kafka]) else { return };
    let request_timeout = Duration::from_secs(2);
    let settings = KafkaSettings { partitions: 1, ..KafkaSettings::new(&own.kafka) };
    let topic: LogTopic = "millstream.away".parse().unwrap();
    let partition = first(&topic);
    let other = KafkaLog::open(settings.clone()).await.unwrap();
    let next = other.bounds(&partition).await.unwrap().next;
    // So short a time is for what is to fail below; a Kafka that has just started may take longer, too.
    let settings = KafkaSettings { request_timeout, client_id: "short".to_owned(), ..settings };
    let open = async {
        loop {
            if let Ok(log) = KafkaLog::open(settings.clone()).await
                && log.bounds(&partition).await.is_ok()
                && let Ok(reader) = log.reader(&partition, next).await
            {
                return (log, reader);
            }
        }
    };
    let (log, reader) = within(open).await;
    within(other.close()).await.unwrap();
    let before = lines(&["Kafka cannot be reached", &own.kafka]).len();
    own.kill_9(Service::Kafka);
    for _ in 0..3 {
        let away = within(log.bounds(&partition)).await.unwrap_err();
        assert!(is_passing(&away), "{away:?}");
    }
    drop(reader);
    // What changes from one time to the next, as how long a connection was tried, does not make it another thing.
    let mut said: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    let word = |line: &str, name: &str| {
        let rest = line.split_once(&format!(" {name}="))?.1;
        Some(rest.split(' ').next()?.to_owned())
    };
    for line in lines(&["Kafka cannot be reached", &own.kafka]).split_off(before) {
        let client = word(&line, "client").unwrap();
        let error = line.split_once(" error=").unwrap().1.split_once(" reason=").unwrap().0.to_owned();
        assert!(line.starts_with("WARN"), "{line}");
        said.entry((client, error)).or_default().push(line);
    }
    assert!(said.keys().any(|(client, _)| client.contains("producer")), "{said:?}");
    assert!(said.keys().any(|(client, _)| client.contains("reader")), "{said:?}");
    for (what, times) in &said {
        assert_eq!(times.len(), 1, "{what:?}: {times:#?}");
    }
}

#[tokio::test]
async fn a_topic_with_another_number_of_partitions_is_said_once_and_not_of_notices() {
    heard();
    let Some(services) = services("a_topic_with_another_number_of_partitions_is_said_once") else { return };
    let log = KafkaLog::open(settings_of(services)).await.unwrap();
    let topic = unique(services, "two");
    super::topics::make(&log, &topic, 2, &[]).await;
    for _ in 0..3 {
        log.partitions(&topic).await.unwrap();
        drop(log.0.topics.forget(&topic));
    }
    let said = lines(&["another number of partitions", &format!(" topic={topic} ")]);
    assert_eq!(said.len(), 1, "{said:#?}");

    // Whoever was first made it with some number; this log wants yet another.
    let notices = LogTopic::notices();
    let made = log.partitions(&notices).await.unwrap().len();
    let partitions = u16::try_from(made).unwrap() + 1;
    let other = KafkaLog::open(KafkaSettings { partitions, ..settings_of(services) }).await.unwrap();
    assert_eq!(other.partitions(&notices).await.unwrap().len(), made);
    let said = lines(&["another number of partitions", &format!(" topic={notices} ")]);
    assert!(said.is_empty(), "{said:#?}");
}
