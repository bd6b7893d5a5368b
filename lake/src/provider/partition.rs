//! The partition columns: their values stand in the commit, one for a whole file.

use crate::DataFile;
use arrow::array::{Array, AsArray, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, Fields, Schema};
use datafusion::catalog::Session;
use datafusion::common::tree_node::TreeNode;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::Result;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::utils::conjunction;
use std::sync::Arc;

/// The file's value of a partition column. Delta writes null as nothing or as empty text.
pub(super) fn value(file: &DataFile, field: &Field) -> Result<ScalarValue> {
    match file.partition_values.get(field.name()).and_then(Option::as_ref).filter(|text| !text.is_empty()) {
        Some(text) => ScalarValue::try_from_string(text.clone(), field.data_type()),
        None => ScalarValue::try_new_null(field.data_type()),
    }
}

/// Whether a filter is true or false for whole files.
pub(super) fn decides(columns: &Fields, filter: &Expr) -> bool {
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
        && used.iter().all(|column| columns.iter().any(|field| *field.name() == column.name))
        && !filter.is_volatile()
        && matches!(filter.exists(foreign), Ok(false))
}

/// For each file whether all the filters, which decide, are true for it.
pub(super) fn matching(
    state: &dyn Session,
    columns: &Fields,
    files: &[DataFile],
    filters: &[Expr],
) -> Result<Vec<bool>> {
    let Some(filter) = conjunction(filters.iter().cloned()).filter(|_| !files.is_empty()) else {
        return Ok(vec![true; files.len()]);
    };
    let schema = Arc::new(Schema::new(columns.clone()));
    let values = columns.iter().map(|field| ScalarValue::iter_to_array(values(files, field)?));
    let options = RecordBatchOptions::new().with_row_count(Some(files.len()));
    let batch =
        RecordBatch::try_new_with_options(Arc::clone(&schema), values.collect::<Result<_>>()?, &options)?;
    let filter = state.create_physical_expr(filter, &DFSchema::try_from(schema)?)?;
    let answers = filter.evaluate(&batch)?.into_array(files.len())?;
    let answers: &BooleanArray = answers.as_boolean();
    Ok((0..files.len()).map(|row| answers.is_valid(row) && answers.value(row)).collect())
}

fn values(files: &[DataFile], field: &Field) -> Result<Vec<ScalarValue>> {
    files.iter().map(|file| value(file, field)).collect()
}
