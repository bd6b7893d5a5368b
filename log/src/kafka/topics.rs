//! The log's topics: made as configured where they are not, checked where they are.
//!
//! A topic of ours is kept for ever by Kafka (`retention.ms=-1`) and trimmed by the firehose after its commits: what is not committed yet must not vanish
//! because a consumer was away for a week. The notices' topic alone is Kafka's to clear: nobody knows which processors have read it, and a notice that is lost is
//! made good by the next sweep.

use crate::error::LogError;
use crate::kafka::SETTLE;
use crate::kafka::admin::Admin;
use crate::kafka::failure::Attempt;
use crate::kafka::producer::Producer;
use crate::kafka::settings::KafkaSettings;
use millstream_model::name::LogTopic;
use rdkafka::admin::{ConfigResource, NewTopic, TopicReplication};
use rdkafka::producer::Producer as _;
use rdkafka::types::{RDKafkaErrorCode, RDKafkaRespErr};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// What Kafka adds to one record at most, in a batch of its own: header of the batch, lengths, timestamp.
const BATCH_FRAMING: usize = 128;

/// How long Kafka keeps a notice, in milliseconds: a day, many times the longest sweep that anyone would wait for.
const NOTICE_RETENTION: &str = "86400000";

/// What librdkafka puts into one batch, unless it is told otherwise.
const BATCH_SIZE: usize = 1_000_000;

/// Kafka's own limit on a batch, unless it is told otherwise.
const BATCH_MAX: usize = 1_048_588;

/// Where there are so many copies, one broker may be away, and what is acknowledged is on two.
const COPIES_SAFE: usize = 3;

/// How often a topic that was just made is looked for.
const LOOK: Duration = Duration::from_millis(50);

/// From one attempt to make a topic to the next.
const MAKE_AGAIN: Duration = Duration::from_millis(500);

/// A topic as appends need to know it.
#[derive(Debug)]
pub(crate) struct Topic {
    /// How many partitions it had when this process saw it first. Devices keep to these as long as the process runs.
    pub(crate) partitions: usize,
    /// Bytes that one record may have.
    pub(crate) record_max: usize,
    /// Whether it was not there, and this look-up made it.
    made: bool,
}

/// The topics that were looked up.
pub(crate) struct Topics {
    settings: Arc<KafkaSettings>,
    producer: Arc<Producer>,
    admin: Admin,
    known: RwLock<BTreeMap<LogTopic, Arc<Topic>>>,
    /// One at a time looks up and makes.
    making: tokio::sync::Mutex<()>,
    /// What is unusual about a topic and was said: once is enough, however often it is looked up.
    said: Mutex<BTreeSet<(LogTopic, Odd)>>,
}

/// What a topic may have otherwise than expected, with the value that it has.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Odd {
    Partitions(usize),
    Copies(usize),
    Setting(&'static str, String),
    Unreadable,
}

/// A topic as a broker describes it.
#[derive(Debug, Clone, Copy)]
struct Found {
    partitions: usize,
    replication: usize,
}

impl std::fmt::Debug for Topics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Topics").field("known", &self.known).finish_non_exhaustive()
    }
}

impl Topics {
    pub(crate) fn new(settings: Arc<KafkaSettings>, producer: Arc<Producer>) -> Self {
        let admin = Admin::new(Arc::clone(&settings));
        Self {
            settings,
            producer,
            admin,
            known: RwLock::default(),
            making: tokio::sync::Mutex::default(),
            said: Mutex::default(),
        }
    }

    pub(crate) fn admin(&self) -> &Admin {
        &self.admin
    }

