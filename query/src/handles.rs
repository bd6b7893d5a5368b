//! Tables that were opened once, kept from query to query: looking whether such a table has changed takes two small requests, opening it about thirty.
//!
//! Only what a table was is kept, never that it is still so: every query looks. That a table does not exist is not kept either. Queries that need the same table at the
//! same time open it once and look once: the others wait and take what was found.

use futures::StreamExt;
use millstream_lake::{Bucket, LakeError, Snapshot, Table};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::OnceCell;

/// Tables that are kept open. What comes beyond is opened anew for each query; a lake with so many tables has other troubles.
const HANDLES_MAX: usize = 1024;

/// A table, from the time on when it is open.
type Handle = Arc<OnceCell<Table>>;

/// The open tables of one bucket.
#[derive(Debug)]
pub(crate) struct Handles {
    bucket: Bucket,
    open: Mutex<HashMap<String, Handle>>,
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
        let handle = self.handle(name);
        let Some(table) = self.opened(name, &handle).await? else { return Ok(None) };
        match table.snapshot().await {
            Ok(snapshot) => return Ok(Some((table, snapshot))),
            // It was removed, and perhaps there is another by now.
            Err(LakeError::Gone { .. }) => self.forget(name, &handle),
            Err(error) => return Err(error),
        }
        let handle = self.handle(name);
        let Some(table) = self.opened(name, &handle).await? else { return Ok(None) };
        let snapshot = table.snapshot().await?;
        Ok(Some((table, snapshot)))
    }

    /// Opens the table of this handle, unless somebody did. What cannot be opened is not kept.
    async fn opened(&self, name: &str, handle: &Handle) -> Result<Option<Table>, LakeError> {
        let opening = handle.get_or_try_init(|| async {
            if !self.has_log(name).await {
                return Err(None);
            }
            match Table::open(&self.bucket, name).await {
                Ok(Some(table)) => Ok(table),
                // What cannot be a table's name is not a table's.
                Ok(None) | Err(LakeError::Name { .. }) => Err(None),
                Err(error) => Err(Some(error)),
            }
        });
        match opening.await {
            Ok(table) => Ok(Some(table.clone())),
            Err(reason) => {
                self.forget(name, handle);
                reason.map_or(Ok(None), Err)
            }
        }
    }

    /// Whether there may be a table of this name: one request, instead of the search for a log that is not there. Every question about a report asks so in vain, since a
    /// plain name is looked up among the streams' tables first. What fails here is for opening the table to say.
    async fn has_log(&self, name: &str) -> bool {
        let first = self.bucket.store().list(Some(&format!("{name}/_delta_log").into())).next().await;
        first.is_some()
    }

    fn handle(&self, name: &str) -> Handle {
        let mut open = self.lock();
        match open.get(name) {
            Some(handle) => handle.clone(),
            None => {
                let handle = Handle::default();
                if open.len() < HANDLES_MAX {
                    open.insert(name.to_owned(), handle.clone());
                }
                handle
            }
        }
    }

    /// Gives up this handle, and no other that has taken its place.
    fn forget(&self, name: &str, handle: &Handle) {
        let mut open = self.lock();
        if open.get(name).is_some_and(|kept| Arc::ptr_eq(kept, handle)) {
            open.remove(name);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Handle>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::{DataType, Field, Schema};
    use futures::future::join_all;
    use millstream_lake::TableDefinition;
    use millstream_lake::faults::FaultyStore;
    use std::collections::BTreeMap;

    #[tokio::test]
    async fn who_needs_a_table_at_the_same_time_opens_it_once() {
        let memory = Bucket::memory("b");
        let schema = Arc::new(Schema::new(vec![Field::new("ts", DataType::Int64, true)]));
        let definition = TableDefinition { schema, partition_by: Vec::new(), properties: BTreeMap::new() };
        Table::open_or_create(&memory, "t", &definition).await.unwrap();
        let asked = async |at_once: usize| {
            let store = Arc::new(FaultyStore::new(memory.store()));
            let bucket = Bucket::with_store("b", memory.url().clone(), store.clone());
            let handles = Handles::new(bucket);
            for found in join_all((0..at_once).map(|_| handles.look("t"))).await {
                assert_eq!(found.unwrap().unwrap().1.version(), 0);
            }
            assert!(handles.look("none").await.unwrap().is_none());
            assert_eq!(handles.lock().len(), 1);
            store.requests()
        };
        // Beyond opening it, each may look for itself: two requests.
        let alone = asked(1).await;
        assert!(asked(5).await <= alone + 4 * 2);
    }
}
