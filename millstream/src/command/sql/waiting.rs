//! What was acknowledged and is not in files yet.

use crate::config::Settings;
use crate::directory::Directory;
use anyhow::Context;
use millstream_lake::{Bucket, Snapshot, Table};
use millstream_log::embedded::Peek;
use millstream_log::{LogError, ReadLimit};
use millstream_model::name::{Offset, RESERVED_STREAMS, TopicPartition};
use millstream_model::stream::Stream;
use millstream_model::time::Micros;
use millstream_readings::{Decoder, InputSchema};
use millstream_transform::firehose::{self, INPUT_SCHEMA};
use std::fmt;
use std::sync::Arc;

/// Messages that are decoded to be counted; with more, the count says "more than".
const COUNTED_MAX: u64 = 100_000;

/// One read of the log.
const STEP: ReadLimit = ReadLimit { records: 4096, bytes: 4 << 20 };

/// Readings that wait in the log.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    readings: u64,
    more: bool,
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (more, are) = (
            if self.more { "more than " } else { "" },
            if self.readings == 1 { "reading is" } else { "readings are" },
        );
        write!(f, "{more}{} acknowledged {are} not in files yet, and so not in this answer", self.readings)
    }
}

/// Counts what waits in the log for a table; `None` if nothing does. It reads the log beside whoever owns it, and changes nothing.
pub(super) async fn count(
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
            None => waiting.readings += count_messages(&peek, &partition, snapshot.as_deref())?,
        }
    }
    Ok(Some(waiting).filter(|waiting| waiting.readings > 0))
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
    let committed = snapshot.and_then(|snapshot| firehose::committed(snapshot, partition));
    let next = committed.map_or(bounds.first, Offset::next);
    Ok(u64::try_from(bounds.next.0 - next.0).unwrap_or_default())
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
        waiting.readings += decoded.ranges.values().map(|range| range.readings).sum::<u64>();
        if waiting.readings >= COUNTED_MAX {
            waiting.more = true;
            return Ok(());
        }
    }
}
