//! `system.reports`: how far each report is, and what is wrong with those that fail.
//!
//! How far it is stands in the transactions of its table, and why it fails in the note that its processor leaves in the bucket: so every process says the same.

use super::definition::Kind::{Count, Date, Flag, Instant, Text};
use super::definition::{Column, Contents, Definition, column};
use super::rows::{Rows, count, date, flag, instant, instant_of_millis, text};
use super::streams::committed_at;
use super::surroundings::{Found, Place, Surroundings, chain};
use super::wanted::Wanted;
use crate::report::{
    Recompute, ReportDefinition, ReportNote, ReportPlan, ReportState, SourceKind, SourceName, When, ledger,
};
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result};
use futures::FutureExt;
use futures::future::BoxFuture;
use millstream_lake::{DataFile, LakeError, Snapshot};
use std::collections::BTreeSet;
use std::sync::Arc;

const COLUMNS: [Column; 22] = [
    column("report", Text, "the report's name, which is also its table's"),
    column(
        "configured",
        Flag,
        "whether the configuration has it; a table may be of a report that was taken out",
    ),
    column(
        "state",
        Text,
        "waiting (a source or the table does not exist yet, or no hour is complete), current, behind, failing; of one that is not configured: abandoned",
    ),
    column("sources", Text, "the tables that it reads"),
    column("shown_versions", Text, "the version of each source that it shows, in their order"),
    column("latest_versions", Text, "the latest version of each source, in their order"),
    column("behind_versions", Count, "how many versions of its sources it does not show yet, all together"),
    column("goes_by", Text, "which readings it goes by: always all, or those of complete hours"),
    column(
        "mark",
        Instant,
        "it goes by the readings whose event time lies before; null where it goes by all",
    ),
    column("recompute", Text, "how it is kept: `by date`, only the dates that changed, or `whole`"),
    column("whole_reason", Text, "why it cannot be recomputed a date at a time; null if it can"),
    column(
        "retired_before",
        Date,
        "dates before this were retired in a source: they are kept here as they were, and never computed again",
    ),
    column("version", Count, "the version of its own table"),
    column("rows", Count, "rows that it has"),
    column("files", Count, "files of its table"),
    column("bytes", Count, "bytes of these files"),
    column("last_commit", Instant, "when its latest version was made"),
    column("last_error", Text, "why it fails; null while it does not"),
    column("since", Instant, "since when it fails, or is well after a failure; null if it never failed"),
    column("failures", Count, "how often it had failed in a row when it was last written down"),
    column("sql", Text, "its question"),
    column("problem", Text, "why its table, or a source, could not be read; null if they could"),
];

pub(super) const DEFINITION: Definition =
    Definition { name: "reports", columns: &COLUMNS, keys: 1, contents: Contents::Listing(rows) };

fn rows<'a>(
    surroundings: &'a Surroundings,
    wanted: &'a Wanted,
    rows: &'a mut Rows,
) -> BoxFuture<'a, Result<()>> {
    async move {
        let configured = &surroundings.definitions.reports;
        let mut names: BTreeSet<&str> = configured.iter().map(|report| report.name.as_str()).collect();
        names.extend(surroundings.names(Place::Reporting).await?.iter().map(String::as_str));
        for name in names {
            if wanted.about([name])? {
                let definition = configured.iter().find(|report| report.name.as_str() == name);
                let look = look(surroundings, name, definition).await;
                rows.push(row(surroundings, wanted, &look).await?)?;
            }
        }
        Ok(())
    }
    .boxed()
}

/// A report as it was found.
struct Look<'a> {
    name: &'a str,
    definition: Option<&'a ReportDefinition>,
    shown: Found,
    /// What it is computed by: the configuration's word, else its table's.
    sql: Option<String>,
    sources: Vec<Source>,
    /// Why something could not be read: of the others it says nothing.
    problem: Option<String>,
}

/// A table that a report reads.
struct Source {
    name: SourceName,
    shown: Option<i64>,
    latest: Option<Arc<Snapshot>>,
}

async fn look<'a>(
    surroundings: &Surroundings,
    name: &'a str,
    definition: Option<&'a ReportDefinition>,
) -> Look<'a> {
    let mut problem = None;
    let mut found = |found: Result<Found, LakeError>| {
        found.unwrap_or_else(|error| {
            problem = Some(chain(&error));
            None
        })
    };
    let shown = found(surroundings.look(Place::Reporting, name).await);
    let snapshot = shown.as_ref().map(|(_, snapshot)| Arc::clone(snapshot));
    let kept = snapshot.as_ref().and_then(|snapshot| snapshot.property(ledger::SQL));
    let sql = definition.map(|definition| definition.sql.as_str()).or(kept).filter(|sql| !sql.is_empty());
    let sql = sql.map(str::to_owned);
    let is_report =
        |name: &str| surroundings.definitions.reports.iter().any(|report| report.name.as_str() == name);
    // What is wrong with it, its processor says.
    let names = sql.as_ref().and_then(|sql| ReportPlan::sources(sql, is_report).ok()).unwrap_or_default();
    let alone = names.len() == 1;
    let mut sources = Vec::with_capacity(names.len());
    for source in names {
        let place = match source.kind {
            SourceKind::Stream => Place::Ingestion,
            SourceKind::Report => Place::Reporting,
        };
        let latest = found(surroundings.look(place, &source.name).await);
        let app = ledger::shown_app(name, &source.name, alone);
        let shown = snapshot.as_ref().and_then(|snapshot| snapshot.txn(&app));
        sources.push(Source { name: source, shown, latest: latest.map(|(_, snapshot)| snapshot) });
    }
    Look { name, definition, shown, sql, sources, problem }
}

