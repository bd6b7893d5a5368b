//! What files say about themselves for the audit, and what a file says that takes the place of others.
//!
//! A commit's own words are cleaned away with the log; the tags of its files live as long as their rows. The counts of a flush stand in its first file only, so
//! adding up all files of a table counts each flush once, before a compaction and after it.

use crate::DataFile;
use std::collections::BTreeMap;

/// Which flush made the file; a file that a compaction made has [`FLUSHES`] instead.
pub const FLUSH: &str = "millstream.flush";
/// How many files of flushes it has taken the place of.
pub const FLUSHES: &str = "millstream.flushes";
/// The log topic of its messages.
pub const LOG_TOPIC: &str = "millstream.log_topic";
/// The table's epoch in which their offsets count.
pub const EPOCH: &str = "millstream.epoch";
/// Why the file closed: a word. Of a compacted one words with counts: `age 57, size 3`.
pub const CLOSED: &str = "millstream.closed";
/// Of which offsets its flush was: `partition:first-last`, several separated by commas. The rows of one flush may be spread over files of several dates.
pub const RANGES: &str = "millstream.ranges";
/// There where the ranges of a compacted file were too many: some of [`RANGES`] have offsets between them that its flushes were not of.
pub const RANGES_COARSE: &str = "millstream.ranges_coarse";
/// Messages of the flush.
pub const MESSAGES: &str = "millstream.messages";
/// Readings that they became.
pub const READINGS: &str = "millstream.readings";
/// Messages of it that went to quarantine.
pub const QUARANTINED: &str = "millstream.quarantined";
/// Messages of it that gave no reading on purpose.
pub const DROPPED: &str = "millstream.dropped";
/// Values that did not fit their column: JSON, column to count.
pub const MISMATCHES: &str = "millstream.mismatches";

/// So many ranges stand in one file's tags: more would make every opening of the table slower than what they tell is worth.
const RANGES_MAX: usize = 64;

/// So many columns stand in [`MISMATCHES`], for the same reason: those with the most values.
const MISMATCHES_MAX: usize = 64;

/// The tags of the file that takes the place of these.
pub(super) fn united(files: &[&DataFile]) -> BTreeMap<String, String> {
    let mut united = BTreeMap::new();
    for tag in [LOG_TOPIC, EPOCH] {
        // Files are only put together where these are the same.
        if let Some(value) = files.iter().find_map(|file| file.tags.get(tag)) {
            united.insert(tag.to_owned(), value.clone());
        }
    }
    for tag in [MESSAGES, READINGS, QUARANTINED, DROPPED] {
        let counts: Vec<u64> = files.iter().filter_map(|file| file.tags.get(tag)?.parse().ok()).collect();
        if !counts.is_empty() {
            united.insert(tag.to_owned(), counts.iter().sum::<u64>().to_string());
        }
    }
    let flushes: u64 = files.iter().map(|file| flushes(file)).sum();
    if flushes > 0 {
        united.insert(FLUSHES.to_owned(), flushes.to_string());
    }
    let closed = closed(files);
    if !closed.is_empty() {
        united.insert(CLOSED.to_owned(), closed);
    }
    let (ranges, is_coarse) = ranges(files);
    if !ranges.is_empty() {
        united.insert(RANGES.to_owned(), ranges);
    }
    if is_coarse {
        united.insert(RANGES_COARSE.to_owned(), "true".to_owned());
    }
    if let Some(mismatches) = mismatches(files) {
        united.insert(MISMATCHES.to_owned(), mismatches);
    }
    united
}

fn flushes(file: &DataFile) -> u64 {
    match file.tags.get(FLUSHES) {
        Some(count) => count.parse().unwrap_or(0),
        None => u64::from(file.tags.contains_key(FLUSH)),
    }
}

/// The words, and how often each was said: the most frequent first.
fn closed(files: &[&DataFile]) -> String {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for said in files.iter().filter_map(|file| file.tags.get(CLOSED)) {
        for part in said.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (word, count) = match part.split_once(' ') {
                Some((word, count)) => (word, count.trim().parse().unwrap_or(1)),
                None => (part, 1),
            };
            *counts.entry(word).or_default() += count;
        }
    }
    let mut counts: Vec<(&str, u64)> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let parts: Vec<String> = counts.iter().map(|(word, count)| format!("{word} {count}")).collect();
    parts.join(", ")
}

/// One range of offsets, both ends part of it.
type Range = (i64, i64);

fn ranges(files: &[&DataFile]) -> (String, bool) {
    let mut all: BTreeMap<i32, Vec<Range>> = BTreeMap::new();
    for text in files.iter().filter_map(|file| file.tags.get(RANGES)) {
        for (partition, range) in text.split(',').filter_map(parse) {
            all.entry(partition).or_default().push(range);
        }
    }
    for of_partition in all.values_mut() {
        *of_partition = merged(std::mem::take(of_partition));
    }
    let mut is_coarse = files.iter().any(|file| file.tags.contains_key(RANGES_COARSE));
    while all.values().map(Vec::len).sum::<usize>() > RANGES_MAX.max(all.len()) {
        bridge_narrowest(&mut all);
        is_coarse = true;
    }
    let texts: Vec<String> = all
        .iter()
        .flat_map(|(partition, ranges)| {
            ranges.iter().map(move |(first, last)| format!("{partition}:{first}-{last}"))
        })
        .collect();
    (texts.join(","), is_coarse)
}

