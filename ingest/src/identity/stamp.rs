//! Whether a file is still the one that was read.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What changes when a file does: replaced by a rename it is another inode, written in place it has other times. `None`: there is no such file, or it is out of
/// reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp(Option<[i64; 6]>);

impl Stamp {
    /// That of a file now. Taken before the file is read, it cannot be newer than what is read.
    pub(crate) fn of(path: &Path) -> Self {
        Self(fs::metadata(path).ok().map(|file| {
            // The inode's bits matter, not its sign.
            let inode = i64::from_ne_bytes(file.ino().to_ne_bytes());
            let length = i64::from_ne_bytes(file.len().to_ne_bytes());
            [inode, length, file.mtime(), file.mtime_nsec(), file.ctime(), file.ctime_nsec()]
        }))
    }

    /// Whether there is such a file.
    pub(crate) fn is_there(self) -> bool {
        self.0.is_some()
    }
}
