//! A catalog of nothing but a report's sources.

use super::ReportSource;
use crate::runtime::{CATALOG, INGESTION};
use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, CatalogProviderList, SchemaProvider, TableProvider};
use datafusion::datasource::empty::EmptyTable;
use datafusion::error::Result;
use millstream_lake::Snapshot;
use millstream_lake::provider::SnapshotProvider;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Tables by name; catalog, schema and tables in one.
#[derive(Debug, Clone)]
pub(super) struct Sources(Arc<BTreeMap<String, Arc<dyn TableProvider>>>);

impl Sources {
    /// Only the columns, for planning.
    pub(super) fn shapes(snapshots: &[&Snapshot]) -> Self {
        let shape = |snapshot: &&Snapshot| {
            let provider: Arc<dyn TableProvider> = Arc::new(EmptyTable::new(snapshot.schema()));
            (snapshot.table().to_owned(), provider)
        };
        Self(Arc::new(snapshots.iter().map(shape).collect()))
    }

    /// The rows, of all dates or of some.
    pub(super) fn versions(sources: &[ReportSource], only_dates: Option<&[i32]>) -> Self {
        let version = |source: &ReportSource| {
            let snapshot = Arc::clone(&source.snapshot);
            let provider: Arc<dyn TableProvider> = match only_dates {
                Some(dates) => SnapshotProvider::of_dates(&source.bucket, snapshot, &source.table, dates),
                None => SnapshotProvider::new(&source.bucket, snapshot, &source.table),
            };
            (source.table.name().to_owned(), provider)
        };
        Self(Arc::new(sources.iter().map(version).collect()))
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }
}

impl CatalogProviderList for Sources {
    fn register_catalog(&self, _: String, _: Arc<dyn CatalogProvider>) -> Option<Arc<dyn CatalogProvider>> {
        None
    }

    fn catalog_names(&self) -> Vec<String> {
        vec![CATALOG.to_owned()]
    }

    fn catalog(&self, name: &str) -> Option<Arc<dyn CatalogProvider>> {
        (name == CATALOG).then(|| Arc::new(self.clone()) as Arc<dyn CatalogProvider>)
    }
}

impl CatalogProvider for Sources {
    fn schema_names(&self) -> Vec<String> {
        vec![INGESTION.to_owned()]
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        (name == INGESTION).then(|| Arc::new(self.clone()) as Arc<dyn SchemaProvider>)
    }
}

#[async_trait]
impl SchemaProvider for Sources {
    fn table_names(&self) -> Vec<String> {
        self.names()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        Ok(self.0.get(name).cloned())
    }

    fn table_exist(&self, name: &str) -> bool {
        self.has(name)
    }
}
