//! What a janitor did and finds, for whoever asks: health, metrics.

use chrono::{DateTime, Utc};
use millstream_lake::upkeep::{Extent, Tended};
use std::collections::BTreeMap;

/// What a janitor says of itself. Written by it alone.
#[derive(Debug, Clone, Default)]
pub struct Status {
    /// When it last came round all tables.
    pub ended_at: Option<DateTime<Utc>>,
    /// How often it came round.
    pub rounds: u64,
    /// Why the tables could not even be listed, if so the last time.
    pub last_error: Option<String>,
    /// By table.
    pub tables: BTreeMap<String, TableStatus>,
}

/// What was done for one table.
#[derive(Debug, Clone, Default)]
pub struct TableStatus {
    /// When it was last looked after with success.
    pub tended_at: Option<DateTime<Utc>>,
    /// How large it was then.
    pub extent: Extent,
    /// Since the process began.
    pub totals: Totals,
    /// Why it could not be looked after, if so the last time.
    pub last_error: Option<String>,
}

/// Counts since the process began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Files that were merged into others.
    pub merged: u64,
    /// Files in whose place they are.
    pub written: u64,
    /// Bytes that were written for it.
    pub bytes_written: u64,
    /// Merges that came to nothing, because others were faster.
    pub overtaken: u64,
    /// Rows that have been kept long enough.
    pub retired_rows: u64,
    /// Files that nobody needed any more.
    pub files_removed: u64,
    /// Their bytes.
    pub bytes_removed: u64,
    /// Commits that were removed from the log.
    pub commits_removed: u64,
    /// Checkpoints that were written.
    pub checkpoints: u64,
    /// Times when the table could not be looked after.
    pub errors: u64,
}

impl Status {
    pub(super) fn failed_to_list(&mut self, error: String) {
        self.last_error = Some(error);
    }

    pub(super) fn ended_round(&mut self, names: &[String], now: DateTime<Utc>) {
        self.rounds += 1;
        (self.ended_at, self.last_error) = (Some(now), None);
        self.tables.retain(|name, _| names.contains(name));
    }

    /// What was done counts, whether or not something else could not be.
    pub(super) fn looked_after(
        &mut self,
        name: &str,
        done: Option<&Tended>,
        error: Option<String>,
        now: DateTime<Utc>,
    ) {
        let table = self.tables.entry(name.to_owned()).or_default();
        if let Some(done) = done {
            table.extent = done.after;
            table.totals.add(done);
        }
        match &error {
            None => table.tended_at = Some(now),
            Some(_) => table.totals.errors += 1,
        }
        table.last_error = error;
    }
}

impl Totals {
    fn add(&mut self, tended: &Tended) {
        self.merged += tended.compacted.merged;
        self.written += tended.compacted.written;
        self.bytes_written += tended.compacted.bytes_written;
        self.overtaken += tended.compacted.overtaken;
        self.retired_rows += tended.retired.as_ref().and_then(|retired| retired.rows).unwrap_or(0);
        self.checkpoints += u64::from(tended.checkpoint);
        if let Some(vacuumed) = &tended.vacuumed {
            self.files_removed += vacuumed.files;
            self.bytes_removed += vacuumed.bytes;
        }
        if let Some(cleaned) = tended.cleaned {
            self.commits_removed += cleaned.commits;
        }
    }
}
