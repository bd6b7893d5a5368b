//! In which order files are read: the newest readings first.
//!
//! Who asks for the last rows has them after the first file or two, and the engine then knows of all the others, by their statistics, that none of their rows can
//! count, and does not open them. For whoever wants all rows one order is as good as another.

use crate::DataFile;
use datafusion::common::ScalarValue;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::FileGroup;
use millstream_model::column::reserved;
use std::cmp::Reverse;

/// By their latest event times; files that say nothing of those come last, the newest of them first.
pub(super) fn newest_first(files: &mut [&DataFile]) {
    files.sort_by_cached_key(|file| Reverse((latest(file), file.modified_ms)));
}

/// In microseconds since 1970.
fn latest(file: &DataFile) -> Option<i64> {
    match file.stats.as_ref()?.max(reserved::TS)? {
        ScalarValue::TimestampMicrosecond(micros, _) => *micros,
        _ => None,
    }
}

/// Dealt out to so many readers, in turn, so that each of them begins with one of the first; one group at least. Whoever is done early may be given what another has not begun.
pub(super) fn dealt(files: Vec<PartitionedFile>, readers: usize) -> Vec<FileGroup> {
    let mut dealt = vec![Vec::new(); readers.clamp(1, files.len().max(1))];
    let count = dealt.len();
    for (place, file) in files.into_iter().enumerate() {
        if let Some(group) = dealt.get_mut(place % count) {
            group.push(file);
        }
    }
    dealt.into_iter().map(FileGroup::new).collect()
}
