//! Leaves out files whose statistics prove that no row of theirs passes a filter.

use super::partition;
use crate::DataFile;
use arrow::array::{ArrayRef, BooleanArray, UInt64Array};
use arrow::datatypes::{Field, SchemaRef};
use datafusion::catalog::Session;
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::{Column, DFSchema, ScalarValue};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::error::Result;
use datafusion::logical_expr::Expr;
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use std::collections::HashSet;
use std::sync::Arc;

/// The files that may hold rows for which all filters are true. A filter that statistics cannot judge leaves out none.
pub(super) fn keep<'a>(
    state: &dyn Session,
    schema: &SchemaRef,
    layout: &TableSchema,
    files: Vec<&'a DataFile>,
    filters: &[Expr],
) -> Vec<&'a DataFile> {
    let mut kept = files;
    for filter in filters {
        let known = Known { schema, layout, files: &kept };
        match judged(state, schema, filter, &known) {
            Ok(possible) => {
                let mut possible = possible.into_iter();
                kept.retain(|_| possible.next().unwrap_or(true));
            }
            Err(error) => tracing::debug!(%error, %filter, "statistics cannot judge a filter"),
        }
    }
    kept
}

fn judged(state: &dyn Session, schema: &SchemaRef, filter: &Expr, known: &Known<'_>) -> Result<Vec<bool>> {
    let filter = state.create_physical_expr(filter.clone(), &DFSchema::try_from(Arc::clone(schema))?)?;
    PruningPredicateBuilder::new().with_file_schema(Arc::clone(schema)).try_build(filter)?.prune(known)
}

/// What commits say about some files, a column at a time.
struct Known<'a> {
    schema: &'a SchemaRef,
    layout: &'a TableSchema,
    files: &'a [&'a DataFile],
}

impl Known<'_> {
    fn is_partition(&self, column: &Column) -> bool {
        self.layout.table_partition_cols().iter().any(|field| *field.name() == column.name)
    }

    fn bounds<'f>(
        &'f self,
        column: &Column,
        bound: impl Fn(&'f DataFile) -> Option<&'f ScalarValue>,
    ) -> Option<ArrayRef> {
        let field = self.schema.field_with_name(&column.name).ok()?;
        let value = |file: &&'f DataFile| self.bound(file, column, field, bound(file));
        ScalarValue::iter_to_array(self.files.iter().map(value).collect::<Result<Vec<_>>>().ok()?).ok()
    }

    /// Null where nothing is known.
    fn bound(
        &self,
        file: &DataFile,
        column: &Column,
        field: &Field,
        bound: Option<&ScalarValue>,
    ) -> Result<ScalarValue> {
        match bound {
            _ if self.is_partition(column) => partition::value(file, field),
            Some(bound) => bound.cast_to(field.data_type()),
            None => ScalarValue::try_new_null(field.data_type()),
        }
    }
}

impl PruningStatistics for Known<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bounds(column, |file| file.stats.as_ref()?.min(&column.name))
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bounds(column, |file| file.stats.as_ref()?.max(&column.name))
    }

    fn num_containers(&self) -> usize {
        self.files.len()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        let field = self.schema.field_with_name(&column.name).ok()?;
        let count = |file: &&DataFile| match self.is_partition(column) {
            false => file.stats.as_ref()?.nulls(&column.name),
            true if partition::value(file, field).ok()?.is_null() => file.rows,
            true => Some(0),
        };
        Some(Arc::new(self.files.iter().map(count).collect::<UInt64Array>()))
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        Some(Arc::new(self.files.iter().map(|file| file.rows).collect::<UInt64Array>()))
    }

    /// A file has one value of a partition column, so of it is known whether it is among others. This also judges long lists.
    fn contained(&self, column: &Column, values: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        if !self.is_partition(column) {
            return None;
        }
        let field = self.schema.field_with_name(&column.name).ok()?;
        let among = |file: &&DataFile| {
            let value = partition::value(file, field).ok()?;
            (!value.is_null()).then(|| values.contains(&value))
        };
        Some(self.files.iter().map(among).collect())
    }
}
