//! From SQL to a plan that is known to work row by row, and on to its steps.

use super::context::Context;
use super::{Step, TransformError};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, DFSchemaRef};
use datafusion::config::ConfigOptions;
use datafusion::error::DataFusionError;
use datafusion::execution::context::ExecutionProps;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{Expr, LogicalPlan, Volatility};
use datafusion::optimizer::Analyzer;
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_expr::{PhysicalExpr, create_physical_expr};
use datafusion::sql::parser::{DFParser, Statement};
use datafusion::sql::planner::SqlToRel;
use datafusion::sql::sqlparser::ast::Statement as SqlStatement;
use millstream_model::column::reserved;
use std::sync::Arc;

/// A checked plan.
#[derive(Debug)]
pub(super) struct Plan {
    plan: LogicalPlan,
    /// Its outputs, in order.
    pub(super) columns: Vec<Output>,
    /// Names that any of its projections gives to something that is not the column of that name.
    pub(super) computed: Vec<String>,
}

/// One column that a plan gives.
#[derive(Debug, Clone)]
pub(super) struct Output {
    pub(super) name: String,
    pub(super) kind: DataType,
    /// The column of `input` that it is, unchanged.
    pub(super) origin: Option<String>,
}

/// Plans the SQL over `input`, and refuses whatever is not row by row.
///
/// # Errors
/// What is wrong with it.
pub(super) fn plan(sql: &str, input: &SchemaRef) -> Result<Plan, TransformError> {
    let mut statements = DFParser::parse_sql(sql).map_err(TransformError::from_datafusion)?;
    let statement = match (statements.pop_front(), statements.is_empty()) {
        (Some(Statement::Statement(statement)), true) if matches!(*statement, SqlStatement::Query(_)) => {
            *statement
        }
        _ => return Err(TransformError::NotOneQuery),
    };
    let context = Context::new(Arc::clone(input));
    let plan =
        SqlToRel::new(&context).sql_statement_to_plan(statement).map_err(TransformError::from_datafusion)?;
    check_nodes(&plan)?;
    let plan = Analyzer::new()
        .execute_and_check(plan, &ConfigOptions::default(), |_, _| {})
        .map_err(TransformError::from_datafusion)?;
    check_nodes(&plan)?;
    let mut computed = Vec::new();
    let columns = outputs(&plan, &mut computed);
    Ok(Plan { plan, columns, computed })
}

fn check_nodes(plan: &LogicalPlan) -> Result<(), TransformError> {
    match plan {
        LogicalPlan::Projection(_) | LogicalPlan::Filter(_) => {
            for expression in plan.expressions() {
                check_expression(&expression)?;
                check_extra(&expression)?;
            }
        }
        LogicalPlan::SubqueryAlias(_) | LogicalPlan::TableScan(_) => {}
        LogicalPlan::EmptyRelation(_) | LogicalPlan::Values(_) => {
            return Err(TransformError::OtherTable("nowhere".to_owned()));
        }
        other => return Err(TransformError::NotByRow(clause(other))),
    }
    plan.inputs().into_iter().try_for_each(check_nodes)
}

/// What the part of a plan is called in SQL.
fn clause(plan: &LogicalPlan) -> String {
    let clause = match plan {
        LogicalPlan::Aggregate(_) => "an aggregate or `group by`",
        LogicalPlan::Window(_) => "a window function",
        LogicalPlan::Sort(_) => "`order by`",
        LogicalPlan::Limit(_) => "`limit`",
        LogicalPlan::Distinct(_) => "`distinct`",
        LogicalPlan::Join(_) => "a join",
        LogicalPlan::Union(_) => "`union`",
        LogicalPlan::Unnest(_) => "`unnest`",
        LogicalPlan::Subquery(_) => "a subquery in an expression",
        other => return other.display().to_string(),
    };
    clause.to_owned()
}

