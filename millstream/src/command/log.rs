//! `millstream log repair`.

use super::say;
use crate::cli::Log;
use crate::directory::Directory;
use anyhow::{Context, ensure};
use std::process::ExitCode;

/// Looks after the embedded log.
pub(super) fn run(options: Log) -> anyhow::Result<ExitCode> {
    let Log::Repair { data } = options;
    let directory = Directory::new(data);
    let log = directory.log();
    ensure!(
        log.is_dir(),
        "there is no log in {}: {} is not there",
        directory.path().display(),
        log.display()
    );
    let report = millstream_log::embedded::repair(&log)
        .with_context(|| format!("failed to repair the log {}", log.display()))?;
    say(&format!("{report}\n"))?;
    Ok(ExitCode::SUCCESS)
}
