//! What a firehose says of itself while it runs.

use millstream_lake::ledger::Closed;
use millstream_model::name::{Offset, Partition};
use millstream_model::record::Stored;
use millstream_model::time::Micros;
use std::collections::BTreeMap;
use std::time::Duration;

/// Where the worker of one log topic stands. The worker alone writes it; anyone may look.
///
/// What is counted (`totals`, `by_partition`, `mismatches`, `incidents`) only ever rises while the program runs, also when partitions come and go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// What it is doing.
    pub phase: Phase,
    /// Each partition it owns now.
    pub partitions: BTreeMap<Partition, Progress>,
    /// The last commit, of this run.
    pub last_commit: Option<Committed>,
    /// The last failure with its causes, until something succeeds again.
    pub last_error: Option<String>,
    /// Why the log could not be trimmed after the last commit, if so: it grows meanwhile.
    pub untrimmed: Option<String>,
    /// All commits of this run together.
    pub totals: Totals,
    /// The commits of this run by partition, also of those that others own by now.
    pub by_partition: BTreeMap<Partition, PartitionTotals>,
    /// What it has read of each partition and not committed yet. Nothing of it is lost with it: the log has it.
    pub in_flight: BTreeMap<Partition, InFlight>,
    /// By column: values that did not fit it, in this run. As many columns at most as the stream may have.
    pub mismatches: BTreeMap<String, u64>,
    /// What went wrong or had to be done again.
    pub incidents: Incidents,
}

impl Status {
    /// A step failed at this partition.
    pub(crate) fn failed_at(&mut self, partition: Partition) {
        self.by_partition.entry(partition).or_default().errors += 1;
    }

    /// Whether the log of a partition ends before what is committed of it: then it is not the same log any more.
    pub(crate) fn has_shrunk(&self) -> bool {
        let shrunk =
            |progress: &Progress| progress.committed.is_some_and(|committed| progress.next <= committed);
        self.partitions.values().any(shrunk)
    }
}

/// What a worker is doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Phase {
    /// Finding out where it stands: also when its group has ceased to count it in, and has not dealt it a share again.
    #[default]
    Starting,
    /// Nothing: others of its group own all partitions.
    Standby,
    /// Reading and committing.
    Running,
    /// Something failed that may pass; it is tried again. The readings wait in the log.
    Retrying,
    /// Committing what was in the log when it was told to stop.
    Draining,
    /// It ended, everything committed.
    Drained,
    /// It ended, and a person must act.
    Failed,
}

/// Where a partition stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The last offset whose outcome is committed.
    pub committed: Option<Offset>,
    /// The offset that the log's next record will get, as of the last look: every few seconds, also while nothing can be committed.
    pub next: Offset,
    /// When the record at `committed` was received, where that is known: everything received before it has its outcome.
    pub received_at: Option<Micros>,
    /// When the last commit about this partition was made, of this run.
    pub committed_at: Option<Micros>,
    /// When the oldest record without an outcome was received; until that one is read, when it was first seen that there is one.
    pub waiting_since: Option<Micros>,
}

impl Progress {
    /// How many messages of the log have no outcome yet.
    #[must_use]
    pub fn lag(&self) -> u64 {
        let from = self.committed.map_or(Offset::ZERO, Offset::next);
        u64::try_from(self.next.0.saturating_sub(from.0)).unwrap_or_default()
    }

    /// How long the oldest message has waited that has no outcome yet; nothing while none waits.
    #[must_use]
    pub fn freshness(&self, now: Micros) -> Duration {
        let Some(since) = self.waiting_since.filter(|_| self.lag() > 0) else { return Duration::ZERO };
        Duration::from_micros(u64::try_from(now.0.saturating_sub(since.0)).unwrap_or_default())
    }

    /// The same, if what waits came then at the earliest: what came while others were committed was not read yet, and is not much older.
    pub(crate) fn waiting(mut self, then: Micros) -> Self {
        self.waits_since(then);
        self
    }

    /// Something waits at least since then, if anything does.
    pub(crate) fn waits_since(&mut self, then: Micros) {
        if self.lag() == 0 {
            self.waiting_since = None;
        } else if self.waiting_since.is_none_or(|since| then < since) {
            self.waiting_since = Some(then);
        }
    }
}

