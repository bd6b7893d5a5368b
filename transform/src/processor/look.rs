//! A look at one report: its table and its sources, at one version each, and what bounds its rows.

use super::Report;
use super::Works;
use super::error::ReportError;
use super::mark::Ends;
use super::order::sources;
use super::refresh::Thoroughness;
use super::tables::Tables;
use chrono::{NaiveDate, Utc};
use millstream_lake::upkeep::{retired_app, retired_before};
use millstream_lake::{Bucket, DataFile, Snapshot, Table, TableDefinition};
use millstream_model::column::reserved;
use millstream_model::name::StreamName;
use millstream_model::time::Micros;
use millstream_query::report::ledger::{SQL, WHEN, kept_app, mark_app, shown_app};
use millstream_query::{Recompute, ReportPlan, ReportSource, SourceKind, SourceName, When};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A report's table and its sources, at one version each.
#[derive(Debug)]
pub(crate) struct Look {
    pub(crate) sources: Vec<ReportSource>,
    pub(crate) plan: ReportPlan,
    pub(crate) table: Table,
    pub(crate) shown: Arc<Snapshot>,
    /// Up to where its readings go by now, if it waits for completeness; `Some(None)` while nothing is complete.
    pub(crate) mark: Option<Option<Micros>>,
    /// Of a report that is recomputed by date: dates before this one stay as they are, because they were retired in the source. In days since 1970.
    pub(crate) kept: Option<i32>,
}

/// What a look found.
#[derive(Debug)]
pub(crate) enum Looked {
    /// A table that the report reads does not exist yet.
    Missing(SourceName),
    Found(Box<Look>),
}

/// Everything at its latest version.
pub(crate) async fn look(
    works: &Works,
    report: &Report,
    tables: &mut Tables,
    thoroughness: Thoroughness,
) -> Result<Looked, ReportError> {
    let names = sources(report, &works.reports)?;
    // Before the versions: what they say of the log must not be older than what the log says of itself.
    let ends = ends(works, report, &names).await?;
    let mut sources = Vec::new();
    for source in names {
        let bucket = works.bucket(source.kind).clone();
        let Some(table) = tables.source(&bucket, &source).await? else { return Ok(Looked::Missing(source)) };
        let snapshot = table.snapshot().await?;
        sources.push(ReportSource { bucket, table, snapshot });
    }
    let snapshots: Vec<&Snapshot> = sources.iter().map(|source| source.snapshot.as_ref()).collect();
    let plan = tables.plan(report, &snapshots).await?;
    let wanted: Vec<String> = report.partition_by.iter().cloned().collect();
    let definition =
        TableDefinition { schema: plan.schema(), partition_by: wanted.clone(), properties: BTreeMap::new() };
    let table = tables.shown(works.bucket(SourceKind::Report), report.name.as_str(), &definition).await?;
    let shown = table.snapshot().await?;
    if shown.partition_by() != wanted {
        return Err(ReportError::Partitioned { in_table: shown.partition_by().to_vec(), wanted });
    }
    let mark = match report.when {
        When::Always => None,
        When::Complete { lateness } => {
            let reached = ends.as_ref().and_then(|ends| {
                let marks = sources.iter().map(|source| {
                    ends.get(source.table.name()).and_then(|ends| ends.mark(&source.snapshot, lateness))
                });
                marks.collect::<Option<Vec<Micros>>>()?.into_iter().min()
            });
            let before = shown.txn(&mark_app(report.name.as_str())).map(Micros);
            Some(match thoroughness {
                // Never back: what was complete once stays in the report.
                Thoroughness::Needed => reached.max(before),
                // Anew, too: a clock that was far ahead once would be believed for ever.
                Thoroughness::Everything => reached.or(before),
            })
        }
    };
    let kept = kept(report, &plan, &sources, &shown);
    Ok(Looked::Found(Box::new(Look { sources, plan, table, shown, mark, kept })))
}

