//! The tables of one query: opened when they are named, each at one version for the whole query, and only those.
//!
//! Nothing that it says is remembered between queries, so a query sees the tables as they are when it begins.

use crate::handles::Handles;
use crate::runtime::{INGESTION, REPORTING};
use crate::schemas::Schemas;
use async_trait::async_trait;
use datafusion::catalog::{SchemaProvider, TableProvider};
use datafusion::error::{DataFusionError, Result};
use millstream_lake::LakeError;
use millstream_lake::provider::SnapshotProvider;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use tokio::sync::Mutex;

/// What one query can name.
#[derive(Debug)]
pub(crate) struct QueryCatalog {
    ingestion: Arc<BucketSchema>,
    reporting: Arc<BucketSchema>,
}

impl QueryCatalog {
    pub(crate) fn new(ingestion: &Arc<Handles>, reporting: &Arc<Handles>) -> Self {
        let reporting = Arc::new(BucketSchema::new(Arc::clone(reporting), None));
        let ingestion = Arc::new(BucketSchema::new(Arc::clone(ingestion), Some(Arc::clone(&reporting))));
        Self { ingestion, reporting }
    }

    /// Both schemas.
    pub(crate) fn schemas(&self) -> Arc<Schemas> {
        Schemas::new([
            (INGESTION, Arc::clone(&self.ingestion) as _),
            (REPORTING, Arc::clone(&self.reporting) as _),
        ])
    }

    /// Lists both buckets, for what asks for names.
    pub(crate) async fn list(&self) -> std::result::Result<Vec<String>, LakeError> {
        let mut names = self.ingestion.list().await?.to_vec();
        names.extend(self.reporting.list().await?.iter().map(|name| format!("{REPORTING}.{name}")));
        Ok(names)
    }
}

/// The tables of one bucket. A name that this one does not have is looked up in the other, where there is one.
#[derive(Debug)]
struct BucketSchema {
    tables: Arc<Handles>,
    other: Option<Arc<BucketSchema>>,
    names: OnceLock<Vec<String>>,
    opened: Mutex<HashMap<String, Option<Arc<dyn TableProvider>>>>,
}

impl BucketSchema {
    fn new(tables: Arc<Handles>, other: Option<Arc<Self>>) -> Self {
        Self { tables, other, names: OnceLock::new(), opened: Mutex::default() }
    }

    async fn list(&self) -> std::result::Result<&[String], LakeError> {
        if let Some(names) = self.names.get() {
            return Ok(names);
        }
        let mut names = self.tables.bucket().table_names().await?;
        names.sort();
        Ok(self.names.get_or_init(|| names))
    }

    async fn open(&self, name: &str) -> std::result::Result<Option<Arc<dyn TableProvider>>, LakeError> {
        // Held while opening: two references to one table must get one version.
        let mut opened = self.opened.lock().await;
        if let Some(known) = opened.get(name) {
            return Ok(known.clone());
        }
        let provider = self.tables.look(name).await?.map(|(table, snapshot)| {
            SnapshotProvider::new(self.tables.bucket(), snapshot, &table) as Arc<dyn TableProvider>
        });
        opened.insert(name.to_owned(), provider.clone());
        Ok(provider)
    }
}

#[async_trait]
impl SchemaProvider for BucketSchema {
    /// Empty until `list` was called: only what asks for names needs it.
    fn table_names(&self) -> Vec<String> {
        self.names.get().cloned().unwrap_or_default()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        if let Some(table) = self.open(name).await.map_err(external)? {
            return Ok(Some(table));
        }
        match &self.other {
            Some(other) => other.open(name).await.map_err(external),
            None => Ok(None),
        }
    }

    fn table_exist(&self, name: &str) -> bool {
        self.names.get().is_some_and(|names| names.iter().any(|known| known == name))
    }
}

fn external(error: LakeError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}
