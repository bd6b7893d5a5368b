//! `system.files`: every file of every table, as the latest version has it.

use super::definition::Kind::{Count, Date, Instant, Text};
use super::definition::{Column, Contents, Definition, column};
use super::rows::{Rows, count, date, instant_of_millis, text};
use super::streams::file_date;
use super::surroundings::{Known, Surroundings};
use super::wanted::Wanted;
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use futures::FutureExt;
use futures::future::BoxFuture;
use millstream_lake::upkeep::tags;
use millstream_lake::{DataFile, FileStats};
use millstream_model::column::reserved;

const COLUMNS: [Column; 13] = [
    column("table_schema", Text, "`ingestion` for streams, `reporting` for reports"),
    column("table_name", Text, "the table"),
    column("path", Text, "where the file lies, relative to the table's folder"),
    column("date", Date, "the date of its rows, where the table is split by date"),
    column("rows", Count, "how many rows it has"),
    column("bytes", Count, "its size"),
    column("min_ts", Instant, "no row of it has an earlier event time; null where its writer did not say"),
    column("max_ts", Instant, "no row of it has a later event time; null where its writer did not say"),
    column(
        "closed",
        Text,
        "why the file was closed: size, age, idle, rebalance or shutdown; with counts after a compaction",
    ),
    column("log_topic", Text, "the topic of the log that its rows come from"),
    column("ranges", Text, "the offsets of that topic that are decided with it: partition:first-last, …"),
    column(
        "flushes",
        Count,
        "how many flushes its rows were written by: above 1 it was put together of smaller files",
    ),
    column("written_at", Instant, "when it was finished, by its writer's clock"),
];

pub(super) const DEFINITION: Definition =
    Definition { name: "files", columns: &COLUMNS, keys: 2, contents: Contents::Listing(rows) };

fn rows<'a>(
    surroundings: &'a Surroundings,
    wanted: &'a Wanted,
    rows: &'a mut Rows,
) -> BoxFuture<'a, Result<()>> {
    async move {
        for known in surroundings.tables(wanted).await? {
            for file in known.snapshot.files().iter().take(rows.left()) {
                rows.push(row(&known, file))?;
            }
        }
        Ok(())
    }
    .boxed()
}

fn row(known: &Known, file: &DataFile) -> [ScalarValue; COLUMNS.len()] {
    let tag = |name: &str| text(file.tags.get(name).map(String::as_str));
    let bound = |of: fn(&'_ FileStats, &str) -> Option<ScalarValue>| {
        let value = file.stats.as_ref().and_then(|stats| of(stats, reserved::TS));
        // A table of somebody else may have another type there.
        value.filter(|value| value.data_type() == Instant.arrow()).unwrap_or_else(|| instant_of_millis(0))
    };
    [
        text(Some(known.place.schema())),
        text(Some(known.table.name())),
        text(Some(file.path.as_str())),
        date(file_date(file)),
        count(file.rows),
        count(Some(file.size)),
        bound(|stats, column| stats.min(column).cloned()),
        bound(|stats, column| stats.max(column).cloned()),
        tag(tags::CLOSED),
        tag(tags::LOG_TOPIC),
        tag(tags::RANGES),
        count(flushes(file)),
        instant_of_millis(file.modified_ms),
    ]
}

fn flushes(file: &DataFile) -> Option<i64> {
    match file.tags.get(tags::FLUSHES) {
        Some(count) => count.parse().ok(),
        None => file.tags.contains_key(tags::FLUSH).then_some(1),
    }
}
