//! What is to be committed, and what became of it.

use crate::{DataFile, LakeError, NewFile, Snapshot};
use arrow::datatypes::SchemaRef;
use object_store::path::Path;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

/// A property that would make a table forget its fences.
pub(crate) const FORBIDDEN_PROPERTY: &str = "delta.setTransactionRetentionDuration";

/// Files that were uploaded longer ago than this are not committed any more: whoever removes uploads that were never committed waits twice as long
/// ([`crate::upkeep::SAFE_AGE_MIN`]), so that the two never meet. No upload is on its way for hours; one that is so old waited for a store that was away.
pub const UPLOAD_AGE_MAX: Duration = Duration::from_secs(12 * 60 * 60);

/// Why a commit is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Operation {
    /// New rows.
    #[default]
    Append,
    /// New columns or properties.
    Schema,
    /// Rows in the place of others.
    Replace,
    /// The same rows in other files.
    Compact,
    /// New rows, decided on by another table's commit.
    Redo,
    /// Rows that have been kept as long as they shall be.
    Retire,
    /// Nothing of the table itself: who looks after it for the next time.
    Lease,
}

/// What is to be committed.
///
/// A plan that is committed twice is applied once, provided that it moves a fence: `set` differs from `expect` in at least one app.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// Why.
    pub operation: Operation,
    /// The fences: each app's txn must be exactly this in the version before, or the plan is refused as fenced.
    pub expect: BTreeMap<String, Option<i64>>,
    /// What they become.
    pub set: BTreeMap<String, i64>,
    /// Files that become part of the table.
    pub adds: Vec<NewFile>,
    /// Files of another table that are to be committed there because this commit says so ([`Operation::Redo`]): from then on they are held, however long that takes.
    pub promises: Vec<NewFile>,
    /// Files that cease to be part of it. They need `on_snapshot`, and the caller fences them by the table's `maint` txn ([`crate::Table::maintenance_app`]).
    pub removes: Vec<DataFile>,
    /// Whether the rows of the table change; false when they are only arranged anew.
    pub data_change: bool,
    /// The table's columns from now on: what it had, and more.
    pub schema: Option<SchemaRef>,
    /// Properties of the table to be set, beside those it has.
    pub properties: BTreeMap<String, String>,
    /// What the commit says about itself.
    pub info: Map<String, Value>,
    /// It may be committed on exactly this version only.
    pub on_snapshot: Option<Arc<Snapshot>>,
    /// The table's columns and properties must still be those of this version. For appends whose files were written for them, and for changes of them.
    pub metadata_of: Option<Arc<Snapshot>>,
}

/// What became of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is part of the table, by this version.
    Applied {
        /// The version that this very plan made.
        version: i64,
    },
    /// Somebody else owns what it is about: nothing was committed.
    Fenced {
        /// The fence.
        app: String,
        /// What was expected there.
        expected: Option<i64>,
        /// What is there.
        found: Option<i64>,
    },
    /// The table is no longer what it was planned on: plan anew. Nothing was committed.
    Moved,
    /// A file waited for longer than [`UPLOAD_AGE_MAX`] and may be removed as one that nobody committed: upload anew. Nothing was committed.
    Stale {
        /// The file.
        path: String,
    },
}

impl Plan {
    /// What is wrong with the plan whatever the table is like.
    pub(crate) fn check(&self, table: &str) -> Result<(), LakeError> {
        let refused =
            |reason: String| Err(LakeError::Refused { what: "plan", table: table.to_owned(), reason });
        if !self.removes.is_empty() && self.on_snapshot.is_none() {
            return refused("what is removed must be planned on a snapshot".to_owned());
        }
        if self.properties.contains_key(FORBIDDEN_PROPERTY) {
            return refused(format!("{FORBIDDEN_PROPERTY} would make the table forget its fences"));
        }
        let mut paths = HashSet::new();
        for file in &self.adds {
            // `Path::parse` refuses what is empty, has `.` or `..` in it, or begins with a slash.
            if Path::parse(&file.path).is_err() || file.path.starts_with('/') || file.path.is_empty() {
                return refused(format!("{:?} is no path inside the table", file.path));
            }
            if !paths.insert(&file.path) {
                return refused(format!("{} is added twice", file.path));
            }
        }
        Ok(())
    }

    /// Why the plan cannot be committed on top of this version, if it cannot.
    pub(crate) fn refusal(&self, latest: &Snapshot, now_ms: i64) -> Result<Option<Outcome>, LakeError> {
        for (app, &expected) in &self.expect {
            let found = latest.txn(app);
            if found != expected {
                return Ok(Some(Outcome::Fenced { app: app.clone(), expected, found }));
            }
        }
        let moved = self.on_snapshot.as_ref().is_some_and(|planned| planned.version() != latest.version())
            || self.metadata_of.as_ref().is_some_and(|planned| !planned.same_metadata(latest))
            || self.schema.as_ref().is_some_and(|schema| !latest.grows_into(schema))
            || !self.finds_removes(latest);
        if moved {
            return Ok(Some(Outcome::Moved));
        }
        if let Some(path) = self.stale(now_ms) {
            return Ok(Some(Outcome::Stale { path: path.to_owned() }));
        }
        let adds: HashSet<&str> = self.adds.iter().map(|file| file.path.as_str()).collect();
        match latest.files().iter().find(|file| adds.contains(file.path.as_str())) {
            Some(file) => Err(LakeError::Refused {
                what: "plan",
                table: latest.table().to_owned(),
                reason: format!("{} is part of the table already", file.path),
            }),
            None => Ok(None),
        }
    }

    /// A file that is too old to be committed. What another table's commit decided on is held by that commit, however old it is.
    fn stale(&self, now_ms: i64) -> Option<&str> {
        if self.operation == Operation::Redo {
            return None;
        }
        let oldest = now_ms.saturating_sub(i64::try_from(UPLOAD_AGE_MAX.as_millis()).unwrap_or(i64::MAX));
        let mut uploads = self.adds.iter().chain(&self.promises);
        uploads.find(|file| file.modified_ms < oldest).map(|file| file.path.as_str())
    }

    fn finds_removes(&self, latest: &Snapshot) -> bool {
        if self.removes.is_empty() {
            return true;
        }
        let live: HashSet<&str> = latest.files().iter().map(|file| file.path.as_str()).collect();
        self.removes.iter().all(|file| live.contains(file.path.as_str()))
    }

    pub(crate) fn changes_metadata(&self) -> bool {
        self.schema.is_some() || !self.properties.is_empty()
    }
}