    pub(crate) fn attempt(&self, action: String) -> Attempt<'_> {
        Attempt::to(action, &self.settings, self.producer.voice())
    }

    /// The topic, which is made if it is not there.
    pub(crate) async fn get(&self, topic: &LogTopic) -> Result<Arc<Topic>, LogError> {
        // It is looked up again; but its partitions stay what they were, unless it was made anew.
        let before = if self.producer.is_stale(topic) { self.forget(topic) } else { None };
        if let Some(known) = self.known(topic) {
            return Ok(known);
        }
        let _turn = self.making.lock().await;
        if let Some(known) = self.known(topic) {
            return Ok(known);
        }
        let (found, made) = match self.look_up(topic).await? {
            Some(found) => (found, false),
            None => self.make(topic).await?,
        };
        let record_max = self.check(topic, found).await?;
        let partitions = match before {
            Some(before) if !made => before.partitions.min(found.partitions),
            _ => found.partitions,
        };
        let new = Arc::new(Topic { partitions, record_max, made });
        self.known.write().unwrap_or_else(PoisonError::into_inner).insert(topic.clone(), Arc::clone(&new));
        Ok(new)
    }

    /// How many partitions the topic has now; `None` if it does not exist. Librdkafka's memory of the topic is set right by it, too.
    pub(crate) async fn existing(&self, topic: &LogTopic) -> Result<Option<usize>, LogError> {
        Ok(self.look_up(topic).await?.map(|found| found.partitions))
    }

    /// How many partitions the topic has now. It is made if it is not there, or not there any more.
    pub(crate) async fn partitions(&self, topic: &LogTopic) -> Result<usize, LogError> {
        let Some(known) = self.known(topic) else {
            return Ok(self.get(topic).await?.partitions);
        };
        match self.look_up(topic).await? {
            Some(found) => {
                if found.partitions != known.partitions
                    && self.is_news(topic, Odd::Partitions(found.partitions))
                {
                    tracing::warn!(
                        %topic,
                        before = known.partitions,
                        now = found.partitions,
                        "somebody changed the number of partitions: appends keep to the old ones until a restart, and from then on a device's messages \
                         may go to another partition than before, so that their order is not kept across the change"
                    );
                }
                Ok(found.partitions)
            }
            // Deleted; or a broker that has just started, and does not know it yet.
            None => {
                self.forget(topic);
                let new = self.get(topic).await?;
                if new.made {
                    tracing::error!(%topic, "somebody deleted the Kafka topic, with what was not committed; it was made anew");
                }
                Ok(new.partitions)
            }
        }
    }

    fn known(&self, topic: &LogTopic) -> Option<Arc<Topic>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).get(topic).cloned()
    }

    /// Whether this is to be said: it was not yet.
    fn is_news(&self, topic: &LogTopic, odd: Odd) -> bool {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).insert((topic.clone(), odd))
    }

    pub(crate) fn forget(&self, topic: &LogTopic) -> Option<Arc<Topic>> {
        self.known.write().unwrap_or_else(PoisonError::into_inner).remove(topic)
    }

    /// What a broker knows of a topic, once it has a leader for each partition; `None` if it does not exist.
    async fn look_up(&self, topic: &LogTopic) -> Result<Option<Found>, LogError> {
        let attempt = self.attempt(format!("look up topic {topic}"));
        let (producer, timeout) = (Arc::clone(&self.producer), self.settings.request_timeout);
        let begin = Instant::now();
        loop {
            let (client, name) = (producer.client(), topic.clone());
            let asked = tokio::task::spawn_blocking(move || ask(&client, &name, timeout)).await;
            let asked = asked.map_err(|error| LogError::Unknown { detail: error.to_string() })?;
            match asked {
                Ok(found) => return Ok(found),
                Err(Trouble::Client(error)) => return Err(attempt.failed(&error)),
                Err(Trouble::Broker(RDKafkaErrorCode::LeaderNotAvailable)) if begin.elapsed() < timeout => {
                    tokio::time::sleep(LOOK).await;
                }
                Err(Trouble::Broker(code)) => return Err(attempt.answered(code)),
            }
        }
    }

    /// Makes a topic; whether it was us who made it.
    async fn make(&self, topic: &LogTopic) -> Result<(Found, bool), LogError> {
        let KafkaSettings { partitions, replication, record_max, .. } = *self.settings;
        let batch_max = (record_max + BATCH_FRAMING).max(BATCH_MAX).to_string();
        let in_sync = if usize::from(replication) >= COPIES_SAFE { "2" } else { "1" };
        let retention = if *topic == LogTopic::notices() { NOTICE_RETENTION } else { "-1" };
        let wanted =
            NewTopic::new(topic.as_str(), partitions.into(), TopicReplication::Fixed(replication.into()))
                .set("cleanup.policy", "delete")
                .set("retention.ms", retention)
                .set("retention.bytes", "-1")
                .set("max.message.bytes", &batch_max)
                .set("min.insync.replicas", in_sync);
        let attempt = self.attempt(format!("make topic {topic}"));
        let begin = Instant::now();
        let made = loop {
            match self.admin.create(&wanted).await.map_err(|failure| failure.of(&attempt))? {
                Ok(()) => break true,
                Err(RDKafkaErrorCode::TopicAlreadyExists) => break false,
                // Brokers that are just coming back are not counted yet.
                Err(RDKafkaErrorCode::InvalidReplicationFactor) if begin.elapsed() < SETTLE => {
                    tokio::time::sleep(MAKE_AGAIN).await;
                }
                Err(code) => return Err(attempt.answered(code)),
            }
        };
        if made {
            tracing::info!(%topic, partitions, replication, "made a Kafka topic");
        }
        // The broker that is asked may not have heard of it yet.
        let begin = Instant::now();
        while begin.elapsed() < self.settings.request_timeout {
            if let Some(found) = self.look_up(topic).await? {
                return Ok((found, made));
            }
            tokio::time::sleep(LOOK).await;
        }
        Err(attempt.silence("it was made, and the brokers do not know it yet"))
    }

    /// Compares a topic with what it is to be like, and says how large a record it takes.
    async fn check(&self, topic: &LogTopic, found: Found) -> Result<usize, LogError> {
        let wanted = usize::from(self.settings.partitions);
        // Notices have no order to keep, and who writes them may have made their topic.
        if found.partitions != wanted
            && *topic != LogTopic::notices()
            && self.is_news(topic, Odd::Partitions(found.partitions))
        {
            tracing::warn!(
                %topic,
                configured = wanted,
                partitions = found.partitions,
                "the Kafka topic exists with another number of partitions than configured, and keeps it: with more, a device's messages would change partition and lose their order"
            );
        }
        if found.replication != usize::from(self.settings.replication)
            && self.is_news(topic, Odd::Copies(found.replication))
        {
            tracing::warn!(
                %topic,
                configured = self.settings.replication,
                copies = found.replication,
                "the Kafka topic exists with another number of copies than configured, and keeps it"
            );
        }
        match self.admin.describe(topic.as_str()).await {
            Ok(Some(Ok(config))) => self.fits(topic, found, &config),
            other => {
                let why = match other {
                    Ok(Some(Err(code))) => code.to_string(),
                    Ok(_) => "the answer is empty".to_owned(),
                    Err(failure) => failure.to_string(),
                };
                if self.is_news(topic, Odd::Unreadable) {
                    tracing::warn!(%topic, why, "the Kafka topic's configuration cannot be read; Kafka's defaults are assumed");
                }
                Ok(self.settings.record_max.min(BATCH_MAX - BATCH_FRAMING))
            }
        }
    }

    fn fits(&self, topic: &LogTopic, found: Found, config: &ConfigResource) -> Result<usize, LogError> {
        let value = |name| config.get(name).and_then(|entry| entry.value.as_deref()).unwrap_or_default();
        let unfit = |detail: String| Err(LogError::Topic { topic: topic.clone(), detail });
        if value("cleanup.policy").contains("compact") {
            return unfit(
                "has cleanup.policy=compact, by which Kafka deletes all but the last message of each device; set it to delete".to_owned(),
            );
        }
        for name in ["retention.ms", "retention.bytes"] {
            if !matches!(value(name), "-1" | "")
                && *topic != LogTopic::notices()
                && self.is_news(topic, Odd::Setting(name, value(name).to_owned()))
            {
                tracing::warn!(
                    %topic,
                    setting = name,
                    value = value(name),
                    "Kafka deletes from this topic by itself, committed or not; -1 leaves it to Millstream, which trims what is committed"
                );
            }
        }
        let in_sync = value("min.insync.replicas");
        if found.replication >= COPIES_SAFE
            && in_sync.parse::<usize>().is_ok_and(|in_sync| in_sync < 2)
            && self.is_news(topic, Odd::Setting("min.insync.replicas", in_sync.to_owned()))
        {
            tracing::warn!(
                %topic,
                copies = found.replication,
                "the Kafka topic has min.insync.replicas below 2: what is acknowledged may be on one broker only, and be lost with it; set it to 2"
            );
        }
        let batch_max = value("max.message.bytes").parse().unwrap_or(BATCH_MAX);
        let properties = &self.settings.properties;
        let property = |name: &str| properties.get(name).and_then(|value| value.parse::<usize>().ok());
        let batch = property("batch.size").unwrap_or(BATCH_SIZE);
        if batch_max < batch {
            return unfit(format!(
                "takes batches of {batch_max} bytes only (max.message.bytes), and they may have {batch}; raise it, or lower \"batch.size\" in the Kafka properties"
            ));
        }
        let record_max = self.settings.record_max.min(batch_max - BATCH_FRAMING.min(batch_max));
        Ok(property("message.max.bytes").map_or(record_max, |most| record_max.min(most)))
    }
}

