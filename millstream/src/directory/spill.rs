//! Where queries put what does not fit into memory: a directory for each process, in `spill` of the data directory.
//!
//! Not the system's directory for temporary files: on many systems that is memory, and spilling there would use up just what is missing. Only where there is no data
//! directory, as on the machine of somebody who asks what lies in Kafka and a store, it is there, in a directory that nobody else can read.
//! A process that is killed leaves its directory behind; the next one that needs one removes it. Who is alive shows by a lock on a file.

use anyhow::{Context, ensure};
use rustix::process::getuid;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

/// The directory in the data directory.
const SPILL: &str = "spill";

/// Locked while directories are made and removed, so that a new one is not taken for a dead one's.
const LOCK: &str = "lock";

/// Locked as long as a process lives.
const OWNER: &str = "owner";

/// Rights in a directory for temporary files: its owner's alone.
const PRIVATE: u32 = 0o700;

/// What the name of a process's directory begins with: nothing else is ever removed.
const PREFIX: &str = "queries-";

/// A process's own directory, until it is dropped.
#[derive(Debug)]
pub(crate) struct Spill {
    path: PathBuf,
    /// Locked.
    _owner: File,
}

impl Spill {
    /// Makes one, and removes what processes left that are no more.
    ///
    /// # Errors
    /// If it cannot be made: the data directory may be another user's.
    pub(super) fn take(directory: &Path) -> anyhow::Result<Self> {
        let all = directory.join(SPILL);
        take(&all).with_context(|| format!("failed to make a directory in {}", all.display()))
    }

    /// Makes one in a directory for temporary files, where others may write, too.
    ///
    /// # Errors
    /// If it cannot be made, or what should be this user's own is somebody else's.
    pub(super) fn take_among_others(temporary: &Path) -> anyhow::Result<Self> {
        let own = temporary.join(format!("millstream-{}", getuid().as_raw()));
        match DirBuilder::new().mode(PRIVATE).create(&own) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(error).with_context(|| format!("failed to make {}", own.display()));
            }
            _ => {}
        }
        let found = std::fs::symlink_metadata(&own)?;
        let is_private = found.is_dir() && found.uid() == getuid().as_raw() && found.mode() & 0o077 == 0;
        ensure!(is_private, "{} should be a directory of this user that nobody else can open", own.display());
        Self::take(&own)
    }

    /// Half of what is free on its disk, in bytes; `None` if that cannot be told. The other half is the log's and the tables', which must not stand still for a
    /// query.
    pub(crate) fn room(&self) -> Option<u64> {
        let disk = rustix::fs::statvfs(&self.path).ok()?;
        Some(disk.f_bavail.saturating_mul(disk.f_frsize) / 2)
    }

    /// The directory.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Spill {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            tracing::debug!(%error, path = %self.path.display(), "what was spilled stays behind until the next start");
        }
    }
}

fn take(all: &Path) -> io::Result<Spill> {
    std::fs::create_dir_all(all)?;
    let lock = open(&all.join(LOCK))?;
    lock.lock()?;
    for entry in std::fs::read_dir(all)? {
        let path = entry?.path();
        let is_ours =
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX)) && path.is_dir();
        if is_ours && is_dead(&path)? {
            tracing::debug!(path = %path.display(), "removing what a process that is no more has spilled");
            // Its owner may be about to do so.
            if let Err(error) = std::fs::remove_dir_all(&path)
                && error.kind() != io::ErrorKind::NotFound
            {
                return Err(error);
            }
        }
    }
    let path = all.join(format!("{PREFIX}{:016x}", RandomState::new().hash_one(std::process::id())));
    std::fs::create_dir(&path)?;
    let owner = open(&path.join(OWNER))?;
    owner.lock()?;
    Ok(Spill { path, _owner: owner })
}

fn is_dead(path: &Path) -> io::Result<bool> {
    match OpenOptions::new().write(true).open(path.join(OWNER)).map(|owner| owner.try_lock()) {
        Ok(Ok(())) => Ok(true),
        Ok(Err(TryLockError::WouldBlock)) => Ok(false),
        Ok(Err(TryLockError::Error(error))) => Err(error),
        // It ended between the two steps of making or removing it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(false).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load::load;
    use crate::directory::Directory;
    use std::collections::BTreeMap;
    use tempfile::TempDir;

    fn names(directory: &Path) -> usize {
        std::fs::read_dir(directory.join(SPILL)).unwrap().count()
    }

    #[test]
    fn each_process_has_its_own_and_removes_it() {
        let directory = TempDir::new().unwrap();
        let first = Spill::take(directory.path()).unwrap();
        std::fs::write(first.path().join("sort"), "x").unwrap();
        let second = Spill::take(directory.path()).unwrap();
        assert_ne!(first.path(), second.path());
        assert!(first.path().join("sort").exists());
        drop(first);
        assert!(second.path().is_dir());
        assert_eq!(names(directory.path()), 2, "the second, and the lock");
        drop(second);
        assert_eq!(names(directory.path()), 1);
    }

    #[test]
    fn among_others_it_is_in_a_directory_that_nobody_else_can_open() {
        let temporary = TempDir::new().unwrap();
        let spill = Spill::take_among_others(temporary.path()).unwrap();
        let own = spill.path().parent().and_then(Path::parent).unwrap().to_owned();
        assert_eq!(own.parent(), Some(temporary.path()));
        assert_eq!(std::fs::metadata(&own).unwrap().mode() & 0o777, PRIVATE);
        drop(spill);
        drop(Spill::take_among_others(temporary.path()).unwrap());
        // Somebody else was there first, and could put anything in it, or lead elsewhere.
        std::fs::remove_dir_all(&own).unwrap();
        DirBuilder::new().mode(0o755).create(&own).unwrap();
        assert!(Spill::take_among_others(temporary.path()).is_err());
        std::fs::remove_dir_all(&own).unwrap();
        let elsewhere = TempDir::new().unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), &own).unwrap();
        assert!(Spill::take_among_others(temporary.path()).is_err());
    }

    #[test]
    fn without_a_data_directory_there_is_a_place_all_the_same() {
        let settings = load("", Path::new(""), &BTreeMap::new()).unwrap();
        let (spill, bytes) = Directory::new("no/such/directory").spill(&settings);
        let spill = spill.unwrap();
        assert!(spill.path().starts_with(std::env::temp_dir()), "{}", spill.path().display());
        assert!(bytes <= settings.sql.spill_bytes());
    }

    #[test]
    fn what_a_killed_process_left_is_removed_and_nothing_else() {
        let directory = TempDir::new().unwrap();
        let spill = directory.path().join(SPILL);
        for dead in ["queries-00", "queries-01", "holidays"] {
            std::fs::create_dir_all(spill.join(dead)).unwrap();
            std::fs::write(spill.join(dead).join("sort"), "x").unwrap();
        }
        // Killed, but for one even before it could say whose it is.
        std::fs::write(spill.join("queries-00").join(OWNER), "").unwrap();
        std::fs::write(spill.join("queries-of-mine"), "a file").unwrap();
        let own = Spill::take(directory.path()).unwrap();
        assert!(!spill.join("queries-00").exists() && !spill.join("queries-01").exists());
        assert!(spill.join("holidays/sort").exists() && spill.join("queries-of-mine").exists());
        assert!(own.path().is_dir());
    }
}
