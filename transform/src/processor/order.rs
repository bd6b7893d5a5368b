//! In which order reports build on each other.

use super::Report;
use millstream_query::{QueryError, ReportPlan, SourceKind, SourceName};
use std::collections::{BTreeMap, BTreeSet};
use thiserror::Error;

/// Reports that read each other in a circle: none of them could ever be right.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("these reports read each other in a circle: {}", .0.join(" reads "))]
pub struct Cycle(
    /// Their names; each reads the next one, and the last is the first again.
    pub Vec<String>,
);

/// The tables that a report reads, where these are all the reports that there are.
///
/// # Errors
/// When its SQL is no question, or reads what no report can.
pub fn sources(report: &Report, reports: &[Report]) -> Result<Vec<SourceName>, QueryError> {
    ReportPlan::sources(&report.sql, |name| reports.iter().any(|report| report.name.as_str() == name))
}

/// Places of the reports, such that each comes after those that it reads; otherwise as they are given. A report whose SQL cannot be read counts as one that reads
/// nothing.
///
/// # Errors
/// If there is a circle.
pub fn order(reports: &[Report]) -> Result<Vec<usize>, Cycle> {
    let mut walk = Walk { reports, reads: upstream(reports), path: Vec::new(), done: Vec::new() };
    (0..reports.len()).try_for_each(|place| walk.visit(place))?;
    Ok(walk.done)
}

/// Those of the reports, by their places, that are chosen, and all that they build on.
pub(crate) fn with_upstream(reports: &[Report], chosen: impl Fn(&Report) -> bool) -> BTreeSet<usize> {
    let reads = upstream(reports);
    let mut wanted: Vec<usize> = (0..reports.len()).filter(|place| chosen(&reports[*place])).collect();
    let mut found = BTreeSet::new();
    while let Some(place) = wanted.pop() {
        if found.insert(place) {
            wanted.extend(&reads[place]);
        }
    }
    found
}

/// The places of the reports that each one reads.
fn upstream(reports: &[Report]) -> Vec<Vec<usize>> {
    let places: BTreeMap<&str, usize> =
        reports.iter().enumerate().map(|(place, report)| (report.name.as_str(), place)).collect();
    let read = |report: &Report| {
        let sources = sources(report, reports).unwrap_or_default().into_iter();
        let of_reports = sources.filter(|source| source.kind == SourceKind::Report);
        of_reports.filter_map(|source| places.get(source.name.as_str()).copied()).collect()
    };
    reports.iter().map(read).collect()
}

struct Walk<'a> {
    reports: &'a [Report],
    reads: Vec<Vec<usize>>,
    path: Vec<usize>,
    done: Vec<usize>,
}

impl Walk<'_> {
    fn visit(&mut self, place: usize) -> Result<(), Cycle> {
        if self.done.contains(&place) {
            return Ok(());
        }
        if let Some(begin) = self.path.iter().position(|on_path| *on_path == place) {
            let circle = self.path[begin..].iter().chain([&place]);
            return Err(Cycle(circle.map(|place| self.reports[*place].name.to_string()).collect()));
        }
        self.path.push(place);
        for upstream in self.reads[place].clone() {
            self.visit(upstream)?;
        }
        self.path.pop();
        self.done.push(place);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_query::When;

    /// Reports and the tables that each reads.
    fn reports(reads: &[(&str, &[&str])]) -> Vec<Report> {
        let report = |(name, tables): &(&str, &[&str])| Report {
            name: name.parse().unwrap(),
            sql: format!("select * from {}", tables.join(", ")),
            partition_by: None,
            when: When::Always,
        };
        reads.iter().map(report).collect()
    }

    fn check(reads: &[(&str, &[&str])], expected: Result<&[&str], &[&str]>) {
        let reports = reports(reads);
        let found = order(&reports);
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        match expected {
            Ok(expected) => {
                let found = found.unwrap();
                let found: Vec<_> = found.iter().map(|place| reports[*place].name.to_string()).collect();
                assert_eq!(found, names(expected));
            }
            Err(circle) => assert_eq!(found, Err(Cycle(names(circle)))),
        }
    }

    #[test]
    fn a_report_comes_after_those_it_reads() {
        check(&[("a", &["telemetry"]), ("b", &["telemetry"])], Ok(&["a", "b"]));
        check(&[("a", &["b"]), ("b", &["telemetry"])], Ok(&["b", "a"]));
        check(&[("a", &["reporting.c", "b"]), ("b", &["c"]), ("c", &["t"])], Ok(&["c", "b", "a"]));
        // The stream's table of that name, not the report's.
        check(&[("a", &["ingestion.a"])], Ok(&["a"]));
    }

    #[test]
    fn a_circle_is_named() {
        check(&[("a", &["a"])], Err(&["a", "a"]));
        check(&[("x", &["b"]), ("a", &["b"]), ("b", &["c"]), ("c", &["b", "t"])], Err(&["b", "c", "b"]));
        assert_eq!(
            order(&reports(&[("a", &["b"]), ("b", &["a"])])).unwrap_err().to_string(),
            "these reports read each other in a circle: a reads b reads a"
        );
    }

    #[test]
    fn what_is_chosen_brings_along_what_it_builds_on() {
        let reports = reports(&[("a", &["b"]), ("b", &["c"]), ("c", &["t"]), ("d", &["c"])]);
        let check = |name: &str, expected: &[usize]| {
            let found = with_upstream(&reports, |report| report.name.as_str() == name);
            assert_eq!(found.into_iter().collect::<Vec<_>>(), expected);
        };
        check("a", &[0, 1, 2]);
        check("c", &[2]);
        check("none", &[]);
    }
}
