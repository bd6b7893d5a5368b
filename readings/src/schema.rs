//! What the fields of a stream's readings are known to be, and the schema of its table.

use crate::transform::{Transform, TransformError};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use millstream_model::column::{Column, ColumnType, fold_column_name, reserved};
use millstream_model::fault::Fault;
use millstream_model::stream::Stream;
use millstream_model::topic;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use thiserror::Error;

/// The columns of a stream's own: those that are declared, those that the topic names, then those that were learned, in the order they were first seen.
///
/// It is kept as JSON in the table's configuration. A column is never taken out and never changes its type: there are files that have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputSchema {
    columns: Vec<Column>,
}

/// The form in which it is kept.
#[derive(Serialize, Deserialize)]
struct Kept {
    columns: Vec<Column>,
}

/// Why a kept schema does not go with the stream's definition.
#[derive(Debug, Error)]
pub enum SchemaError {
    /// The text is not what [`InputSchema::to_json`] wrote.
    #[error("the schema kept with the table of stream {stream} cannot be read")]
    Unreadable {
        /// The stream.
        stream: String,
        /// The reader's complaint.
        source: serde_json::Error,
    },
    /// A column was declared with another type than it has in the table.
    #[error(
        "column {column} is declared {declared}, but the table of stream {stream} has it as {kept}: declare it {kept}, or send the field by another name"
    )]
    TypeChanged {
        /// The stream.
        stream: String,
        /// The column.
        column: String,
        /// What the configuration says.
        declared: ColumnType,
        /// What the table has.
        kept: ColumnType,
    },
    /// A column was declared whose name differs only by case from one of the table's.
    #[error(
        "column {declared} is declared, but the table of stream {stream} has {kept}, which differs only by case"
    )]
    CaseChanged {
        /// The stream.
        stream: String,
        /// The name that the configuration has.
        declared: String,
        /// The name that the table has.
        kept: String,
    },
}

impl SchemaError {
    /// A person must change the configuration.
    #[must_use]
    pub fn fault(&self) -> Fault {
        Fault::Stop
    }
}

impl InputSchema {
    /// What is known before the first message: the declared columns, then the named levels of the stream's topics, which are text unless declared otherwise.
    #[must_use]
    pub fn declared(stream: &Stream) -> Self {
        let mut schema = Self { columns: stream.columns.clone() };
        for name in captures(stream) {
            if schema.find_folded(name).is_none() {
                schema.columns.push(Column {
                    name: name.to_owned(),
                    kind: ColumnType::String,
                    required: false,
                });
            }
        }
        schema
    }

    /// The schema as it was kept, grown by what has been declared since. What is required is as declared now.
    ///
    /// # Errors
    /// If the text is unreadable, or a declaration contradicts what the table has.
    pub fn restore(stream: &Stream, json: &str) -> Result<Self, SchemaError> {
        let name = || stream.name.to_string();
        let kept: Kept = serde_json::from_str(json)
            .map_err(|source| SchemaError::Unreadable { stream: name(), source })?;
        let mut schema = Self { columns: kept.columns };
        for column in &mut schema.columns {
            column.required = false;
        }
        for declared in &stream.columns {
            let Some(place) = schema.find_folded(&declared.name) else {
                schema.columns.push(declared.clone());
                continue;
            };
            let column = &mut schema.columns[place];
            if column.name != declared.name {
                let (declared, kept) = (declared.name.clone(), column.name.clone());
                return Err(SchemaError::CaseChanged { stream: name(), declared, kept });
            }
            if column.kind != declared.kind {
                let (column, kept) = (declared.name.clone(), column.kind);
                return Err(SchemaError::TypeChanged {
                    stream: name(),
                    column,
                    declared: declared.kind,
                    kept,
                });
            }
            column.required = declared.required;
        }
        for captured in Self::declared(stream).columns {
            if schema.find_folded(&captured.name).is_none() {
                schema.columns.push(captured);
            }
        }
        Ok(schema)
    }

