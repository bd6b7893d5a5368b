//! The broker stops, dies, comes back; and the producer fails for good.

use super::topics::Fails;
use super::{PAUSE, first, found, is_passing, numbered, read, within};
use crate::api::{Log, Pending};
use crate::contract::{ALL, record};
use crate::error::LogError;
use crate::kafka::producer::{Load, Unsent};
use crate::kafka::{KafkaLog, KafkaSettings};
use crate::partitioner::partition_of;
use millstream_model::name::{LogTopic, Offset, TopicPartition};
use millstream_services::{Service, Services};
use rdkafka::mocking::MockCluster;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::task::JoinSet;

/// What was answered to each append, by its number.
type Answers = BTreeMap<usize, Result<Offset, LogError>>;

/// Appends numbers one after another under one key, as many at once as there is room for, until told to end.
async fn append_on(
    log: KafkaLog,
    topic: LogTopic,
    key: String,
    mut end: tokio::sync::watch::Receiver<bool>,
) -> Answers {
    let mut pending: Vec<(usize, Pending)> = Vec::new();
    for number in 0.. {
        if *end.borrow_and_update() {
            break;
        }
        match log.append(&topic, vec![record(&key, &number.to_string())]).await {
            Ok(append) => pending.push((number, append)),
            // Nothing was appended.
            Err(error) => assert!(is_passing(&error), "{number}: {error}"),
        }
        tokio::time::sleep(Duration::from_micros(500)).await;
    }
    let mut answers = BTreeMap::new();
    for (number, append) in pending {
        answers.insert(number, append.await.map(|positions| positions[0].offset));
    }
    answers
}

/// What was confirmed stands where it was said to stand, once, and in the order of the calls. What was not may stand anywhere. Returns the numbers that are there.
async fn check(log: &KafkaLog, partition: &TopicPartition, answers: &Answers) -> BTreeSet<usize> {
    let next = found(async || log.bounds(partition).await).await.next;
    let values = within(read(log, partition, 0, usize::try_from(next.0).unwrap())).await;
    let mut places: BTreeMap<usize, Vec<Offset>> = BTreeMap::new();
    for (offset, value) in (0..).zip(&values) {
        places.entry(value.parse().unwrap()).or_default().push(Offset(offset));
    }
    let mut before = None;
    for (number, answer) in answers {
        match answer {
            Ok(offset) => {
                assert_eq!(
                    places[number],
                    [*offset],
                    "{partition}: {number} is there once, where it was said to be"
                );
                assert!(
                    before < Some(*offset),
                    "{partition}: {number} at {offset} overtook one at {before:?}"
                );
                before = Some(*offset);
            }
            Err(error) => assert!(matches!(error, LogError::Unknown { .. }), "{error:?}"),
        }
    }
    places.into_keys().collect()
}

