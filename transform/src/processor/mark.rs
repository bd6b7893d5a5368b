//! The completeness mark: the hour up to which every partition of a stream's log has passed.
//!
//! A partition has passed the greatest event time that is committed of it; one in which nothing waits has passed the moment at which that was seen. So a partition
//! whose messages wait holds the mark, and one that is silent does not. What comes nevertheless with an earlier event time is late, and is computed in then.

use super::error::ReportError;
use millstream_lake::{Snapshot, ledger};
use millstream_log::embedded::Peek;
use millstream_log::{Log, LogError};
use millstream_model::name::{LogTopic, Offset, TopicPartition};
use millstream_model::time::Micros;
use std::sync::Arc;
use std::time::Duration;

/// Marks stand at full hours.
const HOUR: i64 = 3_600_000_000;

/// Where it is looked up how far a stream has come.
#[derive(Debug, Clone)]
pub enum Sight {
    /// A log that is open here.
    Open(Arc<dyn Log>),
    /// An embedded log that another process may be writing.
    Outside(Arc<Peek>),
}

impl Sight {
    /// The partitions of a topic, and the offset that comes next in each.
    async fn ends(&self, topic: &LogTopic) -> Result<Vec<(TopicPartition, Offset)>, LogError> {
        let mut ends = Vec::new();
        match self {
            Self::Open(log) => {
                for partition in log.partitions(topic).await? {
                    let bounds = log.bounds(&partition).await?;
                    ends.push((partition, bounds.next));
                }
            }
            Self::Outside(peek) => {
                for partition in peek.topics()?.into_iter().filter(|found| found.topic == *topic) {
                    let bounds = peek.bounds(&partition)?;
                    ends.push((partition, bounds.next));
                }
            }
        }
        Ok(ends)
    }
}

/// The ends of a topic's partitions, looked up before the version of the table that is judged by them.
#[derive(Debug, Clone)]
pub(crate) struct Ends {
    /// When it was looked: what was appended before is below these ends.
    at: Micros,
    next: Vec<(TopicPartition, Offset)>,
}

impl Ends {
    /// The ends of a stream's log topic. `now` is taken before the look.
    pub(crate) async fn look(log: &Sight, topic: &LogTopic, now: Micros) -> Result<Self, ReportError> {
        Ok(Self { at: now, next: log.ends(topic).await? })
    }

    /// Up to when this version of the stream's table, which is newer than the look, is complete; `None` while that cannot be said.
    pub(crate) fn mark(&self, snapshot: &Snapshot, lateness: Duration) -> Option<Micros> {
        let passed = self.next.iter().map(|(partition, next)| self.passed(snapshot, partition, *next));
        // Of a topic without partitions nothing is known; of partitions, the one that is least far decides, and one of which nothing is known holds all.
        let least = passed.collect::<Option<Vec<Micros>>>()?.into_iter().min()?;
        let lateness = i64::try_from(lateness.as_micros()).unwrap_or(i64::MAX);
        Some(Micros(least.0.saturating_sub(lateness).div_euclid(HOUR).saturating_mul(HOUR)))
    }

    fn passed(&self, snapshot: &Snapshot, partition: &TopicPartition, next: Offset) -> Option<Micros> {
        let committed = ledger::committed(snapshot, partition);
        let waits = committed.map_or(Offset::ZERO, Offset::next) < next;
        if !waits {
            return Some(self.at);
        }
        let epoch = ledger::epoch(snapshot)?;
        let app = ledger::passed_app(snapshot.table(), &partition.topic, epoch, partition.partition);
        // A device whose clock is ahead says nothing of what is to come.
        snapshot.txn(&app).map(Micros).map(|passed| passed.min(self.at))
    }
}
