//! How a file is encoded.

use super::WriteOptions;
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float32Type, Float64Type, Schema, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::Result;
use parquet::file::metadata::SortingColumn;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use std::collections::HashSet;
use std::io::Write;
use std::sync::Arc;

/// So many rows are handed to the encoder at once: it cuts pages at such steps only.
const STEP_ROWS: usize = 8192;

/// A file that is being encoded.
pub(super) struct Encoder<W: Write + Send>(ArrowWriter<W>);

impl<W: Write + Send> Encoder<W> {
    /// A file of these columns. Those that `unbounded` names may hold NaN.
    pub(super) fn new(
        schema: &SchemaRef,
        unbounded: &HashSet<String>,
        options: &WriteOptions,
        out: W,
    ) -> Result<Self> {
        let properties = properties(schema, unbounded, options)?;
        ArrowWriter::try_new(out, Arc::clone(schema), Some(properties)).map(Self)
    }

    /// Adds rows.
    pub(super) fn add(&mut self, rows: &RecordBatch) -> Result<()> {
        let mut done = 0;
        while done < rows.num_rows() {
            let step = STEP_ROWS.min(rows.num_rows() - done);
            self.0.write(&rows.slice(done, step))?;
            done += step;
        }
        Ok(())
    }

    /// Writes what is left, and the footer.
    pub(super) fn finish(self) -> Result<()> {
        self.0.close().map(|_| ())
    }
}

/// Encodes the rows to `out`.
pub(super) fn encode<W: Write + Send>(rows: &RecordBatch, options: &WriteOptions, out: W) -> Result<()> {
    let schema = rows.schema();
    let columns = schema.fields().iter().zip(rows.columns());
    let unbounded = columns.filter(|(_, values)| has_nan(values)).map(|(field, _)| field.name().clone());
    let mut encoder = Encoder::new(&schema, &unbounded.collect(), options, out)?;
    encoder.add(rows)?;
    encoder.finish()
}

fn properties(
    schema: &Schema,
    unbounded: &HashSet<String>,
    options: &WriteOptions,
) -> Result<WriterProperties> {
    let mut builder = WriterProperties::builder()
        .set_created_by(concat!("millstream ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
        .set_dictionary_enabled(true)
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_max_row_group_row_count(Some(options.row_group_rows));
    for field in schema.fields() {
        // A path of one part: a dot in a name is no nesting.
        let column = ColumnPath::new(vec![field.name().clone()]);
        if is_integral(field.data_type()) {
            builder = builder
                .set_column_dictionary_enabled(column.clone(), false)
                .set_column_encoding(column.clone(), Encoding::DELTA_BINARY_PACKED);
        }
        if options.bloom.contains(field.name()) {
            builder = builder.set_column_bloom_filter_enabled(column.clone(), true);
        }
        // Parquet's bounds leave NaN out, but SQL counts it as the greatest: a reader that skips by them would lose rows.
        if unbounded.contains(field.name()) {
            builder = builder.set_column_statistics_enabled(column, EnabledStatistics::None);
        }
    }
    Ok(builder.set_sorting_columns(sorting(schema, options)).build())
}

fn has_nan(values: &dyn Array) -> bool {
    match values.data_type() {
        DataType::Float64 => values.as_primitive::<Float64Type>().iter().flatten().any(f64::is_nan),
        DataType::Float32 => values.as_primitive::<Float32Type>().iter().flatten().any(f32::is_nan),
        _ => false,
    }
}

fn is_integral(kind: &DataType) -> bool {
    matches!(
        kind,
        DataType::Int8
            | DataType::Int16
            | DataType::Int32
            | DataType::Int64
            | DataType::Date32
            | DataType::Timestamp(..)
    )
}

/// The order, as the file says it. Columns are counted by their leaves, which is the same as by fields only while none is nested.
fn sorting(schema: &Schema, options: &WriteOptions) -> Option<Vec<SortingColumn>> {
    if schema.fields().iter().any(|field| field.data_type().is_nested()) {
        return None;
    }
    let places = options.sort_by.iter().filter_map(|column| schema.index_of(column).ok());
    let columns: Vec<SortingColumn> = places
        .filter_map(|place| i32::try_from(place).ok())
        .map(|column_idx| SortingColumn { column_idx, descending: false, nulls_first: true })
        .collect();
    (!columns.is_empty()).then_some(columns)
}
