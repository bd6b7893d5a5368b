//! Topics that are not as they were left.

use super::{PAUSE, first, found, is_passing, numbered, read, settings_of, unique, within};
use crate::api::{Bounds, Log, LogReader, Pending};
use crate::contract::{ALL, append, record};
use crate::error::LogError;
use crate::kafka::lane::PATIENCE;
use crate::kafka::{KafkaLog, KafkaSettings};
use bytes::Bytes;
use millstream_model::name::{LogTopic, Offset};
use millstream_model::record::Record;
use millstream_services::services;
use rdkafka::admin::{
    AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::config::FromClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use std::time::Duration;

pub(super) async fn log(services: &millstream_services::Services) -> KafkaLog {
    KafkaLog::open(KafkaSettings { partitions: 1, ..settings_of(services) }).await.unwrap()
}

pub(super) async fn delete(log: &KafkaLog, topic: &LogTopic) {
    let deleted = log
        .0
        .topics
        .admin()
        .client()
        .unwrap()
        .delete_topics(&[topic.as_str()], &AdminOptions::new())
        .await
        .unwrap();
    assert!(deleted[0].is_ok(), "{deleted:?}");
}

pub(super) async fn make(log: &KafkaLog, topic: &LogTopic, partitions: i32, settings: &[(&str, &str)]) {
    let mut new = NewTopic::new(topic.as_str(), partitions, TopicReplication::Fixed(1));
    for (name, value) in settings {
        new = new.set(name, value);
    }
    // A deletion may still be under way.
    within(async {
        loop {
            let made = log
                .0
                .topics
                .admin()
                .client()
                .unwrap()
                .create_topics([&new], &AdminOptions::new())
                .await
                .unwrap();
            if made[0].is_ok() {
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_new_topic_keeps_everything_and_takes_the_largest_record() {
    let Some(services) = services("a_new_topic_keeps_everything") else { return };
    let log = log(services).await;
    let topic = unique(services, "new");
    log.partitions(&topic).await.unwrap();
    let name = ResourceSpecifier::Topic(topic.as_str());
    let described =
        log.0.topics.admin().client().unwrap().describe_configs([&name], &AdminOptions::new()).await.unwrap();
    let described = described[0].as_ref().unwrap();
    for (name, value) in [
        ("retention.ms", "-1"),
        ("retention.bytes", "-1"),
        ("cleanup.policy", "delete"),
        ("max.message.bytes", "2097280"),
    ] {
        assert_eq!(described.get(name).unwrap().value.as_deref(), Some(value), "{name}");
    }
}

#[tokio::test]
async fn many_may_make_a_topic_at_once() {
    let Some(services) = services("many_may_make_a_topic_at_once") else { return };
    let topic = unique(services, "race");
    let mut logs = Vec::new();
    for _ in 0..4 {
        logs.push(log(services).await);
    }
    let partition = first(&topic);
    let made = tokio::join!(
        logs[0].partitions(&topic),
        logs[1].partitions(&topic),
        logs[2].append(&topic, vec![numbered(0)]),
        logs[3].bounds(&partition),
    );
    assert_eq!(made.0.unwrap(), [first(&topic)]);
    assert_eq!(made.1.unwrap(), [first(&topic)]);
    made.2.unwrap().await.unwrap();
    made.3.unwrap();
}

#[tokio::test]
async fn a_topic_that_is_unfit_says_why() {
    let Some(services) = services("a_topic_that_is_unfit_says_why") else { return };
    let log = log(services).await;
    let check = async |settings: &[(&str, &str)], expected: &str| {
        let topic = unique(services, "unfit");
        make(&log, &topic, 1, settings).await;
        let error = log.partitions(&topic).await.unwrap_err();
        assert!(matches!(error, LogError::Topic { .. }), "{error:?}");
        assert!(error.to_string().contains(expected), "{error}");
    };
    check(&[("cleanup.policy", "compact")], "set it to delete").await;
    check(&[("max.message.bytes", "100000")], "takes batches of 100000 bytes only").await;
}

#[tokio::test]
async fn a_topic_that_is_there_keeps_its_partitions_and_its_limit() {
    let Some(services) = services("a_topic_that_is_there_keeps_its_partitions_and_its_limit") else { return };
    let log = log(services).await;
    let topic = unique(services, "other");
    make(&log, &topic, 2, &[("max.message.bytes", "1000000")]).await;
    assert_eq!(log.partitions(&topic).await.unwrap().len(), 2);
    let refused = log.append(&topic, vec![record("device", &"x".repeat(1_000_000))]).await;
    assert!(matches!(refused, Err(LogError::TooLarge { limit: 999_872, .. })), "{refused:?}");
    let fits = record("device", &"x".repeat(999_872 - record("device", "").size()));
    append(&log, &topic, vec![fits]).await;

    // Somebody adds partitions: they are read, and this process appends where it did.
    let more = NewPartitions::new(topic.as_str(), 5);
    log.0.topics.admin().client().unwrap().create_partitions([&more], &AdminOptions::new()).await.unwrap();
    within(async { while found(async || log.partitions(&topic).await).await.len() != 5 {} }).await;
    let keys: Vec<_> = (0..20).map(|number| record(&number.to_string(), "")).collect();
    let positions = append(&log, &topic, keys).await;
    assert!(positions.iter().all(|position| position.partition.0 < 2), "{positions:?}");
}

/// It would fail again and again, and cast doubt on all that is on its way beside it.
#[tokio::test]
async fn a_topic_that_takes_less_than_before_is_looked_at_again() {
    let Some(services) = services("a_topic_that_takes_less_than_before_is_looked_at_again") else { return };
    let log = log(services).await;
    let topic = unique(services, "lowered");
    let large: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(1_500_000).collect();
    let large = || Record { value: large.clone().into(), ..record("device", "") };
    append(&log, &topic, vec![large()]).await;
    let limit =
        AlterConfig::new(ResourceSpecifier::Topic(topic.as_str())).set("max.message.bytes", "1200000");
    let admin = log.0.topics.admin().client().unwrap();
    admin.alter_configs([&limit], &AdminOptions::new()).await.unwrap()[0].as_ref().unwrap();
    // The brokers hear of it one after another.
    let refused = within(async {
        loop {
            match log.append(&topic, vec![large()]).await {
                Ok(pending) => drop(within(pending).await),
                Err(error) if is_passing(&error) => tokio::time::sleep(PAUSE).await,
                Err(refused) => return refused,
            }
        }
    });
    let refused = refused.await;
    assert!(matches!(refused, LogError::TooLarge { limit: 1_199_872, .. }), "{refused:?}");
    append(&log, &topic, vec![record("device", "small")]).await;
}

#[tokio::test]
async fn a_reader_that_a_trim_overtakes_hears_of_it() {
    let Some(services) = services("a_reader_that_a_trim_overtakes_hears_of_it") else { return };
    let log = log(services).await;
    let topic = unique(services, "overtaken");
    let partition = first(&topic);
    append(&log, &topic, (0..10).map(numbered).collect()).await;
    log.trim(&partition, Offset(6)).await.unwrap();
    assert_eq!(log.bounds(&partition).await.unwrap(), Bounds { first: Offset(6), next: Offset(10) });
    let trimmed = log.reader(&partition, Offset(5)).await;
    assert!(
        matches!(trimmed, Err(LogError::Trimmed { wanted: Offset(5), first: Offset(6), .. })),
        "{trimmed:?}"
    );
    // Nothing fetches from here before the trim: what a reader has read ahead it may still return.
    let fetchers = std::sync::Arc::clone(&log.0.fetchers);
    let name = partition.clone();
    let fetched = tokio::task::spawn_blocking(move || fetchers.fetch(&name, Offset(2), PATIENCE))
        .await
        .unwrap()
        .unwrap();
    let mut late: Box<dyn LogReader> =
        Box::new(crate::kafka::reader::Reader::new(log.clone(), partition.clone(), Offset(2), fetched));
    for _ in 0..2 {
        let overtaken = within(late.next(ALL)).await;
        assert!(
            matches!(overtaken, Err(LogError::Trimmed { wanted: Offset(2), first: Offset(6), .. })),
            "{overtaken:?}"
        );
    }
    // Trimming less than was trimmed, or more than there is, is no mistake.
    log.trim(&partition, Offset(3)).await.unwrap();
    log.trim(&partition, Offset(99)).await.unwrap();
    assert_eq!(log.bounds(&partition).await.unwrap(), Bounds { first: Offset(10), next: Offset(10) });
}

#[tokio::test]
async fn a_topic_that_was_made_anew_is_known_by_its_bounds_and_its_readers_fail() {
    let Some(services) = services("a_topic_that_was_made_anew") else { return };
    let log = log(services).await;
    let topic = unique(services, "anew");
    let partition = first(&topic);
    append(&log, &topic, (0..10).map(numbered).collect()).await;
    let mut reader = log.reader(&partition, Offset(10)).await.unwrap();

    delete(&log, &topic).await;
    make(&log, &topic, 1, &[]).await;
    let error = within(reader.next(ALL)).await.unwrap_err();
    assert!(matches!(error, LogError::BeyondEnd { .. } | LogError::Broker { .. }), "{error:?}");
    assert_eq!(found(async || log.partitions(&topic).await).await, std::slice::from_ref(&partition));
    within(async {
        while log.bounds(&partition).await.ok().map(|bounds| bounds.next) != Some(Offset::ZERO) {}
    })
    .await;
    let beyond = within(async {
        loop {
            match log.reader(&partition, Offset(10)).await {
                Err(error) if is_passing(&error) => tokio::time::sleep(PAUSE).await,
                told => return told,
            }
        }
    })
    .await;
    assert!(matches!(beyond, Err(LogError::BeyondEnd { next: Offset(0), .. })), "{beyond:?}");

    // It is a log again.
    within(async { while log.append(&topic, vec![numbered(10)]).await.fails().await {} }).await;
    assert_eq!(read(&log, &partition, 0, 1).await, ["10"]);
}

#[tokio::test]
async fn a_topic_that_was_deleted_is_made_anew_for_the_next_append() {
    let Some(services) = services("a_topic_that_was_deleted_is_made_anew") else { return };
    let settings =
        KafkaSettings { partitions: 1, append_timeout: Duration::from_secs(10), ..settings_of(services) };
    let log = KafkaLog::open(settings).await.unwrap();
    let topic = unique(services, "deleted");
    append(&log, &topic, vec![numbered(0)]).await;
    delete(&log, &topic).await;
    // A broker takes records until it has heard of it.
    within(async { while found(async || log.existing(&topic).await).await.is_some() {} }).await;
    within(async { while log.append(&topic, vec![numbered(1)]).await.fails().await {} }).await;
    assert_eq!(within(read(&log, &first(&topic), 0, 1)).await, ["1"]);
}

/// Whether an append failed, at once or later.
pub(super) trait Fails {
    async fn fails(self) -> bool;
}

impl Fails for Result<Pending, LogError> {
    async fn fails(self) -> bool {
        match self {
            Ok(pending) => pending.await.is_err(),
            Err(_) => true,
        }
    }
}

#[tokio::test]
async fn records_of_others_are_read_and_holes_are_not_skipped() {
    let Some(services) = services("records_of_others_are_read") else { return };
    let log = log(services).await;
    let topic = unique(services, "foreign");
    let partition = first(&topic);
    log.partitions(&topic).await.unwrap();
    let mut config = settings_of(services).client(&[]).unwrap();
    config.set("transactional.id", topic.as_str());
    let name = topic.clone();
    let foreign = move || {
        let producer = BaseProducer::from_config(&config).unwrap();
        let timeout = super::PATIENCE;
        producer.init_transactions(timeout).unwrap();
        for number in 0..2 {
            producer.begin_transaction().unwrap();
            let value = number.to_string();
            // Neither key nor header.
            producer.send(BaseRecord::<(), str>::to(name.as_str()).payload(&value)).unwrap();
            producer.commit_transaction(timeout).unwrap();
        }
    };
    tokio::task::spawn_blocking(foreign).await.unwrap();
    let mut reader = log.reader(&partition, Offset::ZERO).await.unwrap();
    let read = within(reader.next(ALL)).await.unwrap();
    assert_eq!(
        read[0].record,
        Record { key: Bytes::new(), value: Bytes::from_static(b"0"), headers: Vec::new() }
    );
    assert_eq!(read.len(), 1);
    // Offset 1 is where Kafka noted the end of the transaction.
    let hole = within(reader.next(ALL)).await.unwrap_err();
    assert!(matches!(hole, LogError::Missing { wanted: Offset(1), found: Offset(2), .. }), "{hole:?}");
}

#[tokio::test]
async fn a_header_that_kafka_cannot_keep_is_refused() {
    let Some(services) = services("a_header_that_kafka_cannot_keep_is_refused") else { return };
    let log = log(services).await;
    let topic = unique(services, "nul");
    let headers = vec![("a\0b".to_owned(), Bytes::new())];
    let refused = log.append(&topic, vec![numbered(0), Record { headers, ..numbered(1) }]).await;
    assert!(matches!(refused, Err(LogError::Header { .. })), "{refused:?}");
    assert_eq!(log.bounds(&first(&topic)).await.unwrap().next, Offset::ZERO);
}

#[tokio::test]
async fn readers_of_one_partition_do_not_disturb_each_other() {
    let Some(services) = services("readers_of_one_partition_do_not_disturb_each_other") else { return };
    let log = log(services).await;
    let topic = unique(services, "readers");
    let partition = first(&topic);
    append(&log, &topic, (0..100).map(numbered).collect()).await;
    let mut readers = Vec::new();
    for from in [0, 30, 60, 99, 100] {
        readers.push((from, log.reader(&partition, Offset(from)).await.unwrap()));
    }
    append(&log, &topic, vec![numbered(100)]).await;
    for (from, mut reader) in readers {
        let mut next = from;
        while next <= 100 {
            for stored in within(reader.next(ALL)).await.unwrap() {
                assert_eq!(stored.offset, Offset(next));
                next += 1;
            }
        }
    }
    // One after another on the same consumer, each from somewhere else.
    for from in [50_i64, 0, 100, 7, 50] {
        assert_eq!(read(&log, &partition, from, 1).await[0], from.to_string());
    }
}
