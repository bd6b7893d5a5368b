//! Sharing out partitions by a Kafka consumer group. Nothing is fetched here, and the group's offsets are for displays of lag.
//!
//! One consumer on a thread of its own. Librdkafka's callbacks only write down what the group wants; the thread then does it, and where partitions are to be given
//! up it waits for their holder first, within a bound. Waiting harms nobody: the member goes on sending its signs of life.

mod wishes;

#[cfg(test)]
mod tests;

use crate::api::{Membership, Released, Share};
use crate::error::LogError;
use crate::kafka::context::Voice;
use crate::kafka::failure::Attempt;
use crate::kafka::membership::wishes::{Wish, Wishes, list};
use crate::kafka::settings::{KafkaSettings, millis};
use async_trait::async_trait;
use millstream_model::name::{LogTopic, Offset, Partition, TopicPartition};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset as Start, TopicPartitionList};
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// So long the thread listens before it looks around.
const LISTEN: Duration = Duration::from_millis(50);

/// How often a member gives a sign of life. It is also how soon it hears that others came or went.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// The group of this name for a topic. Each topic has its own: so a member that takes its time holds up nobody else's topics.
pub(crate) fn group_id(group: &str, topic: &LogTopic) -> String {
    let name = topic.as_str().strip_prefix("millstream.").unwrap_or(topic.as_str());
    format!("{group}.{name}")
}

/// A member of a group.
#[derive(Debug)]
pub(crate) struct Member {
    topic: LogTopic,
    shares: watch::Receiver<View>,
    /// The number of the share that was returned last.
    seen: u64,
    released: Sender<(u64, Released)>,
    progress: Arc<Progress>,
    ending: Arc<AtomicBool>,
}

/// The share as the thread sees it. Written by the thread only.
#[derive(Debug, Clone, Default)]
struct View {
    /// Rises with each share; 0 is none yet.
    number: u64,
    partitions: BTreeSet<i32>,
    cause: Cause,
    failure: Option<LogError>,
}

/// How a share came about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Cause {
    /// The group has dealt it so.
    #[default]
    Dealt,
    /// The group has, and others wait for what is not in it any more.
    GivesUp,
    /// The group has ceased to count this member in: it was silent for too long, or the topic is gone. It joins again by itself.
    Lost,
}

impl Cause {
    fn is_dealt(self) -> bool {
        self != Self::Lost
    }
}

/// How far partitions are committed, as far as it was not told yet. Written by the member, emptied by the thread.
type Progress = Mutex<BTreeMap<i32, Offset>>;

/// The thread of a member, for whoever waits until it has left.
#[derive(Debug)]
pub(crate) struct Chair {
    ending: Arc<AtomicBool>,
    thread: JoinHandle<()>,
    /// Its other end is dropped when the member has left.
    left: Receiver<Infallible>,
}

/// The state of the thread.
struct Seat {
    topic: LogTopic,
    settings: Arc<KafkaSettings>,
    consumer: BaseConsumer<Wishes>,
    wishes: Receiver<Wish>,
    shares: watch::Sender<View>,
    released: Receiver<(u64, Released)>,
    progress: Arc<Progress>,
    ending: Arc<AtomicBool>,
    withheld: Option<Withheld>,
    /// The last to be dropped, after the consumer: then the member has left.
    _left: Sender<Infallible>,
}

/// Partitions that are to be given up once their holder has let go.
struct Withheld {
    partitions: Vec<i32>,
    /// The share in which they are missing.
    share: u64,
    released: Option<Released>,
    until: Instant,
}

impl Member {
    /// Joins. Whether a broker is there shows at the first share.
    pub(crate) fn join(
        settings: &Arc<KafkaSettings>,
        topic: &LogTopic,
        group: &str,
    ) -> Result<(Self, Chair), LogError> {
        let (member, mut seat, left) = Self::sit_down(settings, topic, group)?;
        let ending = Arc::clone(&member.ending);
        let thread = thread::Builder::new().name("kafka-member".to_owned()).spawn(move || seat.run());
        let thread = thread.map_err(|error| LogError::Broker {
            action: format!("join group {}", group_id(group, topic)),
            detail: format!("that no thread can be started: {error}"),
        })?;
        Ok((member, Chair { ending, thread, left }))
    }

