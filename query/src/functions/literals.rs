//! Structs and maps that are written with brackets. The engine plans its own functions for them, and only while they are planned can be seen how many fields they would
//! have.

use super::bounded;
use datafusion::common::DFSchema;
use datafusion::error::Result;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawDictionaryExpr};

/// Plans them with functions that have limits.
#[derive(Debug)]
pub(crate) struct BoundedLiterals;

impl ExprPlanner for BoundedLiterals {
    fn plan_dictionary_literal(
        &self,
        expr: RawDictionaryExpr,
        _: &DFSchema,
    ) -> Result<PlannerResult<RawDictionaryExpr>> {
        let Some(function) = bounded("named_struct") else { return Ok(PlannerResult::Original(expr)) };
        let pairs = expr.keys.into_iter().zip(expr.values);
        Ok(PlannerResult::Planned(function.call(pairs.flat_map(|(key, value)| [key, value]).collect())))
    }

    fn plan_struct_literal(&self, args: Vec<Expr>, is_named: bool) -> Result<PlannerResult<Vec<Expr>>> {
        Ok(match bounded(if is_named { "named_struct" } else { "struct" }) {
            Some(function) => PlannerResult::Planned(function.call(args)),
            None => PlannerResult::Original(args),
        })
    }

    fn plan_make_map(&self, args: Vec<Expr>) -> Result<PlannerResult<Vec<Expr>>> {
        match (bounded("make_array"), bounded("map")) {
            (Some(list), Some(map)) if args.len().is_multiple_of(2) => {
                let (keys, values) =
                    args.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).unzip();
                Ok(PlannerResult::Planned(map.call(vec![list.call(keys), list.call(values)])))
            }
            _ => Ok(PlannerResult::Original(args)),
        }
    }
}
