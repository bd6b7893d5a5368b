//! This machine: the data directory, and the ports.

use super::Finding;
use crate::config::Settings;
use crate::config::log::LogChoice;
use crate::directory::Directory;
use bytesize::ByteSize;
use std::fs::{File, TryLockError};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

/// Below this, a disk is full within the day of a busy fleet.
const FREE_MIN: u64 = 1 << 30;

/// How long whoever has our port may take to say who it is.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Most of its answer that is read, in bytes.
const ANSWER_MAX: u64 = 64 << 10;

pub(super) fn check(settings: &Settings, directory: &Directory) -> Vec<Finding> {
    let running = running(settings, directory);
    let mut findings = vec![data(settings, directory)];
    let listeners = [
        ("gateway.listen", settings.gateway.listen),
        ("gateway.tls.listen", settings.gateway.tls.as_ref().map(|tls| tls.listen)),
        ("http.listen", settings.http.listen),
    ];
    let taken = listeners.into_iter().filter_map(|(key, address)| Some(port(key, address?, running)));
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

/// A Millstream that runs beside the doctor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Running {
    No,
    /// It has the data directory's log open.
    Here,
    /// It answers at the address at which this one would.
    Answers(SocketAddr),
}

fn running(settings: &Settings, directory: &Directory) -> Running {
    let lock = File::open(directory.log().join("lock"));
    if lock.is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock))) {
        return Running::Here;
    }
    match settings.http.listen {
        Some(address) if address.port() != 0 && is_millstream(address) => Running::Answers(address),
        _ => Running::No,
    }
}

/// Whether who answers there says of its stages what a Millstream says; `/healthz` of others says "ok", too.
fn is_millstream(address: SocketAddr) -> bool {
    let ask = || -> io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&address, ANSWER_WITHIN)?;
        stream.set_read_timeout(Some(ANSWER_WITHIN))?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.take(ANSWER_MAX).read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| {
        ["\"ready\":", "\"draining\":", "\"stages\":"].iter().all(|key| answer.contains(key))
    })
}

fn port(key: &str, address: SocketAddr, running: Running) -> Finding {
    match TcpListener::bind(address) {
        Ok(_) => Finding::ok(key, format!("{address} is free")),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && running != Running::No => {
            let whose = match running {
                Running::Answers(http) => format!("a millstream answers at http://{http}"),
                _ => "millstream is running on this data directory".to_owned(),
            };
            Finding::ok(key, format!("{address} is taken, and {whose}"))
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
        let check = |running: Running, expected: &str| {
            let found = format!("{:?}", port("gateway.listen", address, running));
            assert!(found.contains(expected), "{found}");
        };
        check(Running::Here, "millstream is running");
        check(Running::Answers(address), "a millstream answers at");
        check(Running::No, "is taken\"");
        drop(listener);
        check(Running::No, "is free");
    }

    #[test]
    fn a_millstream_is_known_by_what_it_says_of_its_stages() {
        let check = |answer: &'static str, expected: bool| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let server = std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let mut head = [0; 512];
                assert!(stream.read(&mut head).unwrap() > 0);
                stream.write_all(answer.as_bytes()).unwrap();
            });
            assert_eq!(is_millstream(address), expected, "{answer}");
            server.join().unwrap();
        };
        check("HTTP/1.1 503 x\r\n\r\n{\"ready\":false,\"draining\":false,\"stages\":{}}", true);
        check("HTTP/1.1 200 OK\r\n\r\nok\n", false);
    }
}
