//! `system.columns`: the columns of every table, where they come from, and what those of the system tables mean.

use super::TABLES;
use super::definition::Kind::{Count, Flag, Text};
use super::definition::{Column, Contents, Definition, column};
use super::rows::{Rows, count, flag, text};
use super::surroundings::{LOOKS_AT_ONCE, Place, Surroundings, chain, external, problem};
use super::wanted::Wanted;
use crate::runtime::{INGESTION, REPORTING, SYSTEM};
use arrow::datatypes::{DataType, Schema, SchemaRef, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use millstream_lake::Snapshot;
use millstream_lake::ledger::INPUT_SCHEMA;
use millstream_model::column::{ColumnType, reserved};
use millstream_model::name::QUARANTINE;
use millstream_model::stream::Stream;
use serde_json::Value;
use std::collections::HashSet;

const COLUMNS: [Column; 9] = [
    column(
        "table_schema",
        Text,
        "`ingestion` for streams, `reporting` for reports, `system` for these tables",
    ),
    column("table_name", Text, "the table"),
    column("column_name", Text, "the column; null where the table could not be read"),
    column("position", Count, "where it stands in the table, from 1"),
    column("type", Text, "its type, in the configuration's words where it has one"),
    column(
        "origin",
        Text,
        "reserved, declared, topic (a level of the MQTT topic), learned, or computed (by the stream's transform or the report); system for these tables",
    ),
    column("required", Flag, "whether a message without a fitting value for it goes to quarantine"),
    column("description", Text, "what it means, where that is known"),
    column("problem", Text, "why the table could not be read: then this is its only row; null if it could"),
];

pub(super) const DEFINITION: Definition =
    Definition { name: "columns", columns: &COLUMNS, keys: 2, contents: Contents::Listing(rows) };

fn rows<'a>(
    surroundings: &'a Surroundings,
    wanted: &'a Wanted,
    rows: &'a mut Rows,
) -> BoxFuture<'a, Result<()>> {
    async move {
        let mut names = surroundings.stream_names().await?;
        names.insert(QUARANTINE);
        let mut wanted_names = Vec::new();
        for name in names {
            if wanted.about([INGESTION, name])? {
                wanted_names.push(name.to_owned());
            }
        }
        let looks = stream::iter(wanted_names).map(|name| async move {
            let found = of_stream(surroundings, &name).await;
            (name, found)
        });
        let mut found = looks.buffered(LOOKS_AT_ONCE);
        while let Some((name, found)) = found.next().await {
            match found {
                Ok(Some((columns, origins))) => push(&origins, &name, &columns, rows)?,
                Ok(None) => {}
                Err(error) => push_problem(INGESTION, &name, problem(&error), rows)?,
            }
        }
        for name in surroundings.names(Place::Reporting).await? {
            if wanted.about([REPORTING, name])? {
                match surroundings.look(Place::Reporting, name).await {
                    Ok(Some((_, snapshot))) => push(&Origins::of_report(), name, &snapshot.schema(), rows)?,
                    Ok(None) => {}
                    Err(error) => push_problem(REPORTING, name, chain(&error), rows)?,
                }
            }
        }
        for table in TABLES {
            if wanted.about([SYSTEM, table.name])? {
                push_system(table, rows)?;
            }
        }
        Ok(())
    }
    .boxed()
}

/// The columns of a stream's table, as this query sees it: what is there by the log alone is a table, and a column, too.
async fn of_stream<'a>(
    surroundings: &'a Surroundings,
    name: &str,
) -> Result<Option<(SchemaRef, Origins<'a>)>> {
    let Some(table) = surroundings.tables.table(name).await? else { return Ok(None) };
    let found = surroundings.look(Place::Ingestion, name).await.map_err(external)?;
    let snapshot = found.as_ref().map(|(_, snapshot)| snapshot.as_ref());
    Ok(Some((table.schema(), Origins::of_stream(surroundings, name, snapshot))))
}

fn push(origins: &Origins<'_>, name: &str, schema: &Schema, rows: &mut Rows) -> Result<()> {
    for (index, field) in schema.fields().iter().enumerate() {
        let declared = origins
            .stream
            .and_then(|stream| stream.columns.iter().find(|column| column.name == *field.name()));
        let origin = origins.of(field.name());
        rows.push([
            text(Some(origins.place.schema())),
            text(Some(name)),
            text(Some(field.name().as_str())),
            count(Some(index + 1)),
            text(Some(type_word(field.data_type()))),
            text(Some(origin)),
            flag(declared.is_some_and(|column| column.required)),
            text((origin == RESERVED).then(|| meaning(field.name())).flatten()),
            text(None::<&str>),
        ])?;
    }
    Ok(())
}

