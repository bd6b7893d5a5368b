//! A schema of nothing but a report's sources.

use super::{Portion, ReportSource};
use crate::runtime::{INGESTION, REPORTING};
use crate::schemas::Schemas;
use async_trait::async_trait;
use datafusion::catalog::{SchemaProvider, TableProvider};
use datafusion::common::ScalarValue;
use datafusion::datasource::empty::EmptyTable;
use datafusion::datasource::{ViewTable, provider_as_source};
use datafusion::error::Result;
use datafusion::logical_expr::{LogicalPlanBuilder, ident, lit};
use millstream_lake::Snapshot;
use millstream_lake::provider::SnapshotProvider;
use millstream_model::column::reserved;
use millstream_model::time::Micros;
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

    /// The rows, or a portion of them.
    pub(super) fn versions(sources: &[ReportSource], portion: &Portion) -> Result<Self> {
        let version = |source: &ReportSource| {
            let snapshot = Arc::clone(&source.snapshot);
            let provider: Arc<dyn TableProvider> = match &portion.dates {
                Some(dates) => SnapshotProvider::of_dates(&source.bucket, snapshot, &source.table, dates),
                None => SnapshotProvider::new(&source.bucket, snapshot, &source.table),
            };
            let name = source.table.name();
            let provider = match portion.before {
                Some(mark) => before(name, provider, mark)?,
                None => provider,
            };
            Ok((name.to_owned(), provider))
        };
        Ok(Self(sources.iter().map(version).collect::<Result<_>>()?))
    }

    /// The catalog that has nothing else. A table is found in either schema: of the tables that one report reads, no two have the same name.
    pub(super) fn catalog(self) -> Arc<Schemas> {
        let tables: Arc<dyn SchemaProvider> = Arc::new(self);
        Schemas::new([(INGESTION, Arc::clone(&tables)), (REPORTING, tables)])
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }
}

/// The rows of a stream's table whose event time lies before an instant.
fn before(name: &str, provider: Arc<dyn TableProvider>, mark: Micros) -> Result<Arc<dyn TableProvider>> {
    let instant = ScalarValue::TimestampMicrosecond(Some(mark.0), Some(Arc::from("UTC")));
    let rows = LogicalPlanBuilder::scan(name, provider_as_source(provider), None)?
        .filter(ident(reserved::TS).lt(lit(instant)))?
        .build()?;
    Ok(Arc::new(ViewTable::new(rows, None)))
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
