//! Making a table, which is a race: every process that needs it may try, and one wins.

use crate::plan::FORBIDDEN_PROPERTY;
use crate::table::Table;
use crate::{Bucket, LakeError, schema};
use arrow::datatypes::{DataType, SchemaRef};
use bytes::Bytes;
use deltalake_core::kernel::transaction::CommitData;
use deltalake_core::kernel::{Action, Protocol, new_metadata};
use deltalake_core::logstore::CommitOrBytes;
use deltalake_core::protocol::{DeltaOperation, SaveMode};
use serde_json::json;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;
use uuid::Uuid;

/// How often making a table is tried while the store does not answer; after the last time the caller decides.
const ATTEMPTS_MAX: u32 = 5;

/// The longest wait between two of them.
const WAIT_MAX: Duration = Duration::from_millis(400);

/// What a table is when it is made: Delta reader 1, writer 2, no column mapping, no deletion vectors.
#[derive(Debug, Clone)]
pub struct TableDefinition {
    /// Its columns, the partition columns among them.
    pub schema: SchemaRef,
    /// The columns by which its files are split. They must be dates: what a device sends never becomes part of a path.
    pub partition_by: Vec<String>,
    /// Delta's properties and ours.
    pub properties: BTreeMap<String, String>,
}

impl TableDefinition {
    fn check(&self, table: &str) -> Result<(), LakeError> {
        let refused =
            |reason: String| Err(LakeError::Refused { what: "definition", table: table.to_owned(), reason });
        for column in &self.partition_by {
            let kind = self.schema.field_with_name(column).map(|field| field.data_type());
            if !matches!(kind, Ok(DataType::Date32)) {
                return refused(format!("the partition column {column} is not a date"));
            }
        }
        if self.partition_by.len() >= self.schema.fields().len() {
            return refused("there is no column beside those of the partition".to_owned());
        }
        if self.properties.contains_key(FORBIDDEN_PROPERTY) {
            return refused(format!("{FORBIDDEN_PROPERTY} would make the table forget its fences"));
        }
        Ok(())
    }

    /// The bytes of version 0.
    fn encode(&self, table: &Table) -> Result<Bytes, LakeError> {
        let name = table.name();
        let json = |source| LakeError::Json { table: name.to_owned(), source };
        let columns = schema::to_delta(name, &self.schema)?;
        let metadata = new_metadata(&columns, &self.partition_by, &self.properties)
            .map_err(|source| table.log_failed("define", source.into()))?;
        let protocol: Protocol =
            serde_json::from_value(json!({ "minReaderVersion": 1, "minWriterVersion": 2 })).map_err(json)?;
        let operation = DeltaOperation::Create {
            mode: SaveMode::ErrorIfExists,
            location: table.bucket().url().join(name).unwrap_or_else(|_| table.log().root_url().clone()),
            protocol: protocol.clone(),
            metadata: metadata.clone(),
        };
        let actions = vec![Action::Protocol(protocol), Action::Metadata(metadata)];
        let commit = CommitData::new(actions, operation, HashMap::new(), Vec::new());
        commit.get_bytes().map_err(|source| table.log_failed("define", source.into()))
    }
}

impl Table {
    /// Opens the table, or makes it. Of several processes that try at once one makes it and the others find it; an existing table is not changed.
    ///
    /// # Errors
    /// `Name` and `Refused` for what cannot be a table, `Protocol` for one that is beyond us, `Store` and `Log` when the store does not answer.
    pub async fn open_or_create(
        bucket: &Bucket,
        name: &str,
        definition: &TableDefinition,
    ) -> Result<Self, LakeError> {
        let table = Self::at(bucket, name)?;
        if table.exists().await? {
            return Ok(table);
        }
        definition.check(name)?;
        let bytes = definition.encode(&table)?;
        let mut attempt = 0;
        loop {
            attempt += 1;
            let entry = CommitOrBytes::LogBytes(bytes.clone());
            let Err(error) = table.log().write_commit_entry(0, entry, Uuid::new_v4()).await else {
                return Ok(table);
            };
            // Whatever the store said: if the table is there, somebody made it, perhaps we.
            match table.exists().await {
                Ok(true) => return Ok(table),
                Ok(false) | Err(_) if attempt < ATTEMPTS_MAX => {
                    tracing::debug!(table = name, %error, attempt, "a table could not be made yet");
                    tokio::time::sleep(WAIT_MAX.mul_f64(fastrand::f64())).await;
                }
                Ok(false) => return Err(table.log_failed("make", error.into())),
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::{FaultyStore, LogFault};
    use crate::fixture::{self, commits, faulty};
    use arrow::datatypes::{Field, Schema};
    use std::sync::Arc;

    #[tokio::test(start_paused = true)]
    async fn whatever_the_store_answers_a_table_is_made_once() {
        let scripts =
            [LogFault::FailBefore, LogFault::FailAfter, LogFault::ExistsAfter, LogFault::FailThenApply];
        for fault in scripts {
            let (store, bucket): (Arc<FaultyStore>, Bucket) = faulty();
            store.script([fault]);
            let table = Table::open_or_create(&bucket, "t", &fixture::definition()).await.unwrap();
            assert_eq!(
                (table.snapshot().await.unwrap().version(), commits(&bucket).await),
                (0, 1),
                "{fault:?}"
            );
        }
    }

    #[tokio::test]
    async fn what_cannot_be_a_table_is_refused() {
        let text = Arc::new(Schema::new(vec![
            Field::new("a", DataType::Utf8, true),
            Field::new("n", DataType::Int64, true),
        ]));
        let definition = |partition_by: &[&str], properties: &[(&str, &str)]| TableDefinition {
            schema: text.clone(),
            partition_by: partition_by.iter().map(ToString::to_string).collect(),
            properties: properties.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect(),
        };
        let bucket = Bucket::memory("b");
        for bad in [
            definition(&["a"], &[]),
            definition(&["none"], &[]),
            definition(&[], &[(FORBIDDEN_PROPERTY, "interval 1 day")]),
        ] {
            let error = Table::open_or_create(&bucket, "t", &bad).await.unwrap_err();
            assert!(matches!(error, LakeError::Refused { what: "definition", .. }), "{error}");
        }
        let error = Table::open_or_create(&bucket, "../t", &definition(&[], &[])).await.unwrap_err();
        assert!(matches!(error, LakeError::Name { .. }), "{error}");
        assert!(Table::open(&bucket, "t").await.unwrap().is_none());
    }
}
