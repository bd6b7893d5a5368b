//! Ingestion bucket to reporting bucket, by report.

use super::family::{Family, label};
use crate::pipeline::Observed;
use millstream_transform::processor::{ReportPhase, Status};
use std::ops::Deref;

/// What may be done about a report, in the words of the label `phase`.
const PHASES: [(ReportPhase, &str); 4] = [
    (ReportPhase::Waiting, "waiting"),
    (ReportPhase::Computing, "computing"),
    (ReportPhase::Current, "current"),
    (ReportPhase::Retrying, "retrying"),
];

pub(super) fn families(observed: &Observed) -> Vec<Family> {
    let Some(status) = &observed.processor else { return Vec::new() };
    let mut families = of(status.borrow().deref());
    families.extend(behind(status.borrow().deref()));
    families
}

/// How far reports are behind their sources.
fn behind(status: &Status) -> [Family; 3] {
    let mut latest = Family::gauge(
        "millstream_report_source_latest_version",
        "Latest version of a report's source, as of the last look at it",
    );
    let mut current = Family::gauge(
        "millstream_report_current_timestamp_seconds",
        "When a report was last seen to show the latest version of its sources, in seconds since 1970",
    );
    let mut mark = Family::gauge(
        "millstream_report_mark_timestamp_seconds",
        "Of a report that waits for completeness: the event time before which its sources are complete, in seconds since 1970",
    );
    for (name, report) in &status.reports {
        if let Some(until) = report.mark {
            mark.value([label("report", name)], until.0 as f64 / 1e6);
        }
        for (table, version) in &report.latest {
            let labels = [label("report", name), label("source", table)];
            latest.count(labels, u64::try_from(*version).unwrap_or_default());
        }
        if let Some(at) = report.current_at {
            current.value([label("report", name)], at.0 as f64 / 1e6);
        }
    }
    [latest, current, mark]
}

fn of(status: &Status) -> Vec<Family> {
    let mut phases = Family::gauge(
        "millstream_report_phase",
        "1 for what is done about a report, 0 for what is not: retrying means that it fails and is tried again",
    );
    let mut version = Family::gauge("millstream_report_version", "Version of the report's table");
    let mut source =
        Family::gauge("millstream_report_source_version", "Version of its source that a report shows");
    for (name, report) in &status.reports {
        for (phase, word) in PHASES {
            phases.count([label("report", name), label("phase", word)], u64::from(report.phase == phase));
        }
        if let Some(own) = report.version {
            version.count([label("report", name)], u64::try_from(own).unwrap_or_default());
        }
        for (table, shown) in &report.sources {
            let labels = [label("report", name), label("source", table)];
            source.count(labels, u64::try_from(*shown).unwrap_or_default());
        }
    }
    let mut recomputed = Family::counter("millstream_report_runs", "How often a report was recomputed");
    let mut failures = Family::counter("millstream_report_failures", "How often that failed");
    let mut spent =
        Family::counter("millstream_report_look_seconds", "Time that looks at a report have taken");
    for (name, report) in &status.reports {
        recomputed.count([label("report", name)], report.recomputed);
        failures.count([label("report", name)], report.failures);
        spent.value([label("report", name)], report.spent.as_secs_f64());
    }
    vec![phases, version, source, recomputed, failures, spent]
}
