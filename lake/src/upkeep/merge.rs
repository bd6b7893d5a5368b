//! Several files become one: their rows, merged by device and time, with nulls where a file has not a column yet.
//!
//! Each file has its rows in that order already, so they are merged as they are read. In memory are at most the files as they lie in the store (together no larger
//! than one full file), a page of every column of each, some rows of each ([`DECODED_BYTES`], however wide they are), and one row group as it is written.

mod source;

use super::choose::Group;
use super::tags::united;
use crate::table::Table;
use crate::write::Inflow;
use crate::{DataFile, LakeError, NewFile, Snapshot, WriteOptions};
use arrow::array::{Array, ArrayRef, RecordBatch, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, UnboundedMemoryPool};
use datafusion::physical_expr::expressions::col;
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion::physical_plan::SendableRecordBatchStream;
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet};
use datafusion::physical_plan::sorts::streaming_merge::StreamingMergeBuilder;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{StreamExt, TryStreamExt, stream};
use parquet::arrow::async_reader::ParquetRecordBatchStreamBuilder;
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use source::Source;
use std::collections::HashSet;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// So many files are asked for at a time: a store of many requests at once answers none of them soon.
const READ_AT_ONCE: usize = 16;

/// Rows that are read of each file at a time: few, since many files are open.
const READ_ROWS: u64 = 1024;

/// Rows that are written at a time.
const MERGED_ROWS: u64 = 8192;

/// Rows that are decoded at a time take about so many bytes, of all files together. Of wide rows there are fewer at a time.
const DECODED_BYTES: u64 = 64 << 20;

/// Merged rows that are handed over at a time take about so many bytes; a few of such batches are on their way to the encoder.
const MERGED_BYTES: u64 = 8 << 20;

type Reader = ParquetRecordBatchStreamBuilder<Source>;

/// Writes the file that takes the place of the group's; nobody sees it until it is committed. `None` if `stop` was cancelled meanwhile: then nothing is left of it.
///
/// # Errors
/// `Unread` when a file cannot be read; `Store`, `Parquet`, `Rows` when the new one cannot be written; `Refused` when the rows that came out are not as many as went in.
pub(super) async fn merge(
    table: &Table,
    snapshot: &Snapshot,
    group: &Group,
    stop: &CancellationToken,
) -> Result<Option<NewFile>, LakeError> {
    let Some(first) = group.files.first() else { return Ok(None) };
    let schema = stored_columns(snapshot);
    let turns = Arc::new(Semaphore::new(READ_AT_ONCE));
    let opening: Vec<_> = group.files.iter().map(|file| open(table, file, &turns)).collect();
    let opened: Vec<Reader> = stream::iter(opening).buffered(READ_AT_ONCE).try_collect().await?;
    let unbounded = unbounded(&schema, opened.iter().map(|reader| reader.metadata().as_ref()));
    let options =
        WriteOptions { tags: united(&group.files.iter().collect::<Vec<_>>()), ..WriteOptions::default() };
    let steps = Steps::of(opened.iter().map(|reader| reader.metadata().as_ref()));
    let named = group.files.iter().zip(opened);
    let streams = named.map(|(file, reader)| rows_of(table, &file.path, reader, &schema, steps.read));
    let streams = streams.collect::<Result<Vec<_>, _>>()?;
    let merged = merged(streams, &schema, &options, steps.merged);
    let merged = merged.map_err(|source| unmerged(table, source))?;
    let (merging, told) = (table.clone(), stop.clone());
    let rows = merged.map(move |rows| match told.is_cancelled() {
        // Whoever stops ends it as a failure does: what was uploaded is taken back.
        true => Err(stopped(&merging)),
        false => rows.map_err(|source| unmerged(&merging, source)),
    });
    let inflow = Inflow {
        partition_values: first.partition_values.clone(),
        schema: Arc::clone(&schema),
        unbounded,
        rows,
    };
    let file = match table.write_inflow(inflow, &options).await {
        Err(_) if stop.is_cancelled() => return Ok(None),
        written => written?,
    };
    let expected = group.files.iter().map(|file| file.rows).sum::<Option<u64>>();
    if expected.is_some_and(|expected| expected != file.rows) {
        let reason =
            format!("{} files have {expected:?} rows, and {} came out", group.files.len(), file.rows);
        return Err(LakeError::Refused { what: "compaction", table: table.name().to_owned(), reason });
    }
    Ok(Some(file))
}

