//! A schema of nothing but a report's sources.

use super::ReportSource;
use crate::runtime::INGESTION;
use crate::schemas::Schemas;
use async_trait::async_trait;
use datafusion::catalog::{SchemaProvider, TableProvider};
use datafusion::datasource::empty::EmptyTable;
use datafusion::error::Result;
use millstream_lake::Snapshot;
use millstream_lake::provider::SnapshotProvider;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Tables by name.
#[derive(Debug)]
pub(super) struct Sources(BTreeMap<String, Arc<dyn TableProvider>>);

impl Sources {
    /// Only the columns, for planning.
    pub(super) fn shapes(snapshots: &[&Snapshot]) -> Self {
        let shape = |snapshot: &&Snapshot| {
            let provider: Arc<dyn TableProvider> = Arc::new(EmptyTable::new(snapshot.schema()));
            (snapshot.table().to_owned(), provider)
        };
        Self(snapshots.iter().map(shape).collect())
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
        Self(sources.iter().map(version).collect())
    }

    /// The catalog that has no other schema.
    pub(super) fn catalog(self) -> Arc<Schemas> {
        Schemas::new([(INGESTION, Arc::new(self) as _)])
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
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
