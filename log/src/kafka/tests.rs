//! The log on a real Kafka.

mod foreign;
mod group;
mod heard;
mod outage;
mod partitions;
mod recreated;
mod secure;
mod settings;
mod stranded;
mod throughput;
mod topics;

use crate::api::{Log, LogReader};
use crate::contract::{self, Subject, record};
use crate::error::LogError;
use crate::kafka::{KafkaLog, KafkaSettings};
use async_trait::async_trait;
use millstream_model::fault::Fault;
use millstream_model::name::{LogTopic, Offset, Partition, TopicPartition};
use millstream_model::record::Record;
use millstream_services::{Services, services};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// Whoever waits longer waits for ever. Nothing is measured by it.
const PATIENCE: Duration = Duration::from_secs(120);

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// Waits for something that must come.
pub(super) async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it did not come")
}

pub(super) fn settings_of(services: &Services) -> KafkaSettings {
    KafkaSettings { partitions: 3, ..KafkaSettings::new(&services.kafka) }
}

/// A topic that no other test has.
pub(super) fn unique(services: &Services, name: &str) -> LogTopic {
    format!("millstream.{}", services.unique(name).replace('-', "_")).parse().unwrap()
}

/// The partition of a topic that a test with one partition uses.
pub(super) fn first(topic: &LogTopic) -> TopicPartition {
    TopicPartition { topic: topic.clone(), partition: Partition(0) }
}

pub(super) fn numbered(number: usize) -> Record {
    record("device", &number.to_string())
}

/// Asks until there is an answer: a broker that comes back breaks connections, is without partitions for a moment, or says that it is nobody.
async fn found<T>(ask: impl AsyncFn() -> Result<T, LogError>) -> T {
    let begin = Instant::now();
    loop {
        match ask().await {
            Ok(found) => return found,
            Err(error) => assert!(is_passing(&error) && begin.elapsed() < PATIENCE, "{error}"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Whether the same call may succeed later.
fn is_passing(error: &LogError) -> bool {
    matches!(error.fault(), Fault::Retry)
}

/// So many records from an offset on, whatever happens to the broker meanwhile.
async fn read(log: &KafkaLog, partition: &TopicPartition, from: i64, count: usize) -> Vec<String> {
    let mut values = Vec::new();
    let begin = Instant::now();
    while values.len() < count {
        assert!(begin.elapsed() < PATIENCE, "{} of {count}", values.len());
        let next = Offset(from + i64::try_from(values.len()).unwrap());
        let mut reader: Box<dyn LogReader> = found(async || log.reader(partition, next).await).await;
        while values.len() < count {
            match within(reader.next(contract::ALL)).await {
                Ok(records) => values.extend(
                    records.into_iter().map(|one| String::from_utf8(one.record.value.to_vec()).unwrap()),
                ),
                Err(error) if is_passing(&error) => break,
                Err(error) => panic!("{error}"),
            }
        }
    }
    values
}

struct Kafka {
    settings: KafkaSettings,
    run: String,
    open: Mutex<Option<KafkaLog>>,
}

#[async_trait]
impl Subject for Kafka {
    async fn reopen(&self) -> Arc<dyn Log> {
        let mut open = self.open.lock().await;
        if let Some(log) = open.take() {
            log.close().await.unwrap();
        }
        let log = KafkaLog::open(self.settings.clone()).await.unwrap();
        *open = Some(log.clone());
        Arc::new(log)
    }

    fn partitions(&self) -> usize {
        self.settings.partitions.into()
    }

    fn record_max(&self) -> usize {
        self.settings.record_max
    }

    fn topic(&self, name: &str) -> LogTopic {
        format!("millstream.{name}_{}", self.run).parse().unwrap()
    }
}

async fn keeps_the_contract(services: &'static Services, settings: KafkaSettings) {
    let run = services.unique("c").replace('-', "_");
    contract::check(&Kafka { settings, run, open: Mutex::default() }).await;
}

#[tokio::test]
async fn the_contract_holds() {
    let Some(services) = services("the_contract_holds") else { return };
    keeps_the_contract(services, settings_of(services)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_contract_holds_with_a_queue_that_is_always_full() {
    let Some(services) = services("the_contract_holds_with_a_queue_that_is_always_full") else { return };
    keeps_the_contract(services, KafkaSettings { queue_bytes: 1000, partitions: 1, ..settings_of(services) })
        .await;
}
