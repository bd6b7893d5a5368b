//! The SQL of a report: what it reads, what it gives, whether it can be recomputed a date at a time, and its rows over given versions of its sources.
//!
//! Neighbour: the processor in `transform`, which decides when, and commits. Nothing here looks at a newer version than it is given.

mod by_date;
mod definition;
pub mod ledger;
mod normal;
mod note;
mod sources;
mod time;

pub use definition::{ReportDefinition, SourceKind, SourceName, When};
pub use note::{ReportNote, ReportState, shortened};

use crate::answer::Answer;
use crate::error::QueryError;
use crate::limits::Limits;
use crate::runtime::blank_state;
use crate::session::{Session, plan};
use crate::statement::Question;
use arrow::datatypes::SchemaRef;
use millstream_lake::{Bucket, Snapshot, Table};
use millstream_model::time::Micros;
use sources::Sources;
use std::sync::Arc;

/// The definition of a report, understood.
#[derive(Debug, Clone)]
pub struct ReportPlan {
    sql: String,
    sources: Vec<String>,
    schema: SchemaRef,
    recompute: Recompute,
    asks_for_time: bool,
}

/// How much of a report must be computed again when its source has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recompute {
    /// The dates that changed in the source: every row of the report comes from rows of one date, and has that date in this column.
    ByDate {
        /// The report's partition column.
        column: String,
    },
    /// All of it.
    Whole {
        /// Why, as a clause: "it has a LIMIT".
        reason: String,
    },
}

/// A version of a table that a report reads.
#[derive(Debug, Clone)]
pub struct ReportSource {
    /// The bucket of the table.
    pub bucket: Bucket,
    /// The table.
    pub table: Table,
    /// The version that is read, and no other.
    pub snapshot: Arc<Snapshot>,
}

/// Which rows of its sources a computation goes by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Portion {
    /// Only those whose partition column `date` is one of these, in days since 1970-01-01; `None`: of all dates. It gives the report's rows of these dates where
    /// [`Recompute::ByDate`] holds.
    pub dates: Option<Vec<i32>>,
    /// Only those whose event time lies before this.
    pub before: Option<Micros>,
}

impl ReportPlan {
    /// The tables that a report's SQL names, in alphabetical order. A plain name is another report's if `is_report` says so, else a stream's. Parses only.
    ///
    /// # Errors
    /// When it is no question, or reads something else than streams and reports.
    pub fn sources(sql: &str, is_report: impl Fn(&str) -> bool) -> Result<Vec<SourceName>, QueryError> {
        definition::sources(sql, is_report)
    }

    /// Plans the SQL over the sources as they are now, and looks how it can be recomputed. `partition_by` is a column of the report.
    ///
    /// The outcome holds as long as the sources' columns stay: plan again when a source's schema has changed.
    ///
    /// # Errors
    /// When the SQL makes no sense over these sources, or gives columns that a Delta table cannot have.
    pub async fn analyse(
        sql: &str,
        sources: &[&Snapshot],
        partition_by: Option<&str>,
    ) -> Result<Self, QueryError> {
        let question = Question::parse(sql)?;
        let mut state = blank_state(&Limits::default())?;
        let tables = Sources::shapes(sources);
        for named in &question.tables {
            if !tables.has(named.reference.table()) {
                return Err(crate::error::unknown_table(
                    &named.reference.to_string(),
                    named.place,
                    &tables.names(),
                ));
            }
        }
        state.register_catalog_list(tables.catalog());
        let plan = plan(question, &state, sql).await?;
        let schema = normal::schema(plan.schema().as_arrow())?;
        if let Some(column) = partition_by {
            normal::check_partition(&schema, column)?;
        }
        let recompute = by_date::recompute(&plan, sources, partition_by);
        let asks_for_time =
            time::is_asked_for(&plan).map_err(|error| QueryError::from_datafusion(error, sql))?;
        let sources = sources.iter().map(|source| source.table().to_owned()).collect();
        Ok(Self { sql: sql.to_owned(), sources, schema, recompute, asks_for_time })
    }

    /// The SQL.
    #[must_use]
    pub fn sql(&self) -> &str {
        &self.sql
    }

    /// The tables it reads.
    #[must_use]
    pub fn reads(&self) -> &[String] {
        &self.sources
    }

    /// The columns of the report's table: types that Delta has, all of them nullable.
    #[must_use]
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// How much is to be recomputed.
    #[must_use]
    pub fn recompute(&self) -> &Recompute {
        &self.recompute
    }

    /// Whether its rows change as time goes by, although its sources do not: it has now() or the like in it.
    #[must_use]
    pub fn asks_for_time(&self) -> bool {
        self.asks_for_time
    }
}

impl Session {
    /// The report's rows over a portion of exactly these versions, in the plan's schema.
    ///
    /// # Errors
    /// When the SQL no longer fits its sources; other failures come while the answer is read.
    pub async fn compute(
        &self,
        report: &ReportPlan,
        sources: &[ReportSource],
        portion: &Portion,
    ) -> Result<Answer, QueryError> {
        let begin = async |deadline| {
            let question = Question::parse(&report.sql)?;
            let tables = Sources::versions(sources, portion)
                .map_err(|error| QueryError::from_datafusion(error, &report.sql))?;
            let state = self.state_over(tables.catalog());
            // What a report reads is its author's choice, not that of whoever asks.
            self.run(question, state, &report.sql, None, deadline).await
        };
        let answer = self.answer(&report.sql, begin).await?;
        normal::normalised(answer, report.schema())
    }
}
