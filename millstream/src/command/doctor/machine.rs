//! This machine: the data directory, and the ports.

use super::Finding;
use crate::config::Settings;
use crate::config::log::LogChoice;
use crate::directory::Directory;
use bytesize::ByteSize;
use std::fs::{File, TryLockError};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

/// Below this, a disk is full within the day of a busy fleet.
const FREE_MIN: u64 = 1 << 30;

pub(super) fn check(settings: &Settings, directory: &Directory) -> Vec<Finding> {
    let runs_here = is_running(directory);
    let mut findings = vec![data(settings, directory)];
    let listeners = [
        ("gateway.listen", settings.gateway.listen),
        ("gateway.tls.listen", settings.gateway.tls.as_ref().map(|tls| tls.listen)),
        ("http.listen", settings.http.listen),
    ];
    let taken = listeners.into_iter().filter_map(|(key, address)| Some(port(key, address?, runs_here)));
    findings.extend(taken);
    findings
}

fn data(settings: &Settings, directory: &Directory) -> Finding {
    let (subject, path) = ("data directory", directory.path());
    let there = match path.canonicalize() {
        Ok(whole) => whole,
        // It will be made: what counts is the nearest one above it.
        Err(_) => std::path::absolute(path).unwrap_or_else(|_| path.to_owned()),
    };
    let Some(nearest) = there.ancestors().find(|path| path.exists()) else {
        return Finding::failed(subject, format!("{} has no directory above it", path.display()));
    };
    if let Err(error) = tempfile::tempfile_in(nearest) {
        return Finding::failed(subject, format!("{} is not writable: {error}", nearest.display()))
            .advice("let the user that runs millstream write there, or name another with --data");
    }
    let free = match free_space(nearest) {
        Ok(free) => free,
        Err(error) => {
            return Finding::warning(subject, format!("the free space of its disk is unknown: {error}"));
        }
    };
    let made = if there.exists() { "" } else { ", to be made" };
    let said = format!("{}{made}, writable, {} free", path.display(), ByteSize(free));
    let reserve = match &settings.log {
        LogChoice::Embedded(embedded) => embedded.settings.reserve_bytes,
        LogChoice::Kafka(_) => 0,
    };
    if free < reserve {
        return Finding::failed(subject, said).advice(format!(
            "make room: below log.reserve ({}) nothing is acknowledged any more",
            ByteSize(reserve)
        ));
    }
    if free < FREE_MIN.max(reserve.saturating_mul(2)) {
        return Finding::warning(subject, said).advice("make room soon");
    }
    Finding::ok(subject, said)
}

fn free_space(path: &Path) -> io::Result<u64> {
    let disk = rustix::fs::statvfs(path)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Whether a Millstream has the data directory's log open.
fn is_running(directory: &Directory) -> bool {
    let lock = File::open(directory.log().join("lock"));
    lock.is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

fn port(key: &str, address: SocketAddr, runs_here: bool) -> Finding {
    match TcpListener::bind(address) {
        Ok(_) => Finding::ok(key, format!("{address} is free")),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && runs_here => {
            Finding::ok(key, format!("{address} is taken, and millstream is running on this data directory"))
        }
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            Finding::warning(key, format!("{address} is taken"))
                .advice(format!("if it is not by a millstream: stop who has it, or choose another {key}"))
        }
        Err(error) => Finding::failed(key, format!("cannot listen on {address}: {error}"))
            .advice(format!("give {key} an address of this machine, and a port that the user may take")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_ours_only_where_a_millstream_is_running() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let check = |runs_here: bool, expected: &str| {
            let found = format!("{:?}", port("gateway.listen", address, runs_here));
            assert!(found.contains(expected), "{found}");
        };
        check(true, "millstream is running");
        check(false, "is taken\"");
        drop(listener);
        check(false, "is free");
    }
}