fn settings(services: &Services, append_timeout: Duration) -> KafkaSettings {
    // A little room, so that it is full when nothing is confirmed.
    KafkaSettings {
        partitions: 1,
        append_timeout,
        queue_bytes: 200_000,
        ..KafkaSettings::new(&services.kafka)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_stands_still_fails_appends_in_time_and_one_that_dies_loses_nothing() {
    let test = "a_broker_that_stands_still_fails_appends_in_time_and_one_that_dies_loses_nothing";
    let Some(own) = Services::own(test, &[Service::Kafka]) else { return };
    let settings_for = |seconds| settings(&own, Duration::from_secs(seconds));
    let log = found(async || KafkaLog::open(settings_for(3)).await).await;
    let topic: LogTopic = "millstream.still".parse().unwrap();
    found(async || log.partitions(&topic).await).await;
    let (end, ended) = tokio::sync::watch::channel(false);
    let mut appending = JoinSet::new();
    appending.spawn(append_on(log.clone(), topic.clone(), "device".to_owned(), ended));
    within(read(&log, &first(&topic), 0, 100)).await;
    own.stop(Service::Kafka);
    // Longer than an append may take: what was on its way fails, and so gives room to the next.
    tokio::time::sleep(Duration::from_secs(5)).await;
    own.cont(Service::Kafka);
    more(&log, &first(&topic)).await;
    end.send(true).unwrap();
    let answers = within(appending.join_next()).await.unwrap().unwrap();
    let failed = answers.values().filter(|answer| answer.is_err()).count();
    assert!(failed > 0, "{} appends, and none failed", answers.len());
    check(&log, &first(&topic), &answers).await;

    // A reader that was there before goes on behind the outage.
    let topic: LogTopic = "millstream.dies".parse().unwrap();
    let patient = found(async || KafkaLog::open(settings_for(600)).await).await;
    found(async || patient.partitions(&topic).await).await;
    let mut reader = found(async || patient.reader(&first(&topic), Offset::ZERO).await).await;
    let (end, ended) = tokio::sync::watch::channel(false);
    let mut appending = JoinSet::new();
    appending.spawn(append_on(patient.clone(), topic.clone(), "device".to_owned(), ended));
    within(read(&patient, &first(&topic), 0, 100)).await;
    own.kill_9(Service::Kafka);
    own.start_again();
    more(&patient, &first(&topic)).await;
    end.send(true).unwrap();
    let mut answers = within(appending.join_next()).await.unwrap().unwrap();
    let there = check(&patient, &first(&topic), &answers).await;
    let mut next = 0;
    while next < i64::try_from(there.len()).unwrap() {
        for stored in within(reader.next(ALL)).await.unwrap() {
            assert_eq!(stored.offset, Offset(next));
            next += 1;
        }
    }

    // While nothing answers, appends wait for room; one that is dropped while it waits has appended nothing.
    own.stop(Service::Kafka);
    // Behind all that were used: an append that failed has a number, too.
    let begin = 1_000_000;
    let mut waiting = Vec::new();
    let append = |number| patient.append(&topic, vec![numbered(number)]);
    while let Ok(taken) = tokio::time::timeout(Duration::from_secs(1), append(begin + waiting.len())).await {
        waiting.push(taken.unwrap());
        assert!(waiting.len() < 10_000, "there is no bound");
    }
    own.cont(Service::Kafka);
    let dropped = begin + waiting.len();
    waiting.push(within(append(dropped + 1)).await.unwrap());
    for (number, append) in (begin..).zip(waiting) {
        // Behind the one that was dropped there is one.
        let number = if number == dropped { number + 1 } else { number };
        answers.insert(number, within(append).await.map(|positions| positions[0].offset));
    }
    let there = check(&patient, &first(&topic), &answers).await;
    assert!(!there.contains(&dropped));
}

/// Each partition's traffic begins later than the one's before, so that something is given up while others have just been sent, or are sent again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_confirmed_stands_once_in_its_order_whatever_is_given_up_beside_it() {
    const ROUNDS: usize = 3;
    let test = "what_is_confirmed_stands_once_in_its_order_whatever_is_given_up_beside_it";
    let Some(own) = Services::own(test, &[Service::Kafka]) else { return };
    let settings =
        KafkaSettings { partitions: 4, queue_bytes: 4_000_000, ..settings(&own, Duration::from_secs(2)) };
    let log = found(async || KafkaLog::open(settings.clone()).await).await;
    // Those in which something was given up: the clock may be kind to all of them.
    let mut rounds = 0;
    for round in 0.. {
        if rounds == ROUNDS {
            break;
        }
        assert!(round < 20, "nothing is ever given up");
        let topic: LogTopic = format!("millstream.beside_{round}").parse().unwrap();
        let partitions = found(async || log.partitions(&topic).await).await;
        let (end, ended) = tokio::sync::watch::channel(false);
        own.stop(Service::Kafka);
        let mut appending = JoinSet::new();
        for partition in &partitions {
            let mut keys = (0..).map(|number: u32| number.to_string());
            let own = keys.find(|key| partition_of(key.as_bytes(), partitions.len()) == partition.partition);
            let appends = append_on(log.clone(), topic.clone(), own.unwrap(), ended.clone());
            let partition = partition.clone();
            appending.spawn(async move { (partition, appends.await) });
            tokio::time::sleep(Duration::from_millis(700)).await;
        }
        own.cont(Service::Kafka);
        for partition in &partitions {
            more(&log, partition).await;
        }
        end.send(true).unwrap();
        let mut failed = 0;
        for (partition, answers) in within(appending.join_all()).await {
            failed += answers.values().filter(|answer| answer.is_err()).count();
            check(&log, &partition, &answers).await;
        }
        rounds += usize::from(failed > 0);
    }
}

/// Waits until something more is confirmed, and stands there: so a hundred records more.
async fn more(log: &KafkaLog, partition: &TopicPartition) {
    let next = found(async || log.bounds(partition).await).await.next;
    within(read(log, partition, next.0, 100)).await;
}

/// Through the mock: a partition that is not there cannot come from the log itself.
#[tokio::test]
async fn an_append_of_which_a_part_cannot_be_queued_fails_at_once_and_gives_its_room_back() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("millstream.part", 1, 1).unwrap();
    let settings = KafkaSettings { partitions: 1, ..KafkaSettings::new(cluster.bootstrap_servers()) };
    let log = KafkaLog::open(settings).await.unwrap();
    let topic: LogTopic = "millstream.part".parse().unwrap();
    within(within(log.append(&topic, vec![numbered(0)])).await.unwrap()).await.unwrap();
    let all = log.0.room.available_permits();
    let room = std::sync::Arc::clone(&log.0.room).try_acquire_many_owned(1000).unwrap();
    let records = vec![(0, numbered(1)), (7, numbered(2)), (0, numbered(3))];
    let failed = log.0.producer.send(&topic, Load { records, room });
    assert!(matches!(failed, Err(Unsent::Failed(LogError::Unknown { .. }))));
    let next = within(log.append(&topic, vec![numbered(4)])).await.unwrap();
    within(next).await.unwrap();
    assert_eq!(read(&log, &first(&topic), 0, 3).await, ["0", "1", "4"]);
    assert_eq!(log.0.room.available_permits(), all);
}

