//! `millstream check` and `millstream config`.

use super::{note, say};
use crate::cli::Check;
use crate::directory;
use std::process::ExitCode;

/// Checks a configuration file, and says what it defines.
pub(super) fn run(options: &Check) -> anyhow::Result<ExitCode> {
    let settings = directory::read_settings(&options.file)?;
    let mut summary = format!("{} is right\n", options.file.display());
    for stream in &settings.streams {
        let topics: Vec<String> = stream.topics.iter().map(ToString::to_string).collect();
        summary.push_str(&format!("  stream {:<16} {}\n", stream.name, topics.join(", ")));
    }
    for report in &settings.reports {
        summary.push_str(&format!("  report {}\n", report.name));
    }
    let warnings = directory::render_warnings(&settings, &options.file)?;
    say(&summary)?;
    if !warnings.is_empty() {
        note(&warnings)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints the default configuration.
pub(super) fn print_defaults() -> anyhow::Result<ExitCode> {
    say(directory::defaults())?;
    Ok(ExitCode::SUCCESS)
}
