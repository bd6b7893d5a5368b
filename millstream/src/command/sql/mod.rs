//! `millstream sql`: ask once, from the command line, a file, or standard input.

mod waiting;

use crate::cli::{Format as FormatOption, Sql};
use crate::config::Settings;
use crate::directory::Directory;
use anyhow::Context;
use millstream_query::{Format, Lakehouse, Layout, Limits, PrintError, QueryError, Session, print, split};
use std::fmt::Display;
use std::io::{IsTerminal, Read, Write};
use std::process::ExitCode;

/// Answers each statement in turn; the first that fails ends it with exit code 1.
pub(super) async fn run(options: Sql) -> anyhow::Result<ExitCode> {
    let text = read_text(&options)?;
    let directory = Directory::new(options.place.data);
    if !directory.path().is_dir() {
        let path = directory.path().display();
        anyhow::bail!(
            "there is no data directory {path}; name it with --data, or make it with `millstream up --data {path}`"
        );
    }
    let settings = directory.settings(options.place.config.as_deref())?;
    let lakehouse = open_lakehouse(&directory, &settings)?;
    let session = Session::open(&lakehouse, Limits::default()).await.context("failed to start a session")?;
    // Counted before the question is asked: what is committed in between is in the answer and was announced, never the other way round.
    let waiting = waiting::count(&directory, &settings, &lakehouse.ingestion).await?;
    let answered = answer_all(&session, &text, format(options.format)).await;
    if let Some(waiting) = waiting {
        note(&waiting)?;
    }
    match answered {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(PrintError::Query(error)) => {
            note(&error.render(&text, std::io::stderr().is_terminal()))?;
            Ok(ExitCode::FAILURE)
        }
        Err(error) => Err(error.into()),
    }
}

/// Both buckets, as a session asks them.
pub(super) fn open_lakehouse(directory: &Directory, settings: &Settings) -> anyhow::Result<Lakehouse> {
    Ok(Lakehouse { ingestion: directory.ingestion(settings)?, reporting: directory.reporting(settings)? })
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

async fn answer_all(session: &Session, text: &str, format: Format) -> Result<(), PrintError> {
    let mut out = std::io::stdout();
    for piece in split(text)? {
        let located = |error: QueryError| error.in_piece(&piece);
        let answer = session.query(piece.sql).await.map_err(located)?;
        let footer = print(answer, format, layout(), &mut out).await.map_err(|error| match error {
            PrintError::Query(error) => PrintError::Query(located(error)),
            PrintError::Output(error) => PrintError::Output(error),
        })?;
        if format == Format::Box {
            note(&footer)?;
        }
    }
    Ok(())
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

/// Says something beside the answer, on standard error, so that the answer can be piped.
fn note(text: &(impl Display + ?Sized)) -> std::io::Result<()> {
    writeln!(std::io::stderr(), "{text}")
}
