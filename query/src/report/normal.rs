//! The types of a report's table: those that Delta has, whatever the engine computed with.

use crate::answer::Answer;
use crate::error::{QueryError, QueryErrorKind};
use arrow::array::RecordBatch;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use millstream_model::column::{check_column_name, fold_column_name};
use std::collections::HashSet;
use std::sync::Arc;

/// The columns of the report's table.
pub(super) fn schema(found: &Schema) -> Result<SchemaRef, QueryError> {
    let mut taken = HashSet::new();
    let mut fields = Vec::with_capacity(found.fields().len());
    for field in found.fields() {
        let name = field.name();
        check_column_name(name).map_err(|reason| {
            refused(format!("{name:?} cannot be the name of a report's column: {reason}"))
                .hint("name it: … as total")
        })?;
        if !taken.insert(fold_column_name(name)) {
            return Err(refused(format!(
                "the report has two columns that are named {name}, or differ only by case"
            )));
        }
        let kind = kind(field.data_type()).ok_or_else(|| {
            refused(format!(
                "the column {name} is of a type that a report's table cannot have: {}",
                field.data_type()
            ))
            .hint("cast it, for example to varchar or double")
        })?;
        fields.push(Field::new(name, kind, true));
    }
    Ok(Arc::new(Schema::new(fields)))
}

/// Whether the column is there and can split files: only a date can, so that no text from outside becomes part of a path.
pub(super) fn check_partition(schema: &Schema, column: &str) -> Result<(), QueryError> {
    let Some((_, field)) = schema.column_with_name(column) else {
        let names: Vec<_> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        return Err(refused(format!("the report has no column {column} to be partitioned by"))
            .hint(format!("columns: {}", names.join(", "))));
    };
    match field.data_type() {
        DataType::Date32 => Ok(()),
        kind => {
            Err(refused(format!("the report cannot be partitioned by {column}, which is of the type {kind}"))
                .hint("partition by a date: the source's own `date` is best"))
        }
    }
}

fn refused(message: String) -> QueryError {
    QueryError::new(QueryErrorKind::Meaning, message)
}

fn kind(found: &DataType) -> Option<DataType> {
    Some(match found {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => DataType::Utf8,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            DataType::Binary
        }
        DataType::Dictionary(_, value) => return kind(value),
        DataType::RunEndEncoded(_, value) => return kind(value.data_type()),
        DataType::Boolean | DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => {
            found.clone()
        }
        DataType::Float32 | DataType::Float64 => found.clone(),
        DataType::UInt8 => DataType::Int16,
        DataType::UInt16 => DataType::Int32,
        DataType::UInt32 | DataType::UInt64 => DataType::Int64,
        DataType::Float16 => DataType::Float32,
        DataType::Decimal32(..)
        | DataType::Decimal64(..)
        | DataType::Decimal128(..)
        | DataType::Decimal256(..) => DataType::Float64,
        DataType::Date32 | DataType::Date64 => DataType::Date32,
        DataType::Timestamp(..) => DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::from("UTC"))),
        _ => return None,
    })
}

/// The answer with its columns cast; a value that does not fit (an unsigned number beyond 2^63) is an error, not null.
pub(super) fn normalised(answer: Answer, schema: SchemaRef) -> Result<Answer, QueryError> {
    let found = answer.schema();
    let names =
        |schema: &Schema| schema.fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>();
    if names(&found) != names(&schema) || self::schema(&found)? != schema {
        return Err(refused("the report's columns are no longer those that were planned".to_owned())
            .hint("the columns of a source have changed; plan the report again"));
    }
    let target = Arc::clone(&schema);
    Ok(answer.mapped(schema, move |batch| cast_to(&batch, &target)))
}

fn cast_to(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    let columns = batch.columns().iter().zip(schema.fields());
    let columns = columns.map(|(column, field)| cast_with_options(column, field.data_type(), &strict));
    RecordBatch::try_new(Arc::clone(schema), columns.collect::<Result<_, _>>()?)
}
