//! What is told of a step before it runs: how much its expressions may make of each row.

use super::width::is_narrow;
use crate::functions;
use arrow::datatypes::Schema;
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::physical_expr::expressions::{BinaryExpr, Column, InListExpr, Literal};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use datafusion::physical_plan::ExecutionPlan;
use std::sync::Arc;

/// Of the expressions of one step, or of the heaviest of several.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Weight {
    /// Bytes of constants that may be copied into a row.
    pub(super) constants: usize,
    /// Functions that make large values of small ones.
    pub(super) growing: usize,
    /// Expressions that may have a copy of their row's values as a result.
    pub(super) copies: usize,
}

impl Weight {
    pub(super) fn of(step: &dyn ExecutionPlan) -> Result<Self> {
        let mut weight = Self::default();
        let rows = step.children().first().map_or_else(|| step.schema(), |input| input.schema());
        step.apply_expressions(&mut |expr| expr.apply(|expr| Ok(weight.add(expr, &rows))))?;
        Ok(weight)
    }

    /// The most of each that any step has.
    pub(super) fn of_plan(plan: &Arc<dyn ExecutionPlan>) -> Result<Self> {
        let mut most = Self::default();
        plan.apply(|step| {
            let Self { constants, growing, copies } = Self::of(step.as_ref())?;
            most = Self {
                constants: most.constants.max(constants),
                growing: most.growing.max(growing),
                copies: most.copies.max(copies),
            };
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(most)
    }

    fn add(&mut self, expr: &Arc<dyn PhysicalExpr>, rows: &Schema) -> TreeNodeRecursion {
        if expr.is::<InListExpr>() {
            // What a list is looked through for is never copied.
            return TreeNodeRecursion::Jump;
        }
        if let Some(constant) = expr.downcast_ref::<Literal>() {
            let apart = constant.value().size().saturating_sub(size_of::<ScalarValue>());
            self.constants = self.constants.saturating_add(apart);
        } else if !expr.is::<Column>() && !expr.is::<BinaryExpr>() && may_be_wide(expr, rows) {
            self.copies += 1;
        }
        if let Some(call) = expr.downcast_ref::<ScalarFunctionExpr>()
            && functions::grows(call.fun())
        {
            self.growing += 1;
        }
        TreeNodeRecursion::Continue
    }
}

/// Whether the expression's values may be large. Where its type cannot be told, as above rows of two tables, they may.
fn may_be_wide(expr: &Arc<dyn PhysicalExpr>, rows: &Schema) -> bool {
    expr.data_type(rows).map_or(true, |kind| !is_narrow(&kind))
}
