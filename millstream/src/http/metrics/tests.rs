//! What Prometheus is given follows its conventions.

use super::{families, text};
use crate::pipeline::Observed;
use millstream_ingest::gateway::Counters;
use millstream_model::name::{Offset, Partition};
use millstream_model::time::Micros;
use millstream_transform::firehose::{self, PartitionTotals, Phase, Progress};
use millstream_transform::processor::{self, ReportPhase, ReportStatus};
use std::collections::{BTreeMap, HashMap, HashSet};
use tokio::sync::watch;

/// A process in which everything runs and everything has happened.
fn observed() -> Observed {
    let progress = Progress {
        committed: Some(Offset(4)),
        next: Offset(9),
        received_at: Some(Micros(1_700_000_000_000_000)),
        committed_at: None,
        waiting_since: None,
    };
    let firehose = firehose::Status {
        phase: Phase::Retrying,
        partitions: BTreeMap::from([(Partition(0), progress)]),
        by_partition: BTreeMap::from([(
            Partition(0),
            PartitionTotals { messages: 5, ..PartitionTotals::default() },
        )]),
        mismatches: BTreeMap::from([("a \"b\"\\\n".to_owned(), 2)]),
        ..firehose::Status::default()
    };
    let report = ReportStatus {
        phase: ReportPhase::Current,
        version: Some(3),
        sources: BTreeMap::from([("telemetry".to_owned(), 7)]),
        latest: BTreeMap::from([("telemetry".to_owned(), 9)]),
        current_at: Some(Micros(i64::MAX)),
        ..ReportStatus::default()
    };
    let reports = BTreeMap::from([("daily".parse().unwrap(), report)]);
    let mut observed = Observed::nothing();
    let seen = |name: &str| name.to_owned();
    observed.gateway = Some(Counters::default());
    observed.serves = true;
    observed.subscribers.insert(seen("plant"), watch::Sender::default().subscribe());
    observed.firehoses.insert(seen("telemetry"), watch::Sender::new(firehose).subscribe());
    observed.processor = Some(watch::Sender::new(processor::Status { reports }).subscribe());
    observed
}

/// Endings that say what a number counts, and those that say its unit, which is always the base one.
const COUNTED: [&str; 18] = [
    "connections",
    "messages",
    "rows",
    "files",
    "commits",
    "errors",
    "retries",
    "claims",
    "rebalances",
    "gaps",
    "mismatches",
    "partitions",
    "requests",
    "offset",
    "version",
    "failures",
    "runs",
    "refusals",
];
const UNITS: [&str; 2] = ["seconds", "bytes"];
/// What is not a number of anything: a state, and facts.
const STATES: [&str; 5] = ["phase", "ready", "connected", "info", "draining"];

#[test]
fn names_follow_the_conventions() {
    let families = families(&observed());
    let mut names = HashSet::new();
    for family in &families {
        let name = family.name();
        assert!(names.insert(name), "{name} is there twice");
        assert!(name.starts_with("millstream_") || name.starts_with("process_"), "{name}");
        assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{name}");
        let last = name.rsplit('_').next().unwrap();
        assert_ne!(last, "total", "{name}: a counter gets its `_total` by itself");
        let known = COUNTED.contains(&last) || UNITS.contains(&last) || STATES.contains(&last);
        assert!(known, "{name}: neither a unit nor something that is counted");
        for word in ["milliseconds", "ms", "minutes", "kilobytes", "mb", "percent"] {
            assert!(!name.split('_').any(|part| part == word), "{name}: not a base unit");
        }
    }
}

#[test]
fn the_text_is_what_prometheus_reads() {
    let text = text(&observed()).unwrap();
    assert!(text.ends_with("# EOF\n"), "{text}");
    let (mut types, mut helps) = (HashMap::new(), HashSet::new());
    let mut samples = HashSet::new();
    for line in text.lines().filter(|line| *line != "# EOF") {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            assert!(help.len() > 10 && helps.insert(name.to_owned()), "{line}");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(types.insert(name.to_owned(), kind.to_owned()).is_none(), "{line}");
        } else {
            let (sample, value) = line.rsplit_once(' ').unwrap();
            assert!(value.parse::<f64>().unwrap() >= 0.0, "{line}");
            assert!(samples.insert(sample.to_owned()), "{line} is there twice");
            let name = sample.split('{').next().unwrap();
            let family = name.strip_suffix("_total").unwrap_or(name);
            let kind = types.get(family).unwrap_or_else(|| panic!("no TYPE before {line}"));
            assert!(helps.contains(family), "no HELP before {line}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
        }
    }
    assert!(types.len() > 45, "{types:?}");
    let has = |line: &str| assert!(text.lines().any(|own| own == line), "no {line} in\n{text}");
    has("millstream_firehose_lag_messages{stream=\"telemetry\",partition=\"0\"} 4.0");
    has("millstream_firehose_freshness_seconds{stream=\"telemetry\",partition=\"0\"} 0.0");
    has("millstream_firehose_messages_total{stream=\"telemetry\",partition=\"0\"} 5.0");
    has("millstream_firehose_phase{stream=\"telemetry\",phase=\"retrying\"} 1.0");
    has("millstream_firehose_phase{stream=\"telemetry\",phase=\"running\"} 0.0");
    has("millstream_firehose_mismatches_total{stream=\"telemetry\",column=\"a \\\"b\\\"\\\\\\n\"} 2.0");
    has("millstream_report_source_version{report=\"daily\",source=\"telemetry\"} 7.0");
    has("millstream_report_source_latest_version{report=\"daily\",source=\"telemetry\"} 9.0");
    has("millstream_report_since_current_seconds{report=\"daily\"} 0.0");
    has("millstream_stage_ready{stage=\"firehose\"} 0.0");
    has("millstream_gateway_acknowledged_messages_total 0.0");
}
