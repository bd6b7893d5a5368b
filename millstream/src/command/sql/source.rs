//! Who answers: the server of the data directory where one runs, else the tables themselves, or the server that is named. Neither the rows nor what is wrong with a
//! question look different for it.

use super::failure::Failure;
use super::here::Here;
use super::remote::{self, Server};
use crate::cli::Sql;
use crate::config::Settings;
use crate::config::secret::SecretSource;
use crate::directory::Directory;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use millstream_model::secret::Secret;
use millstream_query::{Answer, ScanMetrics, TailUse};

/// The variable with the token that a server wants.
const TOKEN: &str = "MILLSTREAM_TOKEN";

/// Who answers.
#[derive(Debug)]
pub(super) enum Source {
    /// This process.
    Here(Box<Here>),
    /// A server.
    There(Server),
}

impl Source {
    /// Finds out who.
    ///
    /// # Errors
    /// If the server that is named cannot be one, or the tables cannot be opened.
    pub(super) async fn find(options: &Sql) -> anyhow::Result<Self> {
        let directory = Directory::new(&options.place.data);
        let settings = directory.settings(options.place.config.as_deref())?;
        let tail = if options.no_tail { TailUse::Off } else { TailUse::Follow };
        if let Some(url) = &options.server {
            let token = token(options, &settings)?;
            return Server::named(url, options.ca.as_deref(), token, tail).map(Self::There);
        }
        if !options.local
            && let Some(server) = running(options, &directory, &settings, tail).await?
        {
            return Ok(Self::There(server));
        }
        Ok(Self::Here(Box::new(Here::open(&directory, &settings, tail).await?)))
    }

    pub(super) async fn ask(&self, sql: &str) -> Result<Rows, Failure> {
        Ok(match self {
            Self::Here(here) => Rows::Here(Box::new(here.ask(sql).await?)),
            Self::There(server) => Rows::There(Box::new(server.ask(sql).await?)),
        })
    }

    /// Ends it.
    ///
    /// # Errors
    /// If what was opened cannot be closed.
    pub(super) async fn close(self) -> anyhow::Result<()> {
        match self {
            Self::Here(here) => here.close().await,
            Self::There(_) => Ok(()),
        }
    }
}

/// The server of the data directory. What is written there and does not hold any more is passed over without a word: it is what a kill leaves behind, and the
/// tables give the same rows. A server that answers from other tables than these settings name is not asked either.
async fn running(
    options: &Sql,
    directory: &Directory,
    settings: &Settings,
    tail: TailUse,
) -> anyhow::Result<Option<Server>> {
    let Some(found) = directory.server().filter(|found| directory.is_source_of(settings, found)) else {
        return Ok(None);
    };
    Ok(Server::found(&found, token(options, settings)?, tail).await)
}

/// What a server may want to see: of the command line, else of the environment, else of the configuration.
fn token(options: &Sql, settings: &Settings) -> anyhow::Result<Option<Secret>> {
    if let Some(path) = &options.token_file {
        let source = SecretSource::File { key: "--token-file".to_owned(), path: path.clone() };
        return source.read().map(Some);
    }
    match std::env::var(TOKEN) {
        Ok(token) if !token.is_empty() => Ok(Some(Secret::new(token))),
        _ => settings.http.token.as_ref().map(SecretSource::read).transpose(),
    }
}

/// The rows of one statement, as they come.
#[derive(Debug)]
pub(super) enum Rows {
    /// Of this process.
    Here(Box<Answer>),
    /// Of a server.
    There(Box<remote::Answer>),
}

impl Rows {
    pub(super) fn schema(&self) -> SchemaRef {
        match self {
            Self::Here(answer) => answer.schema(),
            Self::There(answer) => answer.schema(),
        }
    }

    pub(super) async fn next(&mut self) -> Result<Option<RecordBatch>, Failure> {
        match self {
            Self::Here(answer) => Ok(answer.next().await?),
            Self::There(answer) => answer.next().await,
        }
    }

    /// What they cost, once the last one is there.
    pub(super) fn metrics(&self) -> ScanMetrics {
        match self {
            Self::Here(answer) => answer.metrics(),
            Self::There(answer) => answer.metrics(),
        }
    }
}
