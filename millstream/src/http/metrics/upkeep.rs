//! The tables and who looks after them, by bucket and table.

use super::family::{Family, label};
use crate::pipeline::Observed;
use chrono::{DateTime, Utc};
use millstream_model::time::Micros;
use millstream_transform::janitor::{Status, Totals};
use std::ops::Deref;

pub(super) fn families(observed: &Observed) -> Vec<Family> {
    let statuses: Vec<(&str, Status)> =
        observed.janitors.iter().map(|(bucket, status)| (*bucket, status.borrow().deref().clone())).collect();
    let mut families = rounds(&statuses);
    families.extend(tables(&statuses));
    families.extend(totals(&statuses));
    families
}

fn rounds(statuses: &[(&str, Status)]) -> Vec<Family> {
    let mut runs =
        Family::counter("millstream_upkeep_runs", "How often all tables of a bucket were looked after");
    let mut at = Family::gauge(
        "millstream_upkeep_run_timestamp_seconds",
        "When all tables of a bucket were last looked after, in seconds since 1970; it stands still while they cannot be listed",
    );
    for (bucket, status) in statuses {
        runs.count([label("bucket", bucket)], status.rounds);
        if let Some(ended) = status.ended_at {
            at.value([label("bucket", bucket)], seconds(ended));
        }
    }
    vec![runs, at]
}

fn tables(statuses: &[(&str, Status)]) -> Vec<Family> {
    let mut files = Family::gauge(
        "millstream_table_files",
        "Files of a table's latest version, as of the last time that it was looked after",
    );
    let mut bytes = Family::gauge("millstream_table_bytes", "Bytes of these files");
    let mut succeeded = Family::gauge(
        "millstream_upkeep_success_timestamp_seconds",
        "When a table was last looked after without a failure, in seconds since 1970",
    );
    for (bucket, status) in statuses {
        for (name, table) in &status.tables {
            let Some(at) = table.tended_at else { continue };
            let labels = || [label("bucket", bucket), label("table", name)];
            files.count(labels(), table.extent.files);
            bytes.count(labels(), table.extent.bytes);
            succeeded.value(labels(), seconds(at));
        }
    }
    vec![files, bytes, succeeded]
}

fn totals(statuses: &[(&str, Status)]) -> Vec<Family> {
    type Number = fn(&Totals) -> u64;
    let counts: [(&str, &str, Number); 10] = [
        ("millstream_upkeep_merged_files", "Files that were merged into others", |totals| totals.merged),
        ("millstream_upkeep_written_files", "Files in the place of those that were merged", |totals| {
            totals.written
        }),
        ("millstream_upkeep_written_bytes", "Bytes of these files", |totals| totals.bytes_written),
        (
            "millstream_upkeep_overtaken_commits",
            "Merges that came to nothing because another commit was faster; they are planned anew",
            |totals| totals.overtaken,
        ),
        ("millstream_upkeep_retired_rows", "Rows that were kept as long as they shall be", |totals| {
            totals.retired_rows
        }),
        ("millstream_upkeep_removed_files", "Files that nobody needed any more", |totals| {
            totals.files_removed
        }),
        ("millstream_upkeep_removed_bytes", "Bytes of these files", |totals| totals.bytes_removed),
        ("millstream_upkeep_removed_commits", "Commits that were removed from a table's own log", |totals| {
            totals.commits_removed
        }),
        ("millstream_upkeep_written_checkpoints", "Checkpoints that were written", |totals| {
            totals.checkpoints
        }),
        ("millstream_upkeep_errors", "Times when a table could not be looked after", |totals| totals.errors),
    ];
    let family = |(name, help, of): (&'static str, &'static str, Number)| {
        let mut family = Family::counter(name, help);
        for (bucket, status) in statuses {
            for (name, table) in &status.tables {
                family.count([label("bucket", bucket), label("table", name)], of(&table.totals));
            }
        }
        family
    };
    counts.into_iter().map(family).collect()
}

fn seconds(at: DateTime<Utc>) -> f64 {
    Micros::from(at).0 as f64 / 1e6
}
