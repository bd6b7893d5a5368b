//! The thread that writes. All that changes the log goes through it, in the order in which it was asked.
//!
//! Whatever appends wait are committed together: one batch, one write and one sync for each partition they touch. So a batch that is torn is
//! always the last of its file, and everything before it was durable.

use crate::embedded::EmbeddedSettings;
use crate::embedded::disk::Disk;
use crate::embedded::frame::Marker;
use crate::embedded::health::{Change, Health, Part};
use crate::embedded::layout::{self, Lock, io_error};
use crate::embedded::partition::{Failure, Partition, PartitionWriter, classify};
use crate::error::LogError;
use crate::partitioner::partition_of;
use millstream_model::name::{LogTopic, Offset, Partition as Number, TopicPartition};
use millstream_model::record::{Position, Record};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
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
    /// Jobs that were taken from the queue and are to be done before the others in it. No more than the queue had room for.
    waiting: VecDeque<Job>,
    health: Health,
    /// Bytes that there was no room for, until there is.
    refused_bytes: Option<u64>,
    /// Given back when the thread ends.
    _lock: Lock,
}

/// A staged append: where its records will stand.
#[derive(Debug)]
struct Staged {
    topic: LogTopic,
    positions: Vec<Position>,
    answer: oneshot::Sender<Result<Vec<Position>, LogError>>,
    room: OwnedSemaphorePermit,
}

