//! The log: the embedded one can be read, or Kafka can be reached, has the topics, and takes what is written.

use super::{Finding, numbered};
use crate::command::quoted;
use crate::config::Settings;
use crate::config::log::{Kafka, LogChoice};
use crate::directory::Directory;
use crate::pipeline::open_kafka;
use millstream_log::embedded::Peek;
use millstream_log::kafka::KafkaLog;
use millstream_log::{Log, LogError};
use millstream_model::name::LogTopic;
use millstream_model::record::Record;

/// A notice of nothing: readers pass over it.
const NOTHING: &[u8] = br#"{"Records":[]}"#;

/// The log, where it is Kafka and can be reached, and what was found.
pub(super) async fn check(settings: &Settings, directory: &Directory) -> (Option<KafkaLog>, Vec<Finding>) {
    match &settings.log {
        LogChoice::Embedded(_) => (None, vec![embedded(directory)]),
        LogChoice::Kafka(kafka) => on_kafka(settings, kafka).await,
    }
}

fn embedded(directory: &Directory) -> Finding {
    let (subject, path) = ("log", directory.log());
    if !path.exists() {
        return Finding::ok(subject, format!("embedded, to be made in {}", path.display()));
    }
    let looked = Peek::open(&path).and_then(|peek| {
        let partitions = peek.topics()?;
        partitions.iter().try_for_each(|partition| peek.bounds(partition).map(drop))?;
        Ok(partitions.len())
    });
    match looked {
        Ok(count) => {
            Finding::ok(subject, format!("embedded, {}, whose end can be read", numbered(count, "partition")))
        }
        Err(error @ LogError::Damaged { .. }) => Finding::failed(subject, error.to_string())
            .advice(format!("millstream log repair --data {}", quoted(directory.path()))),
        Err(error) => Finding::failed(subject, format!("{:#}", anyhow::Error::new(error))),
    }
}

async fn on_kafka(settings: &Settings, kafka: &Kafka) -> (Option<KafkaLog>, Vec<Finding>) {
    let subject = "log";
    let log = match open_kafka(kafka).await {
        Ok(log) => log,
        Err(error) => return (None, vec![Finding::failed(subject, format!("{error:#}"))]),
    };
    let mut findings = vec![Finding::ok(subject, format!("Kafka answers at {}", kafka.brokers()))];
    let mut topics: Vec<LogTopic> = settings.streams.iter().map(|stream| stream.name.log_topic()).collect();
    topics.extend([LogTopic::lifecycle(), LogTopic::unrouted(), LogTopic::notices()]);
    for topic in topics {
        let subject = format!("topic {topic}");
        findings.push(match log.partitions(&topic).await {
            Ok(partitions) => match unreadable(&log, &topic).await {
                None => Finding::ok(subject, numbered(partitions.len(), "partition")),
                Some(error) => Finding::failed(subject, error.to_string()),
            },
            Err(error) => Finding::failed(subject, error.to_string()),
        });
    }
    findings.push(match write(&log).await {
        Ok(()) => Finding::ok(subject, "takes what is written, on all replicas in sync"),
        Err(error) => Finding::failed(subject, format!("cannot write to {}: {error}", LogTopic::notices()))
            .advice("allow Write and Describe on the topics, and IdempotentWrite on the cluster"),
    });
    (Some(log), findings)
}

async fn unreadable(log: &KafkaLog, topic: &LogTopic) -> Option<LogError> {
    for partition in log.partitions(topic).await.ok()? {
        if let Err(error) = log.bounds(&partition).await {
            return Some(error);
        }
    }
    None
}

async fn write(log: &KafkaLog) -> Result<(), LogError> {
    let record = Record { key: b"doctor".as_slice().into(), value: NOTHING.into(), headers: Vec::new() };
    log.append(&LogTopic::notices(), vec![record]).await?.await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::NOTHING;
    use millstream_model::notice::Notice;

    #[test]
    fn what_is_written_as_a_trial_is_a_notice_of_nothing() {
        assert_eq!(Notice::parse(NOTHING).unwrap(), []);
    }
}
