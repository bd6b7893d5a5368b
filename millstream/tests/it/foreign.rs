//! Programs that are not ours: Python packages and mosquitto's clients.
//!
//! `.ci/run` installs them. Where they are missing on a laptop, the test that needs them says so and is left out; in CI that is a failure.

use crate::program::{Ended, package, run};
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// A script beside `requirements.txt`.
pub(crate) fn script(name: &str) -> PathBuf {
    package().join("tests/foreign").join(name)
}

/// The python that has the packages of `requirements.txt`.
pub(crate) fn python() -> Option<PathBuf> {
    static PYTHON: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    found(
        "python3 with venv and the packages of millstream/tests/foreign/requirements.txt",
        PYTHON.get_or_init(make_python).clone(),
    )
}

/// One of mosquitto's programs. Debian has the broker where only root looks.
pub(crate) fn mosquitto(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    let file = folders.map(|folder| folder.join(name)).find(|file| file.is_file());
    found(
        "mosquitto, mosquitto_pub and mosquitto_sub (the packages mosquitto and mosquitto-clients)",
        file.ok_or_else(|| format!("{name} is not installed")),
    )
}

fn make_python() -> Result<PathBuf, String> {
    // Test processes may run side by side: one of them makes it, the others wait.
    let lock = File::open(script("environment")).map_err(|error| error.to_string())?;
    lock.lock().map_err(|error| error.to_string())?;
    let Ended { status, out, err } = run(&mut Command::new(script("environment")), b"");
    if status.success() { Ok(PathBuf::from(out.trim())) } else { Err(err) }
}

fn found(what: &str, found: Result<PathBuf, String>) -> Option<PathBuf> {
    match found {
        Ok(path) => Some(path),
        Err(reason) => {
            assert!(std::env::var_os("CI").is_none(), "{what} is missing: {reason}");
            let test = std::thread::current().name().unwrap_or_default().to_owned();
            // Not by a macro: libtest swallows what those print.
            writeln!(std::io::stderr(), "LEFT OUT: {test} needs {what}: {}", reason.trim()).unwrap();
            None
        }
    }
}
