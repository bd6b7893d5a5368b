//! The real program: started, asked, stopped, killed.

use serde_json::{Map, Value};
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long anything may take before it counts as hung: far beyond what a busy machine needs, so that no test depends on speed.
pub(crate) const DEADLINE: Duration = Duration::from_secs(600);

/// An address at which nobody listens: no service has this port, and no system gives it to anyone.
pub(crate) const NOBODY: &str = "127.0.0.1:1";

/// A row of an answer.
pub(crate) type Row = Map<String, Value>;

/// Asks again until there is an answer.
pub(crate) fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(started.elapsed() < DEADLINE, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// This package's folder: as cargo says now, since checkouts that share a target directory share this binary, too.
pub(crate) fn package() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from)
}

/// A file of the checkout's test data.
pub(crate) fn testdata(name: &str) -> PathBuf {
    package().join("../testdata").join(name)
}

/// What a command that ended has said.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ended {
    pub(crate) fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// The same, if it ended well.
    #[track_caller]
    pub(crate) fn good(self) -> Self {
        assert!(self.status.success(), "it ended with {}\n{}\n{}", self.status, self.out, self.err);
        self
    }

    /// What it printed, if it failed in its ordinary way.
    #[track_caller]
    pub(crate) fn refused(self) -> String {
        assert_eq!(self.code(), Some(1), "{}\n{}", self.out, self.err);
        self.err
    }
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command, input: &[u8]) -> Ended {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (out, err) = (collect(child.stdout.take().unwrap()), collect(child.stderr.take().unwrap()));
    // A command that does not want its input closes it.
    drop(child.stdin.take().unwrap().write_all(input));
    let mut running = Running { child, name: format!("{command:?}") };
    let status = running.wait();
    Ended { status, out: out.join().unwrap(), err: err.join().unwrap() }
}

fn collect(mut from: impl Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// A child that is killed when nobody waits for it any more.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) child: Child,
    name: String,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        let name = format!("{command:?}");
        Self { child: command.spawn().unwrap(), name }
    }

    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        let name = self.name.clone();
        eventually(&format!("{name} ends"), || self.ended())
    }

    /// Sends a signal by its name, as in `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success(), "failed to send {name}");
    }

    /// As a power cut would.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}

/// A place for one Millstream, with everything that belongs to it.
#[derive(Debug)]
pub(crate) struct Home {
    dir: TempDir,
}

impl Home {
    /// Without any configuration.
    pub(crate) fn new() -> Self {
        Self { dir: TempDir::with_prefix("millstream-test-").unwrap() }
    }

    /// With a configuration in the data directory.
    pub(crate) fn with(config: &str) -> Self {
        let home = Self::new();
        std::fs::create_dir(home.data()).unwrap();
        home.configure(config);
        home
    }

    /// Another configuration in the data directory, which is there.
    pub(crate) fn configure(&self, config: &str) {
        std::fs::write(self.data().join("millstream.toml"), config).unwrap();
    }

