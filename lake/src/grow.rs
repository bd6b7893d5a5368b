//! How the columns of a table grow: new ones come, none leaves, none changes.

use arrow::datatypes::{Schema, SchemaRef};
use millstream_model::column::{fold_column_name, reserved};
use std::collections::HashMap;
use std::sync::Arc;

/// Why rows of these columns cannot become rows of the table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GrowError {
    /// A column's name differs only by case from one of the table's.
    #[error("the column {column} differs only by case from the table's {in_table}")]
    Case {
        /// The new column.
        column: String,
        /// The table's.
        in_table: String,
    },
    /// A column has another type than in the table.
    #[error("the column {column} is {in_table} in the table, and not {wanted}")]
    Type {
        /// The column.
        column: String,
        /// Its type in the table.
        in_table: String,
        /// Its type in the rows.
        wanted: String,
    },
}

/// The table's columns and those that the rows have beside them; `None` if there are none. A column never leaves a table and never changes its type.
///
/// # Errors
/// If a column of the rows contradicts one of the table.
pub fn grow(columns: &SchemaRef, wanted: &Schema) -> Result<Option<SchemaRef>, GrowError> {
    let known: HashMap<String, _> =
        columns.fields().iter().map(|field| (fold_column_name(field.name()), field)).collect();
    let mut new = Vec::new();
    for field in wanted.fields() {
        let column = || field.name().clone();
        match known.get(&fold_column_name(field.name())) {
            Some(known) if known.name() != field.name() => {
                return Err(GrowError::Case { column: column(), in_table: known.name().clone() });
            }
            Some(known) if known.data_type() == field.data_type() => {}
            Some(known) => {
                let (in_table, wanted) = (known.data_type().to_string(), field.data_type().to_string());
                return Err(GrowError::Type { column: column(), in_table, wanted });
            }
            None => new.push(Arc::clone(field)),
        }
    }
    if new.is_empty() {
        return Ok(None);
    }
    let (mut fields, extra): (Vec<_>, Vec<_>) =
        columns.fields().iter().cloned().partition(|field| field.name() != reserved::EXTRA);
    fields.extend(new);
    fields.extend(extra);
    Ok(Some(Arc::new(Schema::new(fields))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::{DataType, Field};

    fn schema(fields: &[(&str, DataType)]) -> SchemaRef {
        Arc::new(Schema::new(
            fields.iter().map(|(name, kind)| Field::new(*name, kind.clone(), true)).collect::<Vec<_>>(),
        ))
    }

    #[test]
    fn columns_only_ever_come_and_extra_stays_last() {
        let table = schema(&[("ts", DataType::Int64), ("old", DataType::Utf8), ("_extra", DataType::Utf8)]);
        let wanted =
            schema(&[("ts", DataType::Int64), ("new", DataType::Float64), ("_extra", DataType::Utf8)]);
        let grown = grow(&table, &wanted).unwrap().unwrap();
        let names: Vec<_> = grown.fields().iter().map(|field| field.name().as_str()).collect();
        assert_eq!(names, ["ts", "old", "new", "_extra"]);
        assert_eq!(grow(&grown, &wanted).unwrap(), None);
    }

    #[test]
    fn a_column_of_another_type_or_case_is_refused() {
        let error = grow(&schema(&[("a", DataType::Utf8)]), &schema(&[("a", DataType::Float64)]));
        assert!(matches!(error, Err(GrowError::Type { column, .. }) if column == "a"));
        let error = grow(&schema(&[("a", DataType::Utf8)]), &schema(&[("A", DataType::Utf8)]));
        assert!(matches!(error, Err(GrowError::Case { column, .. }) if column == "A"));
    }
}
