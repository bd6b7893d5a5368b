//! `millstream tables`: which tables there are, and what makes them known to other engines.

mod ddl;

use super::{note, say};
use crate::cli::Tables;
use crate::config::Settings;
use crate::directory::Directory;
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, UInt64Array};
use arrow::util::pretty::pretty_format_batches;
use futures::TryStreamExt;
use millstream_lake::{Bucket, Table};
use millstream_model::name::{LIFECYCLE, QUARANTINE};
use std::process::ExitCode;
use std::sync::Arc;
use url::Url;

/// Tables that are read at a time: each costs a few requests.
const CONCURRENT: usize = 8;

/// One table.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    /// `ingestion` or `reporting`: the schema in SQL.
    schema: &'static str,
    name: String,
    kind: &'static str,
    /// `None` where a file does not say it.
    rows: Option<u64>,
    bytes: u64,
    files: u64,
    version: i64,
    url: Url,
}

/// Lists the tables, or prints statements for an engine.
pub(super) async fn run(options: Tables) -> anyhow::Result<ExitCode> {
    let directory = Directory::new(options.place.data);
    let settings = directory.settings(options.place.config.as_deref())?;
    let lakehouse = directory.lakehouse(&settings)?;
    let mut entries = entries("ingestion", &lakehouse.ingestion, &settings).await?;
    entries.extend(self::entries("reporting", &lakehouse.reporting, &settings).await?);
    if entries.is_empty() {
        note("there are no tables yet: the first commit of a stream makes its table")?;
    }
    match options.ddl {
        Some(engine) => say(&ddl::statements(engine, &entries, &ddl::Store::of(&settings)?)?)?,
        None if entries.is_empty() => {}
        None => say(&format!("{}\n", pretty_format_batches(&[batch(&entries)?])?))?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn entries(schema: &'static str, bucket: &Bucket, settings: &Settings) -> anyhow::Result<Vec<Entry>> {
    let names = bucket.table_names().await?;
    let looked = futures::stream::iter(names.into_iter().map(Ok::<_, anyhow::Error>))
        .map_ok(|name| async move {
            let kind = kind(schema, &name, settings);
            entry(schema, kind, bucket, name).await
        })
        .try_buffered(CONCURRENT);
    let entries: Vec<Option<Entry>> = looked.try_collect().await?;
    Ok(entries.into_iter().flatten().collect())
}

async fn entry(
    schema: &'static str,
    kind: &'static str,
    bucket: &Bucket,
    name: String,
) -> anyhow::Result<Option<Entry>> {
    let Some(table) = Table::open(bucket, &name).await? else { return Ok(None) };
    let snapshot = table.snapshot().await?;
    let files = snapshot.files();
    let url = bucket.url().join(&format!("{name}/"))?;
    Ok(Some(Entry {
        schema,
        kind,
        rows: files.iter().map(|file| file.rows).sum(),
        bytes: files.iter().map(|file| file.size).sum(),
        files: files.len() as u64,
        version: snapshot.version(),
        url,
        name,
    }))
}

/// What a table is, as far as the configuration says it.
fn kind(schema: &str, name: &str, settings: &Settings) -> &'static str {
    if schema == "reporting" {
        let is_kept = settings.reports.iter().any(|report| report.name.as_str() == name);
        return if is_kept { "report" } else { "not configured" };
    }
    match name {
        QUARANTINE => "quarantine",
        LIFECYCLE => "lifecycle",
        name if settings.streams.iter().any(|stream| stream.name.as_str() == name) => "stream",
        _ => "not configured",
    }
}

fn batch(entries: &[Entry]) -> anyhow::Result<RecordBatch> {
    let text = |of: fn(&Entry) -> String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(entries.iter().map(of)))
    };
    let number = |of: fn(&Entry) -> Option<u64>| -> ArrayRef {
        Arc::new(entries.iter().map(of).collect::<UInt64Array>())
    };
    let versions: ArrayRef =
        Arc::new(Int64Array::from_iter_values(entries.iter().map(|entry| entry.version)));
    Ok(RecordBatch::try_from_iter_with_nullable([
        ("table", text(|entry| format!("{}.{}", entry.schema, entry.name)), false),
        ("kind", text(|entry| entry.kind.to_owned()), false),
        ("rows", number(|entry| entry.rows), true),
        ("bytes", number(|entry| Some(entry.bytes)), false),
        ("files", number(|entry| Some(entry.files)), false),
        ("version", versions, false),
        ("url", text(|entry| entry.url.to_string()), false),
    ])?)
}
