//! Rows as bytes of an answer, piece by piece.

use super::accept::Encoding;
use crate::print::{self, Layout, Rows};
use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;
use std::io;
use std::sync::Arc;

/// What one piece is meant to be: small enough that few of them wait for a slow client, large enough that none is mostly framing.
const PIECE_BYTES: usize = 256 << 10;

/// Rows of a piece at least: the size of rows is only estimated, and by buffers that many of them may share.
const PIECE_ROWS_MIN: usize = 64;

/// Writes one answer.
pub(super) enum Encoder {
    Text { rows: Box<dyn Rows + Send>, count: u64 },
    Arrow { writer: Box<StreamWriter<Vec<u8>>>, schema: SchemaRef },
}

impl Encoder {
    pub(super) fn new(encoding: Encoding, schema: &SchemaRef) -> io::Result<Self> {
        match encoding {
            Encoding::Text(format) => {
                Ok(Self::Text { rows: print::rows(format, Layout::default()), count: 0 })
            }
            Encoding::Arrow => {
                let schema = plain_schema(schema);
                let writer = StreamWriter::try_new(Vec::new(), &schema).map_err(unwritable)?;
                Ok(Self::Arrow { writer: Box::new(writer), schema })
            }
        }
    }

    /// What stands before all rows.
    pub(super) fn begin(&mut self, schema: &SchemaRef) -> io::Result<Vec<u8>> {
        match self {
            Self::Text { rows, .. } => {
                let mut out = Vec::new();
                rows.begin(schema, &mut out)?;
                Ok(out)
            }
            Self::Arrow { writer, .. } => Ok(std::mem::take(writer.get_mut())),
        }
    }

    /// Some rows, appended to `out`.
    pub(super) fn write(&mut self, batch: &RecordBatch, out: &mut Vec<u8>) -> io::Result<()> {
        match self {
            Self::Text { rows, count } => {
                *count += batch.num_rows() as u64;
                rows.write(batch, out)
            }
            Self::Arrow { writer, schema } => {
                writer.write(&plain(batch, schema).map_err(unwritable)?).map_err(unwritable)?;
                out.append(writer.get_mut());
                Ok(())
            }
        }
    }

    /// What stands behind all rows, appended to `out`.
    pub(super) fn end(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        match self {
            Self::Text { rows, count } => rows.end(*count, out),
            Self::Arrow { writer, .. } => {
                writer.finish().map_err(unwritable)?;
                out.append(writer.get_mut());
                Ok(())
            }
        }
    }
}

/// The batch cut into pieces of about [`PIECE_BYTES`].
pub(super) fn pieces(batch: &RecordBatch) -> impl Iterator<Item = RecordBatch> {
    let row_bytes = batch.get_array_memory_size() / batch.num_rows().max(1);
    let step = (PIECE_BYTES / row_bytes.max(1)).max(PIECE_ROWS_MIN);
    let all = batch.num_rows();
    (0..all).step_by(step).map(move |from| batch.slice(from, step.min(all - from)))
}

/// Text and bytes as every reader of Arrow knows them: views, which the engine likes to compute with, came to the format late, and drag along what they point into.
fn plain_schema(schema: &Schema) -> SchemaRef {
    let plain = |field: &Arc<Field>| match field.data_type() {
        DataType::Utf8View => Arc::new(field.as_ref().clone().with_data_type(DataType::Utf8)),
        DataType::BinaryView => Arc::new(field.as_ref().clone().with_data_type(DataType::Binary)),
        _ => Arc::clone(field),
    };
    Arc::new(Schema::new(schema.fields().iter().map(plain).collect::<Vec<_>>()))
}

fn plain(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let columns = batch.columns().iter().zip(schema.fields());
    let columns = columns.map(|(column, field)| cast(column, field.data_type()));
    RecordBatch::try_new(Arc::clone(schema), columns.collect::<Result<Vec<ArrayRef>, _>>()?)
}

fn unwritable(error: ArrowError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int64Array, StringArray};

    #[test]
    fn a_batch_is_cut_by_its_size() {
        let check = |text: &str, rows: usize, expected: &[usize]| {
            let columns: Vec<(&str, ArrayRef)> = vec![
                ("n", Arc::new(Int64Array::from_iter_values(0..rows as i64))),
                ("text", Arc::new(StringArray::from_iter_values(std::iter::repeat_n(text, rows)))),
            ];
            let batch = RecordBatch::try_from_iter(columns).unwrap();
            let sizes: Vec<_> = pieces(&batch).map(|piece| piece.num_rows()).collect();
            assert_eq!(sizes.iter().sum::<usize>(), rows);
            assert_eq!(sizes.len(), expected.len(), "{sizes:?}");
            assert!(sizes.iter().zip(expected).all(|(size, least)| size >= least), "{sizes:?}");
        };
        check("", 0, &[]);
        check("x", 8192, &[8192]);
        check(&"x".repeat(100_000), 130, &[64, 64, 2]);
    }
}
