//! Looks at what a file says of its rows before the first of them are decoded: those are made a whole batch at once, before any gauge can see how wide they are.
//!
//! A footer, which is read anyway, tells of each group of rows what the values of a column take. That is an average: rows that differ much from each other are seen by the gauge above the
//! scan, one batch later.

use super::gauge::Sum;
use bytes::Bytes;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{
    FileScanConfig, FileScanConfigBuilder, ParquetFileReaderFactory, ParquetSource,
};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::Result;
use datafusion::parquet::arrow::arrow_reader::ArrowReaderOptions;
use datafusion::parquet::arrow::async_reader::AsyncFileReader;
use datafusion::parquet::basic::Type;
use datafusion::parquet::errors::{ParquetError, Result as ParquetResult};
use datafusion::parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, RowGroupMetaData};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use futures::FutureExt;
use futures::future::BoxFuture;
use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

/// What a row takes of a view beside its text.
const PLACE_BYTES: u64 = 16;

/// The scan with a look at each file's footer, where it is one of files.
pub(super) fn footers_read(step: Arc<dyn ExecutionPlan>, sum: &Arc<Sum>) -> Arc<dyn ExecutionPlan> {
    let scan = step.downcast_ref::<DataSourceExec>().map(DataSourceExec::data_source);
    let Some(config) = scan.and_then(|scan| scan.downcast_ref::<FileScanConfig>()) else { return step };
    let Some(source) = config.file_source().downcast_ref::<ParquetSource>() else { return step };
    let Some(inner) = source.parquet_file_reader_factory() else { return step };
    let factory = Footers {
        inner: Arc::clone(inner),
        columns: Arc::new(columns_read(config)),
        rows_max: config.limit.unwrap_or(usize::MAX),
        sum: Arc::clone(sum),
    };
    let source = source.clone().with_parquet_file_reader_factory(Arc::new(factory));
    let config = FileScanConfigBuilder::from(config.clone()).with_source(Arc::new(source)).build();
    DataSourceExec::from_data_source(config)
}

fn columns_read(config: &FileScanConfig) -> HashSet<String> {
    let schema = config.file_source().table_schema().table_schema();
    let all = || (0..schema.fields().len()).collect();
    let read = config.file_source().projection().map_or_else(all, |read| read.column_indices());
    read.into_iter()
        .filter_map(|index| schema.fields().get(index))
        .map(|field| field.name().clone())
        .collect()
}

/// Opens files, and looks at their footers.
#[derive(Debug)]
struct Footers {
    inner: Arc<dyn ParquetFileReaderFactory>,
    columns: Arc<HashSet<String>>,
    /// The scan gives no more than these.
    rows_max: usize,
    sum: Arc<Sum>,
}

impl ParquetFileReaderFactory for Footers {
    fn create_reader(
        &self,
        partition: usize,
        file: PartitionedFile,
        footer_bytes: Option<usize>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> Result<Box<dyn AsyncFileReader + Send>> {
        let inner = self.inner.create_reader(partition, file, footer_bytes, metrics)?;
        let (columns, sum) = (Arc::clone(&self.columns), Arc::clone(&self.sum));
        Ok(Box::new(Reader { inner, columns, rows_max: self.rows_max, sum }))
    }
}

struct Reader {
    inner: Box<dyn AsyncFileReader + Send>,
    columns: Arc<HashSet<String>>,
    rows_max: usize,
    sum: Arc<Sum>,
}

impl AsyncFileReader for Reader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, ParquetResult<Bytes>> {
        self.inner.get_bytes(range)
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, ParquetResult<Vec<Bytes>>> {
        self.inner.get_byte_ranges(ranges)
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, ParquetResult<Arc<ParquetMetaData>>> {
        async move {
            let footer = self.inner.get_metadata(options).await?;
            let width =
                footer.row_groups().iter().map(|group| width(group, &self.columns)).max().unwrap_or(0);
            let rows = footer.row_groups().iter().map(RowGroupMetaData::num_rows).max().unwrap_or(0);
            let rows = usize::try_from(rows).unwrap_or(usize::MAX).min(self.rows_max);
            self.sum.take_unread(width, rows).map_err(|error| ParquetError::External(Box::new(error)))?;
            Ok(footer)
        }
        .boxed()
    }
}

/// Bytes of one row of the group, on average.
fn width(group: &RowGroupMetaData, columns: &HashSet<String>) -> usize {
    let is_read = |column: &&ColumnChunkMetaData| {
        column.column_path().parts().first().is_some_and(|root| columns.contains(root))
    };
    let bytes: u64 = group.columns().iter().filter(is_read).map(decoded_bytes).sum();
    usize::try_from(bytes / group.num_rows().unsigned_abs().max(1)).unwrap_or(usize::MAX)
}

/// What the column's values take once they are decoded. Where the writer has not said so, they are at least what is to be decoded: the same value again and again may be written once.
fn decoded_bytes(column: &ColumnChunkMetaData) -> u64 {
    let values = column.num_values().unsigned_abs();
    match column.column_type() {
        Type::BOOLEAN => values / 8,
        Type::INT32 | Type::FLOAT => values * 4,
        Type::INT64 | Type::DOUBLE | Type::INT96 => values * 8,
        Type::FIXED_LEN_BYTE_ARRAY => values * column.column_descr().type_length().unsigned_abs() as u64,
        Type::BYTE_ARRAY => {
            let texts =
                column.unencoded_byte_array_data_bytes().unwrap_or_else(|| column.uncompressed_size());
            values * PLACE_BYTES + texts.unsigned_abs()
        }
    }
}
