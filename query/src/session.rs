//! A session: one statement in, an answer out.

use crate::answer::Answer;
use crate::catalog::QueryCatalog;
use crate::deadline::Deadline;
use crate::definitions::Definitions;
use crate::error::{QueryError, QueryErrorKind, unknown_table};
use crate::handles::Handles;
use crate::limits::{Limits, TimeLimit};
use crate::pace::{self, Attempts, Current};
use crate::planning::{Planners, watch};
use crate::rescue::rescued;
use crate::runtime::{INGESTION, SYSTEM, blank_state, cores};
use crate::scan;
use crate::statement::Question;
use crate::system::{Memory, Surroundings, SystemSchema};
use crate::tail::Tails;
use datafusion::catalog::CatalogProviderList;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan};
use millstream_lake::{Bucket, LakeError};
use millstream_log::Log;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The buckets that are asked.
#[derive(Debug, Clone)]
pub struct Lakehouse {
    /// Tables of readings, quarantine and lifecycle: the schema `ingestion`, where a plain name is looked up first.
    pub ingestion: Bucket,
    /// Tables of reports: the schema `reporting`, where a plain name is looked up next.
    pub reporting: Bucket,
    /// What is configured.
    pub definitions: Arc<Definitions>,
    /// Where readings wait that are in no file yet; `None`: only committed files are asked.
    pub log: Option<Arc<dyn Log>>,
}

impl Lakehouse {
    /// Two buckets of which nothing is configured, and no log.
    #[must_use]
    pub fn new(ingestion: Bucket, reporting: Bucket) -> Self {
        Self { ingestion, reporting, definitions: Arc::default(), log: None }
    }

    /// The same with what is configured.
    #[must_use]
    pub fn with_definitions(self, definitions: Arc<Definitions>) -> Self {
        Self { definitions, ..self }
    }

    /// The same with the log from which the ingestion bucket is filled.
    #[must_use]
    pub fn with_log(self, log: Arc<dyn Log>) -> Self {
        Self { log: Some(log), ..self }
    }
}

/// How a statement is asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ask {
    /// Whether what waits in the log is part of the tables.
    pub tail: TailUse,
}

/// Whether what is acknowledged and in no file yet is part of the tables.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TailUse {
    /// It is, up to the log's end when the statement begins.
    #[default]
    Follow,
    /// Only committed files are asked.
    Off,
}

/// Answers questions. Queries may run at the same time; they share the session's limits.
pub struct Session {
    ingestion: Arc<Handles>,
    reporting: Arc<Handles>,
    /// What waits in the log; `None`: there is no log to follow.
    tails: Option<Arc<Tails>>,
    definitions: Arc<Definitions>,
    log: Option<Arc<dyn Log>>,
    blank: SessionState,
    time: Duration,
    scan_bytes: Option<u64>,
    /// Bytes that one batch may take.
    share: usize,
    planners: Planners,
}

impl Session {
    /// Prepares a session. No bucket is touched before the first query.
    ///
    /// # Errors
    /// When the directory to spill to cannot be used.
    pub async fn open(lakehouse: &Lakehouse, limits: Limits) -> Result<Self, QueryError> {
        let ingestion = Arc::new(Handles::new(lakehouse.ingestion.clone()));
        let tails = lakehouse.log.as_ref();
        let tails = tails.map(|log| Arc::new(Tails::new(&lakehouse.definitions, log, &ingestion, &limits)));
        let blank = blank_state(&limits)?;
        let partitions = blank.config().target_partitions();
        let share = pace::share(limits.memory_bytes, partitions);
        Ok(Self {
            ingestion,
            tails,
            reporting: Arc::new(Handles::new(lakehouse.reporting.clone())),
            definitions: Arc::clone(&lakehouse.definitions),
            log: lakehouse.log.clone(),
            blank,
            time: limits.time,
            scan_bytes: limits.scan_bytes,
            share,
            planners: Planners::new(limits.parallelism.unwrap_or_else(cores)),
        })
    }

    /// As [`Session::ask`], with what waits in the log.
    ///
    /// # Errors
    /// As there.
    pub async fn query(&self, sql: &str) -> Result<Answer, QueryError> {
        self.ask(sql, Ask::default()).await
    }

    /// Starts one statement. Every table it names is read at the version that is the latest now.
    ///
    /// # Errors
    /// When it is not exactly one statement, not a question, names what does not exist, makes no sense, or a bucket cannot be read. What fails
    /// on a value or runs out of memory or time fails while the answer is read.
    pub async fn ask(&self, sql: &str, ask: Ask) -> Result<Answer, QueryError> {
        let tails = self.tails.as_ref().filter(|_| ask.tail == TailUse::Follow);
        let catalog = QueryCatalog::new(&self.ingestion, &self.reporting, tails);
        let begin = async |deadline| {
            let question = Question::parse(sql)?;
            if question.asks_for_names() {
                catalog.list().await.map_err(unlisted)?;
            }
            let state = self.state_over(catalog.schemas(self.system(&catalog)));
            self.require_tables(&question, &state, &catalog, sql).await?;
            self.run(question, state, sql, self.scan_bytes, deadline).await
        };
        let answer = self.answer(sql, begin).await?;
        Ok(answer.with_tails(catalog.looked()))
    }

