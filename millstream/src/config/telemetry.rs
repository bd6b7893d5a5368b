//! Millstream's own log lines.

use super::problem::Problem;
use super::raw::{LogFormat, RawTelemetry};
use tracing_subscriber::EnvFilter;

/// The words that alone say how much is logged.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// How log lines look, and which there are.
#[derive(Debug, Clone)]
pub(crate) struct Telemetry {
    /// A filter, as in `info,millstream_log=debug`.
    pub(crate) level: String,
    /// Their form.
    pub(crate) format: LogFormat,
}

pub(super) fn check_telemetry(raw: RawTelemetry) -> Result<Telemetry, Problem> {
    let level = raw.level.unwrap_or_else(|| "info".to_owned());
    let problem = |what: String| {
        Problem::new("telemetry.level", what).hint("write \"info\", or by part \"info,millstream_log=debug\"")
    };
    // A filter takes any other word for the name of a part of the program, and then logs that part alone.
    for word in level.split(',').filter(|word| !word.contains(['=', '['])) {
        if !LEVELS.contains(&word.to_lowercase().as_str()) {
            return Err(problem(format!("{word:?} is no level; there are {}", LEVELS.join(", "))));
        }
    }
    match EnvFilter::try_new(&level) {
        Ok(_) => Ok(Telemetry { level, format: raw.format.unwrap_or(LogFormat::Auto) }),
        Err(error) => Err(problem(error.to_string())),
    }
}
