//! The outputs of a transform as columns of the table.

use super::TransformError;
use super::plan::Output;
use crate::schema::instant;
use arrow::datatypes::{DataType, Field};
use millstream_model::column::{check_column_name, fold_column_name, reserved};
use std::collections::HashSet;

/// The table's own columns, and for each which output it is. Reserved columns that are handed on unchanged are left out: they are there anyway.
///
/// # Errors
/// If an output cannot be a column.
pub(super) fn outputs(columns: &[Output]) -> Result<(Vec<usize>, Vec<Field>), TransformError> {
    let mut names = HashSet::new();
    let (mut places, mut fields) = (Vec::new(), Vec::new());
    for (place, column) in columns.iter().enumerate() {
        let name = &column.name;
        if check_column_name(name).is_err() {
            return Err(TransformError::BadName(name.clone()));
        }
        if !names.insert(fold_column_name(name)) {
            return Err(TransformError::Twice(name.clone()));
        }
        if reserved::is_reserved(name) {
            if column.origin.as_ref() == Some(name) {
                continue;
            }
            return Err(TransformError::Reserved(name.clone()));
        }
        let kind = table_type(&column.kind)
            .ok_or_else(|| TransformError::Type { name: name.clone(), found: column.kind.to_string() })?;
        places.push(place);
        fields.push(Field::new(name, kind, true));
    }
    Ok((places, fields))
}

/// The type that the table has for what an expression gives; `None` where there is none that keeps every value.
fn table_type(kind: &DataType) -> Option<DataType> {
    let kind = match kind {
        DataType::Boolean => DataType::Boolean,
        DataType::Float16 | DataType::Float32 | DataType::Float64 => DataType::Float64,
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::UInt8 | DataType::UInt16 => {
            DataType::Int32
        }
        // An unsigned number beyond the range fails when it comes.
        DataType::Int64 | DataType::UInt32 | DataType::UInt64 => DataType::Int64,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::Dictionary(_, values) => return table_type(values),
        DataType::Date32 | DataType::Date64 => DataType::Date32,
        DataType::Timestamp(..) => instant(),
        _ => return None,
    };
    Some(kind)
}
