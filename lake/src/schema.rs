//! Between arrow's schemas and Delta's.

use crate::LakeError;
use arrow::datatypes::{Schema, SchemaRef};
use deltalake_core::kernel::engine::arrow_conversion::{TryIntoArrow, TryIntoKernel};
use deltalake_core::kernel::{Metadata, StructType};
use std::sync::Arc;

/// The columns as Delta knows them.
pub(crate) fn to_delta(table: &str, schema: &Schema) -> Result<StructType, LakeError> {
    schema.try_into_kernel().map_err(|source| LakeError::Rows { table: table.to_owned(), source })
}

/// The columns of a table, for arrow.
pub(crate) fn of_metadata(table: &str, metadata: &Metadata) -> Result<SchemaRef, LakeError> {
    let schema = metadata.parse_schema().map_err(|source| LakeError::Log {
        action: "read the columns of",
        table: table.to_owned(),
        source: Box::new(source.into()),
    })?;
    let schema: Schema =
        (&schema).try_into_arrow().map_err(|source| LakeError::Rows { table: table.to_owned(), source })?;
    Ok(Arc::new(schema))
}
