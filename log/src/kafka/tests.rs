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
use crate::kafka::{KafkaLog, KafkaSettings};
use async_trait::async_trait;
use millstream_model::name::{LogTopic, Offset, Partition, TopicPartition};
use millstream_model::record::Record;
use millstream_services::{Services, services};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;

/// Whoever waits longer waits for ever. Nothing is measured by it.
const PATIENCE: Duration = Duration::from_secs(120);

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

/// So many records from an offset on.
async fn read(log: &KafkaLog, partition: &TopicPartition, from: i64, count: usize) -> Vec<String> {
    let mut reader: Box<dyn LogReader> = log.reader(partition, Offset(from)).await.unwrap();
    let mut values = Vec::new();
    while values.len() < count {
        for stored in within(reader.next(contract::ALL)).await.unwrap() {
            values.push(String::from_utf8(stored.record.value.to_vec()).unwrap());
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
