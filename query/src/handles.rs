//! Tables that were opened once, kept from query to query: looking whether such a table has changed takes two small requests, opening it about thirty.
//!
//! Only what a table was is kept, never that it is still so: every query looks. That a table does not exist is not kept either.

use millstream_lake::{Bucket, LakeError, Snapshot, Table};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::Mutex;

/// Tables that are kept open. What comes beyond is opened anew for each query; a lake with so many tables has other troubles.
const HANDLES_MAX: usize = 1024;

/// The open tables of one bucket.
#[derive(Debug)]
pub(crate) struct Handles {
    bucket: Bucket,
    open: Mutex<HashMap<String, Table>>,
}

impl Handles {
    pub(crate) fn new(bucket: Bucket) -> Self {
        Self { bucket, open: Mutex::default() }
    }

    pub(crate) fn bucket(&self) -> &Bucket {
        &self.bucket
    }

    /// The table and its latest version; none if there is no table of this name.
    pub(crate) async fn look(&self, name: &str) -> Result<Option<(Table, Arc<Snapshot>)>, LakeError> {
        let known = self.open.lock().await.get(name).cloned();
        if let Some(table) = known {
            match table.snapshot().await {
                Ok(snapshot) => return Ok(Some((table, snapshot))),
                // It was removed, and perhaps there is another by now.
                Err(LakeError::Gone { .. }) => _ = self.open.lock().await.remove(name),
                Err(error) => return Err(error),
            }
        }
        let table = match Table::open(&self.bucket, name).await {
            Ok(Some(table)) => table,
            // What cannot be a table's name is not a table's.
            Ok(None) | Err(LakeError::Name { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let snapshot = table.snapshot().await?;
        let mut open = self.open.lock().await;
        if open.len() < HANDLES_MAX {
            open.insert(name.to_owned(), table.clone());
        }
        Ok(Some((table, snapshot)))
    }
}
