//! What one commit did.

use crate::{DataFile, LakeError};
use arrow::datatypes::SchemaRef;
use deltalake_core::kernel::{Action, CommitInfo};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// What one commit did.
#[derive(Debug, Clone, PartialEq)]
pub struct CommitSummary {
    /// The version that it made.
    pub version: i64,
    /// What its writer called it: `WRITE`, `OPTIMIZE` …
    pub operation: String,
    /// What its writer said beyond that: [`crate::Plan::info`].
    pub info: Map<String, Value>,
    /// The files that it added.
    pub adds: Vec<DataFile>,
    /// The files that it removed; of their contents nothing is known.
    pub removes: Vec<DataFile>,
    /// Whether it changed rows: false for a compaction, and for a commit without files.
    pub data_change: bool,
    /// Whether it set the table's columns or properties.
    pub metadata_change: bool,
    /// The fences that it moved.
    pub txns: BTreeMap<String, i64>,
    /// When it was made, by its writer's clock, in milliseconds since 1970; 0 if the writer did not say.
    pub timestamp_ms: i64,
}

impl CommitSummary {
    /// `schema` gives the types of the statistics.
    pub(crate) fn new(
        table: &str,
        version: i64,
        actions: Vec<Action>,
        schema: &SchemaRef,
    ) -> Result<Self, LakeError> {
        let mut summary = Self {
            version,
            operation: String::new(),
            info: Map::new(),
            adds: Vec::new(),
            removes: Vec::new(),
            data_change: false,
            metadata_change: false,
            txns: BTreeMap::new(),
            timestamp_ms: 0,
        };
        let mut schema = schema.clone();
        for action in &actions {
            if let Action::Metadata(metadata) = action {
                schema = crate::schema::of_metadata(table, metadata)?;
                summary.metadata_change = true;
            }
        }
        for action in actions {
            match action {
                Action::Add(add) => {
                    summary.data_change |= add.data_change;
                    summary.adds.push(DataFile::added(add, &schema));
                }
                Action::Remove(remove) => {
                    summary.data_change |= remove.data_change;
                    summary.removes.push(DataFile::removed(remove));
                }
                Action::Txn(txn) => _ = summary.txns.insert(txn.app_id, txn.version),
                Action::CommitInfo(info) => summary.describe(info),
                Action::Metadata(_) | Action::Protocol(_) | Action::Cdc(_) | Action::DomainMetadata(_) => {}
            }
        }
        Ok(summary)
    }

    fn describe(&mut self, info: CommitInfo) {
        self.operation = info.operation.unwrap_or_default();
        self.timestamp_ms = info.in_commit_timestamp.or(info.timestamp).unwrap_or(0);
        let mut said: Vec<_> = info.info.into_iter().collect();
        said.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        self.info = said.into_iter().collect();
    }
}
