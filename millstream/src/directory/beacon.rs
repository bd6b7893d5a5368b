//! Where the server of a data directory is found: the process that answers SQL writes it down, and `millstream sql` looks there.
//!
//! What stands there may be stale, after a kill or a power cut, and then anybody may listen on that port. So nothing is believed of it: whoever answers there
//! must first give the id of the one that wrote it (`/v1/server`), which is made anew at every start.

use super::Directory;
use crate::config::Settings;
use crate::config::lake::Location;
use crate::config::log::LogChoice;
use anyhow::Context;
use serde::{Deserialize, Serialize};
use std::hash::{BuildHasher, RandomState};
use std::io::{ErrorKind, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// The file in the data directory.
const FILE: &str = "server";

/// Most bytes of it that are read: a longer one is none of ours.
const FILE_MAX: u64 = 64 << 10;

/// What stands in the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Found {
    /// Where it listens, as it is reached from this machine.
    pub(crate) address: SocketAddr,
    /// The id of this run of it.
    pub(crate) id: String,
    /// What it answers from.
    pub(crate) sources: Sources,
}

/// What questions are answered from. Two configurations of one data directory may have different ones, and an answer from elsewhere would be a wrong one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sources {
    ingestion: String,
    reporting: String,
    log: String,
}

/// The file, as long as the server is to be found.
#[derive(Debug)]
pub(crate) struct Beacon {
    path: PathBuf,
    found: Found,
}

impl Beacon {
    /// A new id of a process that listens somewhere.
    pub(crate) fn id() -> String {
        // The standard library takes its random state from the system.
        format!("{:016x}", RandomState::new().hash_one(std::process::id()))
    }

    /// Writes down where the server is. Of two on one directory the later one is found.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(super) fn set(directory: &Path, found: Found) -> anyhow::Result<Self> {
        let path = directory.join(FILE);
        let new = directory.join(format!("{FILE}.{}", found.id));
        let text = serde_json::to_string(&found)?;
        let written = std::fs::File::create(&new).and_then(|mut file| writeln!(file, "{text}"));
        // Renamed: whoever reads it meanwhile reads the old one or the new one.
        let written = written.and_then(|()| std::fs::rename(&new, &path));
        if written.is_err() {
            drop(std::fs::remove_file(&new));
        }
        written.with_context(|| format!("failed to write {}", path.display()))?;
        Ok(Self { path, found })
    }
}

impl Drop for Beacon {
    /// Removes the file, unless it is another's by now.
    fn drop(&mut self) {
        if read(&self.path).is_some_and(|found| found.id == self.found.id)
            && let Err(error) = std::fs::remove_file(&self.path)
            && error.kind() != ErrorKind::NotFound
        {
            tracing::debug!(%error, path = %self.path.display(), "the file that says where the server is stays behind");
        }
    }
}

impl Found {
    /// What stands in a directory; `None` if nothing does, or nothing of ours.
    pub(super) fn read(directory: &Path) -> Option<Self> {
        read(&directory.join(FILE))
    }

    pub(super) fn new(listening: SocketAddr, id: String, sources: Sources) -> Self {
        Self { address: reachable(listening), id, sources }
    }
}

impl Sources {
    pub(super) fn of(directory: &Directory, settings: &Settings) -> Self {
        let place = |location: Location| match location {
            // The directory may be mounted elsewhere for one of the two.
            Location::Directory(path) => match path.strip_prefix(directory.path()) {
                Ok(inside) => inside.display().to_string(),
                Err(_) => std::path::absolute(&path).unwrap_or(path).display().to_string(),
            },
            Location::Store(url) => {
                let endpoint = settings.lake.s3.place().endpoint.clone().unwrap_or_default();
                format!("{url} {endpoint}").trim_end().to_owned()
            }
        };
        let (ingestion, reporting) = directory.locations(settings);
        let log = match &settings.log {
            LogChoice::Embedded(_) => "embedded".to_owned(),
            LogChoice::Kafka(kafka) => kafka.brokers().to_string(),
        };
        Self { ingestion: place(ingestion), reporting: place(reporting), log }
    }
}

fn read(path: &Path) -> Option<Found> {
    let is_ours = std::fs::metadata(path).is_ok_and(|file| file.is_file() && file.len() <= FILE_MAX);
    let text = is_ours.then(|| std::fs::read_to_string(path).ok()).flatten()?;
    serde_json::from_str(&text).ok()
}

/// Who listens everywhere is reached here.
fn reachable(listening: SocketAddr) -> SocketAddr {
    let ip = match listening.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listening.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    fn found(id: &str) -> Found {
        let place = |name: &str| name.to_owned();
        let sources = Sources { ingestion: place("i"), reporting: place("r"), log: place("embedded") };
        Found::new("0.0.0.0:8474".parse().unwrap(), id.to_owned(), sources)
    }

    #[test]
    fn a_server_is_found_until_it_ends() {
        let directory = TempDir::new().unwrap();
        assert_eq!(Found::read(directory.path()), None);
        let beacon = Beacon::set(directory.path(), found("a")).unwrap();
        let read = Found::read(directory.path()).unwrap();
        assert_eq!((&read, read.address.to_string()), (&found("a"), "127.0.0.1:8474".to_owned()));
        drop(beacon);
        assert_eq!(Found::read(directory.path()), None);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn the_first_of_two_leaves_the_second_its_file() {
        let directory = TempDir::new().unwrap();
        let first = Beacon::set(directory.path(), found("a")).unwrap();
        let second = Beacon::set(directory.path(), found("b")).unwrap();
        drop(first);
        assert_eq!(Found::read(directory.path()), Some(found("b")));
        drop(second);
        assert_eq!(Found::read(directory.path()), None);
    }

    #[test]
    fn what_is_none_of_ours_is_none() {
        let directory = TempDir::new().unwrap();
        for text in ["", "{}", "8474", "{\"address\":\"x\"}", "\0\0\0\0"] {
            std::fs::write(directory.path().join(FILE), text).unwrap();
            assert_eq!(Found::read(directory.path()), None, "{text:?}");
        }
        std::fs::remove_file(directory.path().join(FILE)).unwrap();
        std::fs::create_dir(directory.path().join(FILE)).unwrap();
        assert_eq!(Found::read(directory.path()), None);
        assert!(Beacon::set(directory.path(), found("a")).is_err());
    }
}
