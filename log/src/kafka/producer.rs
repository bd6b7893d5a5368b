//! The idempotent producer, and the thread that hears what became of its records.
//!
//! Librdkafka's own queue has no limit: what waits in it is bounded by the log, in bytes, before anything is given to it, so that it never refuses a record
//! in the middle of an append.
//!
//! A producer that has given a record up by itself is not used any longer: what it has not confirmed is taken from it, and goes on as doubtful. It would send some
//! of that again in a new epoch, in which the brokers do not know it (see `append`); and one partition without a leader would cast doubt on all others with each record
//! that it lets expire.

use crate::api::Pending;
use crate::error::LogError;
use crate::kafka::append::{Append, Order, Ticket};
use crate::kafka::context::Voice;
use crate::kafka::failure::Attempt;
use crate::kafka::settings::{IN_FLIGHT, KafkaSettings, millis};
use millstream_model::name::{LogTopic, Offset, Partition};
use millstream_model::record::{Position, Record};
use rdkafka::ClientContext;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, Message, OwnedHeaders};
use rdkafka::producer::{
    BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext, PurgeConfig,
};
use rdkafka::types::RDKafkaErrorCode;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, watch};

/// So long the thread listens before it looks whether it is to end.
const LISTEN: Duration = Duration::from_millis(50);

/// So long a producer that failed for good may take to give back what it had.
const DRAIN: Duration = Duration::from_secs(5);

/// From one attempt to make another producer to the next.
const CONNECT_AGAIN: Duration = Duration::from_secs(2);

/// Every so many of them are said: once a minute.
const ATTEMPTS_SAID: u32 = 30;

/// What librdkafka's limit on one record allows beside the record itself.
const FRAMING: usize = 64 * 1024;

/// The smallest limit on one record: what librdkafka has by itself.
const MESSAGE_MAX_LEAST: usize = 1_000_000;

/// Where the outcome of each record is told. Each client's own.
#[derive(Debug)]
pub(crate) struct Reports {
    voice: Voice,
    order: Arc<Order>,
    stale: Arc<Stale>,
    /// The client has given up a record by itself.
    has_given_up: AtomicBool,
}

/// Topics that were not what they were taken for when records were sent there: somebody deleted them, or has them take less. Emptied by who looks them up again.
#[derive(Debug, Default)]
struct Stale(Mutex<BTreeSet<LogTopic>>);

impl Stale {
    /// Takes why a record did not get to its topic.
    fn heard(&self, topic: &LogTopic, why: Option<RDKafkaErrorCode>) {
        if let Some(
            RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::UnknownPartition
            | RDKafkaErrorCode::MessageSizeTooLarge,
        ) = why
        {
            self.topics().insert(topic.clone());
        }
    }

    fn topics(&self) -> MutexGuard<'_, BTreeSet<LogTopic>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reports {
    fn new(voice: Voice, order: &Arc<Order>, stale: &Arc<Stale>) -> Self {
        Self {
            voice,
            order: Arc::clone(order),
            stale: Arc::clone(stale),
            has_given_up: AtomicBool::new(false),
        }
    }
}

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.voice.log(level, facility, line);
    }

    fn stats_raw(&self, statistics: &[u8]) {
        self.voice.stats_raw(statistics);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.voice.error(error, reason);
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = Box<Ticket>;

    fn delivery(&self, result: &DeliveryResult<'_>, ticket: Box<Ticket>) {
        let unknown = |detail: String| LogError::Unknown { detail };
        let code = result.as_ref().err().and_then(|(error, _)| error.rdkafka_error_code());
        self.stale.heard(&ticket.append.topic, code);
        if result.is_err() && !code.is_some_and(is_answer) {
            self.has_given_up.store(true, Ordering::SeqCst);
        }
        let outcome = match result {
            Ok(message) if message.offset() >= 0 => {
                Ok(Position { partition: Partition(message.partition()), offset: Offset(message.offset()) })
            }
            Ok(_) => Err(unknown("Kafka confirmed it without saying where it stands".to_owned())),
            Err((error, _)) => Err(match code {
                Some(RDKafkaErrorCode::MessageTimedOut) => {
                    unknown("Kafka did not confirm it in time".to_owned())
                }
                Some(code) => unknown(code.to_string()),
                None => unknown(error.to_string()),
            }),
        };
        self.order.settle(&ticket, outcome);
    }
}

/// A producer that is replaced when it has failed for good.
#[derive(Debug)]
pub(crate) struct Producer {
    shared: Arc<Shared>,
    /// Taken by the first `close`.
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Whether a record failed by a broker's word, and not by librdkafka's own decision.
fn is_answer(code: RDKafkaErrorCode) -> bool {
    // Librdkafka's own codes are below zero.
    code as i32 > 0
}

/// Whether appends are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Queue {
    Open,
    /// A producer is being replaced. What it still took would be confirmed, or given up, after what the new one takes.
    Shut,
}

/// Records that are to be sent, each with its partition, and the room they take.
pub(crate) struct Load {
    pub(crate) records: Vec<(i32, Record)>,
    pub(crate) room: OwnedSemaphorePermit,
}