    /// The answer that `begin` begins, within the time that a query may take.
    pub(crate) async fn answer(
        &self,
        sql: &str,
        begin: impl AsyncFnOnce(Deadline) -> Result<Running, QueryError>,
    ) -> Result<Answer, QueryError> {
        let started = Instant::now();
        let mut time = TimeLimit::new(self.time);
        let begun = begin(time.deadline());
        let (batches, plan) = time.spend(rescued(begun)).await?;
        Ok(Answer::new(sql.to_owned(), batches, plan, started, time))
    }

    /// Plans a question and starts it, unless it would read more bytes of files than `scan_bytes`.
    pub(crate) async fn run(
        &self,
        question: Question,
        mut state: SessionState,
        sql: &str,
        scan_bytes: Option<u64>,
        deadline: Deadline,
    ) -> Result<Running, QueryError> {
        watch(&mut state, &deadline);
        let (planners, share, asked) = (self.planners.clone(), self.share, sql.to_owned());
        let planned = Box::pin(async move {
            let failed = |error| QueryError::from_datafusion(error, &asked);
            let plan = plan(question, &state, &asked).await?;
            let optimized = state.optimize(&plan).map_err(failed)?;
            let attempts = Attempts { state, optimized, deadline, planners, share };
            let first = attempts.first().await.map_err(failed)?;
            Ok((Box::new(attempts), Box::new(first)))
        });
        let (attempts, first) = self.planners.plan(planned).await?;
        scan::check(first.plan.as_ref(), scan_bytes)?;
        attempts.run(*first).map_err(|error| QueryError::from_datafusion(error, sql))
    }

    /// A state that knows these tables and begins now.
    pub(crate) fn state_over(&self, tables: Arc<dyn CatalogProviderList>) -> SessionState {
        let mut state = self.blank.clone();
        state.register_catalog_list(tables);
        state.mark_start_execution();
        state
    }

    /// The system tables of a query that sees these tables.
    fn system(&self, catalog: &QueryCatalog) -> SystemSchema {
        let surroundings = Surroundings {
            ingestion: Arc::clone(&self.ingestion),
            reporting: Arc::clone(&self.reporting),
            definitions: Arc::clone(&self.definitions),
            log: self.log.clone(),
            tables: catalog.ingestion(),
            memory: Memory::default(),
        };
        SystemSchema::new(surroundings, self.blank.clone())
    }

    async fn require_tables(
        &self,
        question: &Question,
        state: &SessionState,
        catalog: &QueryCatalog,
        sql: &str,
    ) -> Result<(), QueryError> {
        for table in &question.tables {
            let found = match state.schema_for_ref(table.reference.clone()) {
                // Only a plain name may be a report's.
                Ok(_) if table.reference.schema() == Some(INGESTION) => {
                    catalog.in_ingestion(table.reference.table()).await
                }
                Ok(schema) => schema.table(table.reference.table()).await,
                Err(_) => Ok(None),
            };
            let found = found.map_err(|error| QueryError::from_datafusion(error, sql))?;
            if found.is_none() {
                let known = match table.reference.schema() {
                    Some(SYSTEM) => {
                        SystemSchema::names().iter().map(|name| format!("{SYSTEM}.{name}")).collect()
                    }
                    _ => catalog.list().await.map_err(unlisted)?,
                };
                let error = unknown_table(&table.reference.to_string(), table.place, &known);
                let name = table.reference.table();
                let is_systems = table.reference.schema().is_none() && SystemSchema::has(name);
                return Err(if is_systems {
                    error.hint(format!("did you mean {SYSTEM}.{name}?"))
                } else {
                    error
                });
            }
        }
        Ok(())
    }
}

/// Plans a question and checks that the plan, too, only reads.
pub(crate) async fn plan(
    question: Question,
    state: &SessionState,
    sql: &str,
) -> Result<LogicalPlan, QueryError> {
    let plan = state
        .statement_to_plan(question.parsed)
        .await
        .map_err(|error| QueryError::from_datafusion(error, sql))?;
    let only_reading =
        SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    only_reading.verify_plan(&plan).map_err(|error| {
        QueryError::new(QueryErrorKind::Forbidden, "this is not allowed: SQL only reads here")
            .hint(error.strip_backtrace())
    })?;
    match compares_with_all_of(&plan) {
        Ok(false) => Ok(plan),
        Ok(true) => Err(QueryError::new(
            QueryErrorKind::Forbidden,
            "not supported: a comparison with ANY, SOME or ALL rows of a subquery",
        )
        .hint("compare with its greatest or least: > (select max(…) from …)")),
        Err(error) => Err(QueryError::from_datafusion(error, sql)),
    }
}

/// Whether there is a comparison like `> all (select …)` in it. DataFusion 55 takes a column outside of the subquery for the one of the same name inside, and
/// answers wrongly: `date >= all (select date from telemetry)` is true for every row of `telemetry`.
fn compares_with_all_of(plan: &LogicalPlan) -> datafusion::error::Result<bool> {
    let mut found = false;
    plan.apply_with_subqueries(|step| {
        step.apply_expressions(|expr| {
            expr.apply(|expr| {
                found |= matches!(expr, Expr::SetComparison(_));
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(found)
}

/// The rows of a plan as they come, and the plan, which knows what they cost.
pub(crate) type Running = (SendableRecordBatchStream, Current);

fn unlisted(error: LakeError) -> QueryError {
    QueryError::storage("failed to list the tables", error)
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("ingestion", self.ingestion.bucket())
            .field("reporting", self.reporting.bucket())
            .finish_non_exhaustive()
    }
}
