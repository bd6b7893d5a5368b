//! What a question costs the log: it reads only what the one before has not read, and asks about a few partitions at a time.

use super::river::{River, rows, telemetry};
use async_trait::async_trait;
use millstream_log::{Bounds, Log, LogError, LogReader, Membership, Pending, ReadLimit};
use millstream_model::name::{LogTopic, Offset, TopicPartition};
use millstream_model::record::{Record, Stored};
use millstream_query::{Limits, Session};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::task::yield_now;

/// Counts the records that its readers give, and who asks for bounds at the same time.
#[derive(Debug)]
struct CountingLog {
    inner: Arc<dyn Log>,
    read: Arc<AtomicU64>,
    asking: AtomicU64,
    most: AtomicU64,
}

impl CountingLog {
    fn new(river: &River) -> Arc<Self> {
        let inner = Arc::new(river.log.clone());
        Arc::new(Self { inner, read: Arc::default(), asking: AtomicU64::new(0), most: AtomicU64::new(0) })
    }
}

#[derive(Debug)]
struct CountingReader {
    inner: Box<dyn LogReader>,
    read: Arc<AtomicU64>,
}

#[async_trait]
impl LogReader for CountingReader {
    async fn next(&mut self, limit: ReadLimit) -> Result<Vec<Stored>, LogError> {
        let records = self.inner.next(limit).await?;
        self.read.fetch_add(records.len() as u64, Ordering::SeqCst);
        Ok(records)
    }
}

#[async_trait]
impl Log for CountingLog {
    async fn partitions(&self, topic: &LogTopic) -> Result<Vec<TopicPartition>, LogError> {
        self.inner.partitions(topic).await
    }

    async fn existing(&self, topic: &LogTopic) -> Result<Option<Vec<TopicPartition>>, LogError> {
        self.inner.existing(topic).await
    }

    async fn append(&self, topic: &LogTopic, records: Vec<Record>) -> Result<Pending, LogError> {
        self.inner.append(topic, records).await
    }

    async fn reader(&self, partition: &TopicPartition, from: Offset) -> Result<Box<dyn LogReader>, LogError> {
        let inner = self.inner.reader(partition, from).await?;
        Ok(Box::new(CountingReader { inner, read: Arc::clone(&self.read) }))
    }

    async fn bounds(&self, partition: &TopicPartition) -> Result<Bounds, LogError> {
        let asking = self.asking.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(asking, Ordering::SeqCst);
        // Whoever asks, too, has come by then.
        yield_now().await;
        self.asking.fetch_sub(1, Ordering::SeqCst);
        self.inner.bounds(partition).await
    }

    async fn trim(&self, partition: &TopicPartition, before: Offset) -> Result<(), LogError> {
        self.inner.trim(partition, before).await
    }

    async fn join(&self, topic: &LogTopic, group: &str) -> Result<Box<dyn Membership>, LogError> {
        self.inner.join(topic, group).await
    }
}

#[tokio::test]
async fn a_question_reads_only_what_is_new() {
    const PARTITIONS: u64 = 2;
    let mut river = River::with(telemetry(), 2).await;
    let log = CountingLog::new(&river);
    let lakehouse = river.lakehouse().with_log(Arc::clone(&log) as _);
    let session = Session::open(&lakehouse, Limits::default()).await.unwrap();
    // Beside what it asks for, the last record of each partition: by it the log is recognised.
    let check = async |sent: u64, new: u64| {
        assert_eq!(rows(&session, "select count(*) from telemetry").await, format!("{sent}\n"));
        let read = log.read.swap(0, Ordering::SeqCst);
        assert!((new..=new + PARTITIONS).contains(&read), "{read} were read, and {new} of {sent} are new");
    };
    let (mut sent, mut new) = (0, 0);
    for round in 0..6 {
        for device in ["d1", "d2", "d3", "d4", "d5"] {
            river.send(device, &["{\"a\": 1}"; 20]).await;
            new += 20;
        }
        sent += new;
        check(sent, new).await;
        new = 0;
        check(sent, new).await;
        river.commit([0, 30, 1000][round % 3]).await;
        check(sent, new).await;
    }
}

#[tokio::test]
async fn many_partitions_are_asked_about_a_few_at_a_time() {
    let mut river = River::with(telemetry(), 40).await;
    let log = CountingLog::new(&river);
    let lakehouse = river.lakehouse().with_log(Arc::clone(&log) as _);
    let session = Session::open(&lakehouse, Limits::default()).await.unwrap();
    for device in 0..100 {
        river.send(&format!("d{device}"), &["1"]).await;
    }
    assert_eq!(rows(&session, "select count(*) from telemetry").await, "100\n");
    let most = log.most.load(Ordering::SeqCst);
    assert!((2..=16).contains(&most), "{most} at the same time");
}
