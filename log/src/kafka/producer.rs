//! The idempotent producer, and the thread that hears what became of its records.
//!
//! Librdkafka's own queue has no limit: what waits in it is bounded by the log, in bytes, before anything is given to it, so that it never refuses a record
//! in the middle of an append.
//!
//! A producer that has given a record up by itself is not used any longer: what it has not confirmed is taken from it, and goes on as doubtful. It would send some
//! of that again in a new epoch, in which the brokers do not know it (see `append`); and one partition without a leader would cast doubt on all others with each record
//! that it lets expire. Until another one has met the cluster, appends wait.

use crate::api::Pending;
use crate::error::LogError;
use crate::kafka::append::{Append, Order, Ticket};
use crate::kafka::context::Voice;
use crate::kafka::failure::Attempt;
use crate::kafka::gate::{Gate, Queue};
use crate::kafka::reports::{Reports, Stale};
use crate::kafka::settings::{IN_FLIGHT, KafkaSettings, millis};
use millstream_model::name::LogTopic;
use millstream_model::record::Record;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, PurgeConfig};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tokio::sync::OwnedSemaphorePermit;

/// So long the thread listens before it looks whether it is to end.
const LISTEN: Duration = Duration::from_millis(50);

/// So long a question takes at most, so that the thread looks whether it is to end.
const ASK: Duration = Duration::from_secs(1);

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

/// A producer that is replaced when it has failed for good.
#[derive(Debug)]
pub(crate) struct Producer {
    shared: Arc<Shared>,
    /// Taken by the first `close`.
    thread: Mutex<Option<JoinHandle<()>>>,
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
    gate: Arc<Gate>,
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
        let gate = Arc::new(Gate::new());
        let reports = Reports::new(voice.clone(), &order, &stale, &gate);
        let current = RwLock::new(Arc::new(connect(&settings, reports)?));
        let closing = AtomicBool::new(false);
        let shared = Arc::new(Shared { settings, voice, order, stale, gate, current, closing });
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
    pub(crate) fn cluster(&self, patience: Duration) -> Option<String> {
        let client = self.client();
        has_met(&client, patience).then(|| client.client().fetch_cluster_id(patience)).flatten()
    }

    /// Whether records could not be sent to a topic because it is not there any more, or takes less. Says so once.
    pub(crate) fn is_stale(&self, topic: &LogTopic) -> bool {
        self.shared.stale.take(topic)
    }

    /// Has the client be taken for stranded.
    #[cfg(test)]
    pub(crate) fn strand(&self) {
        self.client().context().voice.strand();
    }

    pub(crate) fn voice(&self) -> &Voice {
        &self.shared.voice
    }

    /// Waits while the client is being replaced, as long as an append may take.
    ///
    /// # Errors
    /// [`LogError::Unreachable`] if it still is.
    pub(crate) async fn replaced(&self, topic: &LogTopic) -> Result<(), LogError> {
        let attempt = self.attempt(topic);
        let passable = tokio::time::timeout(self.shared.settings.append_timeout, self.shared.gate.passable());
        if passable.await.is_err() {
            return Err(attempt.silence("its producer failed, and is being replaced"));
        }
        Ok(())
    }

