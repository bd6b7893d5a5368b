//! Rows that were kept long enough leave the table: whole dates, by the partition column, so that no file is written again for it.

use super::land::{Landed, land};
use crate::ledger::INFO;
use crate::table::Table;
use crate::{DataFile, LakeError, Operation, Plan, Snapshot};
use chrono::{DateTime, Datelike, NaiveDate, Utc};
use millstream_model::column::reserved;
use millstream_model::stream::DatePartition;
use serde_json::{Map, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// So many files leave by one commit: more would make it too large to be read at once. What remains, the next commit takes.
const FILES_MAX: usize = 10_000;

/// The transaction that says what has left a table: the day, counted from 1970-01-01, before whose `date` no rows are kept.
#[must_use]
pub fn retired_app(table: &str) -> String {
    format!("millstream/{table}/retired")
}

/// The first `date` that is still kept; `None` where nothing has left the table yet.
#[must_use]
pub fn retired_before(snapshot: &Snapshot) -> Option<NaiveDate> {
    let days = snapshot.txn(&retired_app(snapshot.table()))?;
    NaiveDate::from_epoch_days(i32::try_from(days).ok()?)
}

/// How long rows are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// From the end of their date on.
    pub time: Duration,
    /// How long a date of the table is.
    pub date: DatePartition,
}

impl Keep {
    /// The first date of which something is still to be kept.
    #[must_use]
    pub fn horizon(self, now: DateTime<Utc>) -> Option<NaiveDate> {
        let oldest = now.checked_sub_signed(chrono::Duration::from_std(self.time).ok()?)?.date_naive();
        match self.date {
            DatePartition::Day => Some(oldest),
            DatePartition::Month => oldest.with_day(1),
        }
    }
}

/// What left, or is to leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retired {
    /// The first date that is kept.
    pub before: NaiveDate,
    /// The first and the last date that left.
    pub dates: (NaiveDate, NaiveDate),
    /// How many files.
    pub files: u64,
    /// How many rows; `None` where a file does not say it.
    pub rows: Option<u64>,
    /// How many bytes.
    pub bytes: u64,
}

/// The files whose time has come.
#[derive(Debug)]
pub(super) struct Due {
    pub(super) retired: Retired,
    files: Vec<DataFile>,
}

/// What is to leave by now, the oldest first; `None` if nothing is.
pub(super) fn due(snapshot: &Snapshot, keep: Keep, now: DateTime<Utc>, files_max: usize) -> Option<Due> {
    // A shorter time that was configured by mistake, and taken back, has retired what it has; the horizon never goes back.
    let horizon = keep.horizon(now)?.max(retired_before(snapshot).unwrap_or(NaiveDate::MIN));
    let mut by_date: BTreeMap<NaiveDate, Vec<&DataFile>> = BTreeMap::new();
    for file in snapshot.files() {
        if let Some(date) = date(file).filter(|date| *date < horizon) {
            by_date.entry(date).or_default().push(file);
        }
    }
    let mut files: Vec<DataFile> = Vec::new();
    let mut dates = BTreeSet::new();
    let mut before = horizon;
    for (date, of_date) in by_date {
        if !files.is_empty() && files.len() + of_date.len() > files_max {
            before = date;
            break;
        }
        dates.insert(date);
        files.extend(of_date.into_iter().cloned());
    }
    let retired = Retired {
        before,
        dates: (*dates.first()?, *dates.last()?),
        files: files.len() as u64,
        rows: files.iter().map(|file| file.rows).sum(),
        bytes: files.iter().map(|file| file.size).sum(),
    };
    Some(Due { retired, files })
}

fn date(file: &DataFile) -> Option<NaiveDate> {
    file.partition_values.get(reserved::DATE)?.as_ref()?.parse().ok()
}

/// Commits that what is due has left; what was really done.
///
/// # Errors
/// As [`Table::commit`].
pub(super) async fn retire(
    table: &Table,
    keep: Keep,
    now: DateTime<Utc>,
) -> Result<Option<Retired>, LakeError> {
    let mut all: Option<Retired> = None;
    loop {
        let planned = table.snapshot().await?;
        let Some(Due { retired, files }) = due(&planned, keep, now, FILES_MAX) else { return Ok(all) };
        let days = retired.before.signed_duration_since(NaiveDate::default()).num_days();
        // What an earlier, larger horizon has taken stays taken.
        let days = planned.txn(&retired_app(table.name())).map_or(days, |before| before.max(days));
        let mut info = Map::new();
        info.insert(INFO.to_owned(), json!({ "retired_before": retired.before.to_string() }));
        let plan = Plan {
            operation: Operation::Retire,
            set: BTreeMap::from([(retired_app(table.name()), days)]),
            removes: files,
            data_change: true,
            info,
            ..Plan::default()
        };
        match land(table, &planned, plan).await? {
            Landed::At(version) => {
                let before = retired.before.to_string();
                tracing::info!(table = table.name(), version, before, rows = retired.rows, "retired");
                all = Some(match all {
                    Some(earlier) => earlier.and(retired),
                    None => retired,
                });
            }
            Landed::Overtaken => return Ok(all),
        }
    }
}

impl Retired {
    fn and(self, later: Self) -> Self {
        Self {
            before: later.before,
            dates: (self.dates.0.min(later.dates.0), self.dates.1.max(later.dates.1)),
            files: self.files + later.files,
            rows: self.rows.zip(later.rows).map(|(a, b)| a + b),
            bytes: self.bytes + later.bytes,
        }
    }
}
