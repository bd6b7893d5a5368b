//! How much of a report must be computed again.

use super::Report;
use super::error::ReportError;
use super::refresh::{Look, SQL, app, made_of};
use chrono::NaiveDate;
use millstream_lake::{CommitSummary, DataFile, LakeError};
use millstream_model::column::reserved;
use millstream_query::{Recompute, ReportSource};
use std::collections::BTreeMap;

/// How much of a report must be computed again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Scope {
    /// It shows the latest version.
    Nothing,
    /// The rows of these dates. There may be none of them: then only the version that is shown moves.
    Dates(Dates),
    /// All of it.
    Whole,
}

/// Dates as Delta writes them, and as days since 1970-01-01.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Dates {
    texts: Vec<String>,
    days: Vec<i32>,
}

impl Dates {
    pub(crate) fn texts(&self) -> &[String] {
        &self.texts
    }

    pub(crate) fn days(&self) -> Vec<i32> {
        self.days.clone()
    }
}

/// Compares what the report shows with its sources as they are.
pub(crate) async fn scope(report: &Report, look: &Look) -> Result<Scope, ReportError> {
    let same_sql = look.shown.property(SQL) == Some(report.sql.as_str());
    let done = |source: &ReportSource| look.shown.txn(&app(report, source.table.name(), &look.plan));
    let same_source = |source: &ReportSource| {
        look.shown.property(&made_of(source.table.name())) == Some(source.snapshot.id())
    };
    let same_columns = look
        .plan
        .schema()
        .fields()
        .iter()
        .all(|field| look.shown.schema().field_with_name(field.name()).is_ok());
    if !same_sql || !same_columns || !look.sources.iter().all(same_source) {
        return Ok(Scope::Whole);
    }
    if look.sources.iter().all(|source| done(source) == Some(source.snapshot.version())) {
        return Ok(Scope::Nothing);
    }
    let ([source], Recompute::ByDate { .. }) = (look.sources.as_slice(), look.plan.recompute()) else {
        return Ok(Scope::Whole);
    };
    // A source that is older than what is shown was put back to an earlier state.
    let Some(done) = done(source).filter(|done| *done <= source.snapshot.version()) else {
        return Ok(Scope::Whole);
    };
    match source.table.changes(done, source.snapshot.version()).await {
        Ok(commits) => Ok(changed_dates(&commits).map_or(Scope::Whole, Scope::Dates)),
        Err(LakeError::Gone { .. }) => Ok(Scope::Whole),
        Err(error) => Err(error.into()),
    }
}

/// The dates in which rows came or went; `None` if a file does not say its date.
fn changed_dates(commits: &[CommitSummary]) -> Option<Dates> {
    let mut dates = BTreeMap::new();
    let changes = commits.iter().filter(|commit| commit.data_change);
    for file in changes.flat_map(|commit| commit.adds.iter().chain(&commit.removes)) {
        let (text, day) = date(file)?;
        dates.insert(text, day);
    }
    let (texts, days) = dates.into_iter().unzip();
    Some(Dates { texts, days })
}

fn date(file: &DataFile) -> Option<(String, i32)> {
    let text = file.partition_values.get(reserved::DATE)?.clone()?;
    let day = text.parse::<NaiveDate>().ok()?.signed_duration_since(NaiveDate::default()).num_days();
    Some((text, i32::try_from(day).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Map;

    fn file(date: Option<&str>) -> DataFile {
        let partition_values = [(reserved::DATE.to_owned(), date.map(str::to_owned))].into();
        DataFile {
            path: "p".to_owned(),
            size: 1,
            rows: None,
            partition_values,
            stats: None,
            tags: BTreeMap::new(),
            modified_ms: 0,
        }
    }

    fn commit(data_change: bool, adds: &[Option<&str>], removes: &[Option<&str>]) -> CommitSummary {
        CommitSummary {
            version: 1,
            operation: String::new(),
            info: Map::new(),
            adds: adds.iter().map(|date| file(*date)).collect(),
            removes: removes.iter().map(|date| file(*date)).collect(),
            data_change,
            metadata_change: false,
            txns: BTreeMap::new(),
            timestamp_ms: 0,
        }
    }

    fn check(commits: &[CommitSummary], expected: Option<&[(&str, i32)]>) {
        let found =
            changed_dates(commits).map(|dates| dates.texts.into_iter().zip(dates.days).collect::<Vec<_>>());
        let expected = expected
            .map(|dates| dates.iter().map(|(text, day)| ((*text).to_owned(), *day)).collect::<Vec<_>>());
        assert_eq!(found, expected);
    }

    #[test]
    fn changed_dates_are_those_of_files_that_came_or_went_with_rows() {
        check(&[], Some(&[]));
        check(
            &[commit(true, &[Some("1970-01-02")], &[Some("1969-12-31")])],
            Some(&[("1969-12-31", -1), ("1970-01-02", 1)]),
        );
        check(
            &[commit(false, &[Some("1970-01-02")], &[]), commit(true, &[Some("1970-01-03")], &[])],
            Some(&[("1970-01-03", 2)]),
        );
        check(&[commit(true, &[Some("1970-01-02"), Some("1970-01-02")], &[])], Some(&[("1970-01-02", 1)]));
        check(&[commit(true, &[None], &[])], None);
        check(&[commit(true, &[Some("soon")], &[])], None);
    }
}
