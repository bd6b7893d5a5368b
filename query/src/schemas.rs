//! The one catalog of a query, made of schemas that the query brings along.

use crate::runtime::CATALOG;
use datafusion::catalog::{CatalogProvider, CatalogProviderList, SchemaProvider};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Schemas by name: the list of catalogs and its only catalog in one.
#[derive(Debug, Clone)]
pub(crate) struct Schemas(BTreeMap<&'static str, Arc<dyn SchemaProvider>>);

impl Schemas {
    pub(crate) fn new(
        schemas: impl IntoIterator<Item = (&'static str, Arc<dyn SchemaProvider>)>,
    ) -> Arc<Self> {
        Arc::new(Self(schemas.into_iter().collect()))
    }
}

impl CatalogProviderList for Schemas {
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

impl CatalogProvider for Schemas {
    fn schema_names(&self) -> Vec<String> {
        self.0.keys().map(ToString::to_string).collect()
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        self.0.get(name).cloned()
    }
}