    /// Queues the records. It never waits.
    ///
    /// # Errors
    /// [`Unsent::Shut`] while the client is being replaced, [`LogError::Closed`]. If one of them could not be queued: told at once, before a later append of the same caller can
    /// overtake it. [`LogError::Unknown`] if those before it are on their way.
    pub(crate) fn send(&self, topic: &LogTopic, load: Load) -> Result<Pending, Unsent> {
        let turn = self.shared.gate.turn();
        match turn.queue() {
            Queue::Open => {}
            Queue::Shut => return Err(Unsent::Shut(load)),
            Queue::Closed => return Err(Unsent::Failed(LogError::Closed)),
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
    fn current(&self) -> Arc<BaseProducer<Reports>> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn run(&self) {
        let mut producer = self.current();
        let mut replaced = None;
        while !self.is_closing() {
            producer.poll(LISTEN);
            let fatal = producer.client().fatal_error();
            if let Some((code, reason)) = &fatal {
                tracing::warn!(%code, reason, "the Kafka producer failed for good and is replaced");
            }
            let reports = producer.context();
            if fatal.is_some() || reports.voice.is_stranded() || reports.is_retired() {
                self.empty(&producer);
                // One that fails at once is not made without a pause.
                if replaced.is_some_and(|at: Instant| at.elapsed() < CONNECT_AGAIN) {
                    thread::sleep(CONNECT_AGAIN);
                }
                replaced = Some(Instant::now());
                self.replace();
                let_go(std::mem::replace(&mut producer, self.current()));
            }
        }
        self.gate.turn().set(Queue::Closed);
        // Dropping purges what is not sent.
        if let Err(error) = producer.flush(self.settings.append_timeout + DRAIN) {
            tracing::warn!(%error, "appends were not confirmed when the log was closed");
        }
    }

    fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    /// Fails all that the old producer still has before a new one takes anything: so nothing overtakes it.
    fn empty(&self, old: &BaseProducer<Reports>) {
        old.context().retire();
        let records = old.in_flight_count();
        tracing::warn!(
            records,
            "a Kafka producer is replaced; what it had not confirmed is given up, and devices send it again"
        );
        // What it does not give back would never be answered. It gives back what its threads have when these are through with looking up a name.
        let begin = Instant::now();
        loop {
            old.purge(PurgeConfig::default().queue().inflight().non_blocking());
            let Err(error) = old.flush(DRAIN) else { return };
            let records = old.in_flight_count();
            tracing::warn!(%error, records, "a Kafka producer that failed has not given back all it had yet");
            if begin.elapsed() > self.settings.append_timeout {
                return;
            }
        }
    }

    /// Waits until a new producer has met the cluster; false if it never will, or nobody needs it.
    fn meets(&self, new: &BaseProducer<Reports>) -> bool {
        while !self.is_closing() && !new.context().voice.is_stranded() {
            new.poll(Duration::ZERO);
            if has_met(new, ASK) {
                return true;
            }
            thread::sleep(LISTEN);
        }
        false
    }

    /// Makes another producer, and lets appends through when it has met the cluster.
    fn replace(&self) {
        let mut failures: u32 = 0;
        while !self.is_closing() {
            let reports = Reports::new(self.voice.for_another(), &self.order, &self.stale, &self.gate);
            match connect(&self.settings, reports) {
                Ok(new) => {
                    if !self.meets(&new) {
                        continue;
                    }
                    let turn = self.gate.turn();
                    *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
                    turn.set(Queue::Open);
                    tracing::info!(failures, "there is a new Kafka producer");
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

/// Whether a client knows of brokers.
///
/// Of its own accord it asks who is in the cluster when it has connected. If it hears then that nobody is, as from an only broker that is just coming back, it does not
/// ask again for minutes. A question by a topic's name is always put.
fn has_met(client: &BaseProducer<Reports>, patience: Duration) -> bool {
    let named = LogTopic::notices();
    let known = client.client().fetch_metadata(Some(named.as_str()), patience);
    known.is_ok_and(|known| !known.brokers().is_empty())
}

/// Drops a client. Its threads are waited for, and they may be looking up a name; and whoever asks by it at the moment is not to be the one who waits.
fn let_go(client: Arc<BaseProducer<Reports>>) {
    let wait = move || {
        let mut client = client;
        loop {
            match Arc::try_unwrap(client) {
                Ok(last) => return drop(last),
                Err(shared) => client = shared,
            }
            thread::sleep(LISTEN);
        }
    };
    if let Err(error) = thread::Builder::new().name("kafka-farewell".to_owned()).spawn(wait) {
        tracing::warn!(%error, "a Kafka producer was dropped where its successor works");
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
