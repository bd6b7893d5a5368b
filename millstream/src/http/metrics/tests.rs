//! What Prometheus is given follows its conventions.

use super::{families, text};
use crate::pipeline::Observed;
use chrono::{DateTime, Utc};
use millstream_ingest::gateway::Counters;
use millstream_lake::upkeep::Extent;
use millstream_model::name::{Offset, Partition};
use millstream_model::time::Micros;
use millstream_transform::firehose::{self, InFlight, PartitionTotals, Phase, Progress};
use millstream_transform::janitor;
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
        partitions: BTreeMap::from([(Partition(0), progress), (Partition(1), progress)]),
        // The last one is others' by now.
        by_partition: BTreeMap::from([
            (
                Partition(0),
                PartitionTotals { messages: 5, bytes: 60, commits: 2, ..PartitionTotals::default() },
            ),
            (Partition(2), PartitionTotals { errors: 1, ..PartitionTotals::default() }),
        ]),
        in_flight: BTreeMap::from([(Partition(0), InFlight { messages: 4, bytes: 48 })]),
        mismatches: BTreeMap::from([("a \"b\"\\\n".to_owned(), 2)]),
        ..firehose::Status::default()
    };
    let report = ReportStatus {
        phase: ReportPhase::Current,
        version: Some(3),
        sources: BTreeMap::from([("telemetry".to_owned(), 7)]),
        latest: BTreeMap::from([("telemetry".to_owned(), 9)]),
        current_at: Some(Micros(1_700_000_000_250_000)),
        mark: Some(Micros(1_700_000_000_500_000)),
        ..ReportStatus::default()
    };
    let table = janitor::TableStatus {
        tended_at: DateTime::<Utc>::from_timestamp_millis(1_700_000_000_750),
        extent: Extent { files: 12, bytes: 3_000 },
        totals: janitor::Totals { merged: 60, ..janitor::Totals::default() },
        last_error: None,
    };
    let janitor = janitor::Status {
        ended_at: Some(DateTime::<Utc>::UNIX_EPOCH),
        rounds: 2,
        last_error: None,
        tables: BTreeMap::from([("telemetry".to_owned(), table)]),
    };
    let reports = BTreeMap::from([("daily".parse().unwrap(), report)]);
    let mut observed = Observed::nothing();
    let seen = |name: &str| name.to_owned();
    observed.gateway = Some(Counters::default());
    observed.serves = true;
    observed.subscribers.insert(seen("plant"), watch::Sender::default().subscribe());
    observed.firehoses.insert(seen("telemetry"), watch::Sender::new(firehose).subscribe());
    observed.processor = Some(watch::Sender::new(processor::Status { reports }).subscribe());
    observed.janitors.insert("ingestion", watch::Sender::new(janitor).subscribe());
    observed
}

/// Endings that say what a number counts, and those that say its unit, which is always the base one.
const COUNTED: [&str; 20] = [
    "checkpoints",
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
    "sessions",
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
    for (name, partition, value) in [
        ("message_bytes_total", 0, "60.0"),
        ("partition_commits_total", 0, "2.0"),
        ("partition_commits_total", 1, "0.0"),
        ("partition_errors_total", 2, "1.0"),
        ("in_flight_messages", 0, "4.0"),
        ("in_flight_bytes", 0, "48.0"),
        ("in_flight_bytes", 1, "0.0"),
    ] {
        has(&format!("millstream_firehose_{name}{{stream=\"telemetry\",partition=\"{partition}\"}} {value}"));
    }
    assert!(!text.contains("in_flight_bytes{stream=\"telemetry\",partition=\"2\"}"), "it is not owned here");
    has("millstream_firehose_phase{stream=\"telemetry\",phase=\"retrying\"} 1.0");
    has("millstream_firehose_phase{stream=\"telemetry\",phase=\"running\"} 0.0");
    has("millstream_firehose_mismatches_total{stream=\"telemetry\",column=\"a \\\"b\\\"\\\\\\n\"} 2.0");
    has("millstream_report_source_version{report=\"daily\",source=\"telemetry\"} 7.0");
    has("millstream_report_source_latest_version{report=\"daily\",source=\"telemetry\"} 9.0");
    has("millstream_report_current_timestamp_seconds{report=\"daily\"} 1700000000.25");
    has("millstream_report_mark_timestamp_seconds{report=\"daily\"} 1700000000.5");
    has("millstream_upkeep_runs_total{bucket=\"ingestion\"} 2.0");
    has("millstream_table_files{bucket=\"ingestion\",table=\"telemetry\"} 12.0");
    has("millstream_upkeep_merged_files_total{bucket=\"ingestion\",table=\"telemetry\"} 60.0");
    let success = "millstream_upkeep_success_timestamp_seconds";
    has(&format!("{success}{{bucket=\"ingestion\",table=\"telemetry\"}} 1700000000.75"));
    has("millstream_stage_ready{stage=\"firehose\"} 0.0");
    has("millstream_gateway_acknowledged_messages_total 0.0");
}

#[test]
fn what_is_worth_an_alert_is_there() {
    let readme = include_str!("../../../../deploy/README.md");
    let (_, section) = readme.split_once("## What to watch").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let families = families(&observed());
    let known: HashSet<&str> = families.iter().map(|family| family.name()).collect();
    let named: HashSet<&str> = section
        .split(|c: char| !c.is_ascii_lowercase() && c != '_')
        .filter(|word| word.starts_with("millstream_"))
        .collect();
    assert!(named.len() > 10, "{named:?}");
    let is_known = |name: &str| known.contains(name.strip_suffix("_total").unwrap_or(name));
    let unknown: Vec<_> = named.iter().filter(|name| !is_known(name)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}
