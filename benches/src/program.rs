//! The program under measurement: built for release, started as a user starts it, stopped when nobody needs it any more.

use anyhow::{Context, ensure};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

/// A Millstream that runs all stages.
#[derive(Debug)]
pub struct Program {
    child: Child,
    /// Where devices connect.
    pub devices: SocketAddr,
    /// Where SQL, health and metrics are asked.
    pub http: SocketAddr,
    /// Kept open: the program says a line or two more.
    _out: BufReader<ChildStdout>,
}

impl Program {
    /// The program itself, with a data directory and nothing of a configuration from the environment.
    ///
    /// # Errors
    /// If it was not built.
    pub fn command(data: &Path) -> anyhow::Result<Command> {
        let program = built()?;
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("MILLSTREAM") {
                command.env_remove(name);
            }
        }
        command.env("MILLSTREAM_DATA", data);
        Ok(command)
    }

    /// Starts all stages on free ports, and returns when it says where they are. What it logs goes to `log`.
    ///
    /// # Errors
    /// If it does not start; the log says why.
    pub fn up(mut command: Command, log: &Path) -> anyhow::Result<Self> {
        command
            .arg("up")
            .env("MILLSTREAM__GATEWAY__LISTEN", "127.0.0.1:0")
            .env("MILLSTREAM__HTTP__LISTEN", "127.0.0.1:0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(log)?);
        let mut child = command.spawn().context("failed to start the program")?;
        let mut out = BufReader::new(child.stdout.take().context("the program has no output")?);
        let mut said = String::new();
        while !said.contains("Ctrl-C") {
            ensure!(out.read_line(&mut said)? > 0, "the program did not start: see {}", log.display());
        }
        let address = |scheme: &str| -> anyhow::Result<SocketAddr> {
            let rest = said.split(scheme).nth(1).with_context(|| format!("no {scheme} in {said}"))?;
            Ok(rest.split_whitespace().next().unwrap_or_default().parse()?)
        };
        let (devices, http) = (address("mqtt://")?, address("http://")?);
        Ok(Self { child, devices, http, _out: out })
    }

    /// The most memory that it had at any time, in bytes.
    ///
    /// # Errors
    /// If the system does not say.
    pub fn memory_peak(&self) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.split_whitespace().next()).context("no peak of memory")?;
        Ok(kib.parse::<u64>()? * 1024)
    }

    /// Asks it to drain, and waits until it has.
    ///
    /// # Errors
    /// If it ends in any other way than well.
    pub fn drain(mut self) -> anyhow::Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("a process id")?;
        kill_process(pid, Signal::TERM)?;
        let status = self.child.wait()?;
        ensure!(status.success(), "the program ended with {status}");
        Ok(())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // A benchmark that failed leaves nothing behind; what has ended already cannot be killed, and need not be.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The program beside this benchmark: `target/release/deps/freshness-…` and `target/release/millstream`.
fn built() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let profile = own.parent().and_then(Path::parent).context("the benchmark is in no folder of builds")?;
    let program = profile.join("millstream");
    ensure!(program.is_file(), "{} is not there: `just bench` builds it first", program.display());
    Ok(program)
}
