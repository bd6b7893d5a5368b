//! Which directories are on disk to stay: not only they themselves, but also their entries in the directories above.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// The directories below a root whose own entries are known to be on disk, so that only they themselves need a sync. Written by every publishing call.
#[derive(Debug)]
pub(super) struct Rooted {
    root: PathBuf,
    known: Mutex<HashSet<PathBuf>>,
}

impl Rooted {
    /// The root's own entry is somebody else's matter.
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root, known: Mutex::default() }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Syncs the directory of `path`; and, until it is known that they were, those above it up to the root, since they may have been made for it.
    ///
    /// A directory is known only after every sync above it has succeeded: a caller that fails, or is still on its way, leaves all of the work to the next one.
    pub(super) fn sync_directory_of(
        &self,
        path: &Path,
        sync: impl Fn(&Path) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut synced = Vec::new();
        for directory in path.ancestors().skip(1) {
            sync(directory)?;
            if directory == self.root || self.knows(directory) {
                break;
            }
            synced.push(directory.to_owned());
        }
        self.known.lock().unwrap_or_else(PoisonError::into_inner).extend(synced);
        Ok(())
    }

    fn knows(&self, directory: &Path) -> bool {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).contains(directory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[test]
    fn directories_above_are_synced_until_that_has_succeeded_once() {
        let rooted = Rooted::new("/base".into());
        let check = |path: &str, broken: Option<&str>, expected: &[&str]| {
            let tried = RefCell::new(Vec::new());
            let done = rooted.sync_directory_of(Path::new(path), |directory| {
                let directory = directory.to_str().unwrap().to_owned();
                let fails = broken == Some(directory.as_str());
                tried.borrow_mut().push(directory);
                if fails { Err(io::Error::other("a sync failed on purpose")) } else { Ok(()) }
            });
            assert_eq!(tried.into_inner(), expected);
            assert_eq!(done.is_err(), broken.is_some());
        };
        check("/base/t/day/a", Some("/base/t/day"), &["/base/t/day"]);
        check("/base/t/day/a", Some("/base"), &["/base/t/day", "/base/t", "/base"]);
        check("/base/t/day/a", Some("/base/t"), &["/base/t/day", "/base/t"]);
        check("/base/t/day/a", None, &["/base/t/day", "/base/t", "/base"]);
        check("/base/t/day/b", None, &["/base/t/day"]);
        check("/base/t/other/a", None, &["/base/t/other", "/base/t"]);
        check("/base/a", None, &["/base"]);
    }

    #[test]
    fn a_second_writer_does_not_rely_on_a_first_that_is_still_on_its_way() {
        let rooted = Rooted::new("/base".into());
        let second = RefCell::new(Vec::new());
        rooted
            .sync_directory_of(Path::new("/base/t/a"), |directory| {
                if directory == Path::new("/base") {
                    // The first has synced the folder of the table, and not yet the root.
                    rooted.sync_directory_of(Path::new("/base/t/b"), |directory| {
                        second.borrow_mut().push(directory.to_owned());
                        Ok(())
                    })?;
                }
                Ok(())
            })
            .unwrap();
        assert_eq!(second.into_inner(), [Path::new("/base/t"), Path::new("/base")]);
    }
}
