//! The subcommands.

mod check;
mod demo;
mod log;
mod replay;
mod sql;
mod up;

use crate::cli::Command;
use std::process::ExitCode;

/// Exit code of a command that a second signal stopped at once, as shells have it for SIGINT.
const STOPPED: u8 = 130;

/// Runs a command.
///
/// # Errors
/// What `main` prints before it ends with exit code 1.
pub(crate) async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Demo(options) => demo::run(options).await,
        Command::Up(options) => up::run(options).await,
        Command::Sql(options) => sql::run(options).await,
        Command::Replay(options) => replay::run(*options).await,
        Command::Check(options) => check::run(&options),
        Command::Config => check::print_defaults(),
        Command::Log(options) => log::run(options),
    }
}

/// Writes text for the person who ran the command; a reader that went away, such as `head`, ends it quietly.
fn say(text: &str) -> anyhow::Result<()> {
    use std::io::{ErrorKind, Write};
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome.map_err(Into::into),
    }
}

/// How the program was called, for commands to paste.
fn program() -> String {
    std::env::args().next().unwrap_or_else(|| "millstream".to_owned())
}
