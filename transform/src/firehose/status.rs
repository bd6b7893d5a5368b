//! What a firehose says of itself while it runs.

use millstream_model::name::{Offset, Partition};
use std::collections::BTreeMap;
use std::fmt;

/// Where the worker of one log topic stands. The worker alone writes it; anyone may look.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// What it is doing.
    pub phase: Phase,
    /// Each partition it owns.
    pub partitions: BTreeMap<Partition, Progress>,
    /// The last commit, of this run.
    pub last_commit: Option<Committed>,
    /// The last failure with its causes, until something succeeds again.
    pub last_error: Option<String>,
    /// All commits of this run together.
    pub totals: Totals,
}

/// What a worker is doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Phase {
    /// Finding out where it stands.
    #[default]
    Starting,
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
    /// The offset that the log's next record will get, as of the last look.
    pub next: Offset,
}

/// One commit of a flush.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The table's version that it made.
    pub version: i64,
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
}

impl Totals {
    pub(crate) fn add(&mut self, other: Self) {
        self.commits += other.commits;
        self.messages += other.messages;
        self.readings += other.readings;
        self.quarantined += other.quarantined;
        self.dropped += other.dropped;
    }
}

/// Why the files of a commit closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Closed {
    /// The buffer reached the size at which files close, or the memory bound.
    Size,
    /// The first record waited as long as it may.
    Age,
    /// Nothing came for a while.
    Idle,
    /// The program stops.
    Shutdown,
}

impl Closed {
    /// The word in commits, tags and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Size => "size",
            Self::Age => "age",
            Self::Idle => "idle",
            Self::Shutdown => "shutdown",
        }
    }
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
