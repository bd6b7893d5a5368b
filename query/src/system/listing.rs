//! A system table whose rows are found when it is scanned, so that only what the query wants is looked at.

use super::definition::{Definition, Source};
use super::rows::Rows;
use super::surroundings::Surroundings;
use super::wanted::Wanted;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::datasource::TableType;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;
use std::sync::Arc;

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
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let wanted = Wanted::new(state, self.definition, projection, filters)?;
        let mut rows = Rows::new(self.definition, Arc::clone(&self.schema));
        (self.source)(&self.surroundings, &wanted, &mut rows).await?;
        let partitions = [rows.finish()?];
        Ok(MemorySourceConfig::try_new_exec(&partitions, Arc::clone(&self.schema), projection.cloned())?)
    }
}
