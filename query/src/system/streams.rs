//! `system.streams`: each stream, and what its table holds.

use super::definition::Kind::{Count, Date, Flag, Instant, Number, Text};
use super::definition::{Column, Contents, Definition, column};
use super::rows::{Rows, count, date, flag, instant_of_millis, number, text};
use super::surroundings::{Found, LOOKS_AT_ONCE, Place, Surroundings, chain, external};
use super::wanted::Wanted;
use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use millstream_lake::upkeep::retired_app;
use millstream_lake::{DataFile, LakeError, Snapshot, Table};
use millstream_model::column::reserved;

const DAY_SECONDS: f64 = 86_400.0;

const COLUMNS: [Column; 14] = [
    column("stream", Text, "the stream's name, which is also its table's"),
    column(
        "configured",
        Flag,
        "whether the configuration has it; a table may be of a stream that was taken out",
    ),
    column("topics", Text, "the MQTT topics that it claims; null for Millstream's own"),
    column("version", Count, "the version of its table; null while there is none"),
    column("rows", Count, "readings in files; those that wait in the log are not among them"),
    column("files", Count, "files of the table"),
    column("bytes", Count, "bytes of these files"),
    column("columns", Count, "columns of the table"),
    column("first_date", Date, "the earliest date of a file"),
    column("last_date", Date, "the latest date of a file"),
    column("last_commit", Instant, "when the latest version was made"),
    column("keep_days", Number, "for how many days readings are kept, as configured; null: for ever"),
    column(
        "retired_before",
        Date,
        "dates before this were taken out, because they had been kept for as long as configured",
    ),
    column("problem", Text, "why the table could not be read; null if it could"),
];

pub(super) const DEFINITION: Definition =
    Definition { name: "streams", columns: &COLUMNS, keys: 1, contents: Contents::Listing(rows) };

fn rows<'a>(
    surroundings: &'a Surroundings,
    wanted: &'a Wanted,
    rows: &'a mut Rows,
) -> BoxFuture<'a, Result<()>> {
    async move {
        let mut names = Vec::new();
        for name in surroundings.stream_names().await? {
            if wanted.about([name])? {
                names.push(name.to_owned());
            }
        }
        let looks = stream::iter(names).map(|name| async move {
            let found = surroundings.look(Place::Ingestion, &name).await;
            row(surroundings, wanted, &name, found).await
        });
        let mut found = looks.buffered(LOOKS_AT_ONCE);
        while let Some(row) = found.try_next().await? {
            rows.push(row)?;
        }
        Ok(())
    }
    .boxed()
}

async fn row(
    surroundings: &Surroundings,
    wanted: &Wanted,
    name: &str,
    found: Result<Found, LakeError>,
) -> Result<[ScalarValue; COLUMNS.len()]> {
    let stream = surroundings.stream(name);
    let (found, problem) = match found {
        Ok(found) => (found, None),
        // One table that cannot be read must not hide the others.
        Err(error) => (None, Some(chain(&error))),
    };
    let snapshot = found.as_ref().map(|(_, snapshot)| snapshot.as_ref());
    let files = snapshot.map(Snapshot::files);
    let dates = files.map(|files| files.iter().filter_map(file_date));
    let last_commit = match &found {
        Some((table, snapshot)) if wanted.reads(["last_commit"]) => {
            committed_at(table, snapshot.version()).await?
        }
        _ => 0,
    };
    let topics = stream.map(|stream| {
        let topics: Vec<String> = stream.topics.iter().map(ToString::to_string).collect();
        topics.join(", ")
    });
    Ok([
        text(Some(name)),
        flag(stream.is_some()),
        text(topics.filter(|topics| !topics.is_empty())),
        count(snapshot.map(Snapshot::version)),
        // Unknown of one file, unknown of all.
        count(files.and_then(|files| files.iter().map(|file| file.rows).sum::<Option<u64>>())),
        count(files.map(<[DataFile]>::len)),
        count(files.map(|files| files.iter().map(|file| file.size).sum::<u64>())),
        count(snapshot.map(|snapshot| snapshot.schema().fields().len())),
        date(dates.clone().and_then(Iterator::min)),
        date(dates.and_then(Iterator::max)),
        instant_of_millis(last_commit),
        number(stream.and_then(|stream| stream.keep).map(|keep| keep.as_secs_f64() / DAY_SECONDS)),
        date(snapshot.and_then(retired_before)),
        text(problem),
    ])
}

fn retired_before(snapshot: &Snapshot) -> Option<i32> {
    snapshot.txn(&retired_app(snapshot.table())).and_then(|days| i32::try_from(days).ok())
}

/// The date of a file, in days since 1970; `None` where it has none.
pub(super) fn file_date(file: &DataFile) -> Option<i32> {
    let text = file.partition_values.get(reserved::DATE)?.as_ref()?;
    match ScalarValue::try_from_string(text.clone(), &DataType::Date32) {
        Ok(ScalarValue::Date32(date)) => date,
        _ => None,
    }
}

/// When a version was made, in milliseconds since 1970; 0 where nobody knows any more.
pub(super) async fn committed_at(table: &Table, version: i64) -> Result<i64> {
    match table.commit_info(version).await {
        Ok(commit) => Ok(commit.timestamp_ms),
        Err(LakeError::Gone { .. }) => Ok(0),
        Err(error) => Err(external(error)),
    }
}
