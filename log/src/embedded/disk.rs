//! What the writer asks of the disk, so that tests can put one in its place that fails.

use std::fmt::Debug;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The writing side of a disk.
pub(crate) trait Disk: Send + Sync + Debug {
    /// Makes an empty segment, durably: the file and its name in the directory.
    fn create(&self, path: &Path) -> io::Result<File>;
    /// Writes all of the bytes at a place.
    fn write(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()>;
    /// Returns when what was written is durable. After a failure nothing is known of what was written since the last success.
    fn sync(&self, file: &File) -> io::Result<()>;
    /// Cuts a file, durably.
    fn cut(&self, file: &File, length: u64) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Bytes that this process may still write to the directory's disk.
    fn free(&self, dir: &Path) -> io::Result<u64>;
}

/// The disk of this machine.
#[derive(Debug)]
pub(crate) struct LocalDisk;

impl Disk for LocalDisk {
    fn create(&self, path: &Path) -> io::Result<File> {
        // What may stand there is the rest of an attempt that failed before anything was written to it.
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
        file.sync_all()?;
        sync_dir(path.parent().unwrap_or(path))?;
        Ok(file)
    }

    fn write(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        file.write_all_at(bytes, at)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    fn cut(&self, file: &File, length: u64) -> io::Result<()> {
        file.set_len(length)?;
        file.sync_all()
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        sync_dir(dir)
    }

    fn free(&self, dir: &Path) -> io::Result<u64> {
        let disk = rustix::fs::statvfs(dir)?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    }
}

/// Makes the names in a directory durable.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
