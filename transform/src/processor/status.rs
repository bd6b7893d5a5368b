//! What the processor says of its reports while it runs.

use chrono::NaiveDate;
use millstream_model::name::StreamName;
use millstream_model::time::Micros;
use std::collections::BTreeMap;
use std::time::Duration;

/// Where every report stands. The keepers write it, each its own report; anyone may look.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// By name.
    pub reports: BTreeMap<StreamName, ReportStatus>,
}

/// Where a report stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReportStatus {
    /// What is done about it.
    pub phase: ReportPhase,
    /// The versions of its sources that it shows.
    pub sources: BTreeMap<String, i64>,
    /// The latest versions of its sources, as of the last look.
    pub latest: BTreeMap<String, i64>,
    /// When it was last seen to show the latest.
    pub current_at: Option<Micros>,
    /// The version of its own table.
    pub version: Option<i64>,
    /// Why it cannot be recomputed a date at a time, if so.
    pub whole: Option<String>,
    /// Of one that waits for completeness: it goes by the readings whose event time lies before this.
    pub mark: Option<Micros>,
    /// Its rows of dates before this one stay as they are: they were retired in its source.
    pub kept_before: Option<NaiveDate>,
    /// The last failure with its causes, until it succeeds again.
    pub last_error: Option<String>,
    /// How often it was recomputed, in this run.
    pub recomputed: u64,
    /// How often that failed, in this run.
    pub failures: u64,
    /// Time that looks at it have taken, in this run, those that changed nothing among them.
    pub spent: Duration,
}

/// What is done about a report.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ReportPhase {
    /// It was not looked at yet, or its source does not exist or is not complete yet.
    #[default]
    Waiting,
    /// Something of it is being computed. To look whether there is leaves the phase as it was.
    Computing,
    /// It showed its source's latest version at the last look.
    Current,
    /// It failed and is tried again later.
    Retrying,
}
