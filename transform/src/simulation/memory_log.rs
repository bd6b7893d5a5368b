//! A log in memory, with the promises of the real ones but durability.

use async_trait::async_trait;
use millstream_log::{Bounds, Log, LogError, LogReader, Membership, Pending, ReadLimit, Share};
use millstream_model::name::{LogTopic, Offset, Partition, TopicPartition};
use millstream_model::record::{Position, Record, Stored};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::watch;

#[derive(Debug, Clone)]
pub(crate) struct MemoryLog {
    shared: Arc<Shared>,
    /// Whoever holds the other end deals the partitions out; `None`: a member has them all.
    dealt: Option<watch::Receiver<Vec<i32>>>,
}

#[derive(Debug)]
struct Shared {
    partitions: i32,
    kept: Mutex<HashMap<TopicPartition, Kept>>,
    readers: AtomicU64,
    appended: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Kept {
    first: i64,
    records: Vec<Record>,
}

impl Kept {
    fn next(&self) -> i64 {
        self.first + i64::try_from(self.records.len()).unwrap()
    }
}

impl MemoryLog {
    pub(crate) fn new(partitions: i32) -> Self {
        let shared = Shared {
            partitions,
            kept: Mutex::default(),
            readers: AtomicU64::new(0),
            appended: watch::Sender::new(()),
        };
        Self { shared: Arc::new(shared), dealt: None }
    }

    /// The same log for members of a group whose share is what they are dealt.
    pub(crate) fn dealing(&self, dealt: watch::Receiver<Vec<i32>>) -> Self {
        Self { dealt: Some(dealt), ..self.clone() }
    }

    /// How many readers were asked for.
    pub(crate) fn readers(&self) -> u64 {
        self.shared.readers.load(Ordering::SeqCst)
    }

    /// Forgets everything, as when somebody deletes the log's directory.
    pub(crate) fn recreate(&self) {
        self.kept().clear();
    }

    /// Loses the end of a partition, as when an older copy of it is put back.
    pub(crate) fn cut(&self, partition: &TopicPartition, next: Offset) {
        let mut all = self.kept();
        if let Some(kept) = all.get_mut(partition) {
            kept.records.truncate(usize::try_from(next.0 - kept.first).unwrap());
        }
    }

    /// Loses a partition: it begins anew.
    pub(crate) fn lose(&self, partition: &TopicPartition) {
        self.kept().remove(partition);
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<TopicPartition, Kept>> {
        self.shared.kept.lock().unwrap()
    }

    pub(crate) async fn put(&self, topic: &LogTopic, records: Vec<Record>) -> Vec<Position> {
        self.append(topic, records).await.unwrap().await.unwrap()
    }
}

#[async_trait]
impl Log for MemoryLog {
    async fn partitions(&self, topic: &LogTopic) -> Result<Vec<TopicPartition>, LogError> {
        Ok((0..self.shared.partitions)
            .map(|number| TopicPartition { topic: topic.clone(), partition: Partition(number) })
            .collect())
    }

    /// A topic begins with its first record.
    async fn existing(&self, topic: &LogTopic) -> Result<Option<Vec<TopicPartition>>, LogError> {
        let has_any = self.kept().keys().any(|partition| partition.topic == *topic);
        Ok(if has_any { Some(self.partitions(topic).await?) } else { None })
    }

    async fn append(&self, topic: &LogTopic, records: Vec<Record>) -> Result<Pending, LogError> {
        let (answer, pending) = Pending::new();
        let mut positions = Vec::new();
        for record in records {
            let number = crc32c::crc32c(&record.key) % u32::try_from(self.shared.partitions).unwrap();
            let partition = Partition(i32::try_from(number).unwrap());
            let mut all = self.kept();
            let kept = all.entry(TopicPartition { topic: topic.clone(), partition }).or_default();
            positions.push(Position { partition, offset: Offset(kept.next()) });
            kept.records.push(record);
        }
        answer.send(Ok(positions)).unwrap();
        self.shared.appended.send_replace(());
        Ok(pending)
    }

