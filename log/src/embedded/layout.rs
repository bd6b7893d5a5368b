//! Where a log's files lie and what they are called. Makes directories and small files, never touches a record.
//!
//! ```text
//! lock                                      held by the process that writes; its process id
//! format                                    version and marker of the log, with a checksum
//! <topic>/partitions                        how many there are, with a checksum
//! <topic>/<partition>/<offset>.segment      20 digits: the offset of the first record
//! ```

use crate::embedded::disk::{Disk, sync_dir};
use crate::embedded::frame::Marker;
use crate::error::LogError;
use millstream_model::name::{LogTopic, Offset, Partition, TopicPartition};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const LOCK: &str = "lock";
pub(crate) const FORMAT: &str = "format";
pub(crate) const PARTITIONS: &str = "partitions";
const SEGMENT: &str = ".segment";

/// What stands in `format` before the marker.
const FORMAT_1: &str = "millstream log 1 ";

/// Beginning of the name of a topic that is being made. It gets its own name when it is complete.
const UNFINISHED: &str = "new-";

/// What `millstream log repair` does about what it cannot mend.
const RESTORE: &str = "not mend this: restore it from a copy";

/// An I/O error with what was tried on which path.
pub(crate) fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LogError {
    move |source| LogError::Io { action, path: path.to_owned(), source: Arc::new(source) }
}

/// The name of the segment that begins with this offset.
pub(crate) fn segment_name(first: Offset) -> String {
    format!("{:020}{SEGMENT}", first.0)
}

/// The directory of a partition.
pub(crate) fn partition_dir(dir: &Path, name: &TopicPartition) -> PathBuf {
    dir.join(name.topic.as_str()).join(name.partition.to_string())
}

/// First offsets of a partition's segments, in order.
pub(crate) fn segments(dir: &Path) -> Result<Vec<Offset>, LogError> {
    let first = |name: &str| {
        let digits = name.strip_suffix(SEGMENT).filter(|digits| digits.len() == 20)?;
        digits.parse().ok().filter(|first| *first >= 0).map(Offset)
    };
    let mut segments: Vec<_> = names(dir)?.iter().filter_map(|name| first(name)).collect();
    segments.sort_unstable();
    Ok(segments)
}

/// A partition always has a segment, which keeps its next offset. This one has none.
pub(crate) fn no_segment(dir: &Path) -> LogError {
    LogError::Damaged {
        path: dir.to_owned(),
        at: 0,
        detail: "there is no segment in it".to_owned(),
        repair: RESTORE.to_owned(),
    }
}

/// The topics of a log.
pub(crate) fn topics(dir: &Path) -> Result<Vec<LogTopic>, LogError> {
    let mut topics: Vec<LogTopic> = names(dir)?.iter().filter_map(|name| name.parse().ok()).collect();
    topics.sort_unstable();
    Ok(topics)
}

/// The partitions of a topic. Their number is written down, so that a missing one is noticed.
pub(crate) fn partitions(dir: &Path, topic: &LogTopic) -> Result<Vec<TopicPartition>, LogError> {
    let topic_dir = dir.join(topic.as_str());
    let path = topic_dir.join(PARTITIONS);
    let damaged = |detail: String, repair: &str| LogError::Damaged {
        path: path.clone(),
        at: 0,
        detail,
        repair: repair.to_owned(),
    };
    let found = partition_dirs(&topic_dir)?;
    let Some(count) = read_checked(&path)?.and_then(|text| text.parse::<i32>().ok()) else {
        return Err(damaged(
            "the number of partitions cannot be read".to_owned(),
            "count the partitions' directories",
        ));
    };
    if !found.iter().copied().eq(0..count) {
        return Err(damaged(format!("there should be {count} partitions, found {found:?}"), RESTORE));
    }
    Ok(found
        .into_iter()
        .map(|partition| TopicPartition { topic: topic.clone(), partition: Partition(partition) })
        .collect())
}

