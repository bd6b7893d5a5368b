//! A table with its tail, for the engine: the files of one version, and the rows that the log has beyond it.

use super::Tailed;
use super::error::{TailError, TailFailure};
use super::exec::{Looked, TailExec};
use super::view::View;
use arrow::array::{ArrayRef, AsArray, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::DFSchema;
use datafusion::datasource::TableType;
use datafusion::error::Result;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::union::UnionExec;
use millstream_lake::provider::SnapshotProvider;
use millstream_lake::{Bucket, NewFile, grow};
use std::sync::Arc;

/// A table's version and what the log has beyond it.
#[derive(Debug)]
pub(super) struct TailProvider {
    /// `None`: there is no table yet.
    files: Option<Arc<SnapshotProvider>>,
    schema: SchemaRef,
    looked: Arc<Looked>,
}

impl TailProvider {
    /// The table of a view with these rows, and with these files that are not part of it yet.
    pub(super) fn of(
        view: &View,
        looked: Looked,
        files: Vec<NewFile>,
        bucket: &Bucket,
    ) -> std::result::Result<Tailed, TailFailure> {
        let contradiction =
            |source| TailFailure(Arc::new(TailError::Contradiction { table: view.table.clone(), source }));
        let mut schema = Arc::clone(&view.columns);
        let mut provider = None;
        if let Some((table, snapshot)) = &view.seen {
            let wider = grow(&snapshot.schema(), &schema).map_err(contradiction)?;
            schema = wider.unwrap_or_else(|| snapshot.schema());
            let snapshot =
                if files.is_empty() { Arc::clone(snapshot) } else { Arc::new(snapshot.with_added(&files)) };
            provider = Some(SnapshotProvider::widened(bucket, snapshot, table, &schema));
        }
        let looked = Arc::new(looked);
        let provider = Self { files: provider, schema, looked: Arc::clone(&looked) };
        Ok(Tailed { provider: Arc::new(provider), looked })
    }

    /// The rows of the tail for which the filters are true, in these columns.
    fn rows(&self, state: &dyn Session, schema: &SchemaRef, exact: &[Expr]) -> Result<Vec<RecordBatch>> {
        let filter = match conjunction(exact.iter().cloned()) {
            Some(filter) => {
                let columns = DFSchema::try_from(Arc::clone(&self.schema))?;
                Some(state.create_physical_expr(filter, &columns)?)
            }
            None => None,
        };
        let batches = &self.looked.rows.batches;
        let mut rows = Vec::with_capacity(batches.len());
        for batch in batches {
            let projected = projected(batch, schema)?;
            let kept = match &filter {
                Some(filter) => filtered(batch, projected, &self.schema, filter)?,
                None => projected,
            };
            if kept.num_rows() > 0 {
                rows.push(kept);
            }
        }
        Ok(rows)
    }

    fn filter_use(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        match &self.files {
            Some(files) => files.supports_filters_pushdown(filters),
            None => Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()]),
        }
    }
}

/// The batch in columns of this schema; those that it does not have are null.
fn projected(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let columns = schema.fields().iter().map(|field| match batch.column_by_name(field.name()) {
        Some(column) => Arc::clone(column),
        None => new_null_array(field.data_type(), batch.num_rows()),
    });
    let columns: Vec<ArrayRef> = columns.collect();
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
}

/// The rows of `projected` for which the filter is true of the batch that it is made of.
fn filtered(
    batch: &RecordBatch,
    projected: RecordBatch,
    schema: &SchemaRef,
    filter: &Arc<dyn PhysicalExpr>,
) -> Result<RecordBatch> {
    let whole = self::projected(batch, schema)?;
    let answers = filter.evaluate(&whole)?.into_array(whole.num_rows())?;
    let answers = answers.as_boolean();
    if answers.true_count() == whole.num_rows() {
        return Ok(projected);
    }
    Ok(filter_record_batch(&projected, answers)?)
}

/// The first of these rows, as many as any would do.
fn enough(rows: Vec<RecordBatch>, limit: Option<usize>) -> Vec<RecordBatch> {
    let Some(mut left) = limit else { return rows };
    let mut kept = Vec::new();
    for batch in rows {
        let taken = batch.num_rows().min(left);
        if taken > 0 {
            kept.push(batch.slice(0, taken));
        }
        left -= taken;
    }
    kept
}

#[async_trait]
impl TableProvider for TailProvider {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    /// As for the files: what decides for whole files decides for the rows of the tail, too, and the engine need not ask again.
    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        self.filter_use(filters)
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let files = match &self.files {
            Some(files) => Some(files.scan(state, projection, filters, limit).await?),
            None => None,
        };
        let schema = match (&files, projection) {
            (Some(files), _) => files.schema(),
            (None, Some(projection)) => Arc::new(self.schema.project(projection)?),
            (None, None) => Arc::clone(&self.schema),
        };
        let uses = self.filter_use(&filters.iter().collect::<Vec<_>>())?;
        let exact =
            filters.iter().zip(&uses).filter(|(_, used)| **used == TableProviderFilterPushDown::Exact);
        let exact: Vec<Expr> = exact.map(|(filter, _)| filter.clone()).collect();
        let limit = limit.filter(|_| exact.len() == filters.len());
        let rows = enough(self.rows(state, &schema, &exact)?, limit);
        match files {
            Some(files) if rows.is_empty() => Ok(files),
            Some(files) => {
                let tail = TailExec::new(schema, rows, state.config().target_partitions(), &self.looked);
                UnionExec::try_new(vec![Arc::new(tail), files])
            }
            None => {
                Ok(Arc::new(TailExec::new(schema, rows, state.config().target_partitions(), &self.looked)))
            }
        }
    }
}
