//! A system table that is the answer to a question over the query's own tables: planned into the query, so that its filters and columns reach them, and so that
//! it sees what they see, the tail included.

use super::definition::Definition;
use crate::runtime::INGESTION;
use crate::schemas::Schemas;
use async_trait::async_trait;
use datafusion::catalog::{SchemaProvider, TableProvider};
use datafusion::datasource::ViewTable;
use datafusion::datasource::empty::EmptyTable;
use datafusion::error::Result;
use datafusion::execution::session_state::SessionState;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A question and what it is about.
#[derive(Debug, Default)]
pub(super) struct Question {
    /// One question for each table, all of the system table's columns; their answers together are its rows.
    pub(super) parts: Vec<String>,
    pub(super) tables: BTreeMap<String, Arc<dyn TableProvider>>,
}

/// The table that the answer is.
pub(super) async fn view(
    definition: &'static Definition,
    question: Question,
    blank: &SessionState,
) -> Result<Arc<dyn TableProvider>> {
    if question.parts.is_empty() {
        return Ok(Arc::new(EmptyTable::new(definition.schema())));
    }
    let mut state = blank.clone();
    state.register_catalog_list(Schemas::new([(INGESTION, Arc::new(Tables(question.tables)) as _)]));
    let plan = state.create_logical_plan(&question.parts.join(" union all ")).await?;
    Ok(Arc::new(ViewTable::new(plan, None)))
}

/// A schema of nothing but what the question is about.
#[derive(Debug)]
struct Tables(BTreeMap<String, Arc<dyn TableProvider>>);

#[async_trait]
impl SchemaProvider for Tables {
    fn table_names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        Ok(self.0.get(name).cloned())
    }

    fn table_exist(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }
}
