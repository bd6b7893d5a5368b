//! The thread that writes. All that changes the log goes through it, in the order in which it was asked.
//!
//! Whatever appends wait are committed together: one batch, one write and one sync for each partition they touch. So a batch that is torn is
//! always the last of its file, and everything before it was durable.

use crate::embedded::EmbeddedSettings;
use crate::embedded::disk::Disk;
use crate::embedded::frame::Marker;
use crate::embedded::layout::{self, Lock, io_error};
use crate::embedded::partition::{Failure, Partition, PartitionWriter, classify};
use crate::embedded::partitioner::partition_of;
use crate::error::LogError;
use millstream_model::name::{LogTopic, Offset, Partition as Number, TopicPartition};
use millstream_model::record::{Position, Record};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// A group takes no further append once it has so many bytes: what a sync takes, and what a reader must fetch at once, stays small.
const GROUP_BYTES: usize = 4 * 1024 * 1024;

/// The partitions that exist, for readers. Written by the writer thread only.
pub(crate) type Topics = Arc<RwLock<BTreeMap<LogTopic, Vec<Arc<Partition>>>>>;

/// What the writer thread is asked to do.
#[derive(Debug)]
pub(crate) enum Job {
    Append(Append),
    Create { topic: LogTopic, answer: oneshot::Sender<Result<(), LogError>> },
    Trim { partition: TopicPartition, before: Offset, answer: oneshot::Sender<Result<(), LogError>> },
    Close,
}

/// One call of `append`.
#[derive(Debug)]
pub(crate) struct Append {
    pub(crate) topic: LogTopic,
    pub(crate) records: Vec<Record>,
    pub(crate) bytes: usize,
    pub(crate) answer: oneshot::Sender<Result<Vec<Position>, LogError>>,
    /// The room it takes in the queue, given back with the answer.
    pub(crate) room: OwnedSemaphorePermit,
}

/// The state of the writer thread.
#[derive(Debug)]
pub(crate) struct Writer {
    dir: PathBuf,
    settings: EmbeddedSettings,
    disk: Arc<dyn Disk>,
    marker: Marker,
    topics: BTreeMap<LogTopic, Vec<PartitionWriter>>,
    published: Topics,
    /// Given back when the thread ends.
    _lock: Lock,
}

/// A staged append: where its records will stand.
#[derive(Debug)]
struct Staged {
    topic: LogTopic,
    positions: Vec<Position>,
    answer: oneshot::Sender<Result<Vec<Position>, LogError>>,
    _room: OwnedSemaphorePermit,
}

impl Writer {
    /// Opens every partition.
    pub(crate) fn open(
        dir: PathBuf,
        settings: EmbeddedSettings,
        disk: Arc<dyn Disk>,
    ) -> Result<Self, LogError> {
        layout::create_dir(&dir)?;
        let lock = Lock::take(&dir)?;
        layout::remove_unfinished(&dir)?;
        let marker = match layout::marker(&dir)? {
            Some(marker) => marker,
            None => {
                let marker = layout::random_marker();
                layout::write_marker(&dir, marker)?;
                marker
            }
        };
        let mut writer = Self {
            dir,
            settings,
            disk,
            marker,
            topics: BTreeMap::new(),
            published: Topics::default(),
            _lock: lock,
        };
        for topic in layout::topics(&writer.dir)? {
            writer.open_topic(topic)?;
        }
        Ok(writer)
    }

    pub(crate) fn topics(&self) -> Topics {
        Arc::clone(&self.published)
    }

    /// Works until it is told to close or nobody is left who could ask.
    pub(crate) fn run(mut self, jobs: &Receiver<Job>) {
        let mut waiting = None;
        while let Some(job) = waiting.take().or_else(|| jobs.recv().ok()) {
            match job {
                Job::Append(append) => waiting = self.collect(append, jobs),
                Job::Create { topic, answer } => reply(answer, self.ensure(&topic)),
                Job::Trim { partition, before, answer } => reply(answer, self.trim(&partition, before)),
                Job::Close => return,
            }
        }
    }

    /// Commits an append and those that wait behind it. Returns the job that ended the group.
    fn collect(&mut self, append: Append, jobs: &Receiver<Job>) -> Option<Job> {
        let mut bytes = append.bytes;
        let mut group = vec![append];
        let mut behind = None;
        while bytes < GROUP_BYTES && behind.is_none() {
            match jobs.try_recv() {
                Ok(Job::Append(append)) => {
                    bytes += append.bytes;
                    group.push(append);
                }
                Ok(job) => behind = Some(job),
                Err(_) => break,
            }
        }
        self.commit(group, bytes as u64);
        behind
    }

