//! A report as it is configured.

use crate::error::{QueryError, QueryErrorKind};
use crate::runtime::{INGESTION, REPORTING};
use crate::statement::Question;
use millstream_model::name::StreamName;
use std::fmt;
use std::time::Duration;

/// A report: a question, and the table that keeps its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportDefinition {
    /// Its name: its table's folder in the reporting bucket and its name in SQL, where it shares one set of names with the streams.
    pub name: StreamName,
    /// The question, over the tables of streams and of other reports.
    pub sql: String,
    /// A column of the answer by which the table is split; it must be a date. Where it is the source's own `date`, only the dates that changed are recomputed.
    pub partition_by: Option<String>,
    /// Which of the readings it goes by.
    pub when: When,
}

/// Which readings a report goes by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum When {
    /// All that there are.
    #[default]
    Always,
    /// Those of hours that are complete: of the readings whose event time lies before, none is expected any more.
    Complete {
        /// How long after its hour a reading may still come.
        lateness: Duration,
    },
}

impl When {
    /// As it stands in the configuration, and in a property of the report's table.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::Complete { .. } => "complete",
        }
    }
}

/// What kind of table a report reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SourceKind {
    /// A stream's, or one of Millstream's own, in the ingestion bucket.
    Stream,
    /// Another report's, in the reporting bucket.
    Report,
}

/// A table that a report reads.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceName {
    /// Its name. Among the tables that one report reads it is the only one of this name.
    pub name: String,
    /// Its kind, and with it its bucket.
    pub kind: SourceKind,
}

impl fmt::Display for SourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// The tables that a report's SQL names, in alphabetical order. A plain name is a report's if `is_report` says so, else a stream's. Parses only.
///
/// # Errors
/// When it is no question, or reads something else than streams and reports.
pub(super) fn sources(sql: &str, is_report: impl Fn(&str) -> bool) -> Result<Vec<SourceName>, QueryError> {
    let question = Question::parse(sql)?;
    let mut sources: Vec<SourceName> = Vec::new();
    for named in &question.tables {
        let name = named.reference.table();
        let kind = match named.reference.schema() {
            None if is_report(name) => SourceKind::Report,
            None | Some(INGESTION) => SourceKind::Stream,
            Some(REPORTING) => SourceKind::Report,
            Some(_) => {
                return Err(QueryError::new(
                    QueryErrorKind::Forbidden,
                    format!("a report cannot read {}", named.reference),
                )
                .at(named.place, "neither a stream nor a report")
                .hint("a report reads the tables of streams, and of other reports"));
            }
        };
        match sources.iter().find(|known| known.name == name) {
            Some(known) if known.kind == kind => {}
            Some(_) => {
                return Err(QueryError::new(
                    QueryErrorKind::Forbidden,
                    format!("a report cannot read two tables of the name {name}"),
                )
                .at(named.place, "in another bucket"));
            }
            None => sources.push(SourceName { name: name.to_owned(), kind }),
        }
    }
    if sources.is_empty() {
        return Err(QueryError::new(QueryErrorKind::Meaning, "the report reads no stream")
            .hint("name one: select … from telemetry"));
    }
    sources.sort();
    Ok(sources)
}