    /// The member, what its thread is to do, and what ends when that has left.
    fn sit_down(
        settings: &Arc<KafkaSettings>,
        topic: &LogTopic,
        group: &str,
    ) -> Result<(Self, Seat, Receiver<Infallible>), LogError> {
        let group = group_id(group, topic);
        let voice = Voice::new("member", settings);
        let attempt = Attempt::to(format!("join group {group}"), settings, &voice);
        let session = settings.session_timeout;
        let config = settings.client(&[
            ("group.id", &group),
            ("partition.assignment.strategy", "cooperative-sticky"),
            ("session.timeout.ms", &millis(session)),
            ("heartbeat.interval.ms", &millis(HEARTBEAT.min(session / 3))),
            (
                "max.poll.interval.ms",
                &millis(session.max(settings.release_timeout * 2).max(Duration::from_secs(300))),
            ),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("auto.offset.reset", "error"),
            // It is paused before it fetches; and if not, this is little.
            ("queued.max.messages.kbytes", "1"),
            ("queued.min.messages", "1"),
        ])?;
        let (wishes_in, wishes) = mpsc::channel();
        let ending = Arc::new(AtomicBool::new(false));
        let context = Wishes { voice: voice.clone(), wishes: wishes_in, ending: Arc::clone(&ending) };
        let consumer = BaseConsumer::from_config_and_context(&config, context);
        let consumer = consumer.map_err(|error| attempt.failed(&error))?;
        consumer.subscribe(&[topic.as_str()]).map_err(|error| attempt.failed(&error))?;
        let (shares_in, shares) = watch::channel(View::default());
        let (released_in, released) = mpsc::channel();
        let (left_in, left) = mpsc::channel();
        let progress = Arc::new(Progress::default());
        let seat = Seat {
            topic: topic.clone(),
            settings: Arc::clone(settings),
            consumer,
            wishes,
            shares: shares_in,
            released,
            progress: Arc::clone(&progress),
            ending: Arc::clone(&ending),
            withheld: None,
            _left: left_in,
        };
        let topic = topic.clone();
        Ok((Self { topic, shares, seen: 0, released: released_in, progress, ending }, seat, left))
    }
}

impl Chair {
    /// Whether the member was dropped and has left.
    pub(crate) fn is_empty(&self) -> bool {
        self.thread.is_finished()
    }

    /// Has the members leave, all at the same time, and waits until they have: the others get their partitions at once, not when these are taken for dead.
    /// Returns how many had not left when the patience was over.
    pub(crate) fn leave(chairs: Vec<Self>, patience: Duration) -> usize {
        for chair in &chairs {
            chair.ending.store(true, Ordering::SeqCst);
        }
        let until = Instant::now() + patience;
        chairs.into_iter().filter_map(|chair| chair.wait(until).err()).count()
    }

    /// Waits until the member has left, or the time is over.
    fn wait(self, until: Instant) -> Result<(), RecvTimeoutError> {
        let patience = until.saturating_duration_since(Instant::now());
        if let Err(late @ RecvTimeoutError::Timeout) = self.left.recv_timeout(patience) {
            return Err(late);
        }
        if self.thread.join().is_err() {
            tracing::error!("the thread of a group's member panicked");
        }
        Ok(())
    }
}

impl Drop for Member {
    /// The thread leaves the group and ends by itself.
    fn drop(&mut self) {
        self.ending.store(true, Ordering::SeqCst);
    }
}

#[async_trait]
impl Membership for Member {
    async fn next(&mut self) -> Result<Share, LogError> {
        let seen = self.seen;
        let changed = self.shares.wait_for(|view| view.number != seen || view.failure.is_some()).await;
        let View { number, partitions, cause, failure } = match changed {
            Ok(view) => view.clone(),
            Err(_) => return Err(LogError::Closed),
        };
        if let Some(failure) = failure {
            return Err(failure);
        }
        let partition = |number| TopicPartition { topic: self.topic.clone(), partition: Partition(number) };
        let partitions = partitions.into_iter().map(partition).collect();
        self.seen = number;
        Ok(match cause {
            Cause::Dealt => Share::new(partitions),
            Cause::Lost => Share::lost(),
            Cause::GivesUp => {
                let (share, released) = Share::releasing(partitions);
                // The thread has ended only if it failed, and the next call says so.
                drop(self.released.send((number, released)));
                share
            }
        })
    }

    fn committed(&mut self, partition: &TopicPartition, next: Offset) {
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        progress.insert(partition.partition.0, next);
    }
}

