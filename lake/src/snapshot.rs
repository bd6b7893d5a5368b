//! One version of a table: its columns, its fences and its files.
//!
//! A snapshot is made by replaying the log once (`refresh`) and from then on by applying the commits that follow, one by one.

use crate::{DataFile, LakeError, NewFile, schema};
use arrow::datatypes::{Schema, SchemaRef};
use deltalake_core::kernel::{Action, Metadata, Protocol};
use std::collections::{BTreeMap, HashMap, HashSet};

/// The newest reader and writer of the Delta protocol that are understood here.
const READER_MAX: i32 = 1;
const WRITER_MAX: i32 = 2;

/// One version of a table.
#[derive(Debug, Clone)]
pub struct Snapshot {
    table: String,
    version: i64,
    metadata: Metadata,
    schema: SchemaRef,
    txns: BTreeMap<String, Txn>,
    files: Vec<DataFile>,
}

/// A fence, and the commit that last moved it where that is known: a checkpoint does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Txn {
    pub(crate) value: i64,
    pub(crate) commit: Option<i64>,
}

impl Snapshot {
    pub(crate) fn new(
        table: &str,
        version: i64,
        protocol: &Protocol,
        metadata: Metadata,
        txns: BTreeMap<String, Txn>,
    ) -> Result<Self, LakeError> {
        check_protocol(table, protocol)?;
        let schema = schema::of_metadata(table, &metadata)?;
        Ok(Self { table: table.to_owned(), version, metadata, schema, txns, files: Vec::new() })
    }

    /// The name of the table.
    #[must_use]
    pub fn table(&self) -> &str {
        &self.table
    }

    /// What tells this table from every other, also from one of the same name that was made in its place.
    #[must_use]
    pub fn id(&self) -> &str {
        self.metadata.id()
    }

    /// The number of this version, from 0.
    #[must_use]
    pub fn version(&self) -> i64 {
        self.version
    }

    /// All columns, in the table's order, the partition columns among them.
    #[must_use]
    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    /// The columns by which the files are split.
    #[must_use]
    pub fn partition_by(&self) -> &[String] {
        self.metadata.partition_columns()
    }

    /// A property of the table.
    #[must_use]
    pub fn property(&self, key: &str) -> Option<&str> {
        self.metadata.configuration().get(key).map(String::as_str)
    }

    /// All properties of the table.
    #[must_use]
    pub fn properties(&self) -> &HashMap<String, String> {
        self.metadata.configuration()
    }

    /// How far the app has come in this table. Costs a look into a map.
    #[must_use]
    pub fn txn(&self, app: &str) -> Option<i64> {
        self.txns.get(app).map(|txn| txn.value)
    }

    /// How far every app has come.
    pub fn txns(&self) -> impl Iterator<Item = (&str, i64)> {
        self.txns.iter().map(|(app, txn)| (app.as_str(), txn.value))
    }

    /// The files that make up this version.
    #[must_use]
    pub fn files(&self) -> &[DataFile] {
        &self.files
    }

    /// This version with files beside its own that a commit will add: what it will be like, for whoever knows that commit.
    #[must_use]
    pub fn with_added(&self, files: &[NewFile]) -> Self {
        let added = files.iter().map(|file| DataFile::added(file.to_add(true), &self.schema));
        let mut with = self.clone();
        with.files.extend(added);
        with
    }

    pub(crate) fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The commit that last moved this fence, where the commits that were replayed say so.
    pub(crate) fn txn_commit(&self, app: &str) -> Option<i64> {
        self.txns.get(app)?.commit
    }

    pub(crate) fn same_metadata(&self, other: &Self) -> bool {
        self.metadata == other.metadata
    }

    /// Whether `wider` has every column that is here, of the same type.
    pub(crate) fn grows_into(&self, wider: &Schema) -> bool {
        self.schema.fields().iter().all(|field| {
            wider.field_with_name(field.name()).is_ok_and(|other| other.data_type() == field.data_type())
        })
    }

    pub(crate) fn insert_file(&mut self, file: DataFile) {
        self.files.push(file);
    }

    /// Becomes the next version by what its commit says.
    pub(crate) fn advance(&mut self, version: i64, actions: Vec<Action>) -> Result<(), LakeError> {
        let mut added = Vec::new();
        let mut gone = HashSet::new();
        for action in actions {
            match action {
                Action::Metadata(metadata) => {
                    self.schema = schema::of_metadata(&self.table, &metadata)?;
                    self.metadata = metadata;
                }
                Action::Protocol(protocol) => check_protocol(&self.table, &protocol)?,
                Action::Add(add) => added.push(add),
                Action::Remove(remove) => _ = gone.insert(remove.path),
                Action::Txn(txn) => {
                    self.txns.insert(txn.app_id, Txn { value: txn.version, commit: Some(version) });
                }
                Action::Cdc(_) | Action::CommitInfo(_) | Action::DomainMetadata(_) => {}
            }
        }
        // A file that is added again replaces what was said about it.
        gone.extend(added.iter().map(|add| add.path.clone()));
        if !gone.is_empty() {
            self.files.retain(|file| !gone.contains(&file.path));
        }
        self.files.extend(added.into_iter().map(|add| DataFile::added(add, &self.schema)));
        self.version = version;
        Ok(())
    }
}

pub(crate) fn check_protocol(table: &str, protocol: &Protocol) -> Result<(), LakeError> {
    let (reader, writer) = (protocol.min_reader_version(), protocol.min_writer_version());
    if reader > READER_MAX || writer > WRITER_MAX {
        return Err(LakeError::Protocol { table: table.to_owned(), reader, writer });
    }
    Ok(())
}
