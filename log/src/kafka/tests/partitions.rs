//! A device has the same partition on every log, and it is the one that Kafka's own clients choose.

use super::{PATIENCE, settings_of, unique};
use crate::contract::{append, topic};
use crate::embedded::{EmbeddedLog, EmbeddedSettings};
use crate::kafka::{KafkaLog, KafkaSettings};
use bytes::Bytes;
use millstream_model::name::{LogTopic, Partition};
use millstream_model::record::Record;
use millstream_services::services;
use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use std::collections::BTreeMap;
use std::sync::Mutex;

const PARTITIONS: u16 = 7;

fn keys() -> Vec<Vec<u8>> {
    let mut keys: Vec<Vec<u8>> =
        ["", "a", "ab", "abc", "abcd", "device-1", " ", "Messgerät-ß", "温度計", "🌡️", "\u{7f}\u{80}"]
            .iter()
            .map(|key| key.as_bytes().to_vec())
            .collect();
    keys.push(vec![b'x'; 10_001]);
    keys.push(vec![0]);
    keys.push(vec![0xff, 0xfe, 0x80]);
    keys.push((0..=255).collect());
    keys.extend((0..50).map(|number| format!("truck_{number}").into_bytes()));
    keys
}

/// Where each key stands, told by its place among the keys, which is the value.
#[derive(Default)]
struct Chosen(Mutex<BTreeMap<usize, Partition>>);

impl ClientContext for Chosen {}

impl ProducerContext for Chosen {
    type DeliveryOpaque = Box<usize>;

    fn delivery(&self, result: &DeliveryResult<'_>, place: Box<usize>) {
        let message = result.as_ref().map_err(|(error, _)| error).unwrap();
        self.0.lock().unwrap().insert(*place, Partition(message.partition()));
    }
}

/// What librdkafka chooses when it is asked to choose as the Java client does.
fn chosen_by_librdkafka(brokers: &str, topic: &LogTopic) -> Vec<Partition> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("partitioner", "murmur2");
    let producer = BaseProducer::from_config_and_context(&config, Chosen::default()).unwrap();
    for (place, key) in keys().iter().enumerate() {
        let record = BaseRecord::with_opaque_to(topic.as_str(), Box::new(place)).key(key).payload("");
        producer.send(record).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(PATIENCE).unwrap();
    producer.context().0.lock().unwrap().values().copied().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_logs_and_kafkas_clients_agree_on_a_key() {
    let Some(services) = services("both_logs_and_kafkas_clients_agree_on_a_key") else { return };
    let records = || {
        let record = |key| Record { key: Bytes::from(key), value: Bytes::new(), headers: Vec::new() };
        keys().into_iter().map(record).collect::<Vec<_>>()
    };
    let on = |positions: Vec<millstream_model::record::Position>| {
        positions.into_iter().map(|position| position.partition).collect::<Vec<_>>()
    };
    let settings = KafkaSettings { partitions: PARTITIONS, ..settings_of(services) };
    let log = KafkaLog::open(settings).await.unwrap();
    let name = unique(services, "partitioner");
    let on_kafka = on(append(&log, &name, records()).await);

    let directory = tempfile::tempdir().unwrap();
    let settings = EmbeddedSettings { partitions: PARTITIONS, ..EmbeddedSettings::default() };
    let embedded = EmbeddedLog::open(directory.path(), settings).await.unwrap();
    let on_disk = on(append(&embedded, &topic("partitioner"), records()).await);
    embedded.close().await.unwrap();

    let brokers = services.kafka.clone();
    let theirs = tokio::task::spawn_blocking(move || chosen_by_librdkafka(&brokers, &name)).await.unwrap();
    for (place, key) in keys().iter().enumerate() {
        let here = (on_kafka[place], on_disk[place]);
        assert_eq!(here, (theirs[place], theirs[place]), "{}", String::from_utf8_lossy(key));
    }
}