    async fn reader(&self, partition: &TopicPartition, from: Offset) -> Result<Box<dyn LogReader>, LogError> {
        self.shared.readers.fetch_add(1, Ordering::SeqCst);
        let bounds = self.bounds(partition).await?;
        if from < bounds.first {
            return Err(LogError::Trimmed {
                partition: partition.clone(),
                wanted: from,
                first: bounds.first,
            });
        }
        if from > bounds.next {
            return Err(LogError::BeyondEnd {
                partition: partition.clone(),
                wanted: from,
                next: bounds.next,
            });
        }
        let appended = self.shared.appended.subscribe();
        Ok(Box::new(MemoryReader { log: self.clone(), partition: partition.clone(), next: from, appended }))
    }

    async fn bounds(&self, partition: &TopicPartition) -> Result<Bounds, LogError> {
        let mut all = self.kept();
        let kept = all.entry(partition.clone()).or_default();
        Ok(Bounds { first: Offset(kept.first), next: Offset(kept.next()) })
    }

    async fn trim(&self, partition: &TopicPartition, before: Offset) -> Result<(), LogError> {
        let mut all = self.kept();
        let kept = all.entry(partition.clone()).or_default();
        let count = before.0.min(kept.next()) - kept.first;
        if let Ok(count) = usize::try_from(count) {
            kept.records.drain(..count);
            kept.first += i64::try_from(count).unwrap();
        }
        Ok(())
    }

    async fn join(&self, topic: &LogTopic, _group: &str) -> Result<Box<dyn Membership>, LogError> {
        let all = self.partitions(topic).await?;
        Ok(match self.dealt.clone() {
            Some(dealt) => Box::new(Member { all, dealt, first: true }),
            None => Box::new(OnlyMember(Some(Share::new(all)))),
        })
    }
}

/// Dealt in place of partitions: the group has ceased to count the member in, and has not dealt again.
pub(crate) const NOTHING_DEALT: i32 = -1;

/// Has what it is dealt, whatever others have.
#[derive(Debug)]
struct Member {
    all: Vec<TopicPartition>,
    dealt: watch::Receiver<Vec<i32>>,
    first: bool,
}

#[async_trait]
impl Membership for Member {
    async fn next(&mut self) -> Result<Share, LogError> {
        if !self.first && self.dealt.changed().await.is_err() {
            return std::future::pending().await;
        }
        self.first = false;
        let dealt = self.dealt.borrow_and_update();
        let share = self.all.iter().filter(|owned| dealt.contains(&owned.partition.0));
        let share = share.cloned().collect();
        Ok(if dealt.contains(&NOTHING_DEALT) { Share::lost() } else { Share::new(share) })
    }

    fn committed(&mut self, _partition: &TopicPartition, _next: Offset) {}
}

/// Has all partitions, for ever.
#[derive(Debug)]
struct OnlyMember(Option<Share>);

#[async_trait]
impl Membership for OnlyMember {
    async fn next(&mut self) -> Result<Share, LogError> {
        match self.0.take() {
            Some(share) => Ok(share),
            None => std::future::pending().await,
        }
    }

    fn committed(&mut self, _partition: &TopicPartition, _next: Offset) {}
}

#[derive(Debug)]
struct MemoryReader {
    log: MemoryLog,
    partition: TopicPartition,
    next: Offset,
    appended: watch::Receiver<()>,
}

impl MemoryReader {
    fn read(&mut self, limit: ReadLimit) -> Result<Vec<Stored>, LogError> {
        let mut all = self.log.kept();
        let kept = all.entry(self.partition.clone()).or_default();
        let Ok(skip) = usize::try_from(self.next.0 - kept.first) else {
            return Err(LogError::Trimmed {
                partition: self.partition.clone(),
                wanted: self.next,
                first: Offset(kept.first),
            });
        };
        let mut read = Vec::new();
        let mut bytes = 0;
        for record in kept.records.iter().skip(skip).take(limit.records) {
            bytes += record.size();
            if bytes > limit.bytes && !read.is_empty() {
                break;
            }
            read.push(Stored { offset: self.next, appended_at: None, record: record.clone() });
            self.next = self.next.next();
        }
        Ok(read)
    }
}

#[async_trait]
impl LogReader for MemoryReader {
    async fn next(&mut self, limit: ReadLimit) -> Result<Vec<Stored>, LogError> {
        loop {
            self.appended.mark_unchanged();
            let read = self.read(limit)?;
            if !read.is_empty() {
                return Ok(read);
            }
            if self.appended.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }
}
