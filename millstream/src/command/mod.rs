//! The subcommands.

mod check;
mod demo;
mod device;
mod doctor;
mod init;
mod log;
mod maintain;
mod replay;
mod report;
mod sql;
mod stages;
mod tables;

use crate::cli::{Command, Report};
use crate::pipeline::{Role, Stages};
use std::fmt::Display;
use std::path::Path;
use std::process::ExitCode;

/// Exit code of a command that a signal stopped before its work was done, as shells have it for SIGINT.
const STOPPED: u8 = 130;

/// Runs a command.
///
/// # Errors
/// What `main` prints before it ends with exit code 1.
pub(crate) async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Demo(options) => demo::run(options).await,
        Command::Up(options) => {
            stages::run(&options.place, Stages::all().accepting(options.accept_gap)).await
        }
        Command::Collect(options) => stages::run(&options.place, Stages::of(&[Role::Collect])).await,
        Command::Firehose(options) => {
            let stages = Stages::of(&[Role::Firehose]).accepting(options.accept_gap);
            stages::run(&options.place, stages).await
        }
        Command::Process(options) => stages::run(&options.place, Stages::of(&[Role::Process])).await,
        Command::Serve(options) => stages::run(&options.place, Stages::of(&[Role::Serve])).await,
        Command::Tables(options) => tables::run(options).await,
        Command::Sql(options) => sql::run(options).await,
        Command::Replay(options) => replay::run(*options).await,
        Command::Report(Report::List(options)) => report::list(options).await,
        Command::Report(Report::Run(options)) => report::run(options, false).await,
        Command::Report(Report::Rebuild(options)) => report::run(options, true).await,
        Command::Maintain(options) => maintain::run(options).await,
        Command::Check(options) => check::run(&options),
        Command::Doctor(options) => doctor::run(options).await,
        Command::Config => check::print_defaults(),
        Command::Init(options) => init::run(&options),
        Command::Device(options) => device::run(&options),
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

/// Says something that may go unheard: what is running goes on, whatever became of standard output.
fn announce(text: &str) {
    if let Err(error) = say(text) {
        tracing::debug!(%error, "nobody reads standard output");
    }
}

/// Says something beside an answer, on standard error, so that the answer can be piped.
fn note(text: &(impl Display + ?Sized)) -> std::io::Result<()> {
    use std::io::Write;
    writeln!(std::io::stderr(), "{text}")
}

/// How the program was called, for commands to paste.
fn program() -> String {
    std::env::args_os().next().map_or_else(|| "millstream".to_owned(), |name| quoted(Path::new(&name)))
}

/// A path as a shell takes it.
pub(crate) fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./,:+@%=".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.into_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::quoted;
    use std::path::Path;

    #[test]
    fn a_path_is_quoted_where_a_shell_needs_it() {
        let check = |path: &str, expected: &str| assert_eq!(quoted(Path::new(path)), expected);
        check("./millstream-data", "./millstream-data");
        check("my demo", "'my demo'");
        check("it's", "'it'\\''s'");
        check("", "''");
    }
}
