//! The completeness mark: the hour up to which every partition of a stream's log has passed.
//!
//! A partition has passed the greatest event time that is committed of it; one in which nothing waits has passed the moment at which that was seen. So a partition
//! whose messages wait holds the mark, and one that is silent does not. What comes nevertheless with an earlier event time is late, and is computed in then. A mark
//! moves back only when a person has the report computed anew.

use super::error::ReportError;
use millstream_lake::{Snapshot, ledger};
use millstream_log::Log;
use millstream_model::name::{LogTopic, Offset, TopicPartition};
use millstream_model::time::Micros;
use std::cmp::Ordering;
use std::time::Duration;

/// Marks stand at full hours.
const HOUR: i64 = 3_600_000_000;

/// The ends of a topic's partitions, looked up before the version of the table that is judged by them.
#[derive(Debug, Clone)]
pub(crate) struct Ends {
    /// When it was looked: what was appended before is below these ends.
    at: Micros,
    next: Vec<(TopicPartition, Offset)>,
}

impl Ends {
    /// The ends of a stream's log topic, which is not made by looking. `now` is taken before the look.
    pub(crate) async fn look(log: &dyn Log, topic: &LogTopic, now: Micros) -> Result<Self, ReportError> {
        let mut next = Vec::new();
        for partition in log.existing(topic).await?.unwrap_or_default() {
            let bounds = log.bounds(&partition).await?;
            next.push((partition, bounds.next));
        }
        Ok(Self { at: now, next })
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
        match committed.map_or(Offset::ZERO, Offset::next).cmp(&next) {
            Ordering::Equal => return Some(self.at),
            // Appended and committed since the look; or the log is no longer the one that the table was filled from. The next look tells which.
            Ordering::Greater => return None,
            Ordering::Less => {}
        }
        let epoch = ledger::epoch(snapshot)?;
        let app = ledger::passed_app(snapshot.table(), &partition.topic, epoch, partition.partition);
        // A device whose clock is ahead says nothing of what is to come.
        snapshot.txn(&app).map(Micros).map(|passed| passed.min(self.at))
    }
}