    /// The form in which it is kept with the table.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::json!({ "columns": self.columns }).to_string()
    }

    /// The columns, in order.
    #[must_use]
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// This schema, grown by the columns that `other` has beside it; `None` where both contradict each other, or would have more columns together than a decoder
    /// that had learned them all by itself: then what was decoded with `other` is to be decoded anew with this one.
    #[must_use]
    pub fn joined(&self, other: &Self, limit: usize) -> Option<Self> {
        let mut joined = self.clone();
        for column in &other.columns {
            match self.find_folded(&column.name).map(|place| &self.columns[place]) {
                Some(known) if known.name == column.name && known.kind == column.kind => {}
                Some(_) => return None,
                None => joined.columns.push(Column { required: false, ..column.clone() }),
            }
        }
        (joined.columns.len() <= limit || joined.columns.len() == self.columns.len()).then_some(joined)
    }

    pub(crate) fn push(&mut self, column: Column) {
        self.columns.push(column);
    }

    pub(crate) fn truncate(&mut self, columns: usize) {
        self.columns.truncate(columns);
    }

    /// The schema of `input`, over which the transform is written: also the table's, where there is no transform.
    pub(crate) fn to_arrow(&self) -> SchemaRef {
        let own = self.columns.iter().map(|column| Field::new(&column.name, arrow_type(column.kind), true));
        with_reserved(own)
    }

    fn find_folded(&self, name: &str) -> Option<usize> {
        let folded = fold_column_name(name);
        self.columns.iter().position(|column| fold_column_name(&column.name) == folded)
    }
}

/// The names of the topic's levels that become columns. A reserved name does not: the level stands in `_topic` anyway.
pub(crate) fn captures(stream: &Stream) -> impl Iterator<Item = &str> {
    let names = stream.topics.iter().flat_map(|pattern| pattern.names());
    names.filter(|name| *name != topic::DEVICE_ID && !reserved::is_reserved(name))
}

/// The schema of the stream's table: [`reserved::LEADING`], then the reading's own fields, or the outputs of the transform, then `_extra`.
///
/// `transform` saves compiling it again; it must have been compiled for this `input`. Without it the stream's own is compiled, if it has one.
///
/// # Errors
/// If the stream's transform cannot be compiled for this `input`.
pub fn table_schema(
    stream: &Stream,
    transform: Option<&Transform>,
    input: &InputSchema,
) -> Result<SchemaRef, TransformError> {
    match (transform, &stream.transform) {
        (Some(transform), _) => Ok(transform.table_schema()),
        (None, Some(sql)) => Ok(Transform::compile(sql, input)?.table_schema()),
        (None, None) => Ok(input.to_arrow()),
    }
}

/// Own fields with the reserved columns around them.
pub(crate) fn with_reserved(own: impl Iterator<Item = Field>) -> SchemaRef {
    let utf8 = DataType::Utf8;
    let leading = [
        instant(),
        utf8.clone(),
        DataType::Int32,
        DataType::Int64,
        DataType::Int32,
        instant(),
        utf8.clone(),
        DataType::Date32,
    ];
    let mut fields: Vec<Field> =
        reserved::LEADING.iter().zip(leading).map(|(name, kind)| Field::new(*name, kind, true)).collect();
    fields.extend(own);
    fields.push(Field::new(reserved::EXTRA, utf8, true));
    Arc::new(Schema::new(fields))
}

/// The type of every time in a table.
pub(crate) fn instant() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// The type that a table has for a field of this type.
pub(crate) fn arrow_type(kind: ColumnType) -> DataType {
    match kind {
        ColumnType::Double => DataType::Float64,
        ColumnType::Boolean => DataType::Boolean,
        ColumnType::String => DataType::Utf8,
        ColumnType::Long => DataType::Int64,
        ColumnType::Timestamp => instant(),
    }
}

/// The type of field that a column of a table can be filled from; `None` where there is none.
pub(crate) fn column_type(kind: &DataType) -> Option<ColumnType> {
    ColumnType::ALL.into_iter().find(|column| arrow_type(*column) == *kind)
}
