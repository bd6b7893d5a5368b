//! How much of a report must be computed again.

use super::Report;
use super::error::ReportError;
use super::look::{Look, day_of};
use millstream_lake::{CommitSummary, DataFile, LakeError};
use millstream_model::column::reserved;
use millstream_model::time::Micros;
use millstream_query::report::ledger::{SQL, WHEN, kept_app, made_of, mark_app};
use millstream_query::{Recompute, ReportSource, When};
use std::collections::BTreeSet;
use std::ops::{Range, RangeInclusive};

/// So many versions of a source may go by that change nothing in a report before it says that it shows them: a commit for each would be noise, and each further look
/// reads their commits again.
const UNSAID_MAX: i64 = 60;

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
    if !is_same(report, look) {
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
    look.shown.property(SQL) == Some(report.sql.as_str())
        && look.shown.property(WHEN).unwrap_or(When::Always.as_str()) == report.when.as_str()
        && look.plan.schema().fields().iter().all(|field| has_column(field.name()))
        && look.sources.iter().all(same_source)
}

fn done(report: &Report, look: &Look, source: &ReportSource) -> Option<i64> {
    look.shown.txn(&look.app(report, source))
}

/// What the commits did, by source, that the report does not show; `None` where that cannot be told.
async fn changes(report: &Report, look: &Look) -> Result<Option<Vec<Vec<CommitSummary>>>, ReportError> {
    let mut changes = Vec::new();
    for source in &look.sources {
        let version = source.snapshot.version();
        // A source that is older than what is shown was put back to an earlier state.
        let Some(done) = done(report, look, source).filter(|done| *done <= version) else { return Ok(None) };
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
