//! Percentiles that are found about, with a limit to how exactly: so many points as their last argument says are kept, and room for all of them is made at once, for each group.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::plan_err;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::logical_expr::expr::WindowFunctionDefinition;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};
use datafusion::scalar::ScalarValue;

/// Points that one of them keeps: a hundred times as many as where none are asked for, and 160 KB.
const POINTS_MAX: i64 = 10_000;

/// The functions, and which of their arguments says how many.
const FUNCTIONS: [(&str, usize); 2] =
    [("approx_percentile_cont", 2), ("approx_percentile_cont_with_weight", 3)];

/// Refuses those that would keep more, once what is written has become a number. It changes nothing.
#[derive(Debug)]
pub(crate) struct BoundedDigests;

impl OptimizerRule for BoundedDigests {
    fn name(&self) -> &str {
        "bounded_digests"
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        plan.apply_with_subqueries(|step| {
            step.apply_expressions(|expr| {
                expr.apply(|expr| {
                    match expr {
                        Expr::AggregateFunction(call) => check(call.func.name(), &call.params.args)?,
                        Expr::WindowFunction(call) => match &call.fun {
                            WindowFunctionDefinition::AggregateUDF(function) => {
                                check(function.name(), &call.params.args)?;
                            }
                            WindowFunctionDefinition::WindowUDF(_) => {}
                        },
                        _ => {}
                    }
                    Ok(TreeNodeRecursion::Continue)
                })
            })
        })?;
        Ok(Transformed::no(plan))
    }
}

fn check(name: &str, args: &[Expr]) -> Result<()> {
    let place = FUNCTIONS.iter().find(|(function, _)| *function == name).map(|(_, place)| *place);
    let Some(points) = place.and_then(|place| args.get(place)) else { return Ok(()) };
    let fits = match points {
        Expr::Literal(points, _) => {
            matches!(points.cast_to(&DataType::Int64), Ok(ScalarValue::Int64(points)) if points <= Some(POINTS_MAX))
        }
        _ => false,
    };
    match fits {
        true => Ok(()),
        false => plan_err!("{name} keeps at most {POINTS_MAX} centroids, and takes their number written out"),
    }
}
