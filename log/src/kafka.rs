//! The log on Kafka, by librdkafka.
//!
//! Appends wait for room, go to an idempotent producer, and are answered when all replicas in sync have them (`append`, `gate`, `producer`, `reports`). Readers share consumers that
//! fetch ahead (`fetcher`, `reader`), and are watched over where nothing comes (`lane`). A group only shares out partitions (`membership`). Topics are made or checked
//! when they are met first (`topics`, `admin`).
//!
//! It never chooses a partition otherwise than the embedded log does, never skips a gap, and never lets an offset of a group decide what is read.
//!
//! It cannot tell a topic from another one that somebody made under its name and filled beyond a reader's offset: librdkafka follows the name, and its safe
//! interface tells neither the topic's id nor the epoch of a message's leader. Whoever commits compares what it had read with what is there, by a fingerprint of its last record.

mod admin;
mod append;
mod context;
mod failure;
mod fetcher;
mod gate;
mod lane;
mod membership;
mod producer;
mod reader;
mod reports;
mod settings;
mod topics;

#[cfg(test)]
mod tests;

pub use settings::{KafkaSettings, Mechanism, Sasl, Tls};

use crate::api::{Bounds, Log, LogReader, Membership, Pending};
use crate::error::LogError;
use crate::kafka::failure::Attempt;
use crate::kafka::fetcher::{Fetched, Fetchers};
use crate::kafka::lane::PATIENCE;
use crate::kafka::membership::{Chair, Member};
use crate::kafka::producer::{Load, Producer, Unsent};
use crate::kafka::reader::Reader;
use crate::kafka::topics::Topics;
use crate::partitioner::partition_of;
use async_trait::async_trait;
use millstream_model::name::{LogTopic, Offset, Partition, TopicPartition};
use millstream_model::record::Record;
use rdkafka::error::KafkaError;
use rdkafka::producer::Producer as _;
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset as Before, TopicPartitionList};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// What one record takes of the queue beside its bytes: librdkafka's own bookkeeping, and ours.
const RECORD_BYTES: usize = 256;

/// How often opening looks whether a broker has answered, and a look-up for a partition's new leader.
const LOOK: Duration = Duration::from_millis(250);

/// So long opening waits for one answer before it looks whether there is any hope.
const ASK: Duration = Duration::from_secs(1);

/// So long a partition may be without a leader that knows of it, as after it was made or a broker went away, before a look-up fails.
const SETTLE: Duration = Duration::from_secs(5);

/// An open log on Kafka. Clones are the same log.
#[derive(Debug, Clone)]
pub struct KafkaLog(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    settings: Arc<KafkaSettings>,
    producer: Arc<Producer>,
    topics: Topics,
    fetchers: Arc<Fetchers>,
    /// Those who joined, and may have left.
    members: Mutex<Vec<Chair>>,
    /// Bounds by bytes what waits to be confirmed.
    room: Arc<Semaphore>,
    queue_bytes: usize,
}

impl KafkaLog {
    /// Connects to the cluster.
    ///
    /// # Errors
    /// [`LogError::Setting`] for a setting that cannot be, [`LogError::Unreachable`] if no broker answers within the request timeout,
    /// [`LogError::Refused`] if one refuses us.
    pub async fn open(settings: KafkaSettings) -> Result<Self, LogError> {
        let settings = Arc::new(settings);
        let producer = Arc::new(Producer::open(Arc::clone(&settings))?);
        let topics = Topics::new(Arc::clone(&settings), Arc::clone(&producer));
        let fetchers = Fetchers::new(Arc::clone(&settings), Arc::clone(&producer));
        let queue_bytes = settings.queue_bytes.clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        let room = Arc::new(Semaphore::new(queue_bytes));
        let log = Self(Arc::new(Shared {
            settings,
            producer,
            topics,
            fetchers,
            members: Mutex::default(),
            room,
            queue_bytes,
        }));
        log.meet().await?;
        Ok(log)
    }

