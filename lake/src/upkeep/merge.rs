//! Several files become one: their rows, merged by device and time, with nulls where a file has not a column yet.
//!
//! Each file has its rows in that order already, so they are merged as they are read. In memory are at most the files as they lie in the store (together no larger
//! than one full file), a page of every column of each, and one row group as it is written: about three times the size of a full file, however many rows there are.

mod source;

use super::choose::Group;
use super::tags::united;
use crate::table::Table;
use crate::write::Inflow;
use crate::{LakeError, NewFile, Snapshot, WriteOptions};
use arrow::array::{Array, ArrayRef, RecordBatch, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Schema, SchemaRef};
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
use parquet::file::metadata::ParquetMetaData;
use source::Source;
use std::collections::HashSet;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// So many files are opened at a time.
const OPENED_AT_ONCE: usize = 8;

/// Rows that are read of each file at a time: few, since many files are open.
const READ_ROWS: usize = 1024;

/// Rows that are written at a time.
const MERGED_ROWS: usize = 8192;

type Reader = ParquetRecordBatchStreamBuilder<Source>;

/// Writes the file that takes the place of the group's; nobody sees it until it is committed. `None` if `stop` was cancelled meanwhile: then nothing is left of it.
///
/// # Errors
/// `Store`, `Parquet`, `Rows` when a file cannot be read or written; `Refused` when the rows that came out are not as many as went in.
pub(super) async fn merge(
    table: &Table,
    snapshot: &Snapshot,
    group: &Group,
    stop: &CancellationToken,
) -> Result<Option<NewFile>, LakeError> {
    let Some(first) = group.files.first() else { return Ok(None) };
    let schema = stored_columns(snapshot);
    let opening: Vec<_> = group.files.iter().map(|file| open(table, &file.path, file.size)).collect();
    let opened: Vec<Reader> = stream::iter(opening).buffered(OPENED_AT_ONCE).try_collect().await?;
    let unbounded = unbounded(&schema, opened.iter().map(|reader| reader.metadata().as_ref()));
    let options =
        WriteOptions { tags: united(&group.files.iter().collect::<Vec<_>>()), ..WriteOptions::default() };
    let streams = opened.into_iter().map(|reader| rows_of(reader, &schema)).collect::<Result<Vec<_>, _>>();
    let merged = streams.and_then(|streams| merged(streams, &schema, &options));
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

async fn open(table: &Table, path: &str, size: u64) -> Result<Reader, LakeError> {
    let source = Source::new(table, path, size)?;
    let opened = ParquetRecordBatchStreamBuilder::new(source).await;
    opened.map_err(|source| LakeError::Parquet { table: table.name().to_owned(), source })
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

/// The rows of a file, with the table's columns.
fn rows_of(reader: Reader, schema: &SchemaRef) -> Result<SendableRecordBatchStream, DataFusionError> {
    let rows = reader.with_batch_size(READ_ROWS).build()?;
    let columns = Arc::clone(schema);
    let rows = rows.map(move |batch| Ok(shaped(&batch?, &columns)?));
    Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(schema), rows)))
}

fn shaped(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, arrow::error::ArrowError> {
    let columns = schema.fields().iter().map(|field| match batch.column_by_name(field.name()) {
        None => Ok(new_null_array(field.data_type(), batch.num_rows())),
        Some(column) if column.data_type() == field.data_type() => Ok(Arc::clone(column)),
        Some(column) => retyped(column, field.data_type()),
    });
    RecordBatch::try_new(Arc::clone(schema), columns.collect::<Result<_, _>>()?)
}

/// The same values in another form of the same type, such as a time zone that is written otherwise.
fn retyped(column: &ArrayRef, kind: &DataType) -> Result<ArrayRef, arrow::error::ArrowError> {
    let cast = cast(column, kind)?;
    if cast.null_count() != column.null_count() {
        let what = format!("{} does not go into {kind} as it is", column.data_type());
        return Err(arrow::error::ArrowError::CastError(what));
    }
    Ok(cast)
}

/// All rows in the order in which each file has its own.
fn merged(
    streams: Vec<SendableRecordBatchStream>,
    schema: &SchemaRef,
    options: &WriteOptions,
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
        .with_batch_size(MERGED_ROWS)
        .with_reservation(MemoryConsumer::new("compaction").register(&pool))
        .build()
}

/// What the engine says is mostly what a reader said.
fn unmerged(table: &Table, source: DataFusionError) -> LakeError {
    match source {
        DataFusionError::ParquetError(source) => {
            LakeError::Parquet { table: table.name().to_owned(), source: *source }
        }
        DataFusionError::ArrowError(source, _) => {
            LakeError::Rows { table: table.name().to_owned(), source: *source }
        }
        other => LakeError::Rows {
            table: table.name().to_owned(),
            source: arrow::error::ArrowError::ExternalError(Box::new(other)),
        },
    }
}

fn stopped(table: &Table) -> LakeError {
    let reason = "it was stopped".to_owned();
    LakeError::Refused { what: "compaction", table: table.name().to_owned(), reason }
}
