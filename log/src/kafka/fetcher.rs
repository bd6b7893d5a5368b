//! Consumers that fetch, shared by the readers: each reads any number of partitions, each partition at most once.
//!
//! A reader has its partition's own queue. Librdkafka fills it ahead, to a limit, and wakes the reader; the fetcher's thread serves what else librdkafka has to
//! say, and watches over those who wait (`lane`). Nobody joins a group here, and nothing is committed.

use crate::api::Bounds;
use crate::error::LogError;
use crate::kafka::context::Voice;
use crate::kafka::failure::Attempt;
use crate::kafka::lane::{Lane, Lanes, Watch};
use crate::kafka::producer::Producer;
use crate::kafka::settings::KafkaSettings;
use millstream_model::name::{Offset, TopicPartition};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::producer::Producer as _;
use rdkafka::{Offset as Start, TopicPartitionList};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// So many readers may read the same partition at once; each but the first costs a consumer.
const FETCHERS_MAX: usize = 64;

/// So many consumers are kept for the next reader though nobody uses them: connecting takes longer than a small read.
const FETCHERS_IDLE: usize = 2;

/// So long the thread listens before it looks whether it is to end.
const LISTEN: Duration = Duration::from_millis(100);

/// So long it waits for the log's answer about what does not come. Nothing else waits for it meanwhile.
const ASK: Duration = Duration::from_secs(2);

impl ConsumerContext for Voice {}

/// All consumers of a log that fetch.
#[derive(Debug)]
pub(crate) struct Fetchers {
    settings: Arc<KafkaSettings>,
    /// Asked whether the log has what does not come.
    producer: Arc<Producer>,
    voice: Voice,
    open: Mutex<Vec<Arc<Fetcher>>>,
}

/// One consumer.
struct Fetcher {
    consumer: Arc<BaseConsumer<Voice>>,
    /// What its readers read.
    lanes: Arc<Mutex<Lanes>>,
    ending: Arc<AtomicBool>,
}

impl std::fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fetcher").field("lanes", &self.lanes).finish_non_exhaustive()
    }
}

/// A partition that is being fetched, until this is dropped.
pub(crate) struct Fetched {
    pub(crate) queue: PartitionQueue<Voice>,
    pub(crate) lane: Arc<Lane>,
    _place: Place,
}

/// A place among what a fetcher fetches.
struct Place {
    partition: TopicPartition,
    fetcher: Arc<Fetcher>,
    fetchers: Arc<Fetchers>,
}

impl Fetchers {
    pub(crate) fn new(settings: Arc<KafkaSettings>, producer: Arc<Producer>) -> Arc<Self> {
        let voice = Voice::new("reader", &settings);
        Arc::new(Self { settings, producer, voice, open: Mutex::default() })
    }

    /// Begins to fetch, with so much patience for what does not come. It blocks for as long as librdkafka's main thread takes to hear of it, or a new consumer to be made.
    pub(crate) fn fetch(
        self: &Arc<Self>,
        partition: &TopicPartition,
        from: Offset,
        patience: Duration,
    ) -> Result<Fetched, LogError> {
        let attempt = Attempt::to(format!("read {partition}"), &self.settings, &self.voice);
        let lane = Arc::new(Lane::new(patience));
        let fetcher = self.take(partition, &lane)?;
        let (partition, fetchers) = (partition.clone(), Arc::clone(self));
        let place = Place { partition, fetcher, fetchers };
        let consumer = &place.fetcher.consumer;
        let (topic, number) = (place.partition.topic.as_str(), place.partition.partition.0);
        // Before it is assigned, so that nothing goes to the common queue.
        let queue = consumer.split_partition_queue(topic, number);
        let mut queue = queue.ok_or_else(|| attempt.silence("librdkafka has no queue for it"))?;
        let wake = Arc::clone(&lane);
        queue.set_nonempty_callback(move || wake.filled());
        let mut assignment = TopicPartitionList::new();
        let assigned = assignment
            .add_partition_offset(topic, number, Start::Offset(from.0))
            .and_then(|()| consumer.incremental_assign(&assignment));
        assigned.map_err(|error| attempt.failed(&error))?;
        Ok(Fetched { queue, lane, _place: place })
    }

    /// The first fetcher that does not fetch this partition yet.
    fn take(&self, partition: &TopicPartition, lane: &Arc<Lane>) -> Result<Arc<Fetcher>, LogError> {
        let mut open = self.open();
        // Whoever still reads by them keeps them until it has moved.
        open.retain(|fetcher| !fetcher.is_stranded());
        if let Some(free) = open.iter().find(|fetcher| fetcher.take(partition, lane)) {
            return Ok(Arc::clone(free));
        }
        if open.len() >= FETCHERS_MAX {
            let detail = format!("{FETCHERS_MAX} readers read {partition} at the same time");
            return Err(LogError::Broker { action: format!("read {partition}"), detail });
        }
        let fetcher = Arc::new(Fetcher::open(&self.settings, &self.voice, &self.producer)?);
        fetcher.take(partition, lane);
        open.push(Arc::clone(&fetcher));
        Ok(fetcher)
    }

    fn release(&self, fetcher: &Fetcher, partition: &TopicPartition) {
        let mut open = self.open();
        fetcher.lanes().busy.remove(partition);
        let mut idle = 0;
        open.retain(|fetcher| {
            let lanes = fetcher.lanes();
            let is_idle = lanes.busy.is_empty();
            idle += usize::from(is_idle);
            !is_idle || (idle <= FETCHERS_IDLE && lanes.deaf.is_empty())
        });
    }

