//! Ends the planning of a query whose time is over, and refuses one that would be planned in a single long step.
//!
//! A planner cannot be ended from outside: it looks at the deadline itself, at each table while the statement is read, and before each rule works on a step of the plan.
//! Between those looks lies work that grows with the square of the columns that a `*` stands for, so their number has a limit.

use crate::carried::Carried;
use crate::deadline::Deadline;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Result, plan_err};
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::logical_expr::planner::{
    PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning,
};
use datafusion::optimizer::optimizer::ApplyOrder;
use datafusion::optimizer::{Analyzer, AnalyzerRule, Optimizer, OptimizerConfig, OptimizerRule};
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::physical_optimizer::{PhysicalOptimizerContext, PhysicalOptimizerRule};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::union::UnionExec;
use sqlparser::ast::TableFactor;
use std::iter;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tokio::time::Instant;

/// Columns of the tables that a statement reads, each counted as often as it is read. A hundred tables of fifty columns; `*` for all of them at once takes seconds in a
/// debug build, and for five times as many it took ten minutes.
const COLUMNS_MAX: usize = 5_000;

/// Columns of all the joins that lie within each other, those of an inner one counted for each that it lies in: so often the engine works out what is known of each. A hundred tables
/// of ten columns, or twenty of a thousand; so many take one rule ten seconds in a debug build.
const JOINED_COLUMNS_MAX: usize = 2_000_000;

/// Lets all planning look at the deadline of its query.
pub(crate) fn watched(builder: SessionStateBuilder) -> SessionStateBuilder {
    let (analyzer, optimizer, physical) = (Analyzer::new(), Optimizer::new(), PhysicalOptimizer::new());
    let physical = physical.rules.into_iter().map(|rule| Arc::new(Watched(rule)) as _);
    let first: Arc<dyn PhysicalOptimizerRule + Send + Sync> = Arc::new(Joins);
    builder
        .with_analyzer_rules(analyzer.rules.into_iter().map(|rule| Arc::new(Watched(rule)) as _).collect())
        .with_optimizer_rules(optimizer.rules.into_iter().map(|rule| Arc::new(Watched(rule)) as _).collect())
        .with_physical_optimizer_rules(iter::once(first).chain(physical).collect())
        .with_relation_planners(vec![Arc::new(Relations)])
}

/// Gives the planning of one query its deadline.
pub(crate) fn watch(state: &mut SessionState, deadline: &Deadline) {
    let watch =
        Watch { deadline: deadline.clone(), columns: AtomicUsize::new(0), passing: AtomicBool::new(false) };
    Arc::new(watch).put(state.config_mut().options_mut());
}

/// What is known of the planning of one query.
#[derive(Debug)]
struct Watch {
    deadline: Deadline,
    /// Of all tables so far.
    columns: AtomicUsize,
    /// Whether the table that comes next has been looked at, and is left to the engine.
    passing: AtomicBool,
}

impl Carried for Watch {
    const NAME: &'static str = "millstream_watch";
}

/// Fails when the query that works with these settings is over.
pub(crate) fn check(config: &ConfigOptions) -> Result<()> {
    Watch::of(config).map_or(Ok(()), |watch| watch.deadline.check(Instant::now()))
}

/// A rule of the engine's that works only while there is time.
#[derive(Debug)]
struct Watched<R: ?Sized>(Arc<R>);

impl AnalyzerRule for Watched<dyn AnalyzerRule + Send + Sync> {
    fn analyze(&self, plan: LogicalPlan, config: &ConfigOptions) -> Result<LogicalPlan> {
        check(config)?;
        self.0.analyze(plan, config)
    }

    fn name(&self) -> &str {
        self.0.name()
    }
}

impl OptimizerRule for Watched<dyn OptimizerRule + Send + Sync> {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        check(&config.options())?;
        self.0.rewrite(plan, config)
    }
}

impl PhysicalOptimizerRule for Watched<dyn PhysicalOptimizerRule + Send + Sync> {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        check(config)?;
        self.0.optimize(plan, config)
    }

    fn optimize_with_context(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        context: &dyn PhysicalOptimizerContext,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        check(context.config_options())?;
        self.0.optimize_with_context(plan, context)
    }

    fn name(&self) -> &str {
        self.0.name()
    }

    fn schema_check(&self) -> bool {
        self.0.schema_check()
    }
}

/// Refuses a plan whose joins have too many columns, before the rules that look at those. It changes none.
#[derive(Debug)]
struct Joins;

impl PhysicalOptimizerRule for Joins {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let mut all = 0;
        joined_columns(&plan, &mut all);
        match all > JOINED_COLUMNS_MAX {
            false => Ok(plan),
            true => {
                plan_err!("the statement is too large: it joins too many tables with too many columns each")
            }
        }
    }

    fn name(&self) -> &str {
        "joins"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// Columns of the joins in the plan, itself included. What they come to for each of the joins is added to `all`.
fn joined_columns(plan: &Arc<dyn ExecutionPlan>, all: &mut usize) -> usize {
    let inputs = plan.children();
    let within: usize = inputs.iter().map(|input| joined_columns(input, all)).sum();
    if inputs.len() < 2 || plan.is::<UnionExec>() {
        return within;
    }
    let columns = within + plan.schema().fields().len();
    *all += columns;
    columns
}

/// Looks at each table of a statement, and plans none itself.
#[derive(Debug)]
struct Relations;

impl RelationPlanner for Relations {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning> {
        let options = context.context_provider().options();
        let Some(watch) = Watch::of(options).cloned() else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        watch.deadline.check(Instant::now())?;
        // What is made of tables has been counted with them.
        let is_table = matches!(relation, TableFactor::Table { .. });
        if !is_table || watch.passing.swap(false, Ordering::Relaxed) {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        }
        // It comes back here first, and then goes on to the engine.
        watch.passing.store(true, Ordering::Relaxed);
        let plan = context.plan(relation)?;
        let more = plan.schema().fields().len();
        let before = watch.columns.fetch_add(more, Ordering::Relaxed);
        // A single table can be asked, however many it has.
        if before > 0 && before + more > COLUMNS_MAX {
            return plan_err!(
                "the statement is too large: its tables, each counted as often as it is read, have more columns than {COLUMNS_MAX}"
            );
        }
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, None))))
    }
}