/// Why records are not on their way.
pub(crate) enum Unsent {
    Failed(LogError),
    /// A producer is being replaced: to be sent when there is another.
    Shut(Load),
}

struct Shared {
    settings: Arc<KafkaSettings>,
    voice: Voice,
    order: Arc<Order>,
    stale: Arc<Stale>,
    /// Held while an append is numbered and queued, which never waits: so that the numbers are the order of the queue.
    turn: Mutex<()>,
    /// Written by the thread only, in its turn.
    queue: watch::Sender<Queue>,
    /// Replaced by the thread only.
    current: RwLock<Arc<BaseProducer<Reports>>>,
    closing: AtomicBool,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Producer").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Producer {
    /// Makes the client. Whether a broker is there shows later.
    pub(crate) fn open(settings: Arc<KafkaSettings>) -> Result<Self, LogError> {
        let voice = Voice::new("producer", &settings);
        let order = Arc::new(Order::default());
        let stale = Arc::<Stale>::default();
        let reports = Reports::new(voice.clone(), &order, &stale);
        let current = RwLock::new(Arc::new(connect(&settings, reports)?));
        let closing = AtomicBool::new(false);
        let shared = Arc::new(Shared {
            settings,
            voice,
            order,
            stale,
            turn: Mutex::default(),
            queue: watch::Sender::new(Queue::Open),
            current,
            closing,
        });
        let owned = Arc::clone(&shared);
        let thread = thread::Builder::new().name("kafka-producer".to_owned()).spawn(move || owned.run());
        let thread = thread.map_err(|error| LogError::Broker {
            action: "start the producer's thread".to_owned(),
            detail: error.to_string(),
        })?;
        Ok(Self { shared, thread: Mutex::new(Some(thread)) })
    }

    /// The client, for questions beside appending.
    pub(crate) fn client(&self) -> Arc<BaseProducer<Reports>> {
        self.shared.current()
    }

    /// The id of the cluster, if within about twice the patience a broker tells it that knows of brokers.
    ///
    /// A client asks who is in the cluster when it has connected. If it hears then that nobody is, as from an only broker that is just coming back, it does not ask
    /// again for minutes. So it is asked by a topic's name: that question is always put.
    pub(crate) fn cluster(&self, patience: Duration) -> Option<String> {
        let client = self.client();
        let named = LogTopic::notices();
        let known = client.client().fetch_metadata(Some(named.as_str()), patience).ok()?;
        if known.brokers().is_empty() {
            return None;
        }
        client.client().fetch_cluster_id(patience)
    }

    /// Whether records could not be sent to a topic because it is not there any more, or takes less. Says so once.
    pub(crate) fn is_stale(&self, topic: &LogTopic) -> bool {
        self.shared.stale.topics().remove(topic)
    }

    /// Has the client be taken for stranded.
    #[cfg(test)]
    pub(crate) fn strand(&self) {
        self.client().context().voice.strand();
    }

    pub(crate) fn voice(&self) -> &Voice {
        &self.shared.voice
    }

    /// Waits until appends are taken, as long as an append may take.
    ///
    /// # Errors
    /// [`LogError::Unreachable`] if they are not.
    pub(crate) async fn taken(&self, topic: &LogTopic) -> Result<(), LogError> {
        let mut queue = self.shared.queue.subscribe();
        let open = queue.wait_for(|queue| *queue == Queue::Open);
        match tokio::time::timeout(self.shared.settings.append_timeout, open).await {
            Ok(_) => Ok(()),
            Err(_) => Err(self.attempt(topic).silence("its producer failed, and is being replaced")),
        }
    }

    /// Queues the records. It never waits.
    ///
    /// # Errors
    /// [`Unsent::Shut`] while the client is being replaced. If one of them could not be queued: told at once, before a later append of the same caller can
    /// overtake it. [`LogError::Unknown`] if those before it are on their way.
    pub(crate) fn send(&self, topic: &LogTopic, load: Load) -> Result<Pending, Unsent> {
        let turn = self.shared.turn();
        if *self.shared.queue.borrow() == Queue::Shut {
            return Err(Unsent::Shut(load));
        }
        let Load { records, room } = load;
        let (answer, pending) = Pending::new();
        let append = Append::new(topic.clone(), self.shared.order.next(), records.len(), answer, room);
        let producer = self.shared.current();
        for (place, (partition, record)) in records.iter().enumerate() {
            let ticket = Box::new(Ticket { append: Arc::clone(&append), place });
            let queued = BaseRecord::with_opaque_to(topic.as_str(), ticket)
                .partition(*partition)
                .key(&record.key[..])
                .payload(&record.value[..]);
            let queued = BaseRecord { headers: headers(record), ..queued };
            if let Err((error, _)) = producer.send(queued) {
                self.shared.stale.heard(topic, error.rdkafka_error_code());
                let failure = self.attempt(topic).failed(&error);
                if place == 0 {
                    return Err(Unsent::Failed(failure));
                }
                append.give_up(place);
                let detail = format!("only a part of it could be sent: {failure}");
                return Err(Unsent::Failed(LogError::Unknown { detail }));
            }
        }
        drop(turn);
        Ok(pending)
    }

