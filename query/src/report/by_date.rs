//! Whether every row of a report comes from source rows of one date, and shows that date: read off the plan.
//!
//! What is not surely so is recomputed whole. For each step of the plan this follows which of its columns are the source's own `date`, unchanged.

use super::Recompute;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, DataFusionError};
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::{
    Aggregate, Distinct, Expr, LogicalPlan, Projection, Union, Volatility, Window,
};
use millstream_lake::Snapshot;
use std::collections::BTreeSet;

/// The partition column of every stream's table.
const DATE: &str = "date";

/// Places, in the schema of a step, of the columns that are the source's `date`.
type Dates = BTreeSet<usize>;

pub(super) fn recompute(plan: &LogicalPlan, sources: &[&Snapshot], partition_by: Option<&str>) -> Recompute {
    match column_of_date(plan, sources, partition_by) {
        Ok(column) => Recompute::ByDate { column },
        Err(reason) => Recompute::Whole { reason },
    }
}

fn column_of_date(
    plan: &LogicalPlan,
    sources: &[&Snapshot],
    partition_by: Option<&str>,
) -> Result<String, String> {
    let column = partition_by.ok_or("it is not partitioned")?;
    let [source] = sources else { return Err("it reads more than one table".to_owned()) };
    if !source.partition_by().iter().any(|name| name == DATE) {
        return Err("its source is not partitioned by `date`".to_owned());
    }
    let dates = followed(plan)?;
    let carries = plan
        .schema()
        .fields()
        .iter()
        .enumerate()
        .any(|(at, field)| field.name() == column && dates.contains(&at));
    if carries {
        Ok(column.to_owned())
    } else {
        Err(format!("its column {column} is not the source's own `date`"))
    }
}

fn followed(plan: &LogicalPlan) -> Result<Dates, String> {
    check_expressions(plan)?;
    match plan {
        LogicalPlan::TableScan(scan) => match scan.projected_schema.index_of_column_by_name(None, DATE) {
            Some(at) => Ok(Dates::from([at])),
            None => Err("it reads something that has no `date`".to_owned()),
        },
        LogicalPlan::Projection(projection) => projected(projection),
        LogicalPlan::Filter(filter) => followed(&filter.input),
        LogicalPlan::SubqueryAlias(alias) => followed(&alias.input),
        LogicalPlan::Sort(sort) if sort.fetch.is_none() => followed(&sort.input),
        LogicalPlan::Sort(_) | LogicalPlan::Limit(_) => Err("it has a LIMIT".to_owned()),
        LogicalPlan::Aggregate(aggregate) => grouped(aggregate),
        LogicalPlan::Window(window) => windowed(window),
        LogicalPlan::Distinct(Distinct::All(input)) => match followed(input)? {
            dates if dates.is_empty() => Err("its DISTINCT goes over several dates".to_owned()),
            dates => Ok(dates),
        },
        LogicalPlan::Union(union) => united(union),
        LogicalPlan::Join(_) => Err("it joins".to_owned()),
        _ => Err(format!("it has a step that may mix dates ({})", first_word(&plan.display().to_string()))),
    }
}

fn first_word(text: &str) -> &str {
    text.split(|c: char| !c.is_alphanumeric()).next().unwrap_or(text)
}

/// Subqueries look at other rows; a function that is not immutable gives something else the next time.
fn check_expressions(plan: &LogicalPlan) -> Result<(), String> {
    let mut reason = None;
    let look = |expr: &Expr| {
        expr.apply(|expr| {
            reason = match expr {
                Expr::ScalarSubquery(_)
                | Expr::InSubquery(_)
                | Expr::SetComparison(_)
                | Expr::Exists(_)
                | Expr::OuterReferenceColumn(..) => Some("it has a subquery within an expression".to_owned()),
                Expr::ScalarFunction(call) if call.func.signature().volatility != Volatility::Immutable => {
                    Some(format!("{}() gives something else every time", call.func.name()))
                }
                _ => None,
            };
            Ok(if reason.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })
    };
    plan.apply_expressions(look).map_err(|error: DataFusionError| error.strip_backtrace())?;
    reason.map_or(Ok(()), Err)
}

fn projected(projection: &Projection) -> Result<Dates, String> {
    let dates = followed(&projection.input)?;
    Ok(places(&projection.expr, projection.input.schema(), &dates))
}

fn grouped(aggregate: &Aggregate) -> Result<Dates, String> {
    let dates = followed(&aggregate.input)?;
    if aggregate.group_expr.iter().any(|expr| matches!(expr, Expr::GroupingSet(_))) {
        return Err("it groups by several sets".to_owned());
    }
    let kept = places(&aggregate.group_expr, aggregate.input.schema(), &dates);
    if kept.is_empty() { Err("`date` does not stand in its GROUP BY".to_owned()) } else { Ok(kept) }
}

fn windowed(window: &Window) -> Result<Dates, String> {
    let dates = followed(&window.input)?;
    let within_date = |expr: &Expr| match expr.clone().unalias() {
        Expr::WindowFunction(function) => {
            let WindowFunction { params, .. } = *function;
            !places(&params.partition_by, window.input.schema(), &dates).is_empty()
        }
        _ => false,
    };
    if window.window_expr.iter().all(within_date) {
        Ok(dates)
    } else {
        Err("a window of it is not partitioned by `date`".to_owned())
    }
}

fn united(union: &Union) -> Result<Dates, String> {
    let mut each = union.inputs.iter().map(|input| followed(input));
    let first = each.next().unwrap_or_else(|| Ok(Dates::new()))?;
    each.try_fold(first, |common, dates| Ok(common.intersection(&dates?).copied().collect()))
}

/// Which of the expressions are nothing but a date.
fn places(exprs: &[Expr], input: &DFSchema, dates: &Dates) -> Dates {
    let is_date = |expr: &Expr| match expr.clone().unalias_nested().data {
        Expr::Column(column) => input.maybe_index_of_column(&column).is_some_and(|at| dates.contains(&at)),
        _ => false,
    };
    exprs.iter().enumerate().filter(|(_, expr)| is_date(expr)).map(|(at, _)| at).collect()
}
