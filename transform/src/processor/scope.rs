//! How much of a report must be computed again.

use super::Report;
use super::error::ReportError;
use super::look::{Look, day_of};
use chrono::Utc;
use millstream_lake::{CommitSummary, DataFile, LakeError, Table};
use millstream_model::column::reserved;
use millstream_model::time::Micros;
use millstream_query::report::ledger::{UNSAID_MAX, commit_app, computed_app, kept_app, made_of, mark_app};
use millstream_query::{Recompute, ReportSource, When};
use std::collections::BTreeSet;
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

/// A report that asks for the time is computed at least so often, also while its sources are silent: which devices are, is asked for just then. Looks are more frequent,
/// but all of it is computed each time.
const TIME_PASSES: Duration = Duration::from_secs(15 * 60);

/// Stands for a commit that is no longer in the log, or does not say when it was made.
const UNKNOWN_COMMIT: i64 = 0;

/// How much of a report must be computed again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Scope {
    /// It shows what there is to show.
    Nothing,
    /// The rows of these dates, in days since 1970. There may be none of them: then only the version that is shown moves.
    Dates(BTreeSet<i32>),
    /// All of it, but for the dates that are kept.
    Whole,
}

/// Compares what the report shows with its sources as they are.
pub(crate) async fn scope(report: &Report, look: &Look) -> Result<Scope, ReportError> {
    if !is_same(report, look) || is_out_of_time(report, look) {
        return Ok(Scope::Whole);
    }
    let mark_before = look.shown.txn(&mark_app(report.name.as_str())).map(Micros);
    let Some(changes) = changes(report, look).await? else { return Ok(Scope::Whole) };
    let mut touched = Touched::new(look);
    for commit in changes.iter().flatten() {
        touched.commit(commit);
    }
    if let (Some(Some(mark)), Some(before)) = (look.mark, mark_before)
        && before < mark
    {
        touched.rows_between(before.0..mark.0);
    }
    let kept_before =
        |source: &ReportSource| look.shown.txn(&kept_app(report.name.as_str(), source.table.name()));
    let kept_said = look
        .kept
        .is_none_or(|kept| look.sources.iter().all(|source| kept_before(source) == Some(kept.into())));
    let said =
        look.sources.iter().all(|source| done(report, look, source) == Some(source.snapshot.version()));
    let unsaid: usize = changes.iter().map(Vec::len).sum();
    let is_news = match report.when {
        When::Always => !said,
        When::Complete { .. } => {
            i64::try_from(unsaid).unwrap_or(i64::MAX) >= UNSAID_MAX
                || look.mark != Some(mark_before)
                || !kept_said
        }
    };
    Ok(match (look.plan.recompute(), touched) {
        (Recompute::Whole { .. }, touched) if touched.any => Scope::Whole,
        (Recompute::ByDate { .. }, Touched { undated: true, .. }) => Scope::Whole,
        (_, touched) if is_news || !touched.dates.is_empty() => Scope::Dates(touched.dates),
        _ => Scope::Nothing,
    })
}

/// Whether the rows that are shown come from this very definition over these very tables.
fn is_same(report: &Report, look: &Look) -> bool {
    let same_source = |source: &ReportSource| {
        look.shown.property(&made_of(source.table.name())) == Some(source.snapshot.id())
    };
    let has_column = |name: &str| look.shown.schema().field_with_name(name).is_ok();
    look.is_of(report)
        && look.plan.schema().fields().iter().all(|field| has_column(field.name()))
        && look.sources.iter().all(same_source)
}

fn is_out_of_time(report: &Report, look: &Look) -> bool {
    let computed_ms = look.shown.txn(&computed_app(report.name.as_str())).unwrap_or(0);
    let age_ms = Utc::now().timestamp_millis().saturating_sub(computed_ms);
    look.plan.asks_for_time() && u128::from(age_ms.unsigned_abs()) >= TIME_PASSES.as_millis()
}

