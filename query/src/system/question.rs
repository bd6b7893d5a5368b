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
use datafusion::logical_expr::{LogicalPlan, Union};
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
    // Each for itself: one text of all of them would be as deep as there are streams.
    let mut parts = Vec::with_capacity(question.parts.len());
    for part in &question.parts {
        parts.push(Arc::new(state.create_logical_plan(part).await?));
    }
    let plan = match parts.len() {
        1 => LogicalPlan::clone(&parts[0]),
        _ => LogicalPlan::Union(Union::try_new_with_loose_types(parts)?),
    };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;
    use crate::runtime::blank_state;
    use crate::system::mismatches;

    /// As many streams as a fleet of fleets has, on a thread of the runtime.
    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_question_may_have_very_many_parts() {
        let planned = tokio::task::JoinSet::from_iter([async {
            let parts = (0..3_000).map(|part| {
                format!("select 's{part}' as stream, 'c' as column_name, {part} as mismatches, null as first_date, null as last_date")
            });
            let question = Question { parts: parts.collect(), tables: BTreeMap::new() };
            let blank = blank_state(&Limits::default()).unwrap();
            view(&mismatches::DEFINITION, question, &blank).await.unwrap().schema().fields().len()
        }]);
        assert_eq!(planned.join_all().await, [5]);
    }
}
