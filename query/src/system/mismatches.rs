//! `system.mismatches`: values that did not fit their column, as the files say that have the readings.

use super::definition::Kind::{Count, Date, Text};
use super::definition::{Column, Contents, Definition, column};
use super::rows::{Rows, count, date, text};
use super::streams::file_date;
use super::surroundings::{Place, Surroundings, external};
use super::wanted::Wanted;
use datafusion::error::Result;
use futures::FutureExt;
use futures::future::BoxFuture;
use millstream_lake::Snapshot;
use millstream_lake::upkeep::tags;
use std::collections::BTreeMap;

const COLUMNS: [Column; 5] = [
    column("stream", Text, "the stream"),
    column("column_name", Text, "the column"),
    column(
        "mismatches",
        Count,
        "how many values did not fit it and are in _extra instead; of files that were retired nothing is counted any more",
    ),
    column("first_date", Date, "the earliest date of a file that tells of some"),
    column("last_date", Date, "the latest date of a file that tells of some"),
];

pub(super) const DEFINITION: Definition =
    Definition { name: "mismatches", columns: &COLUMNS, keys: 1, contents: Contents::Listing(rows) };

fn rows<'a>(
    surroundings: &'a Surroundings,
    wanted: &'a Wanted,
    rows: &'a mut Rows,
) -> BoxFuture<'a, Result<()>> {
    async move {
        for stream in surroundings.stream_names().await? {
            if !wanted.about([stream])? {
                continue;
            }
            let found = surroundings.look(Place::Ingestion, stream).await.map_err(external)?;
            let Some((_, snapshot)) = found else { continue };
            for (name, misfits) in misfits(&snapshot) {
                rows.push([
                    text(Some(stream)),
                    text(Some(name)),
                    count(Some(misfits.values)),
                    date(misfits.first),
                    date(misfits.last),
                ])?;
            }
        }
        Ok(())
    }
    .boxed()
}

/// What files say of one column.
#[derive(Default)]
struct Misfits {
    values: u64,
    first: Option<i32>,
    last: Option<i32>,
}

fn misfits(snapshot: &Snapshot) -> BTreeMap<String, Misfits> {
    let mut all: BTreeMap<String, Misfits> = BTreeMap::new();
    for file in snapshot.files() {
        let Some(said) = file.tags.get(tags::MISMATCHES) else { continue };
        // What somebody else wrote there says nothing.
        let counts: BTreeMap<String, u64> = serde_json::from_str(said).unwrap_or_default();
        let day = file_date(file);
        for (column, values) in counts {
            let misfits = all.entry(column).or_default();
            misfits.values = misfits.values.saturating_add(values);
            misfits.first = [misfits.first, day].into_iter().flatten().min();
            misfits.last = misfits.last.max(day);
        }
    }
    all
}
