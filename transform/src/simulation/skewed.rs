//! A log as somebody sees it whose calls are held up, or to whom its offsets look other than they are: for what must be right nevertheless, and for negative controls.

use super::book::Ends;
use super::crash::Pause;
use async_trait::async_trait;
use millstream_log::{Bounds, Log, LogError, LogReader, Membership, Pending, ReadLimit};
use millstream_model::name::{LogTopic, Offset, TopicPartition};
use millstream_model::record::{Record, Stored};
use std::sync::Arc;

/// One of the looks at the log waits before it is carried out; or what stands behind a place stands elsewhere.
#[derive(Debug, Clone)]
pub(crate) struct SkewedLog {
    inner: Arc<dyn Log>,
    pause: Option<Arc<Pause>>,
    /// From these offsets on (0 where none is named), the record at `n` here is the one at `n - by` of the inner log.
    from: Ends,
    by: i64,
}

impl SkewedLog {
    /// Whoever reads on from one of these offsets reads some of what lies before it again, or leaves out some of what lies behind it.
    pub(crate) fn by(inner: Arc<dyn Log>, from: Ends, by: i64) -> Arc<Self> {
        Arc::new(Self { inner, pause: None, from, by })
    }

    /// One of the looks at its partitions, their bounds, and their records is held up.
    pub(crate) fn pausing(inner: Arc<dyn Log>, pause: Arc<Pause>) -> Arc<Self> {
        Arc::new(Self { inner, pause: Some(pause), from: Ends::new(), by: 0 })
    }

    fn skewed_from(&self, partition: &TopicPartition) -> i64 {
        self.from.get(&partition.partition).copied().unwrap_or_default()
    }

    async fn hold(&self) {
        if let Some(pause) = &self.pause {
            pause.wait().await;
        }
    }
}

#[async_trait]
impl Log for SkewedLog {
    async fn partitions(&self, topic: &LogTopic) -> Result<Vec<TopicPartition>, LogError> {
        self.hold().await;
        self.inner.partitions(topic).await
    }

    async fn existing(&self, topic: &LogTopic) -> Result<Option<Vec<TopicPartition>>, LogError> {
        self.hold().await;
        self.inner.existing(topic).await
    }

    async fn append(&self, topic: &LogTopic, records: Vec<Record>) -> Result<Pending, LogError> {
        self.inner.append(topic, records).await
    }

    async fn reader(&self, partition: &TopicPartition, from: Offset) -> Result<Box<dyn LogReader>, LogError> {
        self.hold().await;
        let bounds = self.bounds(partition).await?;
        bounds.check(partition, from)?;
        Ok(Box::new(SkewedReader { log: self.clone(), partition: partition.clone(), next: from }))
    }

    async fn bounds(&self, partition: &TopicPartition) -> Result<Bounds, LogError> {
        self.hold().await;
        let Bounds { first, next } = self.inner.bounds(partition).await?;
        let by = if next.0 > self.skewed_from(partition) { self.by } else { 0 };
        Ok(Bounds { first, next: Offset(next.0 + by) })
    }

    async fn trim(&self, partition: &TopicPartition, before: Offset) -> Result<(), LogError> {
        self.inner.trim(partition, before).await
    }

    async fn join(&self, topic: &LogTopic, group: &str) -> Result<Box<dyn Membership>, LogError> {
        self.inner.join(topic, group).await
    }
}

#[derive(Debug)]
struct SkewedReader {
    log: SkewedLog,
    partition: TopicPartition,
    next: Offset,
}

#[async_trait]
impl LogReader for SkewedReader {
    async fn next(&mut self, limit: ReadLimit) -> Result<Vec<Stored>, LogError> {
        self.log.hold().await;
        let skewed_from = self.log.skewed_from(&self.partition);
        let (by, until) = if self.next.0 < skewed_from { (0, skewed_from) } else { (self.log.by, i64::MAX) };
        let mut inner = self.log.inner.reader(&self.partition, Offset(self.next.0 - by)).await?;
        let read = inner.next(limit).await?.into_iter();
        let moved = read.map(|stored| Stored { offset: Offset(stored.offset.0 + by), ..stored });
        let read: Vec<Stored> = moved.filter(|stored| stored.offset.0 < until).collect();
        self.next = read.last().map_or(self.next, |last| last.offset.next());
        Ok(read)
    }
}