/// Writes the number of partitions down again, if it cannot be read and their directories leave no doubt. Says whether it did.
pub(crate) fn recount_partitions(dir: &Path, topic: &LogTopic) -> Result<bool, LogError> {
    let topic_dir = dir.join(topic.as_str());
    let found = partition_dirs(&topic_dir)?;
    let unreadable = read_checked(&topic_dir.join(PARTITIONS))?.is_none();
    let certain = unreadable && !found.is_empty() && found.iter().copied().eq(0..found.len() as i32);
    if certain {
        write_checked(&topic_dir, PARTITIONS, &found.len().to_string())?;
    }
    Ok(certain)
}

fn partition_dirs(topic_dir: &Path) -> Result<Vec<i32>, LogError> {
    let mut found: Vec<i32> = names(topic_dir)?.iter().filter_map(|name| name.parse().ok()).collect();
    found.sort_unstable();
    Ok(found)
}

/// Makes a topic, durably, and all at once: a crash leaves all of it or none. It may stand already, from an attempt that failed late: then its name is made
/// durable.
pub(crate) fn create_topic(
    dir: &Path,
    topic: &LogTopic,
    partitions: u16,
    disk: &dyn Disk,
) -> Result<(), LogError> {
    let path = dir.join(topic.as_str());
    let sync = || disk.sync_dir(dir).map_err(io_error("sync directory", dir));
    if path.exists() {
        return sync();
    }
    let unfinished = dir.join(format!("{UNFINISHED}{topic}"));
    remove_dir(&unfinished)?;
    let make = |path: &Path| fs::create_dir(path).map_err(io_error("make directory", path));
    make(&unfinished)?;
    for partition in 0..partitions {
        let partition_dir = unfinished.join(partition.to_string());
        make(&partition_dir)?;
        let segment = partition_dir.join(segment_name(Offset::ZERO));
        disk.create(&segment).map_err(io_error("make", &segment))?;
    }
    write_checked(&unfinished, PARTITIONS, &partitions.to_string())?;
    fs::rename(&unfinished, &path).map_err(io_error("make directory", &path))?;
    sync()
}

/// Removes what a crash left of a topic that was being made. Nothing was ever written to it.
pub(crate) fn remove_unfinished(dir: &Path) -> Result<(), LogError> {
    let names = names(dir)?;
    let unfinished = names
        .iter()
        .filter(|name| name.strip_prefix(UNFINISHED).is_some_and(|rest| rest.parse::<LogTopic>().is_ok()));
    for name in unfinished {
        remove_dir(&dir.join(name))?;
    }
    Ok(())
}

fn remove_dir(path: &Path) -> Result<(), LogError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(io_error("remove directory", path)(error))
        }
        _ => Ok(()),
    }
}

/// The marker of a log; none where there is no log yet.
pub(crate) fn marker(dir: &Path) -> Result<Option<Marker>, LogError> {
    let path = dir.join(FORMAT);
    let damaged = |detail: &str| LogError::Damaged {
        path: path.clone(),
        at: 0,
        detail: detail.to_owned(),
        repair: "write it again from what the segments say".to_owned(),
    };
    if !path.exists() {
        return if topics(dir)?.is_empty() { Ok(None) } else { Err(damaged("the file is missing")) };
    }
    let text = read_checked(&path)?.ok_or_else(|| damaged("the file cannot be read"))?;
    let marker = text.strip_prefix(FORMAT_1).and_then(|digits| u64::from_str_radix(digits, 16).ok());
    let other = || io::Error::new(io::ErrorKind::Unsupported, "another version of millstream wrote this log");
    let marker = marker.ok_or_else(|| io_error("open", &path)(other()))?;
    Ok(Some(Marker(marker.to_be_bytes())))
}