/// An append whose outcome is known and not told yet.
#[derive(Debug)]
struct Answered {
    topic: LogTopic,
    outcome: Result<Vec<Position>, LogError>,
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
            waiting: VecDeque::new(),
            health: Health::default(),
            refused_bytes: None,
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
        while let Some(job) = self.waiting.pop_front().or_else(|| jobs.recv().ok()) {
            match job {
                Job::Append(append) => self.collect(append, jobs),
                Job::Create { topic, answer } => reply(answer, self.ensure(&topic)),
                Job::Trim { partition, before, answer } => reply(answer, self.trim(&partition, before)),
                Job::Close => return,
            }
        }
    }

    /// Commits an append and those that wait behind it.
    fn collect(&mut self, append: Append, jobs: &Receiver<Job>) {
        let mut bytes = append.bytes;
        let mut group = vec![append];
        while bytes < GROUP_BYTES
            && let Some(job) = self.waiting.pop_front().or_else(|| jobs.try_recv().ok())
        {
            match job {
                Job::Append(append) => {
                    bytes += append.bytes;
                    group.push(append);
                }
                job => {
                    self.waiting.push_front(job);
                    break;
                }
            }
        }
        let mut answers = self.commit(group, bytes as u64);
        self.refuse_queued(jobs, &mut answers);
        answers.into_iter().for_each(Answered::send);
    }

    /// Where appends failed, those that were queued behind them for the same topics fail with them: none may overtake an earlier one of the same caller.
    /// Nothing is answered before, so that no further ones come in meanwhile.
    fn refuse_queued(&mut self, jobs: &Receiver<Job>, answers: &mut Vec<Answered>) {
        let failed = answers.iter().filter_map(|answered| {
            answered.outcome.as_ref().err().map(|error| (answered.topic.clone(), error.clone()))
        });
        let failed: BTreeMap<_, _> = failed.collect();
        if failed.is_empty() {
            return;
        }
        let queued: Vec<_> = self.waiting.drain(..).chain(jobs.try_iter()).collect();
        for job in queued {
            match job {
                Job::Append(append) => match failed.get(&append.topic) {
                    Some(error) => answers.push(append.refused(error.clone())),
                    None => self.waiting.push_back(Job::Append(append)),
                },
                job => self.waiting.push_back(job),
            }
        }
    }

    fn commit(&mut self, group: Vec<Append>, bytes: u64) -> Vec<Answered> {
        let room = self.check_room(bytes);
        self.note(Part::Room, room.as_ref().map(drop));
        if let Err(error) = room {
            return group.into_iter().map(|append| append.refused(error.clone())).collect();
        }
        self.topics.values_mut().flatten().for_each(PartitionWriter::mend);
        let mut answers = Vec::with_capacity(group.len());
        let mut staged = Vec::with_capacity(group.len());
        let mut unmade = BTreeMap::new();
        for append in group {
            match self.refusal(&append, &mut unmade) {
                None => staged.push(self.stage(append)),
                Some(error) => answers.push(append.refused(error)),
            }
        }
        let touched: BTreeSet<_> = staged.iter().flat_map(Staged::places).collect();
        let mut failures = BTreeMap::new();
        for (topic, number) in touched {
            let committed = self.partition(topic, number).map_or(Ok(()), PartitionWriter::commit);
            self.note(
                Part::Partition(topic.clone(), number),
                committed.as_ref().map(drop).map_err(Failure::error),
            );
            if let Err(failure) = committed {
                failures.insert((topic.clone(), number), failure);
            }
        }
        answers.extend(staged.into_iter().map(|staged| staged.answered(&failures)));
        answers
    }

    /// Tells a person once that something fails, and once that it works again.
    fn note(&mut self, part: Part, outcome: Result<(), &LogError>) {
        let change = self.health.note(part.clone(), outcome.is_ok());
        let path = self.dir.display();
        match (change, outcome) {
            (Some(Change::Fails), Err(error)) => {
                tracing::error!(%path, %part, error = error as &dyn std::error::Error, "the log cannot be written; messages are not acknowledged until it can be");
            }
            (Some(Change::WorksAgain), _) => tracing::info!(%path, %part, "the log can be written again"),
            _ => {}
        }
    }

    /// Whether the disk has room for a group. A small one is refused where a full one would be, and after a refusal there must be more room than was
    /// missing: else the smaller of two appends would get in where an earlier one did not.
    fn check_room(&mut self, bytes: u64) -> Result<(), LogError> {
        let group = GROUP_BYTES as u64;
        let wanted = bytes.max(group);
        let wanted = self.refused_bytes.map_or(wanted, |refused| wanted.max(refused.saturating_add(group)));
        let free = self.disk.free(&self.dir).map_err(io_error("ask for free space on", &self.dir))?;
        let reserve = self.settings.reserve_bytes;
        if free < reserve.saturating_add(wanted) {
            self.refused_bytes = Some(self.refused_bytes.unwrap_or(0).max(bytes).max(group));
            Err(LogError::Full { path: self.dir.clone(), free, reserve })
        } else {
            self.refused_bytes = None;
            Ok(())
        }
    }

    /// Why an append cannot be staged. A topic that could not be made once is not tried again for the same group.
    fn refusal(&mut self, append: &Append, unmade: &mut BTreeMap<LogTopic, LogError>) -> Option<LogError> {
        if let Some(error) = unmade.get(&append.topic) {
            return Some(error.clone());
        }
        if let Err(error) = self.ensure(&append.topic) {
            unmade.insert(append.topic.clone(), error.clone());
            return Some(error);
        }
        let partitions = self.topics.get(&append.topic)?;
        if partitions.iter().all(|partition| partition.failed().is_none()) {
            return None;
        }
        let mut numbers = append.records.iter().map(|record| partition_of(&record.key, partitions.len()));
        numbers.find_map(|number| partitions.get(number.0 as usize)?.failed()).cloned()
    }

    /// Gives the records their places.
    fn stage(&mut self, append: Append) -> Staged {
        let Append { topic, records, answer, room, .. } = append;
        let mut positions = Vec::with_capacity(records.len());
        if let Some(partitions) = self.topics.get_mut(&topic) {
            for record in &records {
                let partition = partition_of(&record.key, partitions.len());
                if let Some(writer) = partitions.get_mut(partition.0 as usize) {
                    positions.push(Position { partition, offset: writer.stage(record) });
                }
            }
        }
        Staged { topic, positions, answer, room }
    }

    fn partition(&mut self, topic: &LogTopic, number: Number) -> Option<&mut PartitionWriter> {
        self.topics.get_mut(topic)?.get_mut(usize::try_from(number.0).ok()?)
    }

    /// Makes a topic that does not exist yet.
    fn ensure(&mut self, topic: &LogTopic) -> Result<(), LogError> {
        if self.topics.contains_key(topic) {
            return Ok(());
        }
        let made = self.make(topic);
        self.note(Part::Topic(topic.clone()), made.as_ref().map(drop));
        made
    }

    fn make(&mut self, topic: &LogTopic) -> Result<(), LogError> {
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

impl Append {
    fn refused(self, error: LogError) -> Answered {
        Answered { topic: self.topic, outcome: Err(error), answer: self.answer, _room: self.room }
    }
}

impl Staged {
    /// The partitions it touches.
    fn places(&self) -> impl Iterator<Item = (&LogTopic, Number)> {
        self.positions.iter().map(|position| (&self.topic, position.partition))
    }

    fn answered(self, failures: &BTreeMap<(LogTopic, Number), Failure>) -> Answered {
        let outcome = outcome(&self, failures);
        let Self { topic, positions, answer, room } = self;
        Answered { topic, outcome: outcome.map(|()| positions), answer, _room: room }
    }
}

impl Answered {
    fn send(self) {
        reply(self.answer, self.outcome);
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
