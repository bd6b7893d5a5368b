//! One version of a table as a source of rows for the query engine.
//!
//! The list of files comes from the snapshot alone, never from listing the bucket. Files whose partition or statistics prove that no row of theirs can
//! count are left out before anything is read (`prune`); what is known exactly about the rest is handed on (`statistics`), so that `count(*)` reads nothing.
//! Neighbour: `query` makes one per table and query. It never looks at a newer version than the one it was made of.

mod order;
mod partition;
mod prune;
mod statistics;
#[cfg(test)]
mod tests;

use crate::{Bucket, DataFile, Snapshot, Table};
use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::ScalarValue;
use datafusion::config::TableParquetOptions;
use datafusion::datasource::TableType;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::object_store::ObjectStoreUrl;
use datafusion::datasource::physical_plan::parquet::CachedParquetFileReaderFactory;
use datafusion::datasource::physical_plan::{FileScanConfigBuilder, FileSource, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::metrics::MetricBuilder;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore};
use std::collections::BTreeSet;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

/// The metric of a scan that counts the files of the table's version.
pub const FILES_TOTAL: &str = "lake_files_total";
/// The metric of a scan that counts the files that were left out before anything was read.
pub const FILES_PRUNED: &str = "lake_files_pruned";

/// The partition column by which [`SnapshotProvider::of_dates`] chooses.
const DATE: &str = "date";

/// Parquet footers are mostly shorter: then one request reads one.
const FOOTER_BYTES: usize = 64 << 10;

/// One version of a table, to be queried.
pub struct SnapshotProvider {
    snapshot: Arc<Snapshot>,
    store: Arc<dyn ObjectStore>,
    store_url: ObjectStoreUrl,
    /// The columns as the table has them, or will have them.
    schema: SchemaRef,
    /// The columns as files have them, and behind them the partition columns.
    layout: TableSchema,
    only_dates: Option<BTreeSet<i32>>,
}

impl SnapshotProvider {
    /// All rows of the version.
    #[must_use]
    pub fn new(bucket: &Bucket, snapshot: Arc<Snapshot>, table: &Table) -> Arc<Self> {
        let schema = snapshot.schema();
        Arc::new(Self::over(bucket, snapshot, table, schema, None))
    }

    /// All rows of the version, with columns that the table has not yet: they are null. `schema` is the table's, grown by them.
    #[must_use]
    pub fn widened(bucket: &Bucket, snapshot: Arc<Snapshot>, table: &Table, schema: &SchemaRef) -> Arc<Self> {
        Arc::new(Self::over(bucket, snapshot, table, Arc::clone(schema), None))
    }

    /// Only the rows whose partition column `date` is one of `dates` (days since 1970-01-01). A table that has no such partition column has none.
    #[must_use]
    pub fn of_dates(bucket: &Bucket, snapshot: Arc<Snapshot>, table: &Table, dates: &[i32]) -> Arc<Self> {
        let schema = snapshot.schema();
        Arc::new(Self::over(bucket, snapshot, table, schema, Some(dates.iter().copied().collect())))
    }

    fn over(
        bucket: &Bucket,
        snapshot: Arc<Snapshot>,
        table: &Table,
        schema: SchemaRef,
        only_dates: Option<BTreeSet<i32>>,
    ) -> Self {
        let layout = layout(&schema, snapshot.partition_by());
        let store = bucket.table_store(table.name());
        Self { store_url: store_url(bucket, table.name()), snapshot, store, schema, layout, only_dates }
    }

    /// The files that can hold rows for the exact filters and the dates asked for.
    fn chosen(&self, state: &dyn Session, exact: &[Expr]) -> Result<Vec<&DataFile>> {
        let all = self.snapshot.files();
        let columns = self.layout.table_partition_cols();
        let by_value = partition::matching(state, columns, all, exact)?;
        let mut chosen = Vec::with_capacity(all.len());
        for (file, matches) in all.iter().zip(by_value) {
            if matches && self.is_of_dates(file)? {
                chosen.push(file);
            }
        }
        Ok(chosen)
    }

    fn is_of_dates(&self, file: &DataFile) -> Result<bool> {
        let Some(dates) = &self.only_dates else { return Ok(true) };
        match self.layout.table_partition_cols().iter().find(|field| field.name() == DATE) {
            None => Ok(false),
            Some(field) => match partition::value(file, field)? {
                ScalarValue::Date32(Some(date)) => Ok(dates.contains(&date)),
                _ => Ok(false),
            },
        }
    }