#[tokio::test]
async fn a_partition_does_not_look_empty_where_its_first_offset_is_not_told() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("millstream.told", 1, 1).unwrap();
    let settings = KafkaSettings { partitions: 1, ..KafkaSettings::new(cluster.bootstrap_servers()) };
    let log = KafkaLog::open(settings).await.unwrap();
    let topic: LogTopic = "millstream.told".parse().unwrap();
    within(within(log.append(&topic, vec![numbered(0)])).await.unwrap()).await.unwrap();
    // Whether both answers are there before the first is looked at is chance.
    for _ in 0..100 {
        let moving = RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION;
        cluster.request_errors(RDKafkaApiKey::ListOffsets, &[moving]);
        let bounds = within(log.bounds(&first(&topic))).await.unwrap();
        assert_eq!((bounds.first, bounds.next), (Offset(0), Offset(1)));
    }
}

/// A real broker cannot be made to do this: a cluster that is a part of librdkafka answers as it is told.
#[tokio::test]
async fn a_producer_that_failed_for_good_is_replaced() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("millstream.fatal", 1, 1).unwrap();
    let denied = RDKafkaRespErr::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED;
    cluster.request_errors(RDKafkaApiKey::InitProducerId, &[denied]);
    let settings = KafkaSettings { partitions: 1, ..KafkaSettings::new(cluster.bootstrap_servers()) };
    let log = KafkaLog::open(settings).await.unwrap();
    let topic: LogTopic = "millstream.fatal".parse().unwrap();
    let (mut number, mut failed) = (0, 0);
    let offset = within(async {
        loop {
            number += 1;
            match log.append(&topic, vec![numbered(number)]).await {
                Ok(pending) => match pending.await {
                    Ok(positions) => return positions[0].offset,
                    Err(_) => failed += 1,
                },
                Err(_) => failed += 1,
            }
        }
    })
    .await;
    assert_eq!(offset, Offset::ZERO, "{failed} appends failed before, and left nothing");
    assert_eq!(read(&log, &first(&topic), 0, 1).await, [number.to_string()]);
}

