//! The scripts of `deploy/local`, as functions.

use crate::Service;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The status with which `up` says that something is not installed.
const UNAVAILABLE: i32 = 69;

/// What came of a start.
#[derive(Debug)]
pub(crate) enum Outcome<T> {
    Up(T),
    /// Something is not installed here: nobody's fault on a laptop, a failure in CI.
    Missing(String),
    Broken(String),
}

impl<T> Outcome<T> {
    pub(crate) fn map<U>(self, up: impl FnOnce(T) -> U) -> Outcome<U> {
        match self {
            Self::Up(value) => Outcome::Up(up(value)),
            Self::Missing(why) => Outcome::Missing(why),
            Self::Broken(why) => Outcome::Broken(why),
        }
    }

    pub(crate) fn as_ref(&self) -> Outcome<&T> {
        match self {
            Self::Up(value) => Outcome::Up(value),
            Self::Missing(why) => Outcome::Missing(why.clone()),
            Self::Broken(why) => Outcome::Broken(why.clone()),
        }
    }

    /// The value; or nothing, said to whoever reads standard error; or a panic, where a missing service is a failure.
    pub(crate) fn available(self, test: &str) -> Option<T> {
        let ci = std::env::var_os("CI").is_some_and(|value| !value.is_empty());
        let why = match self {
            Self::Up(value) => return Some(value),
            Self::Missing(why) if !ci => {
                writeln!(std::io::stderr(), "{test} did not run: {why}")
                    .expect("standard error can be written");
                return None;
            }
            Self::Missing(why) | Self::Broken(why) => why,
        };
        assert!(why.is_empty(), "{test} cannot run: {why}");
        None
    }
}

/// Starts what does not run, and returns the lines that say where it is.
pub(crate) fn up(directory: &Path, only: &[Service]) -> Outcome<BTreeMap<String, String>> {
    let names: Vec<&str> = only.iter().map(|service| service.name()).collect();
    let mut command = script("up");
    command.arg(directory).args(["--only", &names.join(",")]);
    // Services of a directory that somebody named are somebody's to stop.
    if std::env::var_os("MILLSTREAM_SERVICES").is_none_or(|named| named != directory.as_os_str()) {
        command.args(["--while", &std::process::id().to_string(), "--purge"]);
    }
    let output = match run(&mut command) {
        Ok(output) => output,
        Err(error) => return Outcome::Missing(format!("{command:?} cannot be run: {error}")),
    };
    let complaint = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    match output.status.code() {
        Some(0) => Outcome::Up(lines(&String::from_utf8_lossy(&output.stdout))),
        Some(UNAVAILABLE) => Outcome::Missing(complaint),
        _ => Outcome::Broken(format!("{command:?} ended with {}: {complaint}", output.status)),
    }
}

/// Stops the services of a directory and removes it. What it cannot do, the watchdog of `up` does at the end of this process.
pub(crate) fn down(directory: &Path) {
    if let Err(error) = run(script("down").arg(directory).arg("--purge")) {
        writeln!(std::io::stderr(), "the services in {} still run: {error}", directory.display())
            .expect("standard error can be written");
    }
}

pub(crate) fn s3(environment: &BTreeMap<String, String>, arguments: &[&str]) -> String {
    let output = run(script("s3").envs(environment).args(arguments)).expect("deploy/local/s3 can be run");
    assert!(output.status.success(), "s3 {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn script(name: &str) -> Command {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(PathBuf::new, Path::to_owned);
    Command::new(repository.join("deploy/local").join(name))
}

fn run(command: &mut Command) -> std::io::Result<Output> {
    command.stdin(Stdio::null()).output()
}

fn lines(text: &str) -> BTreeMap<String, String> {
    text.lines()
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.into(), value.into()))
        .collect()
}