/// One commit of a flush.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The table's version that it made.
    pub version: i64,
    /// When it was made.
    pub at: Micros,
    /// Why the files closed.
    pub closed: Closed,
    /// What was in it.
    pub rows: Totals,
}

/// How many messages and readings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Commits.
    pub commits: u64,
    /// Messages that were decided about.
    pub messages: u64,
    /// Readings written.
    pub readings: u64,
    /// Messages quarantined.
    pub quarantined: u64,
    /// Messages that gave no reading on purpose: an empty array, or the stream's own `where` kept none.
    pub dropped: u64,
    /// Files of the table.
    pub files: u64,
    /// Bytes of these files.
    pub bytes: u64,
}

impl Totals {
    pub(crate) fn add(&mut self, other: Self) {
        self.commits += other.commits;
        self.messages += other.messages;
        self.readings += other.readings;
        self.quarantined += other.quarantined;
        self.dropped += other.dropped;
        self.files += other.files;
        self.bytes += other.bytes;
    }
}

/// How many messages and readings of one partition. Files have rows of several, so they are not counted here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PartitionTotals {
    /// Commits that decided about messages of it. One commit may cover several partitions and is counted for each of them.
    pub commits: u64,
    /// Messages that were decided about.
    pub messages: u64,
    /// Readings written.
    pub readings: u64,
    /// Messages quarantined.
    pub quarantined: u64,
    /// Messages that gave no reading on purpose.
    pub dropped: u64,
    /// Bytes of the payloads of all these messages.
    pub bytes: u64,
    /// Steps that failed at this partition, whether or not they were tried again: claiming it, reading it, looking for its end, trimming it.
    pub errors: u64,
}

/// Messages that were read and are not committed yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InFlight {
    /// How many.
    pub messages: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
}

impl InFlight {
    pub(crate) fn add(&mut self, records: &[Stored]) {
        let bytes: usize = records.iter().map(|stored| stored.record.value.len()).sum();
        self.messages += u64::try_from(records.len()).unwrap_or(u64::MAX);
        self.bytes += u64::try_from(bytes).unwrap_or(u64::MAX);
    }
}

/// What went wrong or had to be done again, in this run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Incidents {
    /// Steps that failed, whether or not they were tried again.
    pub errors: u64,
    /// Steps that were tried again after a failure.
    pub retries: u64,
    /// How often another worker was faster: the buffer was dropped and read again from the log.
    pub lost: u64,
    /// How often the share of the partitions changed after the first.
    pub rebalances: u64,
    /// Gaps of the log that were accepted and written down.
    pub gaps: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lag_counts_what_waits_and_freshness_is_zero_where_nothing_does() {
        let check = |committed: Option<i64>, next, waiting_since: Option<i64>, lag, fresh| {
            let progress = Progress {
                committed: committed.map(Offset),
                next: Offset(next),
                // However long ago that was, it says nothing of what came since.
                received_at: Some(Micros(1)),
                committed_at: None,
                waiting_since: waiting_since.map(Micros),
            };
            assert_eq!(progress.lag(), lag);
            assert_eq!(progress.freshness(Micros(10)), Duration::from_micros(fresh));
        };
        check(None, 0, None, 0, 0);
        check(None, 7, Some(4), 7, 6);
        check(Some(4), 7, Some(3), 2, 7);
        check(Some(6), 7, Some(3), 0, 0);
        // The next offset is older than the commit.
        check(Some(6), 5, None, 0, 0);
        check(Some(4), 7, Some(30), 2, 0);
    }

    #[test]
    fn the_oldest_that_waits_counts_until_nothing_waits() {
        let mut progress = Progress {
            committed: Some(Offset(4)),
            next: Offset(7),
            received_at: None,
            committed_at: None,
            waiting_since: None,
        };
        for (then, expected) in [(9, 9), (3, 3), (5, 3)] {
            progress.waits_since(Micros(then));
            assert_eq!(progress.waiting_since, Some(Micros(expected)));
        }
        progress.next = Offset(5);
        progress.waits_since(Micros(1));
        assert_eq!(progress.waiting_since, None);
    }
}
