//! Members of a group share out partitions.

use super::{PATIENCE, settings_of, unique, within};
use crate::api::{Log, Membership, Share};
use crate::error::LogError;
use crate::kafka::membership::group_id;
use crate::kafka::{KafkaLog, KafkaSettings};
use millstream_model::name::{Offset, TopicPartition};
use millstream_services::services;
use rdkafka::config::FromClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::{Offset as Committed, TopicPartitionList};
use std::time::{Duration, Instant};

async fn log(settings: KafkaSettings) -> KafkaLog {
    KafkaLog::open(KafkaSettings { partitions: 4, ..settings }).await.unwrap()
}

/// Takes shares, dropping each at once, until one fits.
async fn until(member: &mut dyn Membership, fits: impl Fn(&[TopicPartition]) -> bool) -> Share {
    within(async {
        loop {
            let share = member.next().await.unwrap();
            if fits(&share.partitions) {
                return share;
            }
        }
    })
    .await
}

#[tokio::test]
async fn two_members_share_and_what_one_gives_up_waits_until_it_has_let_go() {
    let Some(services) = services("two_members_share") else { return };
    let (here, there) = (log(settings_of(services)).await, log(settings_of(services)).await);
    let topic = unique(services, "shared");
    let all = here.partitions(&topic).await.unwrap();

    let mut one = here.join(&topic, "t").await.unwrap();
    assert_eq!(until(&mut *one, |share| share.len() == 4).await.partitions, all);
    let mut two = there.join(&topic, "t").await.unwrap();
    let smaller = until(&mut *one, |share| share.len() == 2).await;
    let none = until(&mut *two, <[_]>::is_empty).await;

    // As long as the first holds its share, the second gets nothing.
    let waited = tokio::time::timeout(Duration::from_secs(3), two.next()).await;
    assert!(waited.is_err(), "{waited:?}");
    let kept = smaller.partitions.clone();
    drop(smaller);
    let other = until(&mut *two, |share| share.len() == 2).await;
    drop(none);
    let mut together = [kept, other.partitions.clone()].concat();
    together.sort();
    assert_eq!(together, all, "each partition has one owner");

    // One that leaves is replaced at once.
    drop(one);
    assert_eq!(until(&mut *two, |share| share.len() == 4).await.partitions, all);
}

#[tokio::test]
async fn what_is_not_let_go_in_time_is_given_up() {
    let Some(services) = services("what_is_not_let_go_in_time_is_given_up") else { return };
    let hasty = KafkaSettings { release_timeout: Duration::from_millis(500), ..settings_of(services) };
    let (here, there) = (log(hasty).await, log(settings_of(services)).await);
    let topic = unique(services, "withheld");
    let mut one = here.join(&topic, "t").await.unwrap();
    let all = until(&mut *one, |share| share.len() == 4).await;
    let mut two = there.join(&topic, "t").await.unwrap();
    // Nobody asks the first for its next share.
    until(&mut *two, |share| share.len() == 2).await;
    drop(all);
    until(&mut *one, |share| share.len() == 2).await;
}

#[tokio::test]
async fn what_is_committed_can_be_seen_as_the_groups_lag() {
    let Some(services) = services("what_is_committed_can_be_seen_as_the_groups_lag") else { return };
    let log = log(settings_of(services)).await;
    let topic = unique(services, "lag");
    let mut member = log.join(&topic, "t").await.unwrap();
    let share = until(&mut *member, |share| share.len() == 4).await;
    member.committed(&share.partitions[2], Offset(7));
    let partition =
        within(committed(&settings_of(services), &group_id("t", &topic), topic.as_str(), Offset(7))).await;
    assert_eq!(partition, 2);
}

