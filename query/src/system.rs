//! The schema `system`: what Millstream knows of its own tables, as tables.
//!
//! Each table is a file here, with what its columns mean. Most are listings (`listing`): their rows are found when a query reads them, from what lies in the buckets
//! and in the log, so that every process answers the same. Two are questions (`question`) over the query's own tables, tail included. What is looked at for one
//! query is looked at once (`surroundings`), at one version, and forgotten with it.
//!
//! Nothing here writes, makes a log topic by looking, or knows what only a running process knows.

mod columns;
mod commits;
mod definition;
mod devices;
mod files;
mod listing;
mod mismatches;
mod partitions;
mod quarantine;
mod question;
mod reports;
mod rows;
mod streams;
mod surroundings;
mod wanted;

pub(crate) use devices::Unasked;
pub(crate) use surroundings::{Memory, Surroundings};

use async_trait::async_trait;
use datafusion::catalog::{SchemaProvider, TableProvider};
use datafusion::datasource::TableType;
use datafusion::error::Result;
use datafusion::execution::session_state::SessionState;
use definition::{Contents, Definition};
use listing::Listing;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use tokio::sync::Mutex;

/// Every system table, by name.
const TABLES: [&Definition; 9] = [
    &columns::DEFINITION,
    &commits::DEFINITION,
    &devices::DEFINITION,
    &files::DEFINITION,
    &mismatches::DEFINITION,
    &partitions::DEFINITION,
    &quarantine::DEFINITION,
    &reports::DEFINITION,
    &streams::DEFINITION,
];

/// The system tables of one query.
pub(crate) struct SystemSchema {
    surroundings: Arc<Surroundings>,
    /// Plans the questions; it knows no tables.
    blank: SessionState,
    made: Mutex<HashMap<&'static str, Arc<dyn TableProvider>>>,
}

impl SystemSchema {
    pub(crate) fn new(surroundings: Surroundings, blank: SessionState) -> Self {
        Self { surroundings: Arc::new(surroundings), blank, made: Mutex::default() }
    }

    /// Whether there is a system table of this name.
    pub(crate) fn has(name: &str) -> bool {
        find(name).is_some()
    }

    /// The names of all system tables.
    pub(crate) fn names() -> Vec<String> {
        TABLES.iter().map(|table| table.name.to_owned()).collect()
    }
}

#[async_trait]
impl SchemaProvider for SystemSchema {
    fn table_names(&self) -> Vec<String> {
        Self::names()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let Some(definition) = find(name) else { return Ok(None) };
        // Held while it is made: two references to one table must get one version.
        let mut made = self.made.lock().await;
        if let Some(known) = made.get(definition.name) {
            return Ok(Some(Arc::clone(known)));
        }
        let table: Arc<dyn TableProvider> = match definition.contents {
            Contents::Listing(source) => {
                Arc::new(Listing::new(definition, source, Arc::clone(&self.surroundings)))
            }
            Contents::Question(ask) => {
                let tables = ask(&self.surroundings).await?;
                question::view(definition, tables, &self.blank).await?
            }
        };
        made.insert(definition.name, Arc::clone(&table));
        Ok(Some(table))
    }

    /// Told without making the table: a question would open every stream.
    async fn table_type(&self, name: &str) -> Result<Option<TableType>> {
        Ok(find(name).map(|definition| match definition.contents {
            Contents::Listing(_) => TableType::Base,
            Contents::Question(_) => TableType::View,
        }))
    }

    fn table_exist(&self, name: &str) -> bool {
        find(name).is_some()
    }
}

fn find(name: &str) -> Option<&'static Definition> {
    TABLES.into_iter().find(|table| table.name == name)
}

impl fmt::Debug for SystemSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SystemSchema").field("surroundings", &self.surroundings).finish_non_exhaustive()
    }
}
