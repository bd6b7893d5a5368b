//! Reports, checked against the streams that they read.

use super::problem::Problem;
use super::raw::RawReport;
use millstream_model::name::{LIFECYCLE, QUARANTINE, StreamName};
use millstream_model::stream::Stream;
use millstream_query::ReportPlan;
use millstream_transform::processor::Report;
use std::collections::HashSet;
use std::sync::Arc;

pub(super) fn check_reports(
    raw: Vec<RawReport>,
    written: &[String],
    streams: &[Arc<Stream>],
    problems: &mut Vec<Problem>,
) -> Vec<Report> {
    let mut names: HashSet<StreamName> = streams.iter().map(|stream| stream.name.clone()).collect();
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
        problems.extend(check_sql(&key, &raw.sql, written));
        match raw.name.parse::<StreamName>() {
            Err(error) => problems.push(Problem::new(format!("{key}.name"), error)),
            Ok(name) if !names.insert(name.clone()) || name.is_reserved() => {
                problems.push(
                    Problem::new(format!("{key}.name"), format!("the name `{name}` is taken"))
                        .hint("streams, reports and Millstream's own tables share one set of names"),
                );
            }
            Ok(name) => reports.push(Report { name, sql: raw.sql, partition_by: raw.partition_by }),
        }
    }
    reports
}

fn check_sql(key: &str, sql: &str, streams: &[String]) -> Vec<Problem> {
    let key = format!("{key}.sql");
    let sources = match ReportPlan::sources(sql) {
        Ok(sources) => sources,
        Err(error) => {
            let mut problem = Problem::new(key, &error);
            problem.hint = (!error.hints().is_empty()).then(|| error.hints().join("; "));
            return vec![problem];
        }
    };
    let exists = |name: &String| [LIFECYCLE, QUARANTINE].contains(&name.as_str()) || streams.contains(name);
    let unknown = sources.iter().filter(|name| !exists(name));
    let names = streams.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let hint = format!("the streams are {names}, and Millstream's own `{LIFECYCLE}` and `{QUARANTINE}`");
    unknown.map(|name| Problem::new(&key, format!("no stream is named `{name}`")).hint(&hint)).collect()
}