    fn attempt(&self, topic: &LogTopic) -> Attempt<'_> {
        Attempt::to(format!("append to {topic}"), &self.shared.settings, &self.shared.voice)
    }

    /// Waits until everything is confirmed or given up, and ends the thread.
    pub(crate) fn close(&self) {
        self.shared.closing.store(true, Ordering::SeqCst);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the producer's thread panicked");
        }
    }
}

impl Drop for Producer {
    /// The thread sends what is queued and ends by itself.
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::SeqCst);
    }
}

impl Shared {
    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn current(&self) -> Arc<BaseProducer<Reports>> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn run(&self) {
        let mut producer = self.current();
        while !self.closing.load(Ordering::SeqCst) {
            producer.poll(LISTEN);
            let fatal = producer.client().fatal_error();
            if let Some((code, reason)) = &fatal {
                tracing::warn!(%code, reason, "the Kafka producer failed for good and is replaced");
            }
            let reports = producer.context();
            if fatal.is_some() || reports.voice.is_stranded() || reports.has_given_up.load(Ordering::SeqCst) {
                self.replace(&producer);
                producer = self.current();
            }
        }
        // Dropping purges what is not sent.
        if let Err(error) = producer.flush(self.settings.append_timeout + DRAIN) {
            tracing::warn!(%error, "appends were not confirmed when the log was closed");
        }
    }

    /// Fails all that the old producer still has before a new one takes anything: so nothing overtakes it.
    fn replace(&self, old: &BaseProducer<Reports>) {
        {
            let _turn = self.turn();
            self.queue.send_replace(Queue::Shut);
            self.order.doubt_all();
        }
        let records = old.in_flight_count();
        if records > 0 {
            tracing::warn!(
                records,
                "what a Kafka producer had not confirmed is given up; devices send it again"
            );
        }
        old.purge(PurgeConfig::default().queue().inflight());
        // What it does not give back would never be answered.
        let begin = Instant::now();
        while let Err(error) = old.flush(DRAIN) {
            tracing::warn!(%error, records = old.in_flight_count(), "a Kafka producer that failed did not give back all it had yet");
            if begin.elapsed() > self.settings.append_timeout {
                break;
            }
        }
        let mut failures: u32 = 0;
        while !self.closing.load(Ordering::SeqCst) {
            let reports = Reports::new(self.voice.for_another(), &self.order, &self.stale);
            match connect(&self.settings, reports) {
                Ok(new) => {
                    let _turn = self.turn();
                    *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
                    self.queue.send_replace(Queue::Open);
                    if failures > 0 {
                        tracing::info!(failures, "there is a new Kafka producer");
                    }
                    return;
                }
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    failures += 1;
                    // At first a file that it needs is just being replaced, perhaps.
                    if failures == 1 {
                        tracing::warn!(
                            error,
                            "no new Kafka producer yet: nothing is appended until there is one"
                        );
                    } else if failures.is_multiple_of(ATTEMPTS_SAID) {
                        tracing::error!(
                            error,
                            failures,
                            "no new Kafka producer: nothing is appended until there is one"
                        );
                    }
                    thread::sleep(CONNECT_AGAIN);
                }
            }
        }
    }
}

fn connect(settings: &KafkaSettings, reports: Reports) -> Result<BaseProducer<Reports>, LogError> {
    let message_max = (settings.record_max + FRAMING).max(MESSAGE_MAX_LEAST).to_string();
    let timeout = millis(settings.append_timeout);
    let config = settings.client(&[
        ("enable.idempotence", "true"),
        // Where several requests are on their way and the first one fails, librdkafka begins a new epoch for those behind it, and the first one may come to stand twice
        // though it is confirmed (its issue 4953).
        (IN_FLIGHT, "1"),
        ("acks", "all"),
        ("compression.codec", "zstd"),
        ("linger.ms", "5"),
        ("message.max.bytes", &message_max),
        ("message.timeout.ms", &timeout),
        // The topic was looked up before: if it is gone, it was deleted, and waiting for it helps nobody.
        ("topic.metadata.propagation.max.ms", "5000"),
        // No limit: see above.
        ("queue.buffering.max.messages", "0"),
        ("queue.buffering.max.kbytes", "2147483647"),
    ])?;
    let voice = reports.voice.clone();
    let attempt = Attempt::to("make a producer", settings, &voice);
    BaseProducer::from_config_and_context(&config, reports).map_err(|error| attempt.failed(&error))
}

fn headers(record: &Record) -> Option<OwnedHeaders> {
    if record.headers.is_empty() {
        return None;
    }
    let headers = OwnedHeaders::new_with_capacity(record.headers.len());
    let add = |headers: OwnedHeaders, (name, value): &(String, bytes::Bytes)| {
        headers.insert(Header { key: name, value: Some(&value[..]) })
    };
    Some(record.headers.iter().fold(headers, add))
}