async fn row(
    surroundings: &Surroundings,
    wanted: &Wanted,
    look: &Look<'_>,
) -> Result<[ScalarValue; COLUMNS.len()]> {
    let snapshot = look.shown.as_ref().map(|(_, snapshot)| snapshot.as_ref());
    let files = snapshot.map(Snapshot::files);
    let note = match wanted.reads(["state", "last_error", "since", "failures"]) {
        true => note(surroundings, look.name).await?,
        false => None,
    };
    let last_commit = match &look.shown {
        Some((table, snapshot)) if wanted.reads(["last_commit"]) => {
            committed_at(table, snapshot.version()).await?
        }
        _ => 0,
    };
    let recompute = match wanted.reads(["recompute", "whole_reason"]) {
        true => look.recompute().await,
        false => None,
    };
    let whole_reason = match &recompute {
        Some(Recompute::Whole { reason }) => Some(reason.clone()),
        _ => None,
    };
    Ok([
        text(Some(look.name)),
        flag(look.definition.is_some()),
        text(Some(look.state(note.as_ref()))),
        text(look.each_source(|source| Some(source.name.to_string()))),
        text(look.each_source(|source| source.shown.map(|version| version.to_string()))),
        text(look.each_source(|source| source.latest.as_ref().map(|latest| latest.version().to_string()))),
        count(look.behind()),
        text(look.definition.map(|definition| definition.when.as_str())),
        instant(snapshot.and_then(|snapshot| look.mark(snapshot))),
        text(recompute.map(|recompute| match recompute {
            Recompute::ByDate { .. } => "by date",
            Recompute::Whole { .. } => "whole",
        })),
        text(whole_reason),
        date(snapshot.and_then(|snapshot| look.retired_before(snapshot))),
        count(snapshot.map(Snapshot::version)),
        count(files.and_then(|files| files.iter().map(|file| file.rows).sum::<Option<u64>>())),
        count(files.map(<[DataFile]>::len)),
        count(files.map(|files| files.iter().map(|file| file.size).sum::<u64>())),
        instant_of_millis(last_commit),
        text(note.as_ref().and_then(|note| note.error.as_deref())),
        instant_of_millis(note.as_ref().map_or(0, |note| note.since_ms)),
        count(note.as_ref().map(|note| note.failures)),
        text(look.sql.as_deref()),
        text(look.problem.as_deref()),
    ])
}

async fn note(surroundings: &Surroundings, report: &str) -> Result<Option<ReportNote>> {
    let read = ReportNote::read(surroundings.bucket(Place::Reporting), report).await;
    read.map_err(|error| DataFusionError::ObjectStore(Box::new(error)))
}

impl Look<'_> {
    fn state(&self, note: Option<&ReportNote>) -> &'static str {
        if self.definition.is_none() {
            "abandoned"
        } else if note.is_some_and(|note| note.state == ReportState::Failing) {
            "failing"
        } else if self.shown.is_none() || self.sources.iter().any(|source| source.latest.is_none()) {
            "waiting"
        } else {
            self.state_of_rows()
        }
    }

    fn state_of_rows(&self) -> &'static str {
        let is_of_complete_hours = self.definition.is_some_and(|definition| definition.when != When::Always);
        let mark = self.shown.as_ref().and_then(|(_, snapshot)| self.mark(snapshot));
        // It does not say at once that it shows a version which adds nothing to complete hours.
        let unsaid = if is_of_complete_hours { ledger::UNSAID_MAX } else { 1 };
        if is_of_complete_hours && mark.is_none() {
            "waiting"
        } else if self.behind().is_some_and(|behind| behind < unsaid) {
            "current"
        } else {
            "behind"
        }
    }

    /// Something of each source, in their order; nothing where there is no source.
    fn each_source(&self, of: impl Fn(&Source) -> Option<String>) -> Option<String> {
        let words: Vec<String> =
            self.sources.iter().map(|source| of(source).unwrap_or_else(|| "none".to_owned())).collect();
        (!words.is_empty()).then(|| words.join(", "))
    }

    /// How many versions it does not show yet; `None` where that cannot be told. A source that was put back to an earlier state counts as one.
    fn behind(&self) -> Option<i64> {
        let behind = |source: &Source| {
            let latest = source.latest.as_ref()?.version();
            // Versions count from 0.
            let shown = source.shown.unwrap_or(-1);
            Some(if shown > latest { 1 } else { latest - shown })
        };
        (!self.sources.is_empty()).then(|| self.sources.iter().map(behind).sum::<Option<i64>>())?
    }

    fn mark(&self, snapshot: &Snapshot) -> Option<i64> {
        let goes_by_all = self.definition.is_some_and(|definition| definition.when == When::Always);
        snapshot.txn(&ledger::mark_app(self.name)).filter(|_| !goes_by_all)
    }

    fn retired_before(&self, snapshot: &Snapshot) -> Option<i32> {
        let kept = |source: &Source| snapshot.txn(&ledger::kept_app(self.name, &source.name.name));
        self.sources.iter().filter_map(kept).max().and_then(|days| i32::try_from(days).ok())
    }

    /// How it is kept, by its SQL over its sources as they are; `None` while one of them does not exist, or where it makes no sense.
    async fn recompute(&self) -> Option<Recompute> {
        let sources: Option<Vec<&Snapshot>> =
            self.sources.iter().map(|source| source.latest.as_deref()).collect();
        let partition_by = self.definition?.partition_by.as_deref();
        let plan = ReportPlan::analyse(self.sql.as_deref()?, &sources?, partition_by).await.ok()?;
        Some(plan.recompute().clone())
    }
}
