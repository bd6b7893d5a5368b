//! A reader that is told of an offset which another one asked for: rare, and here made by giving it what was fetched from elsewhere.

use super::{DOUBTS_MAX, Reader};
use crate::api::{Log, LogReader};
use crate::contract::ALL;
use crate::error::LogError;
use crate::kafka::lane::PATIENCE;
use crate::kafka::tests::{first, numbered, settings_of, unique, within};
use crate::kafka::{KafkaLog, KafkaSettings};
use millstream_model::name::{Offset, TopicPartition};
use millstream_services::{Services, services};

/// Of three records only the last is there.
async fn trimmed(services: &Services) -> (KafkaLog, TopicPartition) {
    let log = KafkaLog::open(KafkaSettings { partitions: 1, ..settings_of(services) }).await.unwrap();
    let topic = unique(services, "doubt");
    log.append(&topic, (0..3).map(numbered).collect()).await.unwrap().await.unwrap();
    log.trim(&first(&topic), Offset(2)).await.unwrap();
    (log, first(&topic))
}

/// What librdkafka does with an answer that comes between two assignments.
async fn told_of_another(log: &KafkaLog, partition: &TopicPartition, next: i64) -> Reader {
    let of_another = log.fetch(partition, Offset(0), PATIENCE).await.unwrap().unwrap();
    Reader::new(log.clone(), partition.clone(), Offset(next), of_another)
}

#[tokio::test]
async fn what_is_said_not_to_be_there_is_read_if_the_log_has_it() {
    let Some(services) = services("what_is_said_not_to_be_there_is_read") else { return };
    let (log, partition) = trimmed(services).await;
    let mut reader = told_of_another(&log, &partition, 2).await;
    let read = within(reader.next(ALL)).await.unwrap();
    assert_eq!(read.iter().map(|stored| stored.offset).collect::<Vec<_>>(), [Offset(2)]);
    assert_eq!(reader.doubts, 0, "it is told off by what it reads");
}

#[tokio::test]
async fn what_is_said_not_to_be_there_yet_is_waited_for() {
    let Some(services) = services("what_is_said_not_to_be_there_yet_is_waited_for") else { return };
    let (log, partition) = trimmed(services).await;
    let mut reader = told_of_another(&log, &partition, 3).await;
    let (read, _) = tokio::join!(within(reader.next(ALL)), async {
        log.append(&partition.topic, vec![numbered(3)]).await.unwrap().await.unwrap()
    });
    assert_eq!(read.unwrap()[0].offset, Offset(3));
}

#[tokio::test]
async fn what_is_not_there_is_an_error_however_often_one_asks() {
    let Some(services) = services("what_is_not_there_is_an_error_however_often_one_asks") else { return };
    let (log, partition) = trimmed(services).await;
    let mut reader = told_of_another(&log, &partition, 1).await;
    for _ in 0..2 {
        let error = within(reader.next(ALL)).await.unwrap_err();
        assert!(matches!(error, LogError::Trimmed { wanted: Offset(1), first: Offset(2), .. }), "{error:?}");
    }
}

#[tokio::test]
async fn clients_that_contradict_the_log_for_ever_are_an_error() {
    let Some(services) = services("clients_that_contradict_the_log_for_ever_are_an_error") else { return };
    let (log, partition) = trimmed(services).await;
    let mut reader = told_of_another(&log, &partition, 2).await;
    reader.doubts = DOUBTS_MAX;
    let error = within(reader.next(ALL)).await.unwrap_err();
    assert!(matches!(&error, LogError::Broker { .. }), "{error:?}");
    assert!(error.to_string().contains("and that it has 2 to 3"), "{error}");
}