impl Seat {
    fn run(&mut self) {
        while !self.ending.load(Ordering::SeqCst) {
            if let Some(Err(error)) = self.consumer.poll(LISTEN) {
                self.trouble(&error);
            }
            while let Ok(wish) = self.wishes.try_recv() {
                self.grant(wish);
            }
            self.release();
            self.tell_progress();
            if self.consumer.context().voice.is_stranded() {
                self.fail(&KafkaError::Global(RDKafkaErrorCode::AllBrokersDown));
            }
        }
        // Dropping the consumer gives up everything and leaves the group, but it waits for what the group asked back before, for ever.
        self.give_up();
        self.tell_progress();
    }

    fn grant(&mut self, wish: Wish) {
        let mut partitions = self.shares.borrow().partitions.clone();
        match wish {
            Wish::Took(taken) => {
                partitions.extend(taken);
                self.publish(partitions, Cause::Dealt);
            }
            Wish::GiveUp(given) => {
                partitions.retain(|partition| !given.contains(partition));
                let share = self.publish(partitions, Cause::GivesUp);
                let until = Instant::now() + self.settings.release_timeout;
                // The group asks for more only when it has waited long enough for the former.
                self.give_up();
                self.withheld = Some(Withheld { partitions: given, share, released: None, until });
            }
            Wish::Lost(lost) => {
                tracing::warn!(topic = %self.topic, ?lost, "the group has ceased to count this member in, and others may have its partitions; it joins again");
                self.withheld = None;
                self.publish(BTreeSet::new(), Cause::Lost);
            }
        }
    }

    /// Publishes a share, if it is another one than before; returns its number.
    fn publish(&self, partitions: BTreeSet<i32>, cause: Cause) -> u64 {
        self.shares.send_if_modified(|view| {
            let is_news = view.partitions != partitions || view.cause.is_dealt() != cause.is_dealt();
            if view.number > 0 && !is_news {
                return false;
            }
            view.number += 1;
            view.partitions = partitions;
            view.cause = cause;
            true
        });
        self.shares.borrow().number
    }

    /// Gives up what is withheld, once its holder has let go or the time is over.
    fn release(&mut self) {
        while let Ok((share, released)) = self.released.try_recv() {
            if let Some(withheld) = self.withheld.as_mut().filter(|withheld| withheld.share == share) {
                withheld.released = Some(released);
            }
        }
        let Some(withheld) = &mut self.withheld else { return };
        let let_go = withheld.released.as_mut().is_some_and(Released::is_done);
        if !let_go && Instant::now() < withheld.until {
            return;
        }
        if !let_go {
            let partitions = &withheld.partitions;
            tracing::warn!(topic = %self.topic, ?partitions, "partitions are given up though their holder has not let go in time; it will be fenced");
        }
        self.give_up();
    }

    /// Gives up what is withheld, if anything is, whoever still holds it.
    fn give_up(&mut self) {
        let Some(withheld) = self.withheld.take() else { return };
        let assignment = list(&self.topic, &withheld.partitions);
        if let Err(error) = self.consumer.incremental_unassign(&assignment) {
            tracing::warn!(topic = %self.topic, %error, "partitions could not be given up");
        }
    }

    fn tell_progress(&self) {
        let progress = std::mem::take(&mut *self.progress.lock().unwrap_or_else(PoisonError::into_inner));
        if progress.is_empty() {
            return;
        }
        let mut offsets = TopicPartitionList::new();
        for (partition, next) in progress {
            if let Err(error) =
                offsets.add_partition_offset(self.topic.as_str(), partition, Start::Offset(next.0))
            {
                tracing::debug!(topic = %self.topic, partition, %error, "an offset that cannot be committed");
            }
        }
        if let Err(error) = self.consumer.commit(&offsets, CommitMode::Async) {
            tracing::debug!(topic = %self.topic, %error, "offsets for displays of lag were not committed");
        }
    }

    fn trouble(&self, error: &KafkaError) {
        let code = error.rdkafka_error_code();
        let is_final = matches!(error, KafkaError::MessageConsumptionFatal(_))
            || matches!(
                code,
                Some(RDKafkaErrorCode::GroupAuthorizationFailed | RDKafkaErrorCode::TopicAuthorizationFailed)
            );
        if is_final {
            self.fail(error);
        }
    }

    /// The membership is void, and its holder hears why.
    fn fail(&self, error: &KafkaError) {
        let action = format!("share out {} in a group", self.topic);
        let failure = Attempt::to(action, &self.settings, &self.consumer.context().voice).failed(error);
        self.shares.send_if_modified(|view| view.failure.replace(failure).is_none());
    }
}
