//! Reports, checked against the streams and the other reports that they read.

use super::problem::Problem;
use super::raw::{RawReport, RawWhen};
use millstream_model::name::{LIFECYCLE, QUARANTINE, StreamName};
use millstream_model::stream::Stream;
use millstream_query::{ReportPlan, SourceKind, When};
use millstream_transform::processor::{Report, order};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

/// How long after its hour a reading may come, if nothing else is said: longer than a device that reports hourly keeps its readings.
const LATENESS: Duration = Duration::from_secs(60 * 60);

/// Of a report as it is written: its key, and the report.
type Written = (String, Report);

pub(super) fn check_reports(
    raw: Vec<RawReport>,
    written: &[String],
    streams: &[Arc<Stream>],
    problems: &mut Vec<Problem>,
    warnings: &mut Vec<Problem>,
) -> Vec<Report> {
    let mut names: HashSet<StreamName> = streams.iter().map(|stream| stream.name.clone()).collect();
    // What is wrong with one report's name is no reason to call it unknown in another.
    let called: Vec<Report> = raw.iter().filter_map(named).collect();
    let mut reports = Vec::new();
    for (index, raw) in raw.into_iter().enumerate() {
        let key = format!("report[{index}]");
        let partition_by = raw.partition_by.as_deref();
        if partition_by.is_some_and(|column| column != "date") {
            problems.push(
                Problem::new(format!("{key}.partition_by"), "a report can be partitioned by `date` only")
                    .hint("write partition_by = \"date\", or leave it out"),
            );
        }
        let when = check_when(&key, &raw, problems);
        match raw.name.parse::<StreamName>() {
            Err(error) => problems.push(Problem::new(format!("{key}.name"), error)),
            Ok(name) if !names.insert(name.clone()) || name.is_reserved() => {
                problems.push(
                    Problem::new(format!("{key}.name"), format!("the name `{name}` is taken"))
                        .hint("streams, reports and Millstream's own tables share one set of names"),
                );
            }
            Ok(name) => {
                reports.push((key, Report { name, sql: raw.sql, partition_by: raw.partition_by, when }));
                continue;
            }
        }
        problems.extend(check_sql(&key, &raw.sql, when, written, &called));
    }
    for (key, report) in &reports {
        problems.extend(check_sql(key, &report.sql, report.when, written, &called));
    }
    problems.extend(check_circles(&reports));
    warnings.extend(reports.iter().filter_map(|(key, report)| forgets(key, report, streams, &called)));
    reports.into_iter().map(|(_, report)| report).collect()
}

/// A report by its name alone, for those who read it.
fn named(raw: &RawReport) -> Option<Report> {
    let name = raw.name.parse().ok()?;
    Some(Report { name, sql: raw.sql.clone(), partition_by: raw.partition_by.clone(), when: When::Always })
}

fn check_when(key: &str, raw: &RawReport, problems: &mut Vec<Problem>) -> When {
    match (raw.when, raw.lateness) {
        (Some(RawWhen::Complete), lateness) => {
            When::Complete { lateness: lateness.map_or(LATENESS, |span| span.0) }
        }
        (Some(RawWhen::Always) | None, Some(_)) => {
            problems.push(
                Problem::new(
                    format!("{key}.lateness"),
                    "only a report that waits for completeness has a lateness",
                )
                .hint("write when = \"complete\" beside it, or leave it out"),
            );
            When::Always
        }
        (Some(RawWhen::Always) | None, None) => When::Always,
    }
}

fn check_sql(key: &str, sql: &str, when: When, streams: &[String], reports: &[Report]) -> Vec<Problem> {
    let place = format!("{key}.sql");
    let is_report = |name: &str| reports.iter().any(|report| report.name.as_str() == name);
    let read = match ReportPlan::sources(sql, is_report) {
        Ok(read) => read,
        Err(error) => {
            let mut problem = Problem::new(place, &error);
            problem.hint = (!error.hints().is_empty()).then(|| error.hints().join("; "));
            return vec![problem];
        }
    };
    let is_stream = |name: &str| name == LIFECYCLE || streams.iter().any(|stream| stream == name);
    let list = |names: Vec<&str>| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let mut problems = Vec::new();
    for source in &read {
        let name = source.name.as_str();
        match source.kind {
            SourceKind::Stream if is_stream(name) || name == QUARANTINE => {}
            SourceKind::Report if is_report(name) => {}
            SourceKind::Stream => {
                let mut hint = format!(
                    "the streams are {}, and Millstream's own `{LIFECYCLE}` and `{QUARANTINE}`",
                    list(streams.iter().map(String::as_str).collect())
                );
                if reports.len() > 1 {
                    let names = reports.iter().map(|report| report.name.as_str()).collect();
                    hint.push_str(&format!("; the reports are {}", list(names)));
                }
                problems.push(Problem::new(&place, format!("no stream is named `{name}`")).hint(hint));
            }
            SourceKind::Report => {
                let names = list(reports.iter().map(|report| report.name.as_str()).collect());
                problems.push(
                    Problem::new(&place, format!("no report is named `{name}`"))
                        .hint(format!("the reports are {names}")),
                );
            }
        }
        if let When::Complete { .. } = when
            && (source.kind == SourceKind::Report || !is_stream(name))
        {
            problems.push(
                Problem::new(format!("{key}.when"), format!("only streams are ever complete, and it reads `{name}`"))
                    .hint("leave out `when`, or read streams only; a report of a complete report is complete by itself"),
            );
        }
        // Its own transaction in the report's table would have the mark's name.
        if let When::Complete { .. } = when
            && read.len() > 1
            && name == "mark"
        {
            problems.push(
                Problem::new(
                    &place,
                    "a report that waits for completeness cannot read a stream named `mark` beside others",
                )
                .hint("give the stream another name"),
            );
        }
    }
    problems
}

/// What a report loses that is surely computed as a whole, because a stream that it reads does not keep its rows for ever.
fn forgets(key: &str, report: &Report, streams: &[Arc<Stream>], reports: &[Report]) -> Option<Problem> {
    let is_report = |name: &str| reports.iter().any(|report| report.name.as_str() == name);
    let read = ReportPlan::sources(&report.sql, is_report).ok()?;
    if report.partition_by.is_some() && read.len() == 1 {
        return None;
    }
    let keeps = |name: &str| streams.iter().find(|stream| stream.name.as_str() == name)?.keep;
    let source =
        read.iter().find(|source| source.kind == SourceKind::Stream && keeps(&source.name).is_some())?;
    let what = format!("it is computed as a whole, and loses the rows that `{source}` does not keep");
    Some(Problem::new(format!("{key}.sql"), what).hint(
        "a report of that stream alone, grouped by its `date` and with partition_by = \"date\", keeps the dates that are gone there",
    ))
}

/// The reports that read each other in a circle, at the first of them.
fn check_circles(written: &[Written]) -> Option<Problem> {
    let reports: Vec<Report> = written.iter().map(|(_, report)| report.clone()).collect();
    let circle = order(&reports).err()?;
    let keys: BTreeMap<&str, &str> =
        written.iter().map(|(key, report)| (report.name.as_str(), key.as_str())).collect();
    let key = circle.0.first().and_then(|name| keys.get(name.as_str()))?;
    let names: Vec<String> = circle.0.iter().map(|name| format!("`{name}`")).collect();
    Some(
        Problem::new(
            format!("{key}.sql"),
            format!("reports cannot read each other in a circle: {}", names.join(" reads ")),
        )
        .hint("let one of them read the streams"),
    )
}
