//! Log to ingestion bucket, by stream and partition.

use super::family::{Family, label};
use crate::pipeline::Observed;
use millstream_model::time::Micros;
use millstream_transform::firehose::{Incidents, Phase, Status, Totals};
use std::ops::Deref;

/// What a worker may be doing, in the words of the label `phase`.
const PHASES: [(Phase, &str); 7] = [
    (Phase::Starting, "starting"),
    (Phase::Standby, "standby"),
    (Phase::Running, "running"),
    (Phase::Retrying, "retrying"),
    (Phase::Draining, "draining"),
    (Phase::Drained, "drained"),
    (Phase::Failed, "failed"),
];

pub(super) fn families(observed: &Observed, now: Micros) -> Vec<Family> {
    let statuses: Vec<(&str, Status)> = observed
        .firehoses
        .iter()
        .map(|(stream, status)| (stream.as_str(), status.borrow().deref().clone()))
        .collect();
    let mut families = vec![phases(&statuses), mismatches(&statuses)];
    families.extend(positions(&statuses, now));
    families.extend(by_partition(&statuses));
    families.extend(totals(&statuses));
    families.extend(incidents(&statuses));
    families
}

fn phases(statuses: &[(&str, Status)]) -> Family {
    let mut phases = Family::gauge(
        "millstream_firehose_phase",
        "1 for what the worker of a stream is doing, 0 for what it is not: retrying means that something fails and is tried again",
    );
    for (stream, status) in statuses {
        for (phase, name) in PHASES {
            phases.count([label("stream", stream), label("phase", name)], u64::from(status.phase == phase));
        }
    }
    phases
}

fn mismatches(statuses: &[(&str, Status)]) -> Family {
    let mut mismatches = Family::counter(
        "millstream_firehose_mismatches",
        "Values that did not fit their column and are in _extra, or quarantined with their message",
    );
    for (stream, status) in statuses {
        for (column, count) in &status.mismatches {
            mismatches.count([label("stream", stream), label("column", column)], *count);
        }
    }
    mismatches
}

/// Where the partitions stand that are owned here.
fn positions(statuses: &[(&str, Status)], now: Micros) -> [Family; 5] {
    let mut owned =
        Family::gauge("millstream_firehose_owned_partitions", "Partitions that this process carries");
    let mut lag =
        Family::gauge("millstream_firehose_lag_messages", "Messages of the log that have no outcome yet");
    let mut freshness = Family::gauge(
        "millstream_firehose_freshness_seconds",
        "How long the oldest message has waited that has no outcome yet; 0 while none waits",
    );
    let mut committed = Family::gauge(
        "millstream_firehose_committed_offset",
        "Last offset of the log whose outcome is committed",
    );
    let mut end =
        Family::gauge("millstream_firehose_log_end_offset", "Offset that the log's next message gets");
    for (stream, status) in statuses {
        owned.count([label("stream", stream)], status.partitions.len() as u64);
        for (partition, progress) in &status.partitions {
            let labels = || [label("stream", stream), label("partition", partition.0)];
            lag.count(labels(), progress.lag());
            freshness.value(labels(), progress.freshness(now).as_secs_f64());
            if let Some(offset) = progress.committed {
                committed.count(labels(), u64::try_from(offset.0).unwrap_or_default());
            }
            end.count(labels(), u64::try_from(progress.next.0).unwrap_or_default());
        }
    }
    [owned, lag, freshness, committed, end]
}

fn by_partition(statuses: &[(&str, Status)]) -> [Family; 4] {
    let mut messages =
        Family::counter("millstream_firehose_messages", "Messages whose outcome was committed");
    let mut rows = Family::counter("millstream_firehose_committed_rows", "Readings committed to tables");
    let mut quarantined = Family::counter("millstream_firehose_quarantined_messages", "Messages quarantined");
    let mut dropped =
        Family::counter("millstream_firehose_dropped_messages", "Messages that gave no reading on purpose");
    for (stream, status) in statuses {
        for (partition, totals) in &status.by_partition {
            let labels = || [label("stream", stream), label("partition", partition.0)];
            messages.count(labels(), totals.messages);
            rows.count(labels(), totals.readings);
            quarantined.count(labels(), totals.quarantined);
            dropped.count(labels(), totals.dropped);
        }
    }
    [messages, rows, quarantined, dropped]
}

/// A number of a status's part.
struct Count<T> {
    name: &'static str,
    help: &'static str,
    of: fn(&T) -> u64,
}

fn count<T>(name: &'static str, help: &'static str, of: fn(&T) -> u64) -> Count<T> {
    Count { name, help, of }
}

fn totals(statuses: &[(&str, Status)]) -> Vec<Family> {
    let counts = [
        count("millstream_firehose_commits", "Commits to tables", |totals: &Totals| totals.commits),
        count("millstream_firehose_committed_files", "Files of committed readings", |totals| totals.files),
        count("millstream_firehose_committed_bytes", "Bytes of these files", |totals| totals.bytes),
    ];
    by_stream(statuses, counts, |status| &status.totals)
}

fn incidents(statuses: &[(&str, Status)]) -> Vec<Family> {
    let counts = [
        count(
            "millstream_firehose_errors",
            "Steps that failed, whether or not they were tried again",
            |incidents: &Incidents| incidents.errors,
        ),
        count("millstream_firehose_retries", "Steps that were tried again after a failure", |incidents| {
            incidents.retries
        }),
        count(
            "millstream_firehose_lost_claims",
            "How often another worker was faster and the buffer was read again",
            |incidents| incidents.lost,
        ),
        count(
            "millstream_firehose_rebalances",
            "How often the share of the partitions changed",
            |incidents| incidents.rebalances,
        ),
        count("millstream_firehose_accepted_gaps", "Gaps of the log that were accepted", |incidents| {
            incidents.gaps
        }),
    ];
    by_stream(statuses, counts, |status| &status.incidents)
}

/// A family for each of these numbers, with a sample for each stream.
fn by_stream<T, const N: usize>(
    statuses: &[(&str, Status)],
    counts: [Count<T>; N],
    part: fn(&Status) -> &T,
) -> Vec<Family> {
    let family = |Count { name, help, of }: Count<T>| {
        let mut family = Family::counter(name, help);
        for (stream, status) in statuses {
            family.count([label("stream", stream)], of(part(status)));
        }
        family
    };
    counts.into_iter().map(family).collect()
}
