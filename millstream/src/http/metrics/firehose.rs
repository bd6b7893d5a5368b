//! Log to ingestion bucket, by stream and partition.

use super::family::{Family, label};
use crate::pipeline::Observed;
use millstream_model::name::Partition;
use millstream_model::time::Micros;
use millstream_transform::firehose::{Incidents, PartitionTotals, Phase, Status, Totals};
use std::collections::BTreeSet;
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
    families.extend(in_flight(&statuses));
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

/// What was read of the partitions that are owned here and is not committed yet.
fn in_flight(statuses: &[(&str, Status)]) -> [Family; 2] {
    let mut messages = Family::gauge(
        "millstream_firehose_in_flight_messages",
        "Messages that were read from the log and are not committed yet",
    );
    let mut bytes =
        Family::gauge("millstream_firehose_in_flight_bytes", "Bytes of the payloads of these messages");
    for (stream, status) in statuses {
        for partition in status.partitions.keys() {
            let held = status.in_flight.get(partition).copied().unwrap_or_default();
            let labels = || [label("stream", stream), label("partition", partition.0)];
            messages.count(labels(), held.messages);
            bytes.count(labels(), held.bytes);
        }
    }
    [messages, bytes]
}

/// What was counted at partitions, of those that were owned here once, too.
fn by_partition(statuses: &[(&str, Status)]) -> Vec<Family> {
    let counts = [
        count(
            "millstream_firehose_messages",
            "Messages whose outcome was committed",
            |totals: &PartitionTotals| totals.messages,
        ),
        count("millstream_firehose_message_bytes", "Bytes of the payloads of these messages", |totals| {
            totals.bytes
        }),
        count("millstream_firehose_committed_rows", "Readings committed to tables", |totals| totals.readings),
        count("millstream_firehose_quarantined_messages", "Messages quarantined", |totals| {
            totals.quarantined
        }),
        count("millstream_firehose_dropped_messages", "Messages that gave no reading on purpose", |totals| {
            totals.dropped
        }),
        count(
            "millstream_firehose_partition_commits",
            "Commits that decided about messages of a partition; one that covers several counts for each of them",
            |totals| totals.commits,
        ),
        count(
            "millstream_firehose_partition_errors",
            "Steps that failed at a partition, whether or not they were tried again: claiming, reading, looking for its end, trimming",
            |totals| totals.errors,
        ),
    ];
    let family = |Count { name, help, of }: Count<PartitionTotals>| {
        let mut family = Family::counter(name, help);
        for (stream, status) in statuses {
            // One that is owned and where nothing has happened yet stands at 0, so that its first rise is seen.
            let seen: BTreeSet<Partition> =
                status.partitions.keys().chain(status.by_partition.keys()).copied().collect();
            for partition in seen {
                let totals = status.by_partition.get(&partition).copied().unwrap_or_default();
                family.count([label("stream", stream), label("partition", partition.0)], of(&totals));
            }
        }
        family
    };
    counts.into_iter().map(family).collect()
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
