//! `millstream tables`: which tables there are, and what makes them known to other engines.

mod ddl;

use super::{note, say};
use crate::cli::Tables;
use crate::config::Settings;
use crate::directory::Directory;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, ContentArrangement};
use futures::TryStreamExt;
use millstream_lake::{Bucket, Table};
use millstream_model::name::{LIFECYCLE, QUARANTINE};
use millstream_transform::firehose::{Gap, gaps, gaps_omitted};
use std::process::ExitCode;
use url::Url;

/// Tables that are read at a time: each costs a few requests.
const CONCURRENT: usize = 8;

/// Gaps that are told of a table, the latest ones; the property of the table has more of them.
const GAPS_TOLD: usize = 10;

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
    /// What it will never have, by [`Gap`]; and how many gaps there were before those.
    gaps: (Vec<Gap>, usize),
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
        None => {
            say(&format!("{}\n", drawn(&entries)))?;
            entries.iter().filter_map(lacking).try_for_each(|text| note(&text))?;
        }
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
        gaps: (gaps(&snapshot), gaps_omitted(&snapshot)),
        url,
        name,
    }))
}

/// What a table lacks for ever; `None` if nothing.
fn lacking(entry: &Entry) -> Option<String> {
    let (gaps, omitted) = &entry.gaps;
    let all = gaps.len() + omitted;
    let told = gaps.iter().rev().take(GAPS_TOLD);
    let earlier = all - told.len();
    let plural = if all == 1 { "" } else { "s" };
    let mut text =
        format!("{}.{} lacks what was lost in {all} accepted gap{plural}:", entry.schema, entry.name);
    text.extend(told.map(|gap| format!("\n  {gap} (accepted {})", gap.accepted_at)));
    if earlier > 0 {
        text.push_str(&format!("\n  and {earlier} before"));
    }
    (all > 0).then_some(text)
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

/// The tables in a box, as the answer to a query is drawn.
fn drawn(entries: &[Entry]) -> comfy_table::Table {
    let mut table = comfy_table::Table::new();
    table
        .load_preset(UTF8_FULL_CONDENSED)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(["table", "kind", "rows", "bytes", "files", "version", "url"]);
    for number in 2..6 {
        if let Some(column) = table.column_mut(number) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for entry in entries {
        table.add_row([
            format!("{}.{}", entry.schema, entry.name),
            entry.kind.to_owned(),
            entry.rows.map_or_else(|| "NULL".to_owned(), |rows| rows.to_string()),
            entry.bytes.to_string(),
            entry.files.to_string(),
            entry.version.to_string(),
            entry.url.to_string(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_model::name::{Offset, Partition};
    use millstream_transform::firehose::GapReason;

    fn entry(gaps: Vec<Gap>, before: usize) -> Entry {
        Entry {
            schema: "ingestion",
            name: "telemetry".to_owned(),
            kind: "stream",
            rows: None,
            bytes: 0,
            files: 0,
            version: 0,
            url: Url::parse("s3://lake/telemetry/").unwrap(),
            gaps: (gaps, before),
        }
    }

    fn told(gaps: Vec<Gap>, before: usize) -> Option<String> {
        lacking(&entry(gaps, before))
    }

    #[test]
    fn tables_are_drawn_as_answers_are() {
        let unknown = entry(Vec::new(), 0);
        let counts =
            Entry { schema: "reporting", name: "counts".to_owned(), kind: "report", ..unknown.clone() };
        let counts = Entry { rows: Some(12_345), bytes: 1_024, files: 3, version: 7, ..counts };
        assert_eq!(
            drawn(&[unknown, counts]).to_string(),
            "\
┌─────────────────────┬────────┬───────┬───────┬───────┬─────────┬──────────────────────┐
│ table               ┆ kind   ┆  rows ┆ bytes ┆ files ┆ version ┆ url                  │
╞═════════════════════╪════════╪═══════╪═══════╪═══════╪═════════╪══════════════════════╡
│ ingestion.telemetry ┆ stream ┆  NULL ┆     0 ┆     0 ┆       0 ┆ s3://lake/telemetry/ │
│ reporting.counts    ┆ report ┆ 12345 ┆  1024 ┆     3 ┆       7 ┆ s3://lake/telemetry/ │
└─────────────────────┴────────┴───────┴───────┴───────┴─────────┴──────────────────────┘"
        );
    }

    #[test]
    fn what_a_table_lacks_is_told_the_latest_first_and_not_without_end() {
        let gap = |first: i64, last: Option<i64>, why| Gap {
            log_topic: "millstream.telemetry".to_owned(),
            epoch: 0,
            partition: Partition(1),
            first: Offset(first),
            last: last.map(Offset),
            why,
            accepted_at: "2026-01-01T00:00:00Z".to_owned(),
        };
        assert_eq!(told(Vec::new(), 0), None);
        let two = vec![gap(50, Some(74), GapReason::Trimmed), gap(90, None, GapReason::OtherLog)];
        assert_eq!(
            told(two, 0).as_deref(),
            Some(
                "ingestion.telemetry lacks what was lost in 2 accepted gaps:\n  \
                 millstream.telemetry/1, offsets from 90 on: the log was made anew (accepted 2026-01-01T00:00:00Z)\n  \
                 millstream.telemetry/1, offsets 50 to 74: forgotten by the log before they were committed (accepted 2026-01-01T00:00:00Z)",
            ),
        );
        let many = (0..30).map(|first| gap(first, None, GapReason::LostEnd)).collect();
        let told = told(many, 5).unwrap();
        assert!(told.contains("in 35 accepted gaps") && told.ends_with("\n  and 25 before"), "{told}");
        assert_eq!(told.lines().count(), 12);
    }
}
