//! `system.commits`: what was done to every table, newest first.

use super::definition::Kind::{Count, Flag, Instant, Text};
use super::definition::{Column, Contents, Definition, column};
use super::rows::{Rows, count, flag, instant_of_millis, text};
use super::surroundings::{Known, LOOKS_AT_ONCE, Surroundings, external};
use super::wanted::Wanted;
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use millstream_lake::ledger::{Decided, Decision};
use millstream_lake::{CommitSummary, DataFile, LakeError};

/// So many commits of a table are listed, the newest: each costs a request, and older ones are soon cleaned away.
const COMMITS_MAX: i64 = 1000;

const COLUMNS: [Column; 19] = [
    column("table_schema", Text, "`ingestion` for streams, `reporting` for reports"),
    column("table_name", Text, "the table; of each the newest 1,000 commits are listed"),
    column("version", Count, "the version that the commit made"),
    column("committed_at", Instant, "when it was made, by its writer's clock"),
    column("operation", Text, "what its writer called it"),
    column("data_change", Flag, "whether rows came or went; false for a compaction"),
    column("schema_change", Flag, "whether columns or properties changed"),
    column("files_added", Count, "files that it added"),
    column("files_removed", Count, "files that it removed"),
    column("rows_added", Count, "rows of the files that it added; null where their writer did not say"),
    column("bytes_added", Count, "bytes of the files that it added"),
    column("bytes_removed", Count, "bytes of the files that it removed"),
    column(
        "log_topic",
        Text,
        "the topic of the log whose offsets it decides about; null where it decides about none, as do all that follow",
    ),
    column("closed", Text, "why its files were closed: size, age, idle, rebalance, shutdown, or gap"),
    column(
        "messages",
        Count,
        "messages that it decides about; quarantine's own commits repeat what a stream's decided",
    ),
    column("readings", Count, "readings that they became"),
    column("quarantined", Count, "messages that went to quarantine"),
    column("dropped", Count, "messages that gave no reading on purpose"),
    column("mismatches", Count, "values that did not fit their column"),
];

pub(super) const DEFINITION: Definition =
    Definition { name: "commits", columns: &COLUMNS, keys: 2, contents: Contents::Listing(rows) };

fn rows<'a>(
    surroundings: &'a Surroundings,
    wanted: &'a Wanted,
    rows: &'a mut Rows,
) -> BoxFuture<'a, Result<()>> {
    async move {
        for known in surroundings.tables(wanted).await? {
            let newest = known.snapshot.version();
            let versions = (newest.saturating_sub(COMMITS_MAX - 1).max(0)..=newest).rev().take(rows.left());
            let read = stream::iter(versions).map(|version| known.table.commit_info(version));
            let mut commits = read.buffered(LOOKS_AT_ONCE);
            while let Some(commit) = commits.next().await {
                match commit {
                    Ok(commit) => rows.push(row(&known, &commit))?,
                    // Older ones were cleaned away.
                    Err(LakeError::Gone { .. }) => break,
                    Err(error) => return Err(external(error)),
                }
            }
        }
        Ok(())
    }
    .boxed()
}

fn row(known: &Known, commit: &CommitSummary) -> [ScalarValue; COLUMNS.len()] {
    let bytes = |files: &[DataFile]| files.iter().map(|file| file.size).sum::<u64>();
    // What cannot be read as a decision is another release's.
    let decision = Decision::from_info(&commit.info).ok().flatten();
    let decision = decision.as_ref();
    let sum =
        |of: fn(&Decided) -> u64| count(decision.map(|decision| decision.ranges.iter().map(of).sum::<u64>()));
    [
        text(Some(known.place.schema())),
        text(Some(known.table.name())),
        count(Some(commit.version)),
        instant_of_millis(commit.timestamp_ms),
        text(Some(commit.operation.as_str())),
        flag(commit.data_change),
        flag(commit.metadata_change),
        count(Some(commit.adds.len())),
        count(Some(commit.removes.len())),
        count(commit.adds.iter().map(|file| file.rows).sum::<Option<u64>>()),
        count(Some(bytes(&commit.adds))),
        count(Some(bytes(&commit.removes))),
        text(decision.map(|decision| decision.log_topic.as_str())),
        text(decision.map(|decision| decision.closed.as_str())),
        sum(|range| range.messages),
        sum(|range| range.readings),
        sum(|range| range.quarantined),
        sum(|range| range.dropped),
        count(
            decision.map(|decision| decision.mismatches.iter().map(|mismatch| mismatch.count).sum::<u64>()),
        ),
    ]
}
