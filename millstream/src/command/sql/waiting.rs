//! What was acknowledged and is not in files yet.

use crate::config::Settings;
use crate::config::log::{Kafka, LogChoice};
use crate::directory::Directory;
use crate::pipeline::open_kafka;
use anyhow::{Context, bail};
use millstream_lake::{Bucket, Snapshot, Table};
use millstream_log::embedded::Peek;
use millstream_log::{Bounds, Log, LogError, ReadLimit};
use millstream_model::name::{Offset, RESERVED_STREAMS, TopicPartition};
use millstream_model::stream::Stream;
use millstream_model::time::Micros;
use millstream_readings::{Decoder, InputSchema};
use millstream_transform::firehose::{self, INPUT_SCHEMA};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Messages that are decoded to be counted; with more, the count says "more than".
const COUNTED_MAX: u64 = 100_000;

/// How long Kafka may take to say how much waits: it must not hold up an answer.
const KAFKA_MAX: Duration = Duration::from_secs(5);

/// One read of the log.
const STEP: ReadLimit = ReadLimit { records: 4096, bytes: 4 << 20 };

/// Readings that wait in the log.
#[derive(Debug)]
pub(super) struct Waiting {
    count: u64,
    /// What is counted.
    are: &'static str,
    more: bool,
}

impl Default for Waiting {
    fn default() -> Self {
        Self { count: 0, are: "readings", more: false }
    }
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let more = if self.more { "more than " } else { "" };
        let are = match self.count {
            1 => format!("{} is", self.are.trim_end_matches('s')),
            _ => format!("{} are", self.are),
        };
        write!(f, "{more}{} acknowledged {are} not in files yet, and so not in this answer", self.count)
    }
}

/// Counts what waits in the log for a table; `None` if nothing does. It reads the log beside whoever owns it, and changes nothing.
pub(super) async fn count(
    directory: &Directory,
    settings: &Settings,
    ingestion: &Bucket,
) -> anyhow::Result<Option<Waiting>> {
    match &settings.log {
        LogChoice::Embedded(_) => count_embedded(directory, settings, ingestion).await,
        LogChoice::Kafka(kafka) => {
            match tokio::time::timeout(KAFKA_MAX, count_kafka(kafka, settings, ingestion)).await {
                Ok(counted) => counted,
                Err(_) => bail!("Kafka at {} did not answer in {} s", kafka.brokers(), KAFKA_MAX.as_secs()),
            }
        }
    }
}

/// Counts messages by their offsets: reading them would take time and traffic, and nearly every message is one reading.
async fn count_kafka(
    kafka: &Kafka,
    settings: &Settings,
    ingestion: &Bucket,
) -> anyhow::Result<Option<Waiting>> {
    let log = open_kafka(kafka).await?;
    let mut waiting = Waiting { are: "messages", ..Waiting::default() };
    for stream in &settings.streams {
        let snapshot = match Table::open(ingestion, stream.name.as_str()).await? {
            Some(table) => Some(table.snapshot().await?),
            None => None,
        };
        // A stream into which nothing was written yet may have no topic: a question does not make it.
        for partition in log.existing(&stream.name.log_topic()).await?.unwrap_or_default() {
            let bounds = log.bounds(&partition).await?;
            waiting.count += beyond(bounds, &partition, snapshot.as_deref());
        }
    }
    log.close().await?;
    Ok(Some(waiting).filter(|waiting| waiting.count > 0))
}

async fn count_embedded(
    directory: &Directory,
    settings: &Settings,
    ingestion: &Bucket,
) -> anyhow::Result<Option<Waiting>> {
    if !directory.log().is_dir() {
        return Ok(None);
    }
    let peek = Peek::open(&directory.log()).context("failed to look into the log")?;
    let mut waiting = Waiting::default();
    for partition in peek.topics().context("failed to look into the log")? {
        let Some(name) = stream_of(&partition) else { continue };
        let snapshot = match Table::open(ingestion, &name).await? {
            Some(table) => Some(table.snapshot().await?),
            None => None,
        };
        match settings.streams.iter().find(|stream| stream.name.as_str() == name) {
            Some(stream) => count_partition(&peek, stream, &partition, snapshot.as_deref(), &mut waiting)?,
            // Without its definition a message cannot be decoded; nearly always it is one reading.
            None => waiting.count += count_messages(&peek, &partition, snapshot.as_deref())?,
        }
    }
    Ok(Some(waiting).filter(|waiting| waiting.count > 0))
}

/// The stream whose readings are in a partition; `None` for Millstream's own topics.
fn stream_of(partition: &TopicPartition) -> Option<String> {
    let name = partition.topic.as_str().strip_prefix("millstream.")?;
    (!RESERVED_STREAMS.contains(&name)).then(|| name.to_owned())
}

fn count_messages(
    peek: &Peek,
    partition: &TopicPartition,
    snapshot: Option<&Snapshot>,
) -> anyhow::Result<u64> {
    let bounds = peek.bounds(partition).context("failed to look into the log")?;
    Ok(beyond(bounds, partition, snapshot))
}

/// How many messages of a partition have no outcome in a version of its table.
fn beyond(bounds: Bounds, partition: &TopicPartition, snapshot: Option<&Snapshot>) -> u64 {
    let committed = snapshot.and_then(|snapshot| firehose::committed(snapshot, partition));
    let next = committed.map_or(bounds.first, Offset::next);
    u64::try_from(bounds.next.0.saturating_sub(next.0)).unwrap_or_default()
}

fn count_partition(
    peek: &Peek,
    stream: &Arc<Stream>,
    partition: &TopicPartition,
    snapshot: Option<&Snapshot>,
    waiting: &mut Waiting,
) -> anyhow::Result<()> {
    let committed = snapshot.and_then(|snapshot| firehose::committed(snapshot, partition));
    let mut next = committed.map_or(Offset::ZERO, Offset::next);
    let schema = match snapshot.and_then(|snapshot| snapshot.property(INPUT_SCHEMA)) {
        Some(json) => InputSchema::restore(stream, json)?,
        None => InputSchema::declared(stream),
    };
    let mut decoder = Decoder::new(Arc::clone(stream), schema)?;
    if let Some(snapshot) = snapshot {
        decoder = decoder.for_table(&snapshot.schema());
    }
    loop {
        let records = match peek.read(partition, next, STEP) {
            Ok(records) => records,
            // Committed and trimmed since the snapshot was read, or not yet in the files that were seen: nothing that waits.
            Err(LogError::Trimmed { .. } | LogError::BeyondEnd { .. }) => return Ok(()),
            Err(error) => return Err(error).context("failed to look into the log"),
        };
        let Some(last) = records.last() else { return Ok(()) };
        next = last.offset.next();
        for stored in &records {
            decoder.push(partition.partition, stored, Micros(0));
        }
        let decoded = decoder.finish();
        waiting.count += decoded.ranges.values().map(|range| range.readings).sum::<u64>();
        if waiting.count >= COUNTED_MAX {
            waiting.more = true;
            return Ok(());
        }
    }
}
