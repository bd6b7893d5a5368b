//! `millstream sql`: ask once, from the command line, a file, or standard input.

mod waiting;

use super::{note, quoted};
use crate::cli::{Format as FormatOption, Sql};
use crate::directory::Directory;
use crate::telemetry::chain;
use anyhow::{Context, ensure};
use millstream_query::{Format, Layout, Limits, PrintError, QueryError, Session, print, split};
use std::io::{IsTerminal, Read};
use std::path::Path;
use std::process::ExitCode;

/// Answers each statement in turn; the first that fails ends it with exit code 1.
pub(super) async fn run(options: Sql) -> anyhow::Result<ExitCode> {
    let text = read_text(&options)?;
    let directory = Directory::new(options.place.data);
    let settings = directory.settings(options.place.config.as_deref())?;
    // With the log on Kafka and the buckets in a store, nothing lies in it.
    if directory.holds_data(&settings) {
        check_directory(directory.path())?;
    }
    let lakehouse = directory.lakehouse(&settings)?;
    let session = Session::open(&lakehouse, Limits::default()).await.context("failed to start a session")?;
    // Counted before the question is asked: what is committed in between is in the answer and was announced, never the other way round.
    let waiting = waiting::count(&directory, &settings, &lakehouse.ingestion).await;
    let answered = answer_all(&session, &text, format(options.format)).await;
    match waiting {
        Ok(Some(waiting)) => note(&waiting)?,
        Ok(None) => {}
        // The files can be asked whatever is the matter with the log.
        Err(error) => note(&format!("what is not in files yet could not be counted: {}", chain(&error)))?,
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

fn check_directory(path: &Path) -> anyhow::Result<()> {
    let shown = path.display();
    ensure!(!path.exists() || path.is_dir(), "{shown} is not a directory; name a data directory with --data");
    let up = quoted(path);
    ensure!(
        path.is_dir(),
        "there is no data directory {shown}; name it with --data, or make it with `millstream up --data {up}`"
    );
    Ok(())
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