fn done(report: &Report, look: &Look, source: &ReportSource) -> Option<i64> {
    look.shown.txn(&look.app(report, source))
}

/// Whether the version of a source that is shown was made by another commit than the one of that number by now. What is not known any more is taken to be the same.
async fn is_another(
    report: &Report,
    look: &Look,
    source: &ReportSource,
    done: i64,
) -> Result<bool, ReportError> {
    let shown = look.shown.txn(&commit_app(report.name.as_str(), source.table.name()));
    let Some(shown) = shown.filter(|shown| *shown != UNKNOWN_COMMIT) else { return Ok(false) };
    let found = commit_at(&source.table, done).await?;
    Ok(found != UNKNOWN_COMMIT && found != shown)
}

/// When the commit of a version was made, in milliseconds since 1970: no other that ever has its number was made in that moment.
pub(crate) async fn commit_at(table: &Table, version: i64) -> Result<i64, ReportError> {
    match table.commit_info(version).await {
        Ok(commit) => Ok(commit.timestamp_ms),
        Err(LakeError::Gone { .. }) => Ok(UNKNOWN_COMMIT),
        Err(error) => Err(error.into()),
    }
}

/// What the commits did, by source, that the report does not show; `None` where that cannot be told.
async fn changes(report: &Report, look: &Look) -> Result<Option<Vec<Vec<CommitSummary>>>, ReportError> {
    let mut changes = Vec::new();
    for source in &look.sources {
        let version = source.snapshot.version();
        // A source that is older than what is shown was put back to an earlier state.
        let Some(done) = done(report, look, source).filter(|done| *done <= version) else { return Ok(None) };
        // Or it was, and has gone on since.
        if done < version && is_another(report, look, source, done).await? {
            return Ok(None);
        }
        match source.table.changes(done, version).await {
            Ok(commits) => changes.push(commits),
            Err(LakeError::Gone { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Some(changes))
}

/// What of a report's rows may be others now.
#[derive(Debug)]
struct Touched<'l> {
    look: &'l Look,
    /// The dates of the source in which rows came or went that count, without those that are kept.
    dates: BTreeSet<i32>,
    /// Whether any rows came or went that count.
    any: bool,
    /// Whether a file with such rows does not say its date.
    undated: bool,
}

impl<'l> Touched<'l> {
    fn new(look: &'l Look) -> Self {
        Self { look, dates: BTreeSet::new(), any: false, undated: false }
    }

    fn commit(&mut self, commit: &CommitSummary) {
        if commit.data_change {
            for file in &commit.adds {
                if self.counts(file) {
                    self.file(file);
                }
            }
            // What was in a file that is gone, its commit does not say.
            commit.removes.iter().for_each(|file| self.file(file));
        }
    }

    /// Rows of these event times count from now on.
    fn rows_between(&mut self, times: Range<i64>) {
        let look = self.look;
        for file in look.sources.iter().flat_map(|source| source.snapshot.files()) {
            let within =
                instants(file).is_none_or(|known| *known.start() < times.end && times.start <= *known.end());
            if within {
                self.file(file);
            }
        }
    }

    fn file(&mut self, file: &DataFile) {
        self.any = true;
        match (self.look.plan.recompute(), day_of(file)) {
            (Recompute::Whole { .. }, _) => {}
            (Recompute::ByDate { .. }, Some(day)) if self.look.keeps(day) => {}
            (Recompute::ByDate { .. }, Some(day)) => _ = self.dates.insert(day),
            (Recompute::ByDate { .. }, None) => self.undated = true,
        }
    }

    /// Whether a file may have rows before the mark, where there is one.
    fn counts(&self, file: &DataFile) -> bool {
        match self.look.mark {
            None => true,
            Some(None) => false,
            Some(Some(mark)) => instants(file).is_none_or(|known| *known.start() < mark.0),
        }
    }
}

/// Between which event times the rows of a stream's file lie, if it says so.
fn instants(file: &DataFile) -> Option<RangeInclusive<i64>> {
    file.stats.as_ref()?.instants(reserved::TS)
}
