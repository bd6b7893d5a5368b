//! The embedded log: our own segment files, one process, nothing else installed.
//!
//! Appends go through a bounded queue to one thread, which commits whatever waits as one batch per partition (`writer`, `partition`).
//! Readers read the files themselves, behind the durable end (`reader`, `segment`). The formats stand in `frame` and `layout`; what is
//! checked when, in `recovery`; what is done by hand about damage, in `repair`.
//!
//! It never acknowledges what is not synced, never skips damage, and never writes to a file after a failure that it has not undone.

mod disk;
mod frame;
mod health;
mod layout;
mod membership;
mod onlooker;
mod partition;
mod peek;
mod reader;
mod recovery;
mod repair;
mod segment;
mod writer;

#[cfg(test)]
mod tests;

pub use onlooker::Onlooker;
pub use peek::Peek;
pub use repair::{LOST, Repair, RepairReport, repair};

use crate::api::{Bounds, Log, LogReader, Membership, Pending};
use crate::embedded::disk::{Disk, LocalDisk};
use crate::embedded::layout::io_error;
use crate::embedded::membership::Whole;
use crate::embedded::partition::Partition;
use crate::embedded::reader::Reader;
use crate::embedded::writer::{Append, Job, Topics, Writer};
use crate::error::LogError;
use async_trait::async_trait;
use millstream_model::name::{LogTopic, Offset, TopicPartition};
use millstream_model::record::Record;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use tokio::sync::{Semaphore, oneshot};

/// What a call of `append` takes of the queue beside its records.
const APPEND_BYTES: usize = 128;

/// One append may have so many bytes at most: the lengths in a batch have 32 bits.
const APPEND_MAX: usize = 1024 * 1024 * 1024;

/// How an embedded log works.
#[derive(Debug, Clone)]
pub struct EmbeddedSettings {
    /// A segment that would grow beyond this many bytes is followed by a new one. It is the least that trimming can free.
    pub segment_bytes: u64,
    /// So many bytes of the disk are kept free: the tables' files and the trimming that makes room need some, too.
    pub reserve_bytes: u64,
    /// So many bytes of records wait at most to become durable; then `append` waits. An append that is larger by itself takes all of it.
    pub queue_bytes: usize,
    /// Bytes that one record may have, as [`Record::size`] counts them.
    pub record_max: usize,
    /// How many partitions a new topic gets. An existing topic keeps what it has.
    pub partitions: u16,
}

impl Default for EmbeddedSettings {
    fn default() -> Self {
        Self {
            segment_bytes: 128 * 1024 * 1024,
            reserve_bytes: 64 * 1024 * 1024,
            queue_bytes: 32 * 1024 * 1024,
            // A message of 128 KiB or the head of a larger one, and all the user properties that a packet of 1 MiB can carry.
            record_max: 2 * 1024 * 1024,
            partitions: 1,
        }
    }
}