fn parse(text: &str) -> Option<(i32, Range)> {
    let (partition, offsets) = text.trim().split_once(':')?;
    let (first, last) = offsets.split_once('-')?;
    Some((partition.parse().ok()?, (first.parse().ok()?, last.parse().ok()?)))
}

/// The same offsets in as few ranges as can be.
fn merged(mut ranges: Vec<Range>) -> Vec<Range> {
    ranges.sort_unstable();
    let mut merged: Vec<Range> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match merged.last_mut() {
            Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
            _ => merged.push((first, last)),
        }
    }
    merged
}

/// Makes one of the two ranges that have the fewest offsets between them.
fn bridge_narrowest(all: &mut BTreeMap<i32, Vec<Range>>) {
    let gaps = all.iter().flat_map(|(partition, ranges)| {
        ranges.windows(2).enumerate().map(move |(at, pair)| (pair[1].0 - pair[0].1, *partition, at))
    });
    let Some((_, partition, at)) = gaps.min() else { return };
    if let Some(ranges) = all.get_mut(&partition) {
        let (_, last) = ranges.remove(at + 1);
        ranges[at].1 = last;
    }
}

fn mismatches(files: &[&DataFile]) -> Option<String> {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for text in files.iter().filter_map(|file| file.tags.get(MISMATCHES)) {
        // What somebody else wrote there says nothing.
        let said: BTreeMap<String, u64> = serde_json::from_str(text).unwrap_or_default();
        for (column, count) in said {
            *counts.entry(column).or_default() += count;
        }
    }
    if counts.len() > MISMATCHES_MAX {
        let mut most: Vec<(String, u64)> = counts.into_iter().collect();
        most.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        most.truncate(MISMATCHES_MAX);
        counts = most.into_iter().collect();
    }
    (!counts.is_empty()).then(|| serde_json::json!(counts).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(tags: &[(&str, &str)]) -> DataFile {
        DataFile {
            path: "p".to_owned(),
            size: 1,
            rows: Some(1),
            partition_values: BTreeMap::new(),
            stats: None,
            tags: tags.iter().map(|(tag, value)| ((*tag).to_owned(), (*value).to_owned())).collect(),
            modified_ms: 0,
        }
    }

    fn check(tag: &str, files: &[&[(&str, &str)]], expected: Option<&str>) {
        let files: Vec<DataFile> = files.iter().map(|tags| file(tags)).collect();
        let united = united(&files.iter().collect::<Vec<_>>());
        assert_eq!(united.get(tag).map(String::as_str), expected);
        // Whoever is put together again says the same.
        let again = super::united(&[&DataFile { tags: united.clone(), ..file(&[]) }]);
        assert_eq!(again, united);
    }

    #[test]
    fn counts_are_added_up_and_words_are_counted() {
        check(MESSAGES, &[&[(MESSAGES, "3")], &[], &[(MESSAGES, "4")]], Some("7"));
        check(READINGS, &[&[], &[]], None);
        check(CLOSED, &[&[(CLOSED, "age")], &[(CLOSED, "idle 2, age 5")]], Some("age 6, idle 2"));
        check(FLUSHES, &[&[(FLUSH, "a")], &[(FLUSHES, "9")], &[]], Some("10"));
        check(LOG_TOPIC, &[&[(LOG_TOPIC, "t")], &[(LOG_TOPIC, "t")]], Some("t"));
        check(
            MISMATCHES,
            &[&[(MISMATCHES, r#"{"a":1,"b":2}"#)], &[(MISMATCHES, r#"{"b":5}"#)], &[(MISMATCHES, "soon")]],
            Some(r#"{"a":1,"b":7}"#),
        );
    }

    #[test]
    fn ranges_that_touch_become_one() {
        check(RANGES, &[&[(RANGES, "0:5-9,1:0-3")], &[(RANGES, "0:10-11")]], Some("0:5-11,1:0-3"));
        check(
            RANGES,
            &[&[(RANGES, "0:5-9")], &[(RANGES, "0:12-13")], &[(RANGES, "0:1-6")]],
            Some("0:1-9,0:12-13"),
        );
        check(RANGES, &[&[(RANGES, "soon")], &[]], None);
    }

    #[test]
    fn ranges_without_end_are_made_fewer_and_it_says_so() {
        let files: Vec<DataFile> = (0..200_i64)
            .map(|step| {
                // The gaps grow: the narrowest are bridged.
                let first = step * step;
                file(&[(RANGES, &format!("0:{first}-{first}"))])
            })
            .collect();
        let united = united(&files.iter().collect::<Vec<_>>());
        assert_eq!(united[RANGES].split(',').count(), RANGES_MAX);
        assert!(
            united[RANGES].starts_with("0:0-") && united[RANGES].ends_with("-39601"),
            "{}",
            united[RANGES]
        );
        assert!(united[RANGES].contains(",0:39601-39601"), "the widest gap is still one");
        assert_eq!(united[RANGES_COARSE], "true");
    }
}
