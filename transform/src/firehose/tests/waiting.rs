//! What is said while something waits, and while something fails that keeps nothing from its table.

use super::shares::three;
use super::{Phase, drain, stopped, work};
use crate::firehose::{FirehoseError, TrimRule};
use crate::simulation::memory_log::MemoryLog;
use crate::simulation::world::{Fate, START, World};
use async_trait::async_trait;
use millstream_log::{Bounds, Log, LogError, LogReader, Membership, Pending, ReadLimit};
use millstream_model::name::{LogTopic, Offset, Partition, TopicPartition};
use millstream_model::record::{Record, Stored};
use millstream_model::stream::CloseRule;
use millstream_model::time::Micros;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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

/// A log that nobody may trim, and of which one partition cannot be read at first.
#[derive(Debug)]
struct Troubled {
    log: MemoryLog,
    unreadable: Option<Partition>,
    has_failed: Arc<AtomicBool>,
}

impl Troubled {
    fn new(log: &MemoryLog, unreadable: Option<Partition>) -> Self {
        Self { log: log.clone(), unreadable, has_failed: Arc::default() }
    }
}

/// Fails once, whoever reads first.
#[derive(Debug)]
struct TroubledReader {
    reader: Box<dyn LogReader>,
    has_failed: Arc<AtomicBool>,
}

#[async_trait]
impl LogReader for TroubledReader {
    async fn next(&mut self, limit: ReadLimit) -> Result<Vec<Stored>, LogError> {
        match self.has_failed.swap(true, Ordering::Relaxed) {
            true => self.reader.next(limit).await,
            false => Err(LogError::Closed),
        }
    }
}

#[async_trait]
impl Log for Troubled {
    async fn partitions(&self, topic: &LogTopic) -> Result<Vec<TopicPartition>, LogError> {
        self.log.partitions(topic).await
    }

    async fn existing(&self, topic: &LogTopic) -> Result<Option<Vec<TopicPartition>>, LogError> {
        self.log.existing(topic).await
    }

    async fn append(&self, topic: &LogTopic, records: Vec<Record>) -> Result<Pending, LogError> {
        self.log.append(topic, records).await
    }

    async fn reader(&self, partition: &TopicPartition, from: Offset) -> Result<Box<dyn LogReader>, LogError> {
        let reader = self.log.reader(partition, from).await?;
        if self.unreadable != Some(partition.partition) {
            return Ok(reader);
        }
        Ok(Box::new(TroubledReader { reader, has_failed: Arc::clone(&self.has_failed) }))
    }

    async fn bounds(&self, partition: &TopicPartition) -> Result<Bounds, LogError> {
        self.log.bounds(partition).await
    }

    async fn trim(&self, _: &TopicPartition, _: Offset) -> Result<(), LogError> {
        Err(LogError::Unknown { detail: "not allowed".to_owned() })
    }

    async fn join(&self, topic: &LogTopic, group: &str) -> Result<Box<dyn Membership>, LogError> {
        self.log.join(topic, group).await
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
            work.log = Arc::new(Troubled::new(&world.log, None));
        }
        work.run().await.unwrap();
        let status = seen.borrow().clone();
        assert!(status.totals.messages >= 10, "{status:?}");
        assert_eq!(status.untrimmed.is_some(), !is_allowed, "{status:?}");
        assert_eq!(status.incidents.errors, 0, "{status:?}");
        let errors: u64 = status.by_partition.values().map(|totals| totals.errors).sum();
        assert_eq!(errors > 0, !is_allowed, "{status:?}");
    }
}

/// What fails at one partition is counted there and nowhere else, whatever the failure says of itself.
#[tokio::test(start_paused = true)]
async fn a_partition_that_cannot_be_read_is_named() {
    let (mut world, devices) = three(46).await;
    for device in &devices {
        world.send(device, r#"{"a":1}"#, 0, Fate::Readings(1)).await;
    }
    let (mut work, seen) = work(&world, world.ingestion(), stopped());
    work.log = Arc::new(Troubled::new(&world.log, Some(Partition(1))));
    work.run().await.unwrap();
    let status = seen.borrow().clone();
    let errors: Vec<u64> = status.by_partition.values().map(|totals| totals.errors).collect();
    assert_eq!((errors, status.incidents.errors), (vec![0, 1, 0], 1), "{status:?}");
    assert_eq!(status.totals.messages, 3);
}
