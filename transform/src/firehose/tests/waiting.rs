//! What is said while something waits, and while something fails that keeps nothing from its table.

use super::{Phase, drain, stopped, work};
use crate::firehose::{FirehoseError, TrimRule};
use crate::simulation::memory_log::MemoryLog;
use crate::simulation::world::{Fate, START, World};
use async_trait::async_trait;
use millstream_log::{Bounds, Log, LogError, LogReader, Membership, Pending};
use millstream_model::name::{LogTopic, Offset, TopicPartition};
use millstream_model::record::Record;
use millstream_model::stream::CloseRule;
use millstream_model::time::Micros;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// A store that hangs is told as a failure while it is waited for, not only when it has given up.
#[tokio::test(start_paused = true)]
async fn a_step_without_an_answer_counts_while_it_is_waited_for() {
    let world = World::new(1);
    let (work, seen) = work(&world, world.ingestion(), CancellationToken::new());
    let hung = || async {
        tokio::time::sleep(Duration::from_secs(35)).await;
        let status = seen.borrow().clone();
        assert_eq!(
            (status.phase, status.incidents.errors, status.incidents.retries),
            (Phase::Retrying, 2, 0)
        );
        assert_eq!(status.last_error.as_deref(), Some("upload: no answer for 30 s"));
        Ok::<_, FirehoseError>(7)
    };
    assert_eq!(work.keep_trying("upload", hung).await.unwrap(), 7);
}

/// The age of what waits is its own, however long it was quiet before.
#[tokio::test(start_paused = true)]
async fn what_waits_is_as_old_as_it_is() {
    let mut world = World::new(2);
    world.send("d1", r#"{"n":1}"#, 0, Fate::Readings(1)).await;
    drain(&world).await.unwrap();
    let day = 24 * 3600;
    for seconds in [day + 3, day + 5] {
        world.send("d1", r#"{"n":2}"#, seconds, Fate::Readings(1)).await;
    }
    let mut stream = world.stream.as_ref().clone();
    let hour = Duration::from_secs(3600);
    stream.files = CloseRule { after: hour, size: u64::MAX, idle: hour };
    world.stream = Arc::new(stream);
    let shutdown = CancellationToken::new();
    let (work, mut seen) = work(&world, world.ingestion(), shutdown.clone());
    let oldest = Micros(START + (day + 3) * 1_000_000);
    let looked = async {
        let waits = |status: &super::Status| {
            status.partitions.values().any(|progress| progress.waiting_since == Some(oldest))
        };
        let status = seen.wait_for(waits).await.unwrap().clone();
        let waiting = status.partitions.values().filter(|progress| progress.lag() > 0);
        for progress in waiting {
            assert_eq!(progress.freshness(Micros(oldest.0 + 9)), Duration::from_micros(9));
        }
        shutdown.cancel();
    };
    let (ended, ()) = tokio::join!(work.run(), looked);
    ended.unwrap();
    let far = Micros(i64::MAX);
    assert!(seen.borrow().partitions.values().all(|progress| progress.freshness(far) == Duration::ZERO));
}

/// A log that nobody may trim.
#[derive(Debug)]
struct Untrimmable(MemoryLog);

#[async_trait]
impl Log for Untrimmable {
    async fn partitions(&self, topic: &LogTopic) -> Result<Vec<TopicPartition>, LogError> {
        self.0.partitions(topic).await
    }

    async fn append(&self, topic: &LogTopic, records: Vec<Record>) -> Result<Pending, LogError> {
        self.0.append(topic, records).await
    }

    async fn reader(&self, partition: &TopicPartition, from: Offset) -> Result<Box<dyn LogReader>, LogError> {
        self.0.reader(partition, from).await
    }

    async fn bounds(&self, partition: &TopicPartition) -> Result<Bounds, LogError> {
        self.0.bounds(partition).await
    }

    async fn trim(&self, _: &TopicPartition, _: Offset) -> Result<(), LogError> {
        Err(LogError::Unknown { detail: "not allowed".to_owned() })
    }

    async fn join(&self, topic: &LogTopic, group: &str) -> Result<Box<dyn Membership>, LogError> {
        self.0.join(topic, group).await
    }
}

#[tokio::test(start_paused = true)]
async fn who_may_not_trim_commits_all_the_same_and_says_so() {
    let mut world = World::new(3);
    world.append(50).await;
    for is_allowed in [false, true] {
        world.append(10).await;
        let (mut work, seen) = work(&world, world.ingestion(), stopped());
        work.settings.trim = TrimRule::AfterCommit;
        if !is_allowed {
            work.log = Arc::new(Untrimmable(world.log.clone()));
        }
        work.run().await.unwrap();
        let status = seen.borrow().clone();
        assert!(status.totals.messages >= 10, "{status:?}");
        assert_eq!(status.untrimmed.is_some(), !is_allowed, "{status:?}");
        assert_eq!(status.incidents.errors, 0, "{status:?}");
    }
}
