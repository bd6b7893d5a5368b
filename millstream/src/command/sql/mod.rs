//! `millstream sql`: ask once, from the command line, a file, or standard input.
//!
//! `source` finds who answers (`here` or `remote`); what is printed does not depend on it.

mod failure;
mod here;
mod remote;
mod source;

use super::note;
use crate::cli::{Format as FormatOption, Sql};
use crate::telemetry::is_colored;
use anyhow::Context;
use failure::Failure;
use millstream_query::server::SQL_BYTES_MAX;
use millstream_query::{Footer, Format, Layout, Printer, split};
use source::Source;
use std::io::{ErrorKind, IsTerminal, Read};
use std::process::ExitCode;
use std::time::Instant;

/// Answers each statement in turn; the first that fails ends it with exit code 1.
pub(super) async fn run(options: Sql) -> anyhow::Result<ExitCode> {
    let text = read_text(&options)?;
    let source = Source::find(&options).await?;
    let answered = answer_all(&source, &text, format(options.format)).await;
    let closed = source.close().await;
    match answered {
        Ok(()) => closed.map(|()| ExitCode::SUCCESS),
        Err(Failure::Query(error)) => {
            note(&error.render(&text, is_colored()))?;
            Ok(ExitCode::FAILURE)
        }
        Err(Failure::Output(error)) => Err(error).context("failed to write the answer"),
        Err(Failure::Other(error)) => Err(error),
    }
}

fn read_text(options: &Sql) -> anyhow::Result<String> {
    match (&options.command, &options.file) {
        (Some(text), _) => Ok(text.clone()),
        (None, Some(path)) => {
            std::fs::read_to_string(path).with_context(|| format!("failed to read {}", path.display()))
        }
        (None, None) => {
            let mut text = String::new();
            let mut input = std::io::stdin();
            if input.is_terminal() {
                note("type a statement, then Ctrl-D (or ask with -c, or -f FILE)")?;
            }
            input.read_to_string(&mut text).context("failed to read standard input")?;
            Ok(text)
        }
    }
}

async fn answer_all(source: &Source, text: &str, format: Format) -> Result<(), Failure> {
    for piece in split(text)? {
        let located = |failure| match failure {
            Failure::Query(error) => Failure::Query(error.in_piece(&piece)),
            other => other,
        };
        match answer(source, piece.sql, format).await.map_err(located) {
            Ok(footer) if format == Format::Box => note(&footer)?,
            Ok(_) => {}
            // Nobody reads on: what follows is not even asked.
            Err(Failure::Output(error)) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
            Err(failure) => return Err(failure),
        }
    }
    Ok(())
}

async fn answer(source: &Source, sql: &str, format: Format) -> Result<Footer, Failure> {
    let started = Instant::now();
    if sql.len() > SQL_BYTES_MAX {
        let (length, most) = (sql.len(), SQL_BYTES_MAX);
        let why = anyhow::anyhow!("the statement has {length} bytes, and {most} are what one may have");
        return Err(why.into());
    }
    let mut rows = source.ask(sql).await?;
    let mut out = std::io::stdout();
    let mut printer = Printer::new(format, layout(), rows.schema(), &mut out);
    while let Some(batch) = rows.next().await? {
        printer.write(&batch)?;
    }
    printer.end()?;
    Ok(Footer::new(printer.count(), started.elapsed(), rows.metrics()))
}

fn layout() -> Layout {
    let width = Some(std::io::stdout().is_terminal()).filter(|terminal| *terminal);
    Layout {
        width: width
            .and_then(|_| rustix::termios::tcgetwinsize(std::io::stdout()).ok())
            .map(|size| size.ws_col),
        ..Layout::default()
    }
}

fn format(option: FormatOption) -> Format {
    match option {
        FormatOption::Box => Format::Box,
        FormatOption::Csv => Format::Csv,
        FormatOption::Json => Format::Json,
        FormatOption::Ndjson => Format::Ndjson,
        FormatOption::Markdown => Format::Markdown,
    }
}
