//! Which one of several processes with the same configuration this is.
//!
//! A broker keeps a session by its client id, so each process needs an id that no other has and that it has again after a restart. It lies in the data directory,
//! and the process that uses it holds its lock: of two on one directory the second would throw the first out at the broker.

use anyhow::{Context, bail};
use std::fs::{File, OpenOptions, TryLockError};
use std::hash::{BuildHasher, RandomState};
use std::io::{Read, Seek, Write};
use std::path::Path;

/// The file in the data directory.
const FILE: &str = "instance";

/// Characters of the id: few enough to read aloud, and enough that no two of a fleet are the same.
const LENGTH: usize = 8;

/// This process's place among its equals, as long as it is held.
#[derive(Debug)]
pub(crate) struct Instance {
    id: String,
    /// Locked.
    _held: File,
}

impl Instance {
    /// Takes the id of a data directory; the first time, makes it.
    ///
    /// # Errors
    /// If another process has it, or the file cannot be written or is not ours.
    pub(super) fn take(directory: &Path) -> anyhow::Result<Self> {
        let path = directory.join(FILE);
        let failed = || format!("failed to read {}", path.display());
        std::fs::create_dir_all(directory)
            .with_context(|| format!("failed to make {}", directory.display()))?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .with_context(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => bail!(
                "another process has the data directory {}; each of several needs one of its own: --data DIR",
                directory.display()
            ),
            Err(TryLockError::Error(error)) => return Err(error).with_context(failed),
        }
        let mut text = String::new();
        file.read_to_string(&mut text).with_context(failed)?;
        let id = match text.strip_suffix('\n') {
            Some(id) if is_id(id) => id.to_owned(),
            Some(_) => bail!(
                "{} should be a line of {LENGTH} letters and digits; remove it for a new one, under which a broker knows nothing of the old one's session",
                path.display()
            ),
            // New, or torn when it was made: then nobody has used it.
            None => {
                make(&mut file, directory).with_context(|| format!("failed to write {}", path.display()))?
            }
        };
        Ok(Self { id, _held: file })
    }

    /// The id: letters and digits.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }
}

fn is_id(text: &str) -> bool {
    text.len() == LENGTH && text.chars().all(|c| c.is_ascii_alphanumeric())
}

/// Writes a new id; it is on the disk before anyone uses it.
fn make(file: &mut File, directory: &Path) -> std::io::Result<String> {
    // The standard library takes its random state from the system.
    let id = format!("{:016x}", RandomState::new().hash_one(std::process::id()));
    let id = id[..LENGTH].to_owned();
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{id}")?;
    file.sync_all()?;
    File::open(directory)?.sync_all()?;
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    #[test]
    fn an_id_is_made_once_and_stays() {
        let (here, there) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let take = |directory: &TempDir| Instance::take(directory.path()).unwrap().id().to_owned();
        let first = take(&here);
        assert!(is_id(&first), "{first}");
        assert_eq!(take(&here), first);
        assert_ne!(take(&there), first);
    }

    #[test]
    fn only_one_process_has_it() {
        let directory = TempDir::new().unwrap();
        let held = Instance::take(directory.path()).unwrap();
        let refused = Instance::take(directory.path()).unwrap_err().to_string();
        assert!(refused.contains("another process") && refused.contains("--data"), "{refused}");
        drop(held);
        Instance::take(directory.path()).unwrap();
    }

    #[test]
    fn what_a_crash_left_is_made_anew_and_anything_else_is_refused() {
        let check = |content: &str, expected: Option<&str>| {
            let directory = TempDir::new().unwrap();
            std::fs::write(directory.path().join(FILE), content).unwrap();
            let taken = Instance::take(directory.path()).map(|instance| instance.id().to_owned());
            match expected {
                Some(part) => assert!(taken.unwrap_err().to_string().contains(part), "{content:?}"),
                None => assert!(is_id(&taken.unwrap()), "{content:?}"),
            }
        };
        check("", None);
        check("0a1b", None);
        check("\0\0\0\0\0\0\0\0\0", None);
        check("0a1b2c3d\n", None);
        check("0a1b2c3\n", Some("remove it for a new one"));
        check("plant/#!\n", Some("remove it for a new one"));
    }
}