    /// The data directory.
    pub(crate) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// A path beside the data directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file beside the data directory.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// The program, with a clean environment.
    pub(crate) fn command<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
        command.args(arguments).current_dir(self.dir.path()).env_remove("RUST_LOG");
        for (name, _) in std::env::vars()
            .filter(|(name, _)| name.starts_with("MILLSTREAM__") || name == "MILLSTREAM_CONFIG")
        {
            command.env_remove(name);
        }
        // Tests run side by side.
        command.env("MILLSTREAM_DATA", self.data()).env("MILLSTREAM__HTTP__LISTEN", "127.0.0.1:0");
        command
    }

    /// Runs the program to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        run(&mut self.command(arguments), b"")
    }

    /// Starts it on any free port.
    pub(crate) fn up(&self) -> Up {
        self.up_at(0)
    }

    /// Starts it on a port.
    pub(crate) fn up_at(&self, port: u16) -> Up {
        let mut command = self.command(["up"]);
        Up::start(command.env("MILLSTREAM__GATEWAY__LISTEN", format!("127.0.0.1:{port}")))
    }

    /// The rows of an answer.
    #[track_caller]
    pub(crate) fn sql(&self, query: &str) -> Vec<Row> {
        let answer = self.run(&["sql", "--format", "json", "-c", query]).good();
        serde_json::from_str(&answer.out).unwrap_or_else(|error| panic!("{error}\n{query}\n{}", answer.out))
    }

    /// The only value of an answer.
    #[track_caller]
    pub(crate) fn value(&self, query: &str) -> Value {
        let rows = self.sql(query);
        let [row] = rows.as_slice() else { panic!("not one row: {rows:?}") };
        row.values().next().unwrap().clone()
    }

    /// Asks until there are just so many rows; a table that is not there yet has none.
    pub(crate) fn rows(&self, query: &str, count: usize) -> Vec<Row> {
        let mut last = String::new();
        let started = Instant::now();
        loop {
            let answer = self.run(&["sql", "--format", "json", "-c", query]);
            if let Ok(rows) = serde_json::from_str::<Vec<Row>>(&answer.out)
                && answer.status.success()
            {
                if rows.len() == count {
                    return rows;
                }
                assert!(rows.len() < count, "more than {count} rows: {rows:#?}");
            }
            last.clone_from(&answer.out);
            last.push_str(&answer.err);
            assert!(
                started.elapsed() < DEADLINE,
                "waited in vain for {count} rows of {query}; the last answer: {last}"
            );
        }
    }
}

/// A running `millstream up`.
#[derive(Debug)]
pub(crate) struct Up {
    running: Running,
    address: SocketAddr,
    out: Arc<Mutex<String>>,
    err: Arc<Mutex<String>>,
}

impl Up {
    /// Starts it as the command says, and waits until devices can connect.
    pub(crate) fn start(command: &mut Command) -> Self {
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut running = Running::start(command);
        let out = listen(running.child.stdout.take().unwrap());
        let err = listen(running.child.stderr.take().unwrap());
        let address = eventually("`up` says where devices connect", || {
            if let Some(status) = running.ended() {
                // The pipes end a little later than the process.
                panic!("`up` ended with {status}\n{}\n{}", out.lock().unwrap(), err.lock().unwrap());
            }
            let out = out.lock().unwrap();
            address(&out).filter(|_| out.contains("Ctrl-C"))
        });
        Self { running, address, out, err }
    }

    /// Where devices connect.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn port(&self) -> String {
        self.address.port().to_string()
    }

    /// What it printed so far.
    pub(crate) fn out(&self) -> String {
        self.out.lock().unwrap().clone()
    }

    /// What it logged so far.
    pub(crate) fn err(&self) -> String {
        self.err.lock().unwrap().clone()
    }

    /// As a power cut would.
    pub(crate) fn kill(mut self) {
        self.running.kill();
    }

    pub(crate) fn signal(&self, name: &str) {
        self.running.signal(name);
    }

    pub(crate) fn wait(mut self) -> ExitStatus {
        self.running.wait()
    }

    /// Asks it to drain, and waits until it has.
    #[track_caller]
    pub(crate) fn drain(mut self) {
        self.running.signal("TERM");
        let status = self.running.wait();
        assert_eq!((status.code(), status.signal()), (Some(0), None), "{}\n{}", self.out(), self.err());
    }
}

/// What it said helps to understand a failed test.
impl Drop for Up {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- `up` printed\n{}\n--- and logged\n{}", self.out(), self.err());
        }
    }
}

pub(crate) fn listen(from: impl Read + Send + 'static) -> Arc<Mutex<String>> {
    let said = Arc::new(Mutex::new(String::new()));
    let writer = Arc::clone(&said);
    std::thread::spawn(move || {
        let mut lines = BufReader::new(from);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            writer.lock().unwrap().push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
    });
    said
}

fn address(out: &str) -> Option<SocketAddr> {
    let line = out.lines().find(|line| line.trim_start().starts_with("devices "))?;
    line.split("mqtt://").nth(1)?.split_whitespace().next()?.parse().ok()
}