    fn commit(&mut self, group: Vec<Append>, bytes: u64) {
        if let Err(error) = self.check_room(bytes) {
            group.into_iter().for_each(|append| reply(append.answer, Err(error.clone())));
            return;
        }
        let staged: Vec<_> = group.into_iter().filter_map(|append| self.stage(append)).collect();
        let touched: BTreeSet<_> = staged.iter().flat_map(|staged| staged.places()).collect();
        let mut failures = BTreeMap::new();
        for (topic, number) in touched {
            if let Some(Err(failure)) = self.partition(topic, number).map(PartitionWriter::commit) {
                failures.insert((topic.clone(), number), failure);
            }
        }
        for staged in staged {
            let outcome = outcome(&staged, &failures);
            reply(staged.answer, outcome.map(|()| staged.positions));
        }
    }

    fn check_room(&self, bytes: u64) -> Result<(), LogError> {
        let free = self.disk.free(&self.dir).map_err(io_error("ask for free space on", &self.dir))?;
        let reserve = self.settings.reserve_bytes;
        if free < reserve.saturating_add(bytes) {
            Err(LogError::Full { path: self.dir.clone(), free, reserve })
        } else {
            Ok(())
        }
    }

    /// Gives the records their places; or refuses all of them, before anything is staged.
    fn stage(&mut self, append: Append) -> Option<Staged> {
        let Append { topic, records, answer, room, .. } = append;
        if let Err(error) = self.ensure(&topic) {
            reply(answer, Err(error));
            return None;
        }
        let partitions = self.topics.get_mut(&topic)?;
        let numbers: Vec<_> =
            records.iter().map(|record| partition_of(&record.key, partitions.len())).collect();
        let failed = numbers.iter().find_map(|number| partitions.get(number.0 as usize)?.failed());
        if let Some(error) = failed {
            reply(answer, Err(error.clone()));
            return None;
        }
        let positions = records.iter().zip(numbers).filter_map(|(record, partition)| {
            let offset = partitions.get_mut(partition.0 as usize)?.stage(record);
            Some(Position { partition, offset })
        });
        let positions = positions.collect();
        Some(Staged { topic, positions, answer, _room: room })
    }

    fn partition(&mut self, topic: &LogTopic, number: Number) -> Option<&mut PartitionWriter> {
        self.topics.get_mut(topic)?.get_mut(usize::try_from(number.0).ok()?)
    }

    /// Makes a topic that does not exist yet.
    fn ensure(&mut self, topic: &LogTopic) -> Result<(), LogError> {
        if self.topics.contains_key(topic) {
            return Ok(());
        }
        let created = layout::create_topic(&self.dir, topic, self.settings.partitions.max(1), &*self.disk);
        created.map_err(|error| classify(&*self.disk, &self.dir, self.settings.reserve_bytes, error))?;
        self.open_topic(topic.clone())
    }

    fn open_topic(&mut self, topic: LogTopic) -> Result<(), LogError> {
        let open = |name| {
            PartitionWriter::open(&self.dir, name, self.marker, &self.settings, Arc::clone(&self.disk))
        };
        let partitions =
            layout::partitions(&self.dir, &topic)?.into_iter().map(open).collect::<Result<Vec<_>, _>>()?;
        let published = partitions.iter().map(|writer| Arc::clone(writer.partition())).collect();
        self.published.write().unwrap_or_else(PoisonError::into_inner).insert(topic.clone(), published);
        self.topics.insert(topic, partitions);
        Ok(())
    }

    fn trim(&mut self, name: &TopicPartition, before: Offset) -> Result<(), LogError> {
        match self.partition(&name.topic, name.partition) {
            Some(partition) => partition.trim(before),
            None => Err(io_error("find partition", &layout::partition_dir(&self.dir, name))(
                io::ErrorKind::NotFound.into(),
            )),
        }
    }
}

impl Staged {
    /// The partitions it touches.
    fn places(&self) -> impl Iterator<Item = (&LogTopic, Number)> {
        self.positions.iter().map(|position| (&self.topic, position.partition))
    }
}

/// What became of an append whose partitions may have fared differently.
fn outcome(staged: &Staged, failures: &BTreeMap<(LogTopic, Number), Failure>) -> Result<(), LogError> {
    if failures.is_empty() {
        return Ok(());
    }
    let places: BTreeSet<_> = staged.places().map(|(topic, number)| (topic.clone(), number)).collect();
    let failed: Vec<_> = places.iter().filter_map(|place| failures.get(place)).collect();
    let all = failed.len() == places.len();
    match failed.iter().find(|failure| matches!(failure, Failure::Left(_))).or(failed.first()) {
        None => Ok(()),
        Some(Failure::Undone(error)) if all => Err(error.clone()),
        Some(Failure::Undone(error)) => {
            Err(LogError::Unknown { detail: format!("only some of its partitions took it: {error}") })
        }
        Some(Failure::Left(error)) => {
            Err(LogError::Unknown { detail: format!("it could not be undone: {error}") })
        }
    }
}

fn reply<T>(answer: oneshot::Sender<T>, outcome: T) {
    if answer.send(outcome).is_err() {
        tracing::trace!("nobody waits for the answer any more");
    }
}
