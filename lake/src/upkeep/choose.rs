//! Which files are put together: decided by their sizes and ages alone, without a look at the store.
//!
//! Files of one partition are sorted into tiers, each up to [`FAN`] times as large as the one below; as soon as a tier has that many, they become one file, with all
//! smaller ones. A day that is over, and to which nothing was added for a while, is put together to its end. So a row is written again about once a tier, and a
//! partition that still grows has fewer than [`FAN`] files a tier, beside its full ones.

use super::tags;
use crate::DataFile;
use crate::write::is_ours;
use chrono::{DateTime, NaiveDate, Utc};
use datafusion::common::ScalarValue;
use millstream_model::column::reserved;
use std::collections::BTreeMap;
use std::time::Duration;

/// So many files of about one size become one, and so much larger is the next tier. More: rows are written again less often, and readers open more files.
const FAN: usize = 8;

/// So many files are merged at once: each is open meanwhile, with a page of every column in memory.
const MERGE_FILES_MAX: usize = 256;

/// A day to which nothing was added for so long is taken to be complete; one to which something comes after all is looked at again.
const QUIET: Duration = Duration::from_secs(60 * 60);

/// The partition column that is a day.
const DATE: &str = reserved::DATE;

/// Which files may be put together at all: one partition, and one log of whose offsets their tags tell.
type Kin<'f> = (&'f BTreeMap<String, Option<String>>, Option<&'f String>, Option<&'f String>);

/// Files that become one.
#[derive(Debug, Clone)]
pub(super) struct Group {
    pub(super) files: Vec<DataFile>,
}

impl Group {
    pub(super) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }
}

/// The files that are to become fewer now, if any. `target_size` is what a full file has, in bytes.
pub(super) fn choose<'f>(
    files: impl IntoIterator<Item = &'f DataFile>,
    partition_by: &[String],
    target_size: u64,
    now: DateTime<Utc>,
) -> Vec<Group> {
    let mut kin: BTreeMap<Kin<'_>, Vec<&DataFile>> = BTreeMap::new();
    // Who looks after another writer's files does not know their order.
    for file in files.into_iter().filter(|file| is_ours(&file.path, partition_by)) {
        let key = (&file.partition_values, file.tags.get(tags::LOG_TOPIC), file.tags.get(tags::EPOCH));
        kin.entry(key).or_default().push(file);
    }
    kin.into_iter().flat_map(|((values, ..), files)| of_partition(values, files, target_size, now)).collect()
}

fn of_partition(
    values: &BTreeMap<String, Option<String>>,
    files: Vec<&DataFile>,
    target_size: u64,
    now: DateTime<Utc>,
) -> Vec<Group> {
    let is_over = is_over(values, &files, now);
    let small: Vec<&DataFile> = files.into_iter().filter(|file| tier(file, target_size).is_some()).collect();
    let mut chosen = match is_over {
        true if worth_it(&small) => small,
        _ => of_tiers(small, target_size),
    };
    // Rows that came together stay together, so that a file's times are few.
    chosen.sort_by_key(|file| (began(file), file.path.clone()));
    groups(chosen, target_size)
}

/// Whether nothing more is expected.
fn is_over(values: &BTreeMap<String, Option<String>>, files: &[&DataFile], now: DateTime<Utc>) -> bool {
    let day = values.get(DATE).and_then(Option::as_ref).and_then(|text| text.parse::<NaiveDate>().ok());
    let newest = files.iter().map(|file| file.modified_ms).max().unwrap_or_default();
    let quiet_ms = i64::try_from(QUIET.as_millis()).unwrap_or(i64::MAX);
    day.is_some_and(|day| day < now.date_naive()) && newest < now.timestamp_millis().saturating_sub(quiet_ms)
}

/// Whether the smaller ones are enough to write the largest again for them: a file that comes late must not cost a large one each time.
fn worth_it(files: &[&DataFile]) -> bool {
    let largest = files.iter().map(|file| file.size).max().unwrap_or(0);
    let others = files.iter().map(|file| file.size).sum::<u64>() - largest;
    files.len() > 1 && others.saturating_mul(FAN as u64) >= largest
}

/// Of the largest tier that has enough files, all of it and all that is below.
fn of_tiers(files: Vec<&DataFile>, target_size: u64) -> Vec<&DataFile> {
    let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
    for file in &files {
        if let Some(tier) = tier(file, target_size) {
            *counts.entry(tier).or_default() += 1;
        }
    }
    let Some((&full, _)) = counts.iter().find(|(_, count)| **count >= FAN) else { return Vec::new() };
    files.into_iter().filter(|file| tier(file, target_size).is_some_and(|tier| tier >= full)).collect()
}

/// 0 is the tier of the largest, just below half of a full file; `None` for what is as good as full.
fn tier(file: &DataFile, target_size: u64) -> Option<u32> {
    let full = (target_size / 2).max(1);
    if file.size >= full {
        return None;
    }
    // Below a few KiB a file is nothing but its footer.
    let size = file.size.max(4096).min(full);
    Some((full / size).max(1).ilog(FAN as u64))
}

/// When its first row was, in microseconds since 1970, or else when it was written.
fn began(file: &DataFile) -> i64 {
    let bound = file.stats.as_ref().and_then(|stats| stats.min(reserved::TS));
    match bound {
        Some(ScalarValue::TimestampMicrosecond(Some(micros), _)) => *micros,
        _ => file.modified_ms.saturating_mul(1000),
    }
}

/// Cut so that none has more files, or becomes larger, than it may.
fn groups(files: Vec<&DataFile>, target_size: u64) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let mut bytes = 0;
    for file in files {
        match groups.last_mut() {
            Some(group) if bytes + file.size <= target_size && group.files.len() < MERGE_FILES_MAX => {
                group.files.push(file.clone());
                bytes += file.size;
            }
            _ => {
                groups.push(Group { files: vec![file.clone()] });
                bytes = file.size;
            }
        }
    }
    groups.retain(|group| group.files.len() > 1);
    groups
}

#[cfg(test)]
#[path = "choose/tests.rs"]
mod tests;
