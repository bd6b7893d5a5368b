//! The files of a table: one that was uploaded and awaits its commit, and one that is part of a version.

use crate::FileStats;
use arrow::datatypes::SchemaRef;
use chrono::Utc;
use deltalake_core::kernel::{Add, Remove};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};

/// A data file that was uploaded and that nobody sees until it is committed.
///
/// It goes through JSON unchanged, so that one commit can carry the files of another table which are to be committed there afterwards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewFile {
    /// Where it lies, relative to the folder of its table.
    pub path: String,
    /// In bytes.
    pub size: u64,
    /// How many rows it has.
    pub rows: u64,
    /// Column to value, as Delta writes it; none stands for null.
    pub partition_values: BTreeMap<String, Option<String>>,
    /// Delta's statistics, as JSON.
    pub stats: String,
    /// What the audit needs to know about it after its commit is cleaned away.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// When it was finished, in milliseconds since 1970.
    pub modified_ms: i64,
}

impl NewFile {
    pub(crate) fn to_add(&self, data_change: bool) -> Add {
        Add {
            path: self.path.clone(),
            partition_values: self.partition_values.clone().into_iter().collect(),
            size: i64::try_from(self.size).unwrap_or(i64::MAX),
            modification_time: self.modified_ms,
            data_change,
            stats: Some(self.stats.clone()),
            tags: (!self.tags.is_empty())
                .then(|| self.tags.iter().map(|(key, value)| (key.clone(), Some(value.clone()))).collect()),
            ..Add::default()
        }
    }
}

/// A data file of a version of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct DataFile {
    /// Where it lies, relative to the folder of its table, decoded.
    pub path: String,
    /// In bytes.
    pub size: u64,
    /// How many rows it has, if its writer said so.
    pub rows: Option<u64>,
    /// Column to value, as Delta writes it; none stands for null.
    pub partition_values: BTreeMap<String, Option<String>>,
    /// Between what its values lie, if its writer said so.
    pub stats: Option<FileStats>,
    /// What its writer said about it.
    pub tags: BTreeMap<String, String>,
    /// When it was finished, in milliseconds since 1970.
    pub modified_ms: i64,
}

impl DataFile {
    /// A file that a commit adds to a table of this schema.
    pub(crate) fn added(add: Add, schema: &SchemaRef) -> Self {
        let stats =
            add.stats.filter(|text| !text.is_empty()).map(|text| FileStats::new(text, schema.clone()));
        Self {
            path: add.path,
            size: u64::try_from(add.size).unwrap_or(0),
            rows: stats.as_ref().and_then(FileStats::rows),
            partition_values: add.partition_values.into_iter().collect(),
            stats,
            tags: present(add.tags),
            modified_ms: add.modification_time,
        }
    }

    /// A file that a commit removes: of its contents the commit says nothing.
    pub(crate) fn removed(remove: Remove) -> Self {
        Self {
            path: remove.path,
            size: remove.size.and_then(|size| u64::try_from(size).ok()).unwrap_or(0),
            rows: None,
            partition_values: remove.partition_values.unwrap_or_default().into_iter().collect(),
            stats: None,
            tags: present(remove.tags),
            modified_ms: remove.deletion_timestamp.unwrap_or(0),
        }
    }

    pub(crate) fn to_remove(&self, data_change: bool) -> Remove {
        Remove {
            path: self.path.clone(),
            data_change,
            deletion_timestamp: Some(Utc::now().timestamp_millis()),
            extended_file_metadata: Some(true),
            partition_values: Some(self.partition_values.clone().into_iter().collect()),
            size: i64::try_from(self.size).ok(),
            ..Remove::default()
        }
    }
}

fn present(tags: Option<HashMap<String, Option<String>>>) -> BTreeMap<String, String> {
    tags.into_iter().flatten().filter_map(|(key, value)| Some((key, value?))).collect()
}