/// The table's columns as its files have them: without those that say which partition it is.
fn stored_columns(snapshot: &Snapshot) -> SchemaRef {
    let schema = snapshot.schema();
    let stored = schema.fields().iter().filter(|field| !snapshot.partition_by().contains(field.name()));
    Arc::new(Schema::new(stored.cloned().collect::<Vec<_>>()))
}

async fn open(table: &Table, file: &DataFile, turns: &Arc<Semaphore>) -> Result<Reader, LakeError> {
    let source = Source::new(table, &file.path, file.size, turns)?;
    ParquetRecordBatchStreamBuilder::new(source).await.map_err(|source| unread(table, &file.path, source))
}

fn unread(table: &Table, path: &str, source: ParquetError) -> LakeError {
    LakeError::Unread { table: table.name().to_owned(), path: path.to_owned(), source }
}

/// How many rows are in memory at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Steps {
    /// Of each file.
    read: usize,
    /// Of what is merged.
    merged: usize,
}

impl Steps {
    fn of<'m>(files: impl Iterator<Item = &'m ParquetMetaData>) -> Self {
        let widths: Vec<u64> = files.map(width).collect();
        let fitting = |bytes: u64, width: u64, most: u64| {
            usize::try_from((bytes / width.max(1)).clamp(1, most)).unwrap_or(1)
        };
        let (all, widest): (u64, u64) = (widths.iter().sum(), widths.iter().copied().max().unwrap_or(0));
        Self {
            read: fitting(DECODED_BYTES, all, READ_ROWS),
            merged: fitting(MERGED_BYTES, widest, MERGED_ROWS),
        }
    }
}

/// How many bytes a row of the file takes, once it is decoded, on average.
fn width(file: &ParquetMetaData) -> u64 {
    let columns = file.row_groups().iter().flat_map(|group| group.columns());
    let bytes: i64 = columns
        .map(|column| {
            // Eight for each value, or where its text begins; and the text, which may be many times smaller in the file.
            let texts = column.unencoded_byte_array_data_bytes().unwrap_or(0);
            column.num_values().saturating_mul(8).saturating_add(texts)
        })
        .fold(0, i64::saturating_add);
    u64::try_from(bytes / file.file_metadata().num_rows().max(1)).unwrap_or(0)
}

/// Columns of floats of which a file does not say between what its values lie: there may be NaN in it.
fn unbounded<'m>(schema: &Schema, files: impl Iterator<Item = &'m ParquetMetaData>) -> HashSet<String> {
    let is_float =
        |name: &str| schema.field_with_name(name).is_ok_and(|field| field.data_type().is_floating());
    let mut unbounded = HashSet::new();
    for column in files.flat_map(|file| file.row_groups()).flat_map(|group| group.columns()) {
        let [name] = column.column_path().parts() else { continue };
        let bounded = column.statistics().is_some_and(|known| {
            known.min_bytes_opt().is_some()
                || known.null_count_opt() == u64::try_from(column.num_values()).ok()
        });
        if is_float(name) && !bounded {
            unbounded.insert(name.clone());
        }
    }
    unbounded
}

/// The rows of a file, with the table's columns, so many at a time.
fn rows_of(
    table: &Table,
    path: &str,
    reader: Reader,
    schema: &SchemaRef,
    step: usize,
) -> Result<SendableRecordBatchStream, LakeError> {
    let rows = reader.with_batch_size(step).build().map_err(|source| unread(table, path, source))?;
    let (table, path, columns) = (table.clone(), path.to_owned(), Arc::clone(schema));
    let rows = rows.map(move |batch| {
        let shaped = batch.and_then(|batch| Ok(shaped(&batch, &columns)?));
        shaped.map_err(|source| DataFusionError::External(Box::new(unread(&table, &path, source))))
    });
    Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(schema), rows)))
}

fn shaped(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let columns = schema.fields().iter().map(|field| match batch.column_by_name(field.name()) {
        None => Ok(new_null_array(field.data_type(), batch.num_rows())),
        Some(column) if column.data_type() == field.data_type() => Ok(Arc::clone(column)),
        Some(column) => retyped(column, field.data_type()),
    });
    RecordBatch::try_new(Arc::clone(schema), columns.collect::<Result<_, _>>()?)
}

