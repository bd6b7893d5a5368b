//! The SQL of a report: what it reads, what it gives, whether it can be recomputed a date at a time, and its rows over given versions of its sources.
//!
//! Neighbour: the processor in `transform`, which decides when, and commits. Nothing here looks at a newer version than it is given.

mod by_date;
mod normal;
mod sources;

use crate::answer::Answer;
use crate::error::{QueryError, QueryErrorKind};
use crate::limits::Limits;
use crate::runtime::{INGESTION, blank_state};
use crate::session::{Session, plan, run};
use crate::statement::Question;
use arrow::datatypes::SchemaRef;
use millstream_lake::{Bucket, Snapshot, Table};
use sources::Sources;
use std::sync::Arc;

/// The definition of a report, understood.
#[derive(Debug, Clone)]
pub struct ReportPlan {
    sql: String,
    sources: Vec<String>,
    schema: SchemaRef,
    recompute: Recompute,
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

impl ReportPlan {
    /// The tables that a report's SQL names: streams, in alphabetical order. Parses only.
    ///
    /// # Errors
    /// When it is no question, or reads something else than streams.
    pub fn sources(sql: &str) -> Result<Vec<String>, QueryError> {
        let question = Question::parse(sql)?;
        let mut names = Vec::new();
        for named in &question.tables {
            if named.reference.schema().is_some_and(|schema| schema != INGESTION) {
                return Err(QueryError::new(
                    QueryErrorKind::Forbidden,
                    format!("a report cannot read {}", named.reference),
                )
                .at(named.place, "not a stream")
                .hint("a report reads the tables of streams"));
            }
            if !names.iter().any(|name| name == named.reference.table()) {
                names.push(named.reference.table().to_owned());
            }
        }
        if names.is_empty() {
            return Err(QueryError::new(QueryErrorKind::Meaning, "the report reads no stream")
                .hint("name one: select … from telemetry"));
        }
        Ok(names)
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
        let names = Self::sources(sql)?;
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
        Ok(Self { sql: sql.to_owned(), sources: names, schema, recompute })
    }

    /// The SQL.
    #[must_use]
    pub fn sql(&self) -> &str {
        &self.sql
    }

    /// The streams it reads.
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
}

impl Session {
    /// The report's rows over exactly these versions, in the plan's schema. With `only_dates` (days since 1970-01-01) the sources have only the rows
    /// whose partition column `date` is among them: that gives the report's rows of those dates where [`Recompute::ByDate`] holds.
    ///
    /// # Errors
    /// When the SQL no longer fits its sources; other failures come while the answer is read.
    pub async fn compute(
        &self,
        report: &ReportPlan,
        sources: &[ReportSource],
        only_dates: Option<&[i32]>,
    ) -> Result<Answer, QueryError> {
        let begin = async |deadline| {
            let question = Question::parse(&report.sql)?;
            let state = self.state_over(Sources::versions(sources, only_dates).catalog());
            let plan = plan(question, &state, &report.sql).await?;
            // What a report reads is its author's choice, not that of whoever asks.
            run(&state, &plan, &report.sql, None, &deadline).await
        };
        let answer = self.answer(&report.sql, begin).await?;
        normal::normalised(answer, report.schema())
    }
}
