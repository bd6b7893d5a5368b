//! What a scan wants of a system table: which rows, as far as their keys tell, and which columns. What is not wanted is not looked at.

use super::definition::Definition;
use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::datatypes::SchemaRef;
use datafusion::catalog::Session;
use datafusion::common::tree_node::TreeNode;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::Result;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::utils::conjunction;
use datafusion::physical_expr::PhysicalExpr;
use std::collections::HashSet;
use std::sync::Arc;

/// What is wanted.
pub(super) struct Wanted {
    keys: SchemaRef,
    /// What must be true of the keys.
    filter: Option<Arc<dyn PhysicalExpr>>,
    columns: HashSet<&'static str>,
}

impl Wanted {
    pub(super) fn new(
        state: &dyn Session,
        definition: &'static Definition,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
    ) -> Result<Self> {
        let keys = definition.key_schema();
        let decisive = filters.iter().filter(|filter| decides(&keys, filter)).cloned();
        let filter = match conjunction(decisive) {
            Some(filter) => {
                Some(state.create_physical_expr(filter, &DFSchema::try_from(Arc::clone(&keys))?)?)
            }
            None => None,
        };
        let all: Vec<usize> = (0..definition.columns.len()).collect();
        let columns = projection.unwrap_or(&all).iter().map(|&index| definition.columns[index].name);
        Ok(Self { keys, filter, columns: columns.collect() })
    }

    /// Whether one of these columns is read, by the answer or by a filter.
    pub(super) fn reads<const COLUMNS: usize>(&self, columns: [&str; COLUMNS]) -> bool {
        columns.iter().any(|column| self.columns.contains(column))
    }

    /// Whether there may be rows with these keys in the answer.
    pub(super) fn about<const KEYS: usize>(&self, keys: [&str; KEYS]) -> Result<bool> {
        let Some(filter) = &self.filter else { return Ok(true) };
        let arrays = keys.iter().map(|key| ScalarValue::from(*key).to_array());
        let batch = RecordBatch::try_new(Arc::clone(&self.keys), arrays.collect::<Result<_>>()?)?;
        let answer = filter.evaluate(&batch)?.into_array(1)?;
        let answer: &BooleanArray = answer.as_boolean();
        Ok(answer.is_valid(0) && answer.value(0))
    }
}

/// Whether a filter is about the keys alone, and the same for every row that has them.
fn decides(keys: &SchemaRef, filter: &Expr) -> bool {
    let used = filter.column_refs();
    let foreign = |expr: &Expr| {
        Ok(matches!(
            expr,
            Expr::ScalarSubquery(_)
                | Expr::InSubquery(_)
                | Expr::SetComparison(_)
                | Expr::Exists(_)
                | Expr::OuterReferenceColumn(..)
                | Expr::Placeholder(_)
        ))
    };
    !used.is_empty()
        && used.iter().all(|column| keys.field_with_name(&column.name).is_ok())
        && !filter.is_volatile()
        && matches!(filter.exists(foreign), Ok(false))
}
