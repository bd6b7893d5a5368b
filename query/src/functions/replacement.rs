//! Puts functions with limits into a plan, wherever the engine has planned its own: for operators, brackets and words such as `overlay … placing`, it does so
//! without asking which function is registered under the name.

use super::{bounded, concatenation, patterns};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{BinaryExpr, Expr, LogicalPlan, Operator};
use datafusion::optimizer::AnalyzerRule;
use std::sync::Arc;

/// Puts them in.
#[derive(Debug)]
pub(crate) struct BoundedFunctions;

impl AnalyzerRule for BoundedFunctions {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let replaced = plan.transform_up_with_subqueries(|step| {
            // Steps above call a column by the name that its expression had.
            let names = NamePreserver::new(&step);
            step.map_expressions(|expr| {
                let name = names.save(&expr);
                let expr = expr.transform_up(|expr| {
                    replaced(expr).transform_data(|expr| Ok(patterns::replaced_unless_easy(expr)))
                })?;
                Ok(expr.update_data(|expr| name.restore(expr)))
            })
        })?;
        Ok(replaced.data)
    }

    fn name(&self) -> &str {
        "bounded_functions"
    }
}

fn replaced(expr: Expr) -> Transformed<Expr> {
    let (function, args) = match expr {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::StringConcat, right }) => {
            (&*concatenation::FUNCTION, vec![*left, *right])
        }
        Expr::ScalarFunction(ScalarFunction { func, args }) => match bounded(func.name()) {
            Some(function) if *function != func => (function, args),
            _ => return Transformed::no(Expr::ScalarFunction(ScalarFunction { func, args })),
        },
        other => return Transformed::no(other),
    };
    Transformed::yes(Expr::ScalarFunction(ScalarFunction::new_udf(Arc::clone(function), args)))
}
