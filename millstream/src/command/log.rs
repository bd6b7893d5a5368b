//! `millstream log repair`.

use super::say;
use crate::cli::Log;
use crate::directory::Directory;
use anyhow::Context;
use std::process::ExitCode;

/// Looks after the embedded log.
pub(super) fn run(options: Log) -> anyhow::Result<ExitCode> {
    let Log::Repair { data } = options;
    let log = Directory::new(data).log();
    let report = millstream_log::embedded::repair(&log)
        .with_context(|| format!("failed to repair the log {}", log.display()))?;
    say(&format!("{report}\n"))?;
    Ok(ExitCode::SUCCESS)
}