/// It would begin a new epoch for all else that it has, again and again.
#[tokio::test]
async fn a_producer_that_gave_an_append_up_is_replaced() {
    let cluster = MockCluster::new(2).unwrap();
    let topic: LogTopic = "millstream.given_up".parse().unwrap();
    cluster.create_topic(topic.as_str(), 2, 1).unwrap();
    for (partition, leader) in [(0, 1), (1, 2)] {
        cluster.partition_leader(topic.as_str(), partition, Some(leader)).unwrap();
    }
    let settings = KafkaSettings {
        partitions: 2,
        append_timeout: Duration::from_secs(1),
        ..KafkaSettings::new(cluster.bootstrap_servers())
    };
    let log = KafkaLog::open(settings).await.unwrap();
    let of = |partition| {
        let mut keys = (0..).map(|number: u32| number.to_string());
        let key = keys.find(|key| partition_of(key.as_bytes(), 2).0 == partition).unwrap();
        vec![record(&key, "")]
    };
    found(async || log.partitions(&topic).await).await;
    cluster.broker_down(2).unwrap();
    let before = log.0.producer.client();
    let failed = within(within(log.append(&topic, of(1))).await.unwrap()).await;
    assert!(matches!(failed, Err(LogError::Unknown { .. })), "{failed:?}");
    within(async {
        while std::sync::Arc::ptr_eq(&before, &log.0.producer.client()) {
            tokio::time::sleep(PAUSE).await;
        }
    })
    .await;
    within(async { while log.append(&topic, of(0)).await.fails().await {} }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appends_wait_while_a_producer_is_replaced_and_go_through_or_hear_of_the_end() {
    let cluster = MockCluster::new(1).unwrap();
    let topic: LogTopic = "millstream.waits".parse().unwrap();
    cluster.create_topic(topic.as_str(), 1, 1).unwrap();
    let settings = KafkaSettings { partitions: 1, ..KafkaSettings::new(cluster.bootstrap_servers()) };
    let log = KafkaLog::open(settings).await.unwrap();
    within(within(log.append(&topic, vec![numbered(0)])).await.unwrap()).await.unwrap();
    // No new one meets anybody.
    cluster.broker_down(1).unwrap();
    let before = log.0.producer.client();
    log.0.producer.strand();
    let append = async |log: KafkaLog, number| {
        log.append(&"millstream.waits".parse().unwrap(), vec![numbered(number)]).await
    };
    within(async { while tokio::time::timeout(PAUSE, append(log.clone(), 1)).await.is_ok() {} }).await;
    let mut waiting = Box::pin(append(log.clone(), 2));
    assert!(tokio::time::timeout(PAUSE, &mut waiting).await.is_err());
    cluster.broker_up(1).unwrap();
    within(within(waiting).await.unwrap()).await.unwrap();
    assert!(!std::sync::Arc::ptr_eq(&before, &log.0.producer.client()));

    cluster.broker_down(1).unwrap();
    log.0.producer.strand();
    within(async { while tokio::time::timeout(PAUSE, append(log.clone(), 3)).await.is_ok() {} }).await;
    let waiting = append(log.clone(), 4);
    let (closed, ended) = within(async { tokio::join!(log.clone().close(), waiting) }).await;
    closed.unwrap();
    assert!(matches!(ended, Err(LogError::Closed)), "{ended:?}");
}