    /// Waits until everything that was appended is confirmed or given up, and every member has left its group, or the request timeout is over for it. Later appends on clones fail; readers live until
    /// they are dropped.
    ///
    /// # Errors
    /// If the waiting itself failed.
    pub async fn close(self) -> Result<(), LogError> {
        self.0.room.close();
        let producer = Arc::clone(&self.0.producer);
        let members = std::mem::take(&mut *self.members());
        let patience = self.0.settings.request_timeout;
        let close = move || {
            let late = Chair::leave(members, patience);
            if late > 0 {
                tracing::warn!(
                    late,
                    "members have not left their groups in time; the others get their partitions when these are taken for dead"
                );
            }
            producer.close();
        };
        let closed = tokio::task::spawn_blocking(close).await;
        closed.map_err(|error| LogError::Unknown { detail: error.to_string() })
    }

    fn members(&self) -> MutexGuard<'_, Vec<Chair>> {
        self.0.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a broker has answered, within a bound.
    async fn meet(&self) -> Result<(), LogError> {
        let attempt = self.attempt("open the log".to_owned());
        let begin = Instant::now();
        while begin.elapsed() < self.0.settings.request_timeout {
            if let Some(hopeless) = attempt.hopeless() {
                return Err(hopeless);
            }
            let producer = Arc::clone(&self.0.producer);
            let cluster = tokio::task::spawn_blocking(move || producer.cluster(ASK)).await;
            if let Ok(Some(cluster)) = cluster {
                tracing::info!(brokers = self.0.settings.brokers, cluster, "the log is on Kafka");
                return Ok(());
            }
            tokio::time::sleep(LOOK).await;
        }
        Err(attempt.silence("no answer in time"))
    }

    /// Has librdkafka fetch a partition from an offset on.
    pub(crate) fn fetch(
        &self,
        partition: &TopicPartition,
        from: Offset,
        patience: Duration,
    ) -> JoinHandle<Result<Fetched, LogError>> {
        let (fetchers, partition) = (Arc::clone(&self.0.fetchers), partition.clone());
        tokio::task::spawn_blocking(move || fetchers.fetch(&partition, from, patience))
    }

    /// Begins to try something, so that its failure can say what it was.
    pub(crate) fn attempt(&self, action: String) -> Attempt<'_> {
        Attempt::to(action, &self.0.settings, self.0.producer.voice())
    }

    /// First and next offset as the partition's leader says.
    pub(crate) async fn bounds_of(&self, partition: &TopicPartition) -> Result<Bounds, LogError> {
        let topic = self.0.topics.get(&partition.topic).await?;
        let attempt = self.attempt(format!("look up the bounds of {partition}"));
        // Librdkafka would look for a partition that is not there until its time is over.
        if usize::try_from(partition.partition.0).map_or(true, |number| number >= topic.partitions)
            && !self.partitions(&partition.topic).await?.contains(partition)
        {
            return Err(attempt.answered(RDKafkaErrorCode::UnknownPartition));
        }
        let begin = Instant::now();
        let mut looked_empty = false;
        loop {
            let (client, timeout) = (self.0.producer.client(), self.0.settings.request_timeout);
            let (name, number) = (partition.topic.clone(), partition.partition.0);
            let ask = move || client.client().fetch_watermarks(name.as_str(), number, timeout);
            let asked = tokio::task::spawn_blocking(ask).await;
            match asked.map_err(|error| LogError::Unknown { detail: error.to_string() })? {
                // Librdkafka puts two questions. Where one fails and the other does not, it may forget the failure and say that the partition is empty
                // (`rd_kafka_query_watermark_offsets`), as if all of it had been trimmed. That happens while a broker is just taking it over.
                Ok((first, next)) if first == next && !looked_empty => looked_empty = true,
                Ok((first, next)) => return Ok(Bounds { first: Offset(first), next: Offset(next) }),
                Err(error) if begin.elapsed() < SETTLE && is_moving(&error) => {
                    looked_empty = false;
                    tokio::time::sleep(LOOK).await;
                    // Librdkafka believes for minutes what it once heard of a topic, above all that it does not exist. A question by name corrects it.
                    self.0.topics.existing(&partition.topic).await?;
                }
                Err(error) => return Err(attempt.failed(&error)),
            }
        }
    }
}

/// So many partitions of a topic, in order.
fn numbered(topic: &LogTopic, count: usize) -> Vec<TopicPartition> {
    let numbers = 0..i32::try_from(count).unwrap_or(i32::MAX);
    numbers.map(|number| TopicPartition { topic: topic.clone(), partition: Partition(number) }).collect()
}

