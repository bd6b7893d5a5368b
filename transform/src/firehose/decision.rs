//! What the firehose adds to a decision: how one is made of what was decoded, how it is counted, and what of it stands in the tags of its files.

use super::status::Totals;
use millstream_lake::NewFile;
use millstream_lake::ledger::{Decided, Decision, Mismatch};
use millstream_lake::upkeep::tags;
use millstream_model::name::Partition;
use millstream_readings::Range;
use std::collections::BTreeMap;

/// So many columns are named in a line of the log; the commit has them all.
const TOLD_MAX: usize = 16;

/// The ranges that were decoded, as they are written down.
pub(crate) fn decided(ranges: &BTreeMap<Partition, Range>) -> Vec<Decided> {
    let all = ranges.iter().map(|(partition, range)| Decided {
        partition: *partition,
        first: range.first,
        last: range.last,
        messages: range.messages,
        readings: range.readings,
        quarantined: range.quarantined,
        dropped: range.dropped,
    });
    all.collect()
}

/// The counts of all partitions together.
pub(crate) fn totals(decision: &Decision) -> Totals {
    let mut totals = Totals { commits: 1, ..Totals::default() };
    for range in &decision.ranges {
        totals.messages += range.messages;
        totals.readings += range.readings;
        totals.quarantined += range.quarantined;
        totals.dropped += range.dropped;
    }
    totals
}

/// Writes into the files of a flush what an audit needs: into each which offsets it is of, and the flush's counts into the first, so that adding up all files counts
/// each flush once.
pub(crate) fn tag<'f>(files: impl Iterator<Item = &'f mut NewFile>, decision: &Decision) {
    let of_all = tags(decision);
    for (number, file) in files.enumerate() {
        file.tags.extend(of_all.clone());
        if number == 0 {
            file.tags.extend(counts(decision));
        }
    }
}

/// What stands in the tags of each of its files.
fn tags(decision: &Decision) -> BTreeMap<String, String> {
    let ranges: Vec<String> = decision
        .ranges
        .iter()
        .map(|range| format!("{}:{}-{}", range.partition, range.first, range.last))
        .collect();
    let tags = [
        (tags::FLUSH, decision.flush.clone()),
        (tags::LOG_TOPIC, decision.log_topic.clone()),
        (tags::EPOCH, decision.epoch.to_string()),
        (tags::CLOSED, decision.closed.as_str().to_owned()),
        (tags::RANGES, ranges.join(",")),
    ];
    tags.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// What stands in the tags of its first file.
fn counts(decision: &Decision) -> BTreeMap<String, String> {
    let totals = totals(decision);
    let counts = [
        (tags::MESSAGES, totals.messages),
        (tags::READINGS, totals.readings),
        (tags::QUARANTINED, totals.quarantined),
        (tags::DROPPED, totals.dropped),
    ];
    let mut counts: BTreeMap<String, String> =
        counts.into_iter().map(|(name, count)| (name.to_owned(), count.to_string())).collect();
    let mut mismatches: BTreeMap<&str, u64> = BTreeMap::new();
    for mismatch in &decision.mismatches {
        *mismatches.entry(&mismatch.column).or_default() += mismatch.count;
    }
    if !mismatches.is_empty() {
        counts.insert(tags::MISMATCHES.to_owned(), serde_json::json!(mismatches).to_string());
    }
    counts
}

/// Which columns had values that did not fit them, the worst first, for the log's reader; `None` if all fitted.
pub(crate) fn mismatches_in_words(mismatches: &[Mismatch]) -> Option<String> {
    let mut worst: Vec<&Mismatch> = mismatches.iter().collect();
    worst.sort_by_key(|mismatch| std::cmp::Reverse(mismatch.count));
    let told = worst.iter().take(TOLD_MAX);
    let mut words: Vec<String> =
        told.map(|Mismatch { column, why, count }| format!("{column} {why} {count}")).collect();
    if worst.len() > TOLD_MAX {
        words.push(format!("{} more columns", worst.len() - TOLD_MAX));
    }
    (!words.is_empty()).then(|| words.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_lake::ledger::Closed;
    use millstream_model::name::Offset;

    fn file() -> NewFile {
        NewFile {
            path: "p".to_owned(),
            size: 1,
            rows: 1,
            partition_values: BTreeMap::new(),
            stats: String::new(),
            tags: BTreeMap::new(),
            modified_ms: 0,
        }
    }

    #[test]
    fn tags_and_the_line_of_the_log_say_what_was_decided() {
        let range = Decided {
            partition: Partition(1),
            first: Offset(3),
            last: Offset(9),
            messages: 7,
            readings: 5,
            quarantined: 1,
            dropped: 1,
        };
        let mismatch = Mismatch { column: "temp".to_owned(), why: "type_mismatch".to_owned(), count: 4 };
        let decision = Decision {
            flush: "f".to_owned(),
            log_topic: "millstream.t".to_owned(),
            epoch: 2,
            closed: Closed::Idle,
            ranges: vec![range],
            marks: BTreeMap::new(),
            quarantine: Vec::new(),
            mismatches: vec![mismatch],
        };
        let mut files = [file(), file()];
        tag(files.iter_mut(), &decision);
        let [first, second] = files;
        assert_eq!((&*second.tags["millstream.ranges"], &*second.tags["millstream.epoch"]), ("1:3-9", "2"));
        assert_eq!((&*first.tags["millstream.ranges"], &*first.tags["millstream.messages"]), ("1:3-9", "7"));
        assert_eq!(first.tags["millstream.mismatches"], r#"{"temp":4}"#);
        let counted: Vec<&String> = second.tags.keys().collect();
        assert_eq!(
            counted,
            ["closed", "epoch", "flush", "log_topic", "ranges"]
                .map(|tag| format!("millstream.{tag}"))
                .each_ref(),
            "the flush's counts stand in its first file alone"
        );
        assert_eq!(totals(&decision).readings, 5);
        assert_eq!(mismatches_in_words(&decision.mismatches).as_deref(), Some("temp type_mismatch 4"));
        assert_eq!(mismatches_in_words(&[]), None);
    }
}
