//! One stage of the program, as a process of its own.

use crate::program::{DEADLINE, Running, eventually, listen};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

/// A running stage: `collect`, `firehose`, `process` or `serve`.
#[derive(Debug)]
pub(crate) struct Stage {
    running: Running,
    name: String,
    http: SocketAddr,
    out: Arc<Mutex<String>>,
    err: Arc<Mutex<String>>,
}

impl Stage {
    /// Starts it as the command says, and waits until it says that it runs.
    #[track_caller]
    pub(crate) fn start(command: &mut Command) -> Self {
        let name = command.get_args().next().unwrap_or_default().to_string_lossy().into_owned();
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut running = Running::start(command);
        let out = listen(running.child.stdout.take().unwrap());
        let err = listen(running.child.stderr.take().unwrap());
        let http = eventually("a stage says that it runs", || {
            if let Some(status) = running.ended() {
                panic!("`{name}` ended with {status}\n{}\n{}", out.lock().unwrap(), err.lock().unwrap());
            }
            let out = out.lock().unwrap();
            let line = out.lines().find(|line| line.trim_start().starts_with("http "))?;
            let address = line.split("http://").nth(1)?.split_whitespace().next()?.parse().ok()?;
            out.contains("Ctrl-C").then_some(address)
        });
        Self { running, name, http, out, err }
    }

    /// The status and the body of what it answers on its port.
    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.http).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        (status.unwrap_or_else(|| panic!("no status in {answer}")), body.to_owned())
    }

    /// Where it answers over HTTP.
    pub(crate) fn http(&self) -> SocketAddr {
        self.http
    }

    /// Where devices connect, in plain text.
    #[track_caller]
    pub(crate) fn devices(&self) -> SocketAddr {
        let out = self.out.lock().unwrap();
        let address =
            out.split("mqtt://").nth(1).and_then(|rest| rest.split_whitespace().next()?.parse().ok());
        address.unwrap_or_else(|| panic!("no address of devices in {out}"))
    }

    /// Waits until it can do its work.
    pub(crate) fn ready(&self) {
        eventually(&format!("`{}` is ready", self.name), || (self.get("/readyz").0 == 200).then_some(()));
    }

    pub(crate) fn signal(&self, name: &str) {
        self.running.signal(name);
    }

    /// As a power cut would.
    pub(crate) fn kill(&mut self) {
        self.running.kill();
    }

    /// Asks it to drain, and waits until it has.
    #[track_caller]
    pub(crate) fn drain(mut self) {
        self.running.signal("TERM");
        let status = self.running.wait();
        let said = format!("{}\n{}", self.out.lock().unwrap(), self.err.lock().unwrap());
        assert_eq!((status.code(), status.signal()), (Some(0), None), "`{}` said\n{said}", self.name);
    }
}

/// What it said helps to understand a failed test.
impl Drop for Stage {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let (out, err) = (self.out.lock().unwrap(), self.err.lock().unwrap());
            eprintln!("--- `{}` printed\n{out}\n--- and logged\n{err}", self.name);
        }
    }
}
