//! The tables of a report, kept open between looks: to look at what has not changed costs two small requests a table, and to open it many.

use super::error::ReportError;
use millstream_lake::{Bucket, Table, TableDefinition};
use std::collections::BTreeMap;

/// Tables that were opened. After a failure they are dropped and opened anew.
#[derive(Debug, Default, Clone)]
pub(crate) struct Tables {
    sources: BTreeMap<String, Table>,
    shown: Option<Table>,
}

impl Tables {
    /// A table that the report reads; `None` while it does not exist.
    pub(crate) async fn source(&mut self, bucket: &Bucket, name: &str) -> Result<Option<Table>, ReportError> {
        if let Some(table) = self.sources.get(name) {
            return Ok(Some(table.clone()));
        }
        let opened = Table::open(bucket, name).await?;
        if let Some(table) = &opened {
            self.sources.insert(name.to_owned(), table.clone());
        }
        Ok(opened)
    }

    /// The report's own table, which is made where there is none.
    pub(crate) async fn shown(
        &mut self,
        bucket: &Bucket,
        name: &str,
        definition: &TableDefinition,
    ) -> Result<Table, ReportError> {
        if let Some(table) = &self.shown {
            return Ok(table.clone());
        }
        let table = Table::open_or_create(bucket, name, definition).await?;
        self.shown = Some(table.clone());
        Ok(table)
    }
}
