//! Millstream's own voice: log lines and the last words of a failure, both on standard error.

use crate::config::raw::LogFormat;
use std::io::IsTerminal;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

/// Libraries whose steps are no news to an operator. The Delta libraries log every error that they return, even "there is no table yet": what it means is for
/// the caller to say.
const QUIET: &str =
    "deltalake_core=off,buoyant_kernel=off,buoyant_kernel_engine=off,datafusion=warn,object_store=warn";

/// Sets up log lines for a long-running command. `RUST_LOG` overrides the configured level.
///
/// # Errors
/// If the level is not a filter.
pub(crate) fn start(level: &str, format: LogFormat) -> anyhow::Result<()> {
    let configured = std::env::var("RUST_LOG").unwrap_or_else(|_| format!("{level},{QUIET}"));
    let filter = EnvFilter::try_new(&configured)?;
    let terminal = std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let json = match format {
        LogFormat::Auto => !terminal,
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let started = if json {
        lines.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init()
    } else {
        lines.with_ansi(is_colored()).with_target(false).try_init()
    };
    started.map_err(|error| anyhow::anyhow!(error))
}

/// Whether standard error is for eyes that want colors: a terminal, and nobody says otherwise (<https://no-color.org>).
pub(crate) fn is_colored() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|said| said.is_empty())
}

/// Prints a failure with its causes, once, and gives the exit code for it.
#[expect(clippy::print_stderr, reason = "the last words of a failure")]
pub(crate) fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("millstream: {}", chain(error));
    ExitCode::FAILURE
}

/// The failure and its causes, each in the words of its own layer.
pub(crate) fn chain(error: &anyhow::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    for cause in error.chain().map(ToString::to_string) {
        // Some libraries repeat their cause in their own text.
        if !parts.last().is_some_and(|last| last.ends_with(&cause)) {
            parts.push(cause);
        }
    }
    parts.join(": ")
}