/// The row of a table that cannot be read: it must not hide the others.
fn push_problem(schema: &str, name: &str, problem: String, rows: &mut Rows) -> Result<()> {
    let unknown = || text(None::<&str>);
    rows.push([
        text(Some(schema)),
        text(Some(name)),
        unknown(),
        count(None::<i64>),
        unknown(),
        unknown(),
        ScalarValue::Boolean(None),
        unknown(),
        text(Some(problem)),
    ])
}

fn push_system(table: &Definition, rows: &mut Rows) -> Result<()> {
    for (index, column) in table.columns.iter().enumerate() {
        rows.push([
            text(Some(SYSTEM)),
            text(Some(table.name)),
            text(Some(column.name)),
            count(Some(index + 1)),
            text(Some(type_word(&column.kind.arrow()))),
            text(Some(SYSTEM)),
            flag(false),
            text(Some(column.about)),
            text(None::<&str>),
        ])?;
    }
    Ok(())
}

const RESERVED: &str = "reserved";

/// Where the columns of one table come from.
struct Origins<'a> {
    place: Place,
    is_quarantine: bool,
    stream: Option<&'a Stream>,
    /// The fields of readings that the table knows.
    input: HashSet<String>,
}

impl<'a> Origins<'a> {
    /// `snapshot` is none while all of the table waits in the log.
    fn of_stream(surroundings: &'a Surroundings, name: &str, snapshot: Option<&Snapshot>) -> Self {
        Self {
            place: Place::Ingestion,
            is_quarantine: name == QUARANTINE,
            stream: surroundings.stream(name).map(AsRef::as_ref),
            input: snapshot.map(input_columns).unwrap_or_default(),
        }
    }

    fn of_report() -> Self {
        Self { place: Place::Reporting, is_quarantine: false, stream: None, input: HashSet::new() }
    }

    fn of(&self, column: &str) -> &'static str {
        let is_declared = |stream: &Stream| stream.columns.iter().any(|declared| declared.name == column);
        let is_level =
            |stream: &Stream| stream.topics.iter().any(|topic| topic.names().any(|level| level == column));
        if self.place == Place::Reporting {
            "computed"
        } else if self.is_quarantine || reserved::is_reserved(column) {
            RESERVED
        } else if self.stream.is_some_and(is_declared) {
            "declared"
        } else if self.stream.is_some_and(is_level) {
            "topic"
        } else if self.input.contains(column) || self.stream.is_none_or(|stream| stream.transform.is_none()) {
            "learned"
        } else {
            "computed"
        }
    }
}

/// The names of the fields of readings that a table knows: a transform may give others beside them.
fn input_columns(snapshot: &Snapshot) -> HashSet<String> {
    let kept = snapshot.property(INPUT_SCHEMA).and_then(|json| serde_json::from_str::<Value>(json).ok());
    let columns = kept.as_ref().and_then(|kept| kept.get("columns")?.as_array());
    let names = columns.into_iter().flatten().filter_map(|column| column.get("name")?.as_str());
    names.map(str::to_owned).collect()
}

fn meaning(column: &str) -> Option<&'static str> {
    Some(match column {
        reserved::TS => "event time; arrival time where the reading has none",
        reserved::DEVICE_ID => "the device",
        reserved::PARTITION => "partition of the log",
        reserved::OFFSET => "place in that partition",
        reserved::INDEX => "which reading of its message, from 0",
        reserved::RECEIVED_AT => "when the message reached Millstream",
        reserved::TOPIC => "MQTT topic",
        reserved::DATE => "day of `ts`, UTC, or the first day of its month: by it the files are split",
        reserved::EXTRA => "JSON object of what fits no column, as it came",
        _ => return None,
    })
}

/// The word that the configuration has for a type, else the usual one of SQL, else the engine's.
fn type_word(kind: &DataType) -> String {
    let word = match kind {
        DataType::Float64 => ColumnType::Double.as_str(),
        DataType::Boolean => ColumnType::Boolean.as_str(),
        DataType::Utf8 => ColumnType::String.as_str(),
        DataType::Int64 => ColumnType::Long.as_str(),
        DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => ColumnType::Timestamp.as_str(),
        DataType::Int32 => "integer",
        DataType::Int16 => "short",
        DataType::Int8 => "byte",
        DataType::Float32 => "float",
        DataType::Date32 => "date",
        DataType::Binary => "binary",
        other => return other.to_string(),
    };
    word.to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::definition::Kind::{Date, Instant, Number};
    use super::*;

    #[test]
    fn every_type_that_system_tables_have_has_a_word() {
        for (kind, word) in [
            (Text, "string"),
            (Flag, "boolean"),
            (Count, "long"),
            (Number, "double"),
            (Date, "date"),
            (Instant, "timestamp"),
        ] {
            assert_eq!(type_word(&kind.arrow()), word);
        }
    }

    #[test]
    fn every_reserved_column_has_a_meaning() {
        for column in reserved::LEADING.into_iter().chain([reserved::EXTRA]) {
            assert!(meaning(column).is_some(), "{column}");
        }
    }
}