/// Gives a log its marker.
pub(crate) fn write_marker(dir: &Path, marker: Marker) -> Result<(), LogError> {
    write_checked(dir, FORMAT, &format!("{FORMAT_1}{:016x}", u64::from_be_bytes(marker.0)))
}

/// A marker that nobody can guess: the standard library seeds its hashers from the system's random numbers.
pub(crate) fn random_marker() -> Marker {
    Marker(RandomState::new().build_hasher().finish().to_be_bytes())
}

/// Writes one line and its checksum to a file, durably and all at once.
fn write_checked(dir: &Path, name: &str, text: &str) -> Result<(), LogError> {
    let path = dir.join(name);
    let unfinished = dir.join(format!("{name}.new"));
    let write = || {
        let mut file = File::create(&unfinished)?;
        writeln!(file, "{text}\n{:08x}", crc32c::crc32c(text.as_bytes()))?;
        file.sync_all()?;
        fs::rename(&unfinished, &path)?;
        sync_dir(dir)
    };
    write().map_err(io_error("write", &path))
}

/// The line in a file that [`write_checked`] wrote; none if it is missing or not what was written.
fn read_checked(path: &Path) -> Result<Option<String>, LogError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error("read", path)(error)),
    };
    let Ok(whole) = String::from_utf8(bytes) else { return Ok(None) };
    let line = whole.lines().next().unwrap_or_default();
    let expected = format!("{line}\n{:08x}\n", crc32c::crc32c(line.as_bytes()));
    Ok((whole == expected).then(|| line.to_owned()))
}

/// The names in a directory that are text; ours all are.
fn names(dir: &Path) -> Result<Vec<String>, LogError> {
    let list = || fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>();
    let names = list().map_err(io_error("list", dir))?;
    Ok(names.into_iter().filter_map(|name| name.into_string().ok()).collect())
}

/// Makes the log's directory and those above it that are missing, durably.
pub(crate) fn create_dir(dir: &Path) -> Result<(), LogError> {
    let make = || {
        let missing: Vec<_> =
            dir.ancestors().take_while(|dir| !dir.as_os_str().is_empty() && !dir.exists()).collect();
        fs::create_dir_all(dir)?;
        missing.into_iter().try_for_each(|made| sync_dir(&made.join("..")))
    };
    make().map_err(io_error("make directory", dir))
}

/// The right to write to a log. The system gives it back when the file is closed, however the process ends.
#[derive(Debug)]
pub(crate) struct Lock {
    held: File,
}

impl Drop for Lock {
    /// Not only by closing the file: a child process that is just being started has it open, too, until it runs its own program.
    fn drop(&mut self) {
        if let Err(error) = self.held.unlock() {
            tracing::debug!(%error, "a log is unlocked by the system alone");
        }
    }
}

impl Lock {
    /// Takes the lock.
    ///
    /// # Errors
    /// [`LogError::InUse`] if another has it.
    pub(crate) fn take(dir: &Path) -> Result<Self, LogError> {
        let path = dir.join(LOCK);
        let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = open.map_err(io_error("open", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let known = file.read_to_string(&mut holder).is_ok_and(|length| length > 0);
                let holder = if known { holder.trim().to_owned() } else { "unknown".to_owned() };
                return Err(LogError::InUse { path: dir.to_owned(), holder });
            }
            Err(TryLockError::Error(error)) => return Err(io_error("lock", &path)(error)),
        }
        let mut sign = || {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())
        };
        // On a full disk the name is missing from the lock, but the log can still be read and emptied.
        if let Err(error) = sign() {
            tracing::warn!(path = %path.display(), %error, "the lock does not say who holds it");
        }
        Ok(Self { held: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_that_is_being_started_does_not_keep_the_lock() {
        let dir = tempfile::tempdir().unwrap();
        let lock = Lock::take(dir.path()).unwrap();
        let of_child = lock.held.try_clone().unwrap();
        drop(lock);
        Lock::take(dir.path()).unwrap();
        drop(of_child);
    }
}