#[tokio::test]
async fn a_member_of_a_topic_that_was_deleted_harms_nobody() {
    let Some(services) = services("a_member_of_a_topic_that_was_deleted_harms_nobody") else { return };
    let mut settings = settings_of(services);
    // By itself librdkafka looks after minutes only whether its topics are still there.
    settings.properties.insert("topic.metadata.refresh.interval.ms".to_owned(), "500".to_owned());
    let log = log(settings).await;
    let (gone, stays) = (unique(services, "gone"), unique(services, "stays"));
    let mut member = log.join(&gone, "t").await.unwrap();
    until(&mut *member, |share| share.len() == 4).await;
    super::topics::delete(&log, &gone).await;
    let nothing = until(&mut *member, <[_]>::is_empty).await;
    let mut other = log.join(&stays, "t").await.unwrap();
    until(&mut *other, |share| share.len() == 4).await;
    // Closing waits for nobody who has not let go, here of all that the member had.
    within(log.close()).await.unwrap();
    // What was dealt before is told first.
    let left = within(async {
        loop {
            if let Err(left) = member.next().await {
                return left;
            }
        }
    });
    let left = left.await;
    assert!(matches!(left, LogError::Closed), "{left:?}");
    drop(nothing);
}

/// What the process that is killed is told: brokers and topic.
const DOOMED: &str = "MILLSTREAM_TEST_DOOMED";

#[tokio::test]
async fn a_member_whose_process_is_killed_is_replaced() {
    let Some(services) = services("a_member_whose_process_is_killed_is_replaced") else { return };
    let log = log(settings_of(services)).await;
    let topic = unique(services, "killed");
    let all = log.partitions(&topic).await.unwrap();
    let mut one = log.join(&topic, "t").await.unwrap();
    assert_eq!(until(&mut *one, |share| share.len() == 4).await.partitions, all);
    let mut doomed = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kafka::tests::group::the_process_that_is_killed", "--ignored"])
        .env(DOOMED, format!("{} {topic}", services.kafka))
        .spawn()
        .unwrap();
    let half = until(&mut *one, |share| share.len() == 2).await;
    drop(half);
    // It has the other half once it commits something there.
    within(committed(&settings_of(services), &group_id("t", &topic), topic.as_str(), Offset(1))).await;
    doomed.kill().unwrap();
    doomed.wait().unwrap();
    assert_eq!(until(&mut *one, |share| share.len() == 4).await.partitions, all);
}

#[tokio::test]
#[ignore = "a part of a_member_whose_process_is_killed_is_replaced"]
async fn the_process_that_is_killed() {
    let Ok(told) = std::env::var(DOOMED) else { return };
    let (brokers, topic) = told.split_once(' ').unwrap();
    let log = log(KafkaSettings::new(brokers)).await;
    let mut member = log.join(&topic.parse().unwrap(), "t").await.unwrap();
    let share = until(&mut *member, |share| share.len() == 2).await;
    for partition in &share.partitions {
        member.committed(partition, Offset(1));
    }
    within(member.next()).await.unwrap();
}

/// Waits until a partition of the topic is committed up to there; returns which.
async fn committed(settings: &KafkaSettings, group: &str, topic: &str, next: Offset) -> i32 {
    let settings = KafkaSettings { client_id: "observer".to_owned(), ..settings.clone() };
    let config = settings.client(&[("group.id", group)]).unwrap();
    let mut wanted = TopicPartitionList::new();
    wanted.add_partition_range(topic, 0, 3);
    let observe = move || {
        let consumer: BaseConsumer = BaseConsumer::from_config(&config).unwrap();
        let begin = Instant::now();
        loop {
            let found = consumer.committed_offsets(wanted.clone(), Duration::from_secs(10));
            let is_there = |one: &TopicPartitionListElem<'_>| one.offset() == Committed::Offset(next.0);
            let there = found.iter().flat_map(TopicPartitionList::elements).find(is_there);
            if let Some(there) = there {
                return there.partition();
            }
            assert!(begin.elapsed() < PATIENCE, "it is not committed: {found:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    tokio::task::spawn_blocking(observe).await.unwrap()
}