/// Whether a partition is on its way to another leader, or to its first.
fn is_moving(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::NotLeaderForPartition
                | RDKafkaErrorCode::LeaderNotAvailable
                | RDKafkaErrorCode::ReplicaNotAvailable
                | RDKafkaErrorCode::FencedLeaderEpoch
                | RDKafkaErrorCode::UnknownLeaderEpoch
                | RDKafkaErrorCode::UnknownTopicOrPartition
                // Also what librdkafka says by itself as long as no broker has told it otherwise.
                | RDKafkaErrorCode::UnknownPartition
                | RDKafkaErrorCode::UnknownTopic
        )
    )
}

/// Refuses what Kafka would not keep as it is, before anything of it is queued.
fn check(records: &[Record], limit: usize) -> Result<(), LogError> {
    for record in records {
        let size = record.size();
        if size > limit {
            return Err(LogError::TooLarge { size, limit });
        }
        if let Some((name, _)) = record.headers.iter().find(|(name, _)| name.contains('\0')) {
            return Err(LogError::Header { name: name.clone() });
        }
    }
    Ok(())
}

#[async_trait]
impl Log for KafkaLog {
    async fn partitions(&self, topic: &LogTopic) -> Result<Vec<TopicPartition>, LogError> {
        Ok(numbered(topic, self.0.topics.partitions(topic).await?))
    }

    /// As the topic is now: nothing is made, and nothing is checked.
    async fn existing(&self, topic: &LogTopic) -> Result<Option<Vec<TopicPartition>>, LogError> {
        Ok(self.0.topics.existing(topic).await?.map(|count| numbered(topic, count)))
    }

    async fn append(&self, topic: &LogTopic, records: Vec<Record>) -> Result<Pending, LogError> {
        let shared = &self.0;
        let known = shared.topics.get(topic).await?;
        check(&records, known.record_max)?;
        let bytes: usize = records.iter().map(|record| RECORD_BYTES + record.size()).sum();
        let wanted = u32::try_from(bytes.min(shared.queue_bytes)).unwrap_or(u32::MAX);
        let Ok(room) = Arc::clone(&shared.room).acquire_many_owned(wanted).await else {
            return Err(LogError::Closed);
        };
        if records.is_empty() {
            let (answer, pending) = Pending::new();
            drop(answer.send(Ok(Vec::new())));
            return Ok(pending);
        }
        let place = |record: Record| (partition_of(&record.key, known.partitions).0, record);
        let mut load = Load { records: records.into_iter().map(place).collect(), room };
        // A call is either dropped while it waits, before its append is queued, or has returned.
        loop {
            match shared.producer.send(topic, load) {
                Ok(pending) => return Ok(pending),
                Err(Unsent::Failed(error)) => return Err(error),
                Err(Unsent::Shut(unsent)) => load = unsent,
            }
            shared.producer.replaced(topic).await?;
        }
    }

    async fn reader(&self, partition: &TopicPartition, from: Offset) -> Result<Box<dyn LogReader>, LogError> {
        self.bounds_of(partition).await?.check(partition, from)?;
        let fetched = self.fetch(partition, from, PATIENCE).await;
        let fetched = fetched.map_err(|error| LogError::Unknown { detail: error.to_string() })??;
        Ok(Box::new(Reader::new(self.clone(), partition.clone(), from, fetched)))
    }

    async fn bounds(&self, partition: &TopicPartition) -> Result<Bounds, LogError> {
        self.bounds_of(partition).await
    }

    async fn trim(&self, partition: &TopicPartition, before: Offset) -> Result<(), LogError> {
        let Bounds { first, next } = self.bounds_of(partition).await?;
        if before <= first {
            return Ok(());
        }
        let attempt = self.attempt(format!("trim {partition}"));
        let mut offsets = TopicPartitionList::new();
        offsets
            .add_partition_offset(
                partition.topic.as_str(),
                partition.partition.0,
                Before::Offset(before.min(next).0),
            )
            .map_err(|error| attempt.failed(&error))?;
        let deleted = self.0.topics.admin().delete_records(&offsets).await;
        deleted.map_err(|failure| failure.of(&attempt))
    }

    async fn join(&self, topic: &LogTopic, group: &str) -> Result<Box<dyn Membership>, LogError> {
        self.0.topics.get(topic).await?;
        let (member, chair) = Member::join(&self.0.settings, topic, group)?;
        let mut members = self.members();
        members.retain(|chair| !chair.is_empty());
        members.push(chair);
        Ok(Box::new(member))
    }
}
