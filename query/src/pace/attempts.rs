//! A query that begins again, with fewer rows to a batch, until its rows fit. Whoever reads its rows sees one answer: nothing is begun again once a row has been given away.
//!
//! It is planned anew each time over the same versions of its tables, within the time and the memory of the one query.

use super::Pace;
use super::gauge::gauged;
use super::weight::Weight;
use crate::carried::Carried;
use crate::deadline::Deadline;
use crate::holding::counted;
use crate::interruption::interruptible;
use crate::planning::Planners;
use arrow::array::RecordBatch;
use datafusion::common::exec_datafusion_err;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::common::spawn_buffered;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use futures::{StreamExt, stream};
use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

/// Batches that are made before they are asked for.
const BATCHES_AHEAD: usize = 1;

/// The plan of the attempt that is worked on, which knows what it costs. Written when an attempt begins, read by who tells of it.
#[derive(Debug, Clone)]
pub(crate) struct Current(Arc<Mutex<Arc<dyn ExecutionPlan>>>);

impl Current {
    pub(crate) fn plan(&self) -> Arc<dyn ExecutionPlan> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn replace(&self, plan: &Arc<dyn ExecutionPlan>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(plan);
    }
}

/// Everything that is needed to begin a query again.
pub(crate) struct Attempts {
    pub(crate) state: SessionState,
    pub(crate) optimized: LogicalPlan,
    pub(crate) deadline: Deadline,
    /// Where it is planned again.
    pub(crate) planners: Planners,
    /// Bytes that one batch may take.
    pub(crate) share: usize,
}

/// One that is planned.
pub(crate) struct Attempt {
    pub(crate) plan: Arc<dyn ExecutionPlan>,
    pace: Arc<Pace>,
    state: SessionState,
}

impl Attempts {
    /// Plans the first attempt, on a thread for it.
    pub(crate) async fn first(&self) -> Result<Attempt> {
        self.plan(self.state.config().batch_size()).await
    }

    /// The query's rows, and its plan as it stands. On a runtime of several threads it is worked on by a task of its own, so that who waits for it sees when the time is over, and can
    /// go, also while it does not pause.
    pub(crate) fn run(self: Box<Self>, first: Attempt) -> Result<(SendableRecordBatchStream, Current)> {
        let current = Current(Arc::new(Mutex::new(Arc::clone(&first.plan))));
        let schema = first.plan.schema();
        let (batches, attempts) = (first.start()?, Arc::from(self));
        let course = Course { batches, pace: first.pace, attempts, current: current.clone() };
        let batches = stream::unfold(Some(course), async |course| course?.next().await);
        Ok((Box::pin(RecordBatchStreamAdapter::new(schema, batches)), current))
    }

    async fn plan(&self, rows: usize) -> Result<Attempt> {
        let attempt = self.plan_with(rows).await?;
        let constants = Weight::of_plan(&attempt.plan)?.constants.saturating_mul(rows);
        match (constants > self.share && attempt.pace.gives_up(constants))
            .then(|| attempt.pace.next())
            .flatten()
        {
            Some(rows) => self.plan_with(rows).await,
            None => Ok(attempt),
        }
    }

    async fn plan_with(&self, rows: usize) -> Result<Attempt> {
        let pace = Arc::new(Pace::new(rows, self.share));
        let mut state = self.state.clone();
        let config = state.config().clone().with_batch_size(rows);
        *state.config_mut() = config;
        Arc::clone(&pace).put(state.config_mut().options_mut());
        // The moment at which the query began stays as it is.
        let options = Arc::clone(state.config().options());
        state.execution_props_mut().config_options = Some(options);
        let plan = state.query_planner().create_physical_plan(&self.optimized, &state).await?;
        pace.calls.store(Weight::of_plan(&plan)?.growing, Ordering::Relaxed);
        let plan = gauged(counted(plan)?, &pace, &state.runtime_env().memory_pool)?;
        let plan = interruptible(plan, &self.deadline)?;
        Ok(Attempt { plan, pace, state })
    }
}

impl Attempt {
    fn start(&self) -> Result<SendableRecordBatchStream> {
        let batches = execute_stream(Arc::clone(&self.plan), self.state.task_ctx())?;
        let pace = Arc::clone(&self.pace);
        // Told where rows leave the plan, not where they are taken: what works on ahead must know.
        let settling = batches.map(move |batch| match batch {
            Ok(_) if !pace.settles() => Err(exec_datafusion_err!("its rows go together in fewer at a time")),
            batch => batch,
        });
        let settling = RecordBatchStreamAdapter::new(self.plan.schema(), settling);
        Ok(spawn_buffered(Box::pin(settling), BATCHES_AHEAD))
    }
}

/// A query under way.
struct Course {
    attempts: Arc<Attempts>,
    batches: SendableRecordBatchStream,
    pace: Arc<Pace>,
    current: Current,
}

impl Course {
    async fn next(mut self) -> Option<(Result<RecordBatch>, Option<Self>)> {
        loop {
            let end = match self.batches.next().await {
                Some(Ok(batch)) => return Some((Ok(batch), Some(self))),
                Some(Err(failure)) => Some((Err(failure), None)),
                None => None,
            };
            // However an attempt ends that was given up: what it found is not all.
            let Some(rows) = self.pace.next() else { return end };
            if let Err(failure) = self.begin_again(rows).await {
                return Some((Err(failure), None));
            }
        }
    }

    async fn begin_again(&mut self, rows: usize) -> Result<()> {
        // What it holds must be free before others are made: the tables of joins, too, which lie in the plan.
        let schema = self.batches.schema();
        self.batches = Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&schema), stream::empty()));
        let nothing: Arc<dyn ExecutionPlan> = Arc::new(EmptyExec::new(schema));
        self.current.replace(&nothing);
        let attempts = Arc::clone(&self.attempts);
        let planned = Box::pin(async move { Ok(attempts.plan(rows).await) });
        let planned = self.attempts.planners.plan(planned).await;
        let attempt = planned.map_err(|error| DataFusionError::External(Box::new(error)))??;
        self.current.replace(&attempt.plan);
        self.batches = attempt.start()?;
        self.pace = attempt.pace;
        Ok(())
    }
}

impl fmt::Debug for Attempts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attempts").field("share", &self.share).finish_non_exhaustive()
    }
}