fn check_expression(expression: &Expr) -> Result<(), TransformError> {
    let mut refused = None;
    let walked = expression.apply(|part| {
        refused = refusal(part);
        Ok(if refused.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    walked.map_err(TransformError::from_datafusion)?;
    refused.map_or(Ok(()), Err)
}

/// What stands in `_extra` depends on which columns were learned by then, so nothing may depend on it: it is handed on, or left out.
fn check_extra(expression: &Expr) -> Result<(), TransformError> {
    let is_extra = |column: &Column| column.name == reserved::EXTRA;
    let is_handed_on = matches!(expression, Expr::Column(_));
    if !is_handed_on && expression.column_refs().into_iter().any(is_extra) {
        return Err(TransformError::Extra);
    }
    Ok(())
}

fn refusal(expression: &Expr) -> Option<TransformError> {
    let what = match expression {
        Expr::ScalarFunction(call) if call.func.signature().volatility != Volatility::Immutable => {
            return Some(TransformError::Volatile(call.func.name().to_owned()));
        }
        Expr::AggregateFunction(_) | Expr::GroupingSet(_) => "an aggregate",
        Expr::WindowFunction(_) => "a window function",
        Expr::Exists(_)
        | Expr::InSubquery(_)
        | Expr::ScalarSubquery(_)
        | Expr::SetComparison(_)
        | Expr::OuterReferenceColumn(..) => "a subquery in an expression",
        Expr::Unnest(_) => "`unnest`",
        Expr::Placeholder(_) | Expr::ScalarVariable(..) => "a parameter or a variable",
        _ => return None,
    };
    Some(TransformError::NotByRow(what.to_owned()))
}

/// What the plan gives; on the way, the names that are computed.
fn outputs(plan: &LogicalPlan, computed: &mut Vec<String>) -> Vec<Output> {
    let fields = plan.schema().fields().iter();
    match plan {
        LogicalPlan::TableScan(_) => {
            fields.map(|field| output(field.name(), field.data_type(), Some(field.name().clone()))).collect()
        }
        LogicalPlan::Projection(projection) => {
            let inner = outputs(&projection.input, computed);
            let origins: Vec<_> = projection
                .expr
                .iter()
                .map(|expression| origin(expression, projection.input.schema(), &inner))
                .collect();
            let columns: Vec<_> = fields
                .zip(origins)
                .map(|(field, origin)| output(field.name(), field.data_type(), origin))
                .collect();
            let named_anew = columns.iter().filter(|column| column.origin.as_ref() != Some(&column.name));
            computed.extend(named_anew.map(|column| column.name.clone()));
            columns
        }
        // Filter and alias hand on what they get; no other node was let through.
        _ => plan.inputs().first().map(|input| outputs(input, computed)).unwrap_or_default(),
    }
}

fn output(name: &str, kind: &DataType, origin: Option<String>) -> Output {
    Output { name: name.to_owned(), kind: kind.clone(), origin }
}

/// The column of `input` that an expression hands on unchanged.
fn origin(expression: &Expr, schema: &DFSchema, inner: &[Output]) -> Option<String> {
    match expression {
        Expr::Alias(alias) => origin(&alias.expr, schema, inner),
        Expr::Column(column) => inner.get(schema.maybe_index_of_column(column)?)?.origin.clone(),
        _ => None,
    }
}

impl Plan {
    /// The steps of the evaluation, the innermost first.
    ///
    /// # Errors
    /// If an expression cannot be compiled.
    pub(super) fn compile(&self) -> Result<Vec<Step>, TransformError> {
        let mut steps = Vec::new();
        compile(&self.plan, &mut steps).map_err(TransformError::from_datafusion)?;
        Ok(steps)
    }
}

fn compile(plan: &LogicalPlan, steps: &mut Vec<Step>) -> Result<(), DataFusionError> {
    for input in plan.inputs() {
        compile(input, steps)?;
    }
    match plan {
        LogicalPlan::Filter(filter) => {
            steps.push(Step::Filter(physical(&filter.predicate, filter.input.schema())?))
        }
        LogicalPlan::Projection(projection) => {
            let expressions =
                projection.expr.iter().map(|expression| physical(expression, projection.input.schema()));
            let fields =
                projection.schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
            let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
            steps.push(Step::Project { expressions: expressions.collect::<Result<_, _>>()?, schema });
        }
        _ => {}
    }
    Ok(())
}

/// Some functions (`coalesce`, `nvl2`, `arrow_cast`) exist only until the simplifier has written them as something else.
fn physical(expression: &Expr, schema: &DFSchemaRef) -> Result<Arc<dyn PhysicalExpr>, DataFusionError> {
    let context = SimplifyContext::builder().with_schema(Arc::clone(schema)).build();
    let expression = ExprSimplifier::new(context).simplify(expression.clone())?;
    create_physical_expr(&expression, schema, &ExecutionProps::new(), &PhysicalPlanningContext::default())
}
