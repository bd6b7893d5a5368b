//! A system table whose rows are found when the query reads them, and of which only what the query wants is looked at.
//!
//! Nothing is looked at while a query is planned: a store or a log that gives no answer must not keep the place of a planner, for which every other question waits.

use super::definition::{Definition, Source};
use super::rows::Rows;
use super::surroundings::Surroundings;
use super::wanted::Wanted;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::datasource::TableType;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use futures::{TryStreamExt, stream};
use std::fmt;
use std::sync::Arc;
use tokio::sync::OnceCell;

/// A listing of one query.
#[derive(Debug)]
pub(super) struct Listing {
    definition: &'static Definition,
    source: Source,
    schema: SchemaRef,
    surroundings: Arc<Surroundings>,
}

impl Listing {
    pub(super) fn new(
        definition: &'static Definition,
        source: Source,
        surroundings: Arc<Surroundings>,
    ) -> Self {
        Self { schema: definition.schema(), definition, source, surroundings }
    }
}

#[async_trait]
impl TableProvider for Listing {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    /// Every filter is shown to the scan, for the keys that it may leave out, and applied to the rows by the engine.
    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        // What a filter leaves out afterwards does not count.
        let limit = limit.filter(|_| filters.is_empty());
        let search = Search {
            definition: self.definition,
            source: self.source,
            schema: Arc::clone(&self.schema),
            surroundings: Arc::clone(&self.surroundings),
            wanted: Wanted::new(state, self.definition, projection, filters)?,
            limit,
            found: OnceCell::new(),
        };
        let schema = Arc::clone(&self.schema);
        let rows: Vec<Arc<dyn PartitionStream>> = vec![Arc::new(Scan(Arc::new(search)))];
        Ok(Arc::new(StreamingTableExec::try_new(schema, rows, projection, [], false, None)?))
    }
}

/// What one scan looks for.
struct Search {
    definition: &'static Definition,
    source: Source,
    schema: SchemaRef,
    surroundings: Arc<Surroundings>,
    wanted: Wanted,
    /// So many rows are enough.
    limit: Option<usize>,
    /// Written by the first who reads the rows; whoever reads them again, as the steps of a recursive query do, gets the same.
    found: OnceCell<Vec<RecordBatch>>,
}

impl Search {
    async fn find(&self) -> Result<Vec<RecordBatch>> {
        let mut rows = Rows::new(self.definition, Arc::clone(&self.schema), self.limit);
        (self.source)(&self.surroundings, &self.wanted, &mut rows).await?;
        rows.finish()
    }
}

/// The rows of a scan, found when they are first read.
struct Scan(Arc<Search>);

impl PartitionStream for Scan {
    fn schema(&self) -> &SchemaRef {
        &self.0.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let search = Arc::clone(&self.0);
        let schema = Arc::clone(&search.schema);
        let rows = async move {
            let found = search.found.get_or_try_init(|| search.find()).await?.clone();
            Ok::<_, DataFusionError>(stream::iter(found.into_iter().map(Ok)))
        };
        Box::pin(RecordBatchStreamAdapter::new(schema, stream::once(rows).try_flatten()))
    }
}

impl fmt::Debug for Scan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Scan").field(&self.0.definition).finish()
    }
}
