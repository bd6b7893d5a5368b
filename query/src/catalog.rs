//! The tables of one query: opened when they are named, each at one version for the whole query, and only those.
//!
//! Nothing that it says is remembered between queries, so a query sees the tables as they are when it begins.

use crate::handles::Handles;
use crate::runtime::{INGESTION, REPORTING, SYSTEM};
use crate::schemas::Schemas;
use crate::system::SystemSchema;
use crate::tail::{Looked, Tails};
use async_trait::async_trait;
use datafusion::catalog::{SchemaProvider, TableProvider};
use datafusion::datasource::TableType;
use datafusion::error::{DataFusionError, Result};
use millstream_lake::LakeError;
use millstream_lake::provider::SnapshotProvider;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use tokio::sync::OnceCell;

/// What one query can name.
#[derive(Debug)]
pub(crate) struct QueryCatalog {
    ingestion: Arc<BucketSchema>,
    reporting: Arc<BucketSchema>,
}

impl QueryCatalog {
    /// With `tails`, what waits in the log is part of the tables of the ingestion bucket.
    pub(crate) fn new(
        ingestion: &Arc<Handles>,
        reporting: &Arc<Handles>,
        tails: Option<&Arc<Tails>>,
    ) -> Self {
        let reporting = Arc::new(BucketSchema::new(Arc::clone(reporting), None, None));
        let other = Some(Arc::clone(&reporting));
        let ingestion = Arc::new(BucketSchema::new(Arc::clone(ingestion), other, tails.cloned()));
        Self { ingestion, reporting }
    }

    /// The tails of the tables that were opened.
    pub(crate) fn looked(&self) -> Vec<Arc<Looked>> {
        self.ingestion.looked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The schema in which a plain name is looked up first.
    pub(crate) fn ingestion(&self) -> Arc<dyn SchemaProvider> {
        Arc::clone(&self.ingestion) as _
    }

    /// A table that is named with the schema `ingestion`, which is no report.
    pub(crate) async fn in_ingestion(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        self.ingestion.open(name).await
    }

    /// Both schemas, and the system's.
    pub(crate) fn schemas(&self, system: SystemSchema) -> Arc<Schemas> {
        Schemas::new([
            (INGESTION, Arc::clone(&self.ingestion) as _),
            (REPORTING, Arc::clone(&self.reporting) as _),
            (SYSTEM, Arc::new(system) as _),
        ])
    }

    /// Lists both buckets, for what asks for names.
    pub(crate) async fn list(&self) -> std::result::Result<Vec<String>, LakeError> {
        let mut names = self.ingestion.list().await?.to_vec();
        names.extend(self.reporting.list().await?.iter().map(|name| format!("{REPORTING}.{name}")));
        Ok(names)
    }
}

/// The tables of one bucket. A name that this one does not have is looked up in the other, where there is one: a plain name may be of either, and the engine knows one schema
/// only in which to look for those. That a name with this schema before it is not of the other, the session sees to.
#[derive(Debug)]
struct BucketSchema {
    tables: Arc<Handles>,
    other: Option<Arc<BucketSchema>>,
    /// What waits in the log for the tables; `None`: only files count.
    tails: Option<Arc<Tails>>,
    looked: Mutex<Vec<Arc<Looked>>>,
    names: OnceLock<Vec<String>>,
    /// By name. Whoever names a table while it is opened waits for it: two references to one table must get one version.
    opened: Mutex<HashMap<String, Opening>>,
}

/// A table of one query, from the time on when it is open; none if there is no such table. What failed is tried again.
type Opening = Arc<OnceCell<Option<Arc<dyn TableProvider>>>>;

impl BucketSchema {
    fn new(tables: Arc<Handles>, other: Option<Arc<Self>>, tails: Option<Arc<Tails>>) -> Self {
        let (names, opened, looked) = (OnceLock::new(), Mutex::default(), Mutex::default());
        Self { tables, other, tails, looked, names, opened }
    }

    async fn list(&self) -> std::result::Result<&[String], LakeError> {
        if let Some(names) = self.names.get() {
            return Ok(names);
        }
        let mut names = self.tables.bucket().table_names().await?;
        if let Some(tails) = &self.tails {
            let unmade = tails.names().filter(|name| !names.iter().any(|known| known == name));
            let unmade: Vec<String> = unmade.map(str::to_owned).collect();
            names.extend(unmade);
        }
        names.sort();
        Ok(self.names.get_or_init(|| names))
    }

    async fn open(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let opening = {
            let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(opened.entry(name.to_owned()).or_default())
        };
        opening.get_or_try_init(|| self.look(name)).await.cloned()
    }

    /// The table as it is now.
    async fn look(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let tailed = match &self.tails {
            Some(tails) => {
                tails.open(name).await.map_err(|error| DataFusionError::External(Box::new(error)))?
            }
            None => None,
        };
        if let Some(tailed) = tailed {
            self.looked.lock().unwrap_or_else(PoisonError::into_inner).push(tailed.looked);
            return Ok(Some(tailed.provider));
        }
        let found = self.tables.look(name).await.map_err(external)?;
        Ok(found.map(|(table, snapshot)| {
            SnapshotProvider::new(self.tables.bucket(), snapshot, &table) as Arc<dyn TableProvider>
        }))
    }
}

#[async_trait]
impl SchemaProvider for BucketSchema {
    /// Empty until `list` was called: only what asks for names needs it.
    fn table_names(&self) -> Vec<String> {
        self.names.get().cloned().unwrap_or_default()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        if let Some(table) = self.open(name).await? {
            return Ok(Some(table));
        }
        match &self.other {
            Some(other) => other.open(name).await,
            None => Ok(None),
        }
    }

    /// Told by the list: what asks for names must neither wait for a table, nor fail for one that cannot be read.
    async fn table_type(&self, name: &str) -> Result<Option<TableType>> {
        Ok(self.table_exist(name).then_some(TableType::Base))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.names.get().is_some_and(|names| names.iter().any(|known| known == name))
    }
}

fn external(error: LakeError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}