/// The ends of the sources' logs, by source; `None` where the report does not wait for completeness, or there is no log to ask.
async fn ends(
    works: &Works,
    report: &Report,
    sources: &[SourceName],
) -> Result<Option<BTreeMap<String, Ends>>, ReportError> {
    let (When::Complete { .. }, Some(log)) = (report.when, &works.log) else { return Ok(None) };
    let now = Micros::from(Utc::now());
    let mut ends = BTreeMap::new();
    for source in sources {
        let stream = match (source.kind, source.name.parse::<StreamName>()) {
            (SourceKind::Stream, Ok(stream)) => stream,
            _ => return Err(ReportError::NeverComplete { table: source.name.clone() }),
        };
        let looked = Ends::look(log.as_ref(), &stream.log_topic(), now).await?;
        ends.insert(source.name.clone(), looked);
    }
    Ok(Some(ends))
}

/// The first date that is not kept as it is: what the source says was retired, or what the report once took over from there.
fn kept(report: &Report, plan: &ReportPlan, sources: &[ReportSource], shown: &Snapshot) -> Option<i32> {
    let ([source], Recompute::ByDate { .. }) = (sources, plan.recompute()) else { return None };
    let name = source.table.name();
    let retired = source.snapshot.txn(&retired_app(name));
    let taken_over = shown.txn(&kept_app(report.name.as_str(), name));
    retired.max(taken_over).and_then(|days| i32::try_from(days).ok())
}

impl Look {
    /// The transaction that says which version of a source the rows show.
    pub(crate) fn app(&self, report: &Report, source: &ReportSource) -> String {
        shown_app(report.name.as_str(), source.table.name(), self.sources.len() == 1)
    }

    /// Whether the rows that are shown come from this very definition.
    pub(crate) fn is_of(&self, report: &Report) -> bool {
        self.shown.property(SQL) == Some(report.sql.as_str())
            && self.shown.property(WHEN).unwrap_or(When::Always.as_str()) == report.when.as_str()
    }

    /// Whether they come from another one that is known.
    pub(crate) fn is_of_another(&self, report: &Report) -> bool {
        self.shown.property(SQL).is_some_and(|sql| !sql.is_empty()) && !self.is_of(report)
    }

    /// Whether the rows go by the mark up to which they are to go by now.
    pub(crate) fn has_its_mark(&self, report: &Report) -> bool {
        let shown = self.shown.txn(&mark_app(report.name.as_str())).map(Micros);
        self.mark.is_none_or(|mark| mark == shown)
    }

    /// The versions of the sources.
    pub(crate) fn versions(&self) -> BTreeMap<String, i64> {
        let version = |source: &ReportSource| (source.table.name().to_owned(), source.snapshot.version());
        self.sources.iter().map(version).collect()
    }

    /// Whether the rows of a date stay as they are.
    pub(crate) fn keeps(&self, day: i32) -> bool {
        self.kept.is_some_and(|kept| day < kept)
    }

    /// Why it cannot be recomputed a date at a time, if so; and what it has lost by that.
    pub(crate) fn whole(&self) -> Option<String> {
        let Recompute::Whole { reason } = self.plan.recompute() else { return None };
        let retired = self.sources.iter().filter_map(|source| {
            let before = retired_before(&source.snapshot)?;
            Some(format!(
                "{} of dates before {before} were retired, and are gone from the report",
                source.table.name()
            ))
        });
        Some(std::iter::once(reason.clone()).chain(retired).collect::<Vec<_>>().join("; the rows of "))
    }

    /// The first date that is not kept, for people.
    pub(crate) fn kept_before(&self) -> Option<NaiveDate> {
        NaiveDate::from_epoch_days(self.kept?)
    }

    /// The report's files of some dates.
    pub(crate) fn files_of(&self, dates: &[i32]) -> Vec<DataFile> {
        let of_dates = |file: &&DataFile| day_of(file).is_some_and(|day| dates.contains(&day));
        self.shown.files().iter().filter(of_dates).cloned().collect()
    }
}

impl Works {
    /// The bucket of tables of a kind.
    pub(crate) fn bucket(&self, kind: SourceKind) -> &Bucket {
        match kind {
            SourceKind::Stream => &self.lakehouse.ingestion,
            SourceKind::Report => &self.lakehouse.reporting,
        }
    }
}

/// The date of a file, in days since 1970; `None` if it does not say it.
pub(crate) fn day_of(file: &DataFile) -> Option<i32> {
    let text = file.partition_values.get(reserved::DATE)?.as_ref()?;
    let days = text.parse::<NaiveDate>().ok()?.signed_duration_since(NaiveDate::default()).num_days();
    i32::try_from(days).ok()
}