/// The same values in another form of the same type, such as a time zone that is written otherwise.
fn retyped(column: &ArrayRef, kind: &DataType) -> Result<ArrayRef, ArrowError> {
    let cast = cast(column, kind)?;
    if cast.null_count() != column.null_count() {
        let what = format!("{} does not go into {kind} as it is", column.data_type());
        return Err(ArrowError::CastError(what));
    }
    Ok(cast)
}

/// All rows in the order in which each file has its own.
fn merged(
    streams: Vec<SendableRecordBatchStream>,
    schema: &SchemaRef,
    options: &WriteOptions,
    step: usize,
) -> Result<SendableRecordBatchStream, DataFusionError> {
    let keys = options.sort_by.iter().filter(|column| schema.field_with_name(column).is_ok());
    let keys: Vec<PhysicalSortExpr> = keys
        .map(|column| col(column, schema).map(PhysicalSortExpr::new_default))
        .collect::<Result<_, _>>()?;
    let Some(order) = LexOrdering::new(keys) else {
        let rows = stream::iter(streams).flatten();
        return Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(schema), rows)));
    };
    // Bounded by what is merged at once, not by a pool: see above.
    let pool: Arc<dyn MemoryPool> = Arc::new(UnboundedMemoryPool::default());
    StreamingMergeBuilder::new()
        .with_streams(streams)
        .with_schema(Arc::clone(schema))
        .with_expressions(&order)
        .with_metrics(BaselineMetrics::new(&ExecutionPlanMetricsSet::new(), 0))
        .with_batch_size(step)
        .with_reservation(MemoryConsumer::new("compaction").register(&pool))
        .build()
}

/// What the engine says is mostly what a reader said.
fn unmerged(table: &Table, source: DataFusionError) -> LakeError {
    let rows = |source| LakeError::Rows { table: table.name().to_owned(), source };
    match source {
        DataFusionError::External(source) => match source.downcast() {
            Ok(unread) => *unread,
            Err(source) => rows(ArrowError::ExternalError(source)),
        },
        DataFusionError::ArrowError(source, _) => rows(*source),
        other => rows(ArrowError::ExternalError(Box::new(other))),
    }
}

fn stopped(table: &Table) -> LakeError {
    let reason = "it was stopped".to_owned();
    LakeError::Refused { what: "compaction", table: table.name().to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Float64Array, StringArray};
    use parquet::arrow::ArrowWriter;

    fn written(columns: Vec<(String, ArrayRef)>) -> ParquetMetaData {
        let rows = RecordBatch::try_from_iter(columns).unwrap();
        let mut writer = ArrowWriter::try_new(Vec::new(), rows.schema(), None).unwrap();
        writer.write(&rows).unwrap();
        writer.finish().unwrap()
    }

    /// However wide rows are, and however small the files are in which they lie, what is decoded of as many files as are merged at once stays within its bound.
    #[test]
    fn of_wide_rows_fewer_are_in_memory_at_a_time() {
        let check = |columns: Vec<(String, ArrayRef)>, bytes: u64, expected: Steps| {
            let metadata = written(columns);
            assert!(width(&metadata).abs_diff(bytes) <= 8, "{} bytes", width(&metadata));
            let steps = Steps::of(std::iter::repeat_n(&metadata, 256));
            assert_eq!(steps, expected, "{bytes} bytes a row");
        };
        let number: ArrayRef = Arc::new(Float64Array::from(vec![0.5; 4096]));
        let numbers =
            |count: usize| (0..count).map(|place| (format!("c{place}"), Arc::clone(&number))).collect();
        check(numbers(8), 64, Steps { read: 1024, merged: 8192 });
        check(numbers(256), 2048, Steps { read: 128, merged: 4096 });
        // In the file it is there once.
        let text: ArrayRef = Arc::new(StringArray::from(vec!["x".repeat(64 << 10); 64]));
        check(vec![("text".to_owned(), text)], 64 << 10, Steps { read: 3, merged: 127 });
        let empty: ArrayRef = Arc::new(Float64Array::from(Vec::<f64>::new()));
        check(vec![("none".to_owned(), empty)], 0, Steps { read: 1024, merged: 8192 });
    }
}