/// An open embedded log. Clones are the same log. It stays locked until it is closed, or a little longer than the last clone lives.
#[derive(Debug, Clone)]
pub struct EmbeddedLog(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    dir: PathBuf,
    record_max: usize,
    queue_bytes: usize,
    /// Bounds the appends in `jobs` by bytes. What else is in there is one for each caller, who waits for its answer.
    room: Arc<Semaphore>,
    jobs: Sender<Job>,
    topics: Topics,
    /// Taken by the first `close`.
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl EmbeddedLog {
    /// Opens the log in a directory, which is made if it does not exist. A write that a crash tore is cut, with a line in the program's log.
    ///
    /// # Errors
    /// [`LogError::InUse`] if another process has it, [`LogError::Damaged`] if it holds something else than was written, or if the disk fails.
    pub async fn open(dir: &Path, settings: EmbeddedSettings) -> Result<Self, LogError> {
        Self::open_on(dir, settings, Arc::new(LocalDisk)).await
    }

    async fn open_on(dir: &Path, settings: EmbeddedSettings, disk: Arc<dyn Disk>) -> Result<Self, LogError> {
        let queue_bytes = settings.queue_bytes.clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        let record_max = settings.record_max.min(APPEND_MAX);
        let owned = dir.to_owned();
        let opened = tokio::task::spawn_blocking(move || Writer::open(owned, settings, disk));
        let writer = opened.await.map_err(|error| io_error("open", dir)(io::Error::other(error)))??;
        let topics = writer.topics();
        let (jobs, receiver) = mpsc::channel();
        let thread =
            thread::Builder::new().name("log-writer".to_owned()).spawn(move || writer.run(&receiver));
        let thread = Mutex::new(Some(thread.map_err(io_error("start the writer of", dir))?));
        let room = Arc::new(Semaphore::new(queue_bytes));
        Ok(Self(Arc::new(Shared {
            dir: dir.to_owned(),
            record_max,
            queue_bytes,
            room,
            jobs,
            topics,
            thread,
        })))
    }

    /// Makes durable what was appended, answers it, and gives the directory free. Later calls on clones fail.
    ///
    /// # Errors
    /// If the writer thread ended in another way than it should.
    pub async fn close(self) -> Result<(), LogError> {
        self.0.room.close();
        if self.0.jobs.send(Job::Close).is_err() {
            tracing::debug!(dir = %self.0.dir.display(), "the log's writer has ended before");
        }
        let thread = self.0.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(thread) = thread else { return Ok(()) };
        let ended = tokio::task::spawn_blocking(move || thread.join().is_ok()).await;
        if ended.is_ok_and(|ended| ended) {
            Ok(())
        } else {
            Err(self.failure("close", "its writer thread panicked"))
        }
    }

    fn failure(&self, action: &'static str, detail: &'static str) -> LogError {
        io_error(action, &self.0.dir)(io::Error::other(detail))
    }

    fn closed(&self) -> LogError {
        self.failure("append to", "the log is closed")
    }

    fn known(&self, topic: &LogTopic) -> Option<Vec<Arc<Partition>>> {
        self.0.topics.read().unwrap_or_else(PoisonError::into_inner).get(topic).cloned()
    }

    /// The partitions of a topic, which is made if it does not exist.
    async fn topic(&self, topic: &LogTopic) -> Result<Vec<Arc<Partition>>, LogError> {
        if let Some(partitions) = self.known(topic) {
            return Ok(partitions);
        }
        self.ask(|answer| Job::Create { topic: topic.clone(), answer }).await?;
        self.known(topic).ok_or_else(|| self.failure("make topic", "it does not exist after it was made"))
    }

    async fn partition(&self, name: &TopicPartition) -> Result<Arc<Partition>, LogError> {
        let found = self.topic(&name.topic).await?.into_iter().find(|partition| partition.name == *name);
        let missing = || {
            io_error("find partition", &layout::partition_dir(&self.0.dir, name))(
                io::ErrorKind::NotFound.into(),
            )
        };
        found.ok_or_else(missing)
    }

    /// Has the writer thread do something and waits until it is done.
    async fn ask(
        &self,
        job: impl FnOnce(oneshot::Sender<Result<(), LogError>>) -> Job,
    ) -> Result<(), LogError> {
        let (answer, done) = oneshot::channel();
        let sent = self.0.jobs.send(job(answer));
        let done = if sent.is_ok() { done.await.ok() } else { None };
        done.unwrap_or_else(|| Err(self.closed()))
    }
}

#[async_trait]
impl Log for EmbeddedLog {
    async fn partitions(&self, topic: &LogTopic) -> Result<Vec<TopicPartition>, LogError> {
        let partitions = self.topic(topic).await?;
        Ok(partitions.iter().map(|partition| partition.name.clone()).collect())
    }

    async fn existing(&self, topic: &LogTopic) -> Result<Option<Vec<TopicPartition>>, LogError> {
        let names = |partitions: Vec<Arc<Partition>>| {
            partitions.iter().map(|partition| partition.name.clone()).collect()
        };
        Ok(self.known(topic).map(names))
    }

    async fn append(&self, topic: &LogTopic, records: Vec<Record>) -> Result<Pending, LogError> {
        let too_large = |size, limit| Err(LogError::TooLarge { size, limit });
        if let Some(size) = records.iter().map(Record::size).find(|size| *size > self.0.record_max) {
            return too_large(size, self.0.record_max);
        }
        let bytes = APPEND_BYTES + records.iter().map(Record::size).sum::<usize>();
        if bytes > APPEND_MAX {
            return too_large(bytes, APPEND_MAX);
        }
        let wanted = bytes.min(self.0.queue_bytes) as u32;
        let Ok(room) = Arc::clone(&self.0.room).acquire_many_owned(wanted).await else {
            return Err(self.closed());
        };
        // From here on nothing waits, so that a call is either dropped before its append stands in the queue or has returned.
        let (answer, pending) = Pending::new();
        let append = Append { topic: topic.clone(), records, bytes, answer, room };
        if self.0.jobs.send(Job::Append(append)).is_err() {
            return Err(self.closed());
        }
        Ok(pending)
    }

    async fn reader(&self, partition: &TopicPartition, from: Offset) -> Result<Box<dyn LogReader>, LogError> {
        let found = self.partition(partition).await?;
        found.bounds().check(partition, from)?;
        Ok(Box::new(Reader::new(found, from)))
    }

    async fn bounds(&self, partition: &TopicPartition) -> Result<Bounds, LogError> {
        Ok(self.partition(partition).await?.bounds())
    }

    async fn trim(&self, partition: &TopicPartition, before: Offset) -> Result<(), LogError> {
        self.partition(partition).await?;
        self.ask(|answer| Job::Trim { partition: partition.clone(), before, answer }).await
    }

    async fn join(&self, topic: &LogTopic, _group: &str) -> Result<Box<dyn Membership>, LogError> {
        Ok(Box::new(Whole::of(self.partitions(topic).await?)))
    }
}