    fn source(&self, state: &dyn Session, total: usize, kept: usize) -> Arc<dyn FileSource> {
        let options = TableParquetOptions {
            global: state.config_options().execution.parquet.clone(),
            ..TableParquetOptions::default()
        };
        let footers = state.runtime_env().cache_manager.get_file_metadata_cache();
        let reader = CachedParquetFileReaderFactory::new(Arc::clone(&self.store), footers);
        let source = ParquetSource::new(self.layout.clone())
            .with_table_parquet_options(options)
            .with_metadata_size_hint(FOOTER_BYTES)
            .with_parquet_file_reader_factory(Arc::new(reader));
        MetricBuilder::new(source.metrics()).global_counter(FILES_TOTAL).add(total);
        MetricBuilder::new(source.metrics()).global_counter(FILES_PRUNED).add(total - kept);
        Arc::new(source)
    }

    fn partitioned(&self, file: &DataFile) -> Result<PartitionedFile> {
        let location = Path::parse(&file.path).map_err(|error| DataFusionError::External(Box::new(error)))?;
        let last_modified = DateTime::<Utc>::from_timestamp_millis(file.modified_ms).unwrap_or_default();
        let mut partitioned = PartitionedFile::new_from_meta(ObjectMeta {
            location,
            last_modified,
            size: file.size,
            e_tag: None,
            version: None,
        });
        let columns = self.layout.table_partition_cols();
        partitioned.partition_values =
            columns.iter().map(|field| partition::value(file, field)).collect::<Result<_>>()?;
        partitioned.statistics =
            Some(Arc::new(statistics::of_file(file, &self.layout, self.snapshot.partition_by())?));
        Ok(partitioned)
    }
}

#[async_trait]
impl TableProvider for SnapshotProvider {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    /// A filter over partition columns alone is answered by leaving files out; others also by the rows that remain, which the engine filters.
    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let columns = self.layout.table_partition_cols();
        Ok(filters
            .iter()
            .map(|filter| match partition::decides(columns, filter) {
                true => TableProviderFilterPushDown::Exact,
                false => TableProviderFilterPushDown::Inexact,
            })
            .collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let columns = self.layout.table_partition_cols();
        let (exact, inexact): (Vec<_>, Vec<_>) =
            filters.iter().cloned().partition(|filter| partition::decides(columns, filter));
        let chosen = self.chosen(state, &exact)?;
        let mut kept = prune::keep(state, &self.schema, &self.layout, chosen, &inexact);
        order::newest_first(&mut kept);
        let kept = if inexact.is_empty() { enough(kept, limit) } else { kept };

        state.runtime_env().register_object_store(self.store_url.as_ref(), Arc::clone(&self.store));
        let files = kept.iter().map(|file| self.partitioned(file)).collect::<Result<Vec<_>>>()?;
        let summary = statistics::of_files(&files, &self.layout);
        let groups = order::dealt(files, state.config().target_partitions());
        let source = self.source(state, self.snapshot.files().len(), kept.len());
        let config = FileScanConfigBuilder::new(self.store_url.clone(), source)
            .with_file_groups(groups)
            .with_statistics(summary)
            .with_projection_indices(Some(self.positions(projection)?))?
            .with_limit(limit)
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }
}

impl SnapshotProvider {
    /// From places in the table's schema to places in the files' layout.
    fn positions(&self, projection: Option<&Vec<usize>>) -> Result<Vec<usize>> {
        let all: Vec<usize> = (0..self.schema.fields().len()).collect();
        let layout = self.layout.table_schema();
        let wanted = projection.unwrap_or(&all).iter();
        wanted.map(|&index| Ok(layout.index_of(self.schema.field(index).name())?)).collect()
    }
}

impl fmt::Debug for SnapshotProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotProvider")
            .field("table", &self.snapshot.table())
            .field("version", &self.snapshot.version())
            .field("only_dates", &self.only_dates)
            .finish_non_exhaustive()
    }
}

/// As many files as surely have enough rows, when any rows will do.
fn enough(files: Vec<&DataFile>, limit: Option<usize>) -> Vec<&DataFile> {
    let Some(limit) = limit else { return files };
    let mut rows = 0_u64;
    let missing = |file: &&DataFile| {
        let before = rows;
        rows = rows.saturating_add(file.rows.unwrap_or(0));
        before < limit as u64
    };
    files.into_iter().take_while(missing).collect()
}

fn layout(schema: &SchemaRef, partition_by: &[String]) -> TableSchema {
    let (partitioned, stored): (Vec<FieldRef>, Vec<FieldRef>) =
        schema.fields().iter().cloned().partition(|field| partition_by.contains(field.name()));
    TableSchema::builder(Arc::new(Schema::new(stored))).with_table_partition_cols(partitioned).build()
}

/// A key for the table's store. Two local buckets would otherwise share `file://`.
fn store_url(bucket: &Bucket, table: &str) -> ObjectStoreUrl {
    let mut hasher = DefaultHasher::new();
    (bucket.url().as_str(), bucket.name(), table).hash(&mut hasher);
    // Letters and digits alone always make a URL; the local file system's is never asked for.
    ObjectStoreUrl::parse(format!("lake://t{:016x}", hasher.finish()))
        .unwrap_or_else(|_| ObjectStoreUrl::local_filesystem())
}