/// Why a look-up gave nothing.
enum Trouble {
    Client(rdkafka::error::KafkaError),
    Broker(RDKafkaErrorCode),
}

fn ask<C: rdkafka::producer::ProducerContext>(
    client: &rdkafka::producer::BaseProducer<C>,
    topic: &LogTopic,
    timeout: Duration,
) -> Result<Option<Found>, Trouble> {
    let metadata = client.client().fetch_metadata(Some(topic.as_str()), timeout).map_err(Trouble::Client)?;
    let Some(described) = metadata.topics().iter().find(|found| found.name() == topic.as_str()) else {
        return Ok(None);
    };
    match described.error() {
        None => {}
        Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART) => return Ok(None),
        Some(other) => return Err(Trouble::Broker(other.into())),
    }
    let partitions = described.partitions();
    // A broker may be away and its copies with it: that is no reason not to use the others.
    if partitions.is_empty() || partitions.iter().any(|partition| partition.leader() < 0) {
        return Err(Trouble::Broker(RDKafkaErrorCode::LeaderNotAvailable));
    }
    let replication = partitions.iter().map(|partition| partition.replicas().len()).min().unwrap_or(0);
    Ok(Some(Found { partitions: partitions.len(), replication }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rdkafka::admin::{ConfigEntry, ConfigSource, OwnedResourceSpecifier};

    #[tokio::test]
    async fn a_topic_whose_acknowledged_records_may_be_on_one_broker_is_told_of() {
        let check = |replication, in_sync: &str, expected: bool| {
            let settings = Arc::new(KafkaSettings::new("127.0.0.1:1"));
            let producer = Arc::new(Producer::open(Arc::clone(&settings)).unwrap());
            let topics = Topics::new(settings, producer);
            let topic: LogTopic = "millstream.t".parse().unwrap();
            let entry = ConfigEntry {
                name: "min.insync.replicas".to_owned(),
                value: Some(in_sync.to_owned()),
                source: ConfigSource::Default,
                is_read_only: false,
                is_default: true,
                is_sensitive: false,
            };
            let specifier = OwnedResourceSpecifier::Topic(topic.as_str().to_owned());
            let config = ConfigResource { specifier, entries: vec![entry] };
            topics.fits(&topic, Found { partitions: 1, replication }, &config).unwrap();
            let said = topics.said.lock().unwrap();
            let odd = Odd::Setting("min.insync.replicas", in_sync.to_owned());
            assert_eq!(said.contains(&(topic, odd)), expected, "{replication} copies, {in_sync} in sync");
        };
        check(3, "1", true);
        check(5, "1", true);
        check(3, "2", false);
        // Two in sync of two copies would stop at the first broker that is away.
        check(2, "1", false);
        check(1, "1", false);
    }
}