    /// Has all that are open stop fetching a partition, without a word.
    #[cfg(test)]
    pub(crate) fn pause(&self, partition: &TopicPartition) {
        let mut paused = TopicPartitionList::new();
        paused.add_partition(partition.topic.as_str(), partition.partition.0);
        self.open().iter().for_each(|fetcher| fetcher.consumer.pause(&paused).unwrap());
    }

    /// How many are open.
    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.open().len()
    }

    /// Has all be taken for stranded that are open; how many they are.
    #[cfg(test)]
    pub(crate) fn strand(&self) -> usize {
        let open = self.open();
        open.iter().for_each(|fetcher| fetcher.consumer.context().strand());
        open.len()
    }

    fn open(&self) -> MutexGuard<'_, Vec<Arc<Fetcher>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Fetcher {
    fn open(settings: &KafkaSettings, voice: &Voice, producer: &Arc<Producer>) -> Result<Self, LogError> {
        let config = settings.client(&[
            // Librdkafka wants a group even where nobody joins one.
            ("group.id", &settings.client_id),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("auto.offset.reset", "error"),
            ("enable.partition.eof", "false"),
            // What was flipped on the way or on a disk is an error, not a reading.
            ("check.crcs", "true"),
            // A reader that begins has to wait for the fetch under way, which does not ask for its partition; and a single message comes at once.
            ("fetch.wait.max.ms", "50"),
            ("fetch.min.bytes", "1"),
            // Read ahead of each reader; then the next fetch waits a little for it.
            ("queued.max.messages.kbytes", "8192"),
            ("queued.min.messages", "50000"),
            ("fetch.queue.backoff.ms", "20"),
        ])?;
        let attempt = Attempt::to("make a consumer", settings, voice);
        let consumer = BaseConsumer::from_config_and_context(&config, voice.for_another());
        let consumer = Arc::new(consumer.map_err(|error| attempt.failed(&error))?);
        let ending = Arc::new(AtomicBool::new(false));
        let lanes = Arc::new(Mutex::new(Lanes::default()));
        let server = Server {
            consumer: Arc::clone(&consumer),
            lanes: Arc::clone(&lanes),
            producer: Arc::clone(producer),
            ending: Arc::clone(&ending),
        };
        let thread = thread::Builder::new().name("kafka-reader".to_owned()).spawn(move || server.run());
        match thread {
            // It ends by itself when nobody needs the consumer, and closes it.
            Ok(_) => Ok(Self { consumer, lanes, ending }),
            Err(error) => Err(LogError::Broker {
                action: "start a reader's thread".to_owned(),
                detail: error.to_string(),
            }),
        }
    }

    /// Takes a partition on, unless it is fetched already or cannot be.
    fn take(&self, partition: &TopicPartition, lane: &Arc<Lane>) -> bool {
        let mut lanes = self.lanes();
        if lanes.deaf.contains(partition) || lanes.busy.contains_key(partition) {
            return false;
        }
        lanes.busy.insert(partition.clone(), Arc::clone(lane));
        true
    }

    fn is_stranded(&self) -> bool {
        self.consumer.context().is_stranded()
    }

    fn lanes(&self) -> MutexGuard<'_, Lanes> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Fetcher {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::SeqCst);
    }
}

impl Drop for Place {
    /// It waits until librdkafka's main thread has heard of it, far less than a millisecond.
    fn drop(&mut self) {
        let Self { partition, fetcher, fetchers } = self;
        let mut assignment = TopicPartitionList::new();
        assignment.add_partition(partition.topic.as_str(), partition.partition.0);
        if let Err(error) = fetcher.consumer.incremental_unassign(&assignment) {
            tracing::debug!(%partition, %error, "a partition that was not read any more was not assigned");
        }
        fetchers.release(fetcher, partition);
    }
}

/// The thread of a fetcher.
struct Server {
    consumer: Arc<BaseConsumer<Voice>>,
    lanes: Arc<Mutex<Lanes>>,
    producer: Arc<Producer>,
    ending: Arc<AtomicBool>,
}

impl Server {
    fn run(&self) {
        let mut watch = Watch::default();
        while !self.ending.load(Ordering::SeqCst) {
            match self.consumer.poll(LISTEN) {
                None => {}
                // The context has told it already.
                Some(Err(error)) => tracing::debug!(%error, "a consumer that fetches had an error"),
                Some(Ok(_)) => {
                    tracing::error!("a record came that no reader gets; its reader will miss it and fail")
                }
            }
            if self.consumer.context().is_stranded() {
                self.lanes().busy.values().for_each(|lane| lane.end());
            }
            let due = watch.due(&self.lanes(), Instant::now());
            if let Some(partition) = due {
                let bounds = self.ask(&partition);
                if watch.heard(&partition, bounds, Instant::now()) {
                    tracing::warn!(%partition, "the log has a record that a client of Kafka does not fetch; another client goes on");
                    self.lanes().deaf.insert(partition);
                }
            }
        }
    }

    fn ask(&self, partition: &TopicPartition) -> Option<Bounds> {
        let (topic, number) = (partition.topic.as_str(), partition.partition.0);
        let asked = self.producer.client().client().fetch_watermarks(topic, number, ASK);
        asked.ok().map(|(first, next)| Bounds { first: Offset(first), next: Offset(next) })
    }

    fn lanes(&self) -> MutexGuard<'_, Lanes> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
