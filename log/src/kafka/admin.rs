//! What only a client for administration can ask for: topics are made, described and trimmed by it.
//!
//! Nobody can look into this kind of client, so one that did not get an answer is not asked again: the next question is put by another.

use crate::error::LogError;
use crate::kafka::context::{Voice, no_statistics};
use crate::kafka::failure::Attempt;
use crate::kafka::settings::KafkaSettings;
use rdkafka::TopicPartitionList;
use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, NewTopic, ResourceSpecifier};
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::types::RDKafkaErrorCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Asks for them, with one client for as long as it gets answers.
pub(crate) struct Admin {
    settings: Arc<KafkaSettings>,
    voice: Voice,
    client: Mutex<Option<Arc<AdminClient<Voice>>>>,
}

impl Admin {
    pub(crate) fn new(settings: Arc<KafkaSettings>) -> Self {
        let voice = Voice::new("admin", &settings);
        Self { settings, voice, client: Mutex::default() }
    }

    /// Makes one topic. The error is that of the brokers.
    pub(crate) async fn create(&self, topic: &NewTopic<'_>) -> Result<Result<(), RDKafkaErrorCode>, Failure> {
        let client = self.client()?;
        let answer = client.create_topics([topic], &self.options()).await;
        let made = self.keep(client, answer)?.into_iter().next();
        Ok(made.map_or(Ok(()), |made| made.map(drop).map_err(|(_, code)| code)))
    }

    /// The configuration of one topic. The error is that of the brokers.
    pub(crate) async fn describe(
        &self,
        topic: &str,
    ) -> Result<Option<Result<ConfigResource, RDKafkaErrorCode>>, Failure> {
        let client = self.client()?;
        let resource = ResourceSpecifier::Topic(topic);
        let answer = client.describe_configs([&resource], &self.options()).await;
        Ok(self.keep(client, answer)?.pop())
    }

    /// Deletes the records before these offsets.
    pub(crate) async fn delete_records(&self, before: &TopicPartitionList) -> Result<(), Failure> {
        let client = self.client()?;
        let answer = client.delete_records(before, &self.options()).await;
        let deleted = self.keep(client, answer)?;
        Ok(deleted.elements().iter().try_for_each(|element| element.error())?)
    }

    fn options(&self) -> AdminOptions {
        let timeout = Some(self.settings.request_timeout);
        AdminOptions::new().request_timeout(timeout).operation_timeout(timeout)
    }

    pub(crate) fn client(&self) -> Result<Arc<AdminClient<Voice>>, Failure> {
        let mut client = self.current();
        if let Some(client) = &*client {
            return Ok(Arc::clone(client));
        }
        let mut config = self.settings.client(&[])?;
        // Nobody takes lines and statistics of this kind of client out of its queue.
        config.set_log_level(RDKafkaLogLevel::Emerg);
        let (name, value) = no_statistics();
        config.set(name, value);
        let new = Arc::new(AdminClient::from_config_and_context(&config, self.voice.clone())?);
        *client = Some(Arc::clone(&new));
        Ok(new)
    }

    /// Lets a client go that got no answer. Others may be asking by it still, or have let it go before.
    fn keep<T>(&self, asked: Arc<AdminClient<Voice>>, answer: KafkaResult<T>) -> KafkaResult<T> {
        if answer.is_err() {
            let current = self.current().take_if(|current| Arc::ptr_eq(current, &asked));
            // Its threads are waited for, and they may be looking up a name.
            drop(tokio::task::spawn_blocking(move || drop((asked, current))));
        }
        answer
    }

    fn current(&self) -> MutexGuard<'_, Option<Arc<AdminClient<Voice>>>> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a question got no answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// No client can be made with these settings.
    Settings(LogError),
    Kafka(KafkaError),
}

impl Failure {
    /// What it means to the caller.
    pub(crate) fn of(self, attempt: &Attempt<'_>) -> LogError {
        match self {
            Self::Settings(error) => error,
            Self::Kafka(error) => attempt.failed(&error),
        }
    }
}

impl From<LogError> for Failure {
    fn from(error: LogError) -> Self {
        Self::Settings(error)
    }
}

impl From<KafkaError> for Failure {
    fn from(error: KafkaError) -> Self {
        Self::Kafka(error)
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Settings(error) => error.fmt(f),
            Self::Kafka(error) => error.fmt(f),
        }
    }
}
