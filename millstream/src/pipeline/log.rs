//! The log, embedded or on Kafka, opened and closed.

use crate::command::quoted;
use crate::config::Settings;
use crate::config::log::{Embedded, Kafka, LogChoice};
use crate::directory::Directory;
use anyhow::Context;
use millstream_log::embedded::{EmbeddedLog, Peek};
use millstream_log::kafka::KafkaLog;
use millstream_log::{Bounds, Log, LogError};
use millstream_model::name::{LogTopic, RESERVED_STREAMS, TopicPartition};
use std::sync::Arc;

/// The open log.
#[derive(Debug, Clone)]
pub(crate) enum LogHandle {
    /// Segment files.
    Embedded(EmbeddedLog),
    /// Kafka.
    Kafka(KafkaLog),
}

impl LogHandle {
    /// What stages know of it.
    pub(crate) fn shared(&self) -> Arc<dyn Log> {
        match self {
            Self::Embedded(log) => Arc::new(log.clone()),
            Self::Kafka(log) => Arc::new(log.clone()),
        }
    }

    /// The partitions of a topic, for those who only look; `None` if Kafka does not have it, which is not made then.
    ///
    /// # Errors
    /// If the topic cannot be looked up.
    pub(crate) async fn existing(&self, topic: &LogTopic) -> Result<Option<Vec<TopicPartition>>, LogError> {
        match self {
            Self::Embedded(log) => log.partitions(topic).await.map(Some),
            Self::Kafka(log) => log.existing(topic).await,
        }
    }

    /// Ends it: what was appended is durable.
    ///
    /// # Errors
    /// If that cannot be said.
    pub(crate) async fn close(self) -> Result<(), LogError> {
        match self {
            Self::Embedded(log) => log.close().await,
            Self::Kafka(log) => log.close().await,
        }
    }
}

/// Opens the log that is configured.
pub(super) async fn open(settings: &Settings, directory: &Directory) -> anyhow::Result<LogHandle> {
    match &settings.log {
        LogChoice::Embedded(embedded) => open_embedded(embedded, directory).await.map(LogHandle::Embedded),
        LogChoice::Kafka(kafka) => open_kafka(kafka).await.map(LogHandle::Kafka),
    }
}

async fn open_embedded(embedded: &Embedded, directory: &Directory) -> anyhow::Result<EmbeddedLog> {
    let opened = EmbeddedLog::open(&directory.log(), embedded.settings.clone()).await;
    opened.map_err(|error| {
        let is_damaged = matches!(error, LogError::Damaged { .. });
        let error = anyhow::Error::new(error).context("failed to open the log");
        let repair = format!("to repair it: millstream log repair --data {}", quoted(directory.path()));
        if is_damaged { error.context(repair) } else { error }
    })
}

/// Opens the log on Kafka.
///
/// # Errors
/// If no broker answers, or the settings are wrong.
pub(crate) async fn open_kafka(kafka: &Kafka) -> anyhow::Result<KafkaLog> {
    let opened = KafkaLog::open(kafka.settings()?).await;
    opened.with_context(|| format!("failed to open the log on Kafka at {}", kafka.brokers()))
}

/// Says which messages nobody carries to a table, because their stream is not configured any more. Kafka's topics may be others', so nothing is said of those.
pub(super) fn warn_of_orphans(settings: &Settings, directory: &Directory) -> anyhow::Result<()> {
    if !matches!(settings.log, LogChoice::Embedded(_)) {
        return Ok(());
    }
    let peek = Peek::open(&directory.log())?;
    for partition in peek.topics()? {
        let name = partition.topic.as_str().strip_prefix("millstream.").unwrap_or_default();
        let is_carried = RESERVED_STREAMS.contains(&name)
            || settings.streams.iter().any(|stream| stream.name.as_str() == name);
        let Bounds { first, next } = peek.bounds(&partition)?;
        if !is_carried && first < next {
            tracing::warn!(
                stream = name,
                partition = partition.partition.0,
                messages = next.0 - first.0,
                "the log has messages of a stream that is not configured; they wait until a stream has that name again"
            );
        }
    }
    Ok(())
}
