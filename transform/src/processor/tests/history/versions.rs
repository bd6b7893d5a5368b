//! Every version that a table ever had: its transactions, and its rows as text, read from its files without the engine.

use arrow::util::display::{ArrayFormatter, FormatOptions};
use millstream_lake::{Bucket, Table};
use object_store::ObjectStoreExt;
use object_store::path::Path;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// Column to value.
pub(super) type Row = BTreeMap<String, String>;

/// What a reader of this version sees.
#[derive(Debug, Clone, Default)]
pub(super) struct Version {
    pub(super) txns: BTreeMap<String, i64>,
    files: BTreeMap<String, Arc<Vec<Row>>>,
}

impl Version {
    pub(super) fn rows(&self) -> impl Iterator<Item = &Row> {
        self.files.values().flat_map(|rows| rows.iter())
    }

    pub(super) fn txn(&self, app: &str) -> Option<i64> {
        self.txns.get(app).copied()
    }
}

/// All versions of a table, from 0 on; none if there is no table.
pub(super) async fn versions(bucket: &Bucket, name: &str) -> Vec<Version> {
    let Some(table) = Table::open(bucket, name).await.unwrap() else { return Vec::new() };
    let latest = table.snapshot().await.unwrap();
    let mut known: HashMap<String, Arc<Vec<Row>>> = HashMap::new();
    let mut versions = Vec::new();
    let mut version = Version::default();
    for commit in table.changes(-1, latest.version()).await.unwrap() {
        for file in &commit.removes {
            assert!(version.files.remove(&file.path).is_some(), "{name} removes {} twice", file.path);
        }
        for file in &commit.adds {
            let rows = match known.get(&file.path) {
                Some(rows) => Arc::clone(rows),
                None => Arc::new(read(&table, &file.path, &file.partition_values).await),
            };
            known.insert(file.path.clone(), Arc::clone(&rows));
            version.files.insert(file.path.clone(), rows);
        }
        version.txns.extend(commit.txns.clone());
        versions.push(version.clone());
    }
    let there: BTreeSet<&String> = latest.files().iter().map(|file| &file.path).collect();
    assert_eq!(there, version.files.keys().collect(), "{name}");
    versions
}

async fn read(table: &Table, path: &str, partition: &BTreeMap<String, Option<String>>) -> Vec<Row> {
    let bytes = table.store().get(&Path::parse(path).unwrap()).await.unwrap().bytes().await.unwrap();
    let options = FormatOptions::default().with_null("null");
    let mut rows = Vec::new();
    for batch in ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap().map(Result::unwrap)
    {
        let schema = batch.schema();
        let columns: Vec<_> = batch
            .columns()
            .iter()
            .zip(schema.fields())
            .map(|(column, field)| (field.name(), ArrayFormatter::try_new(column, &options).unwrap()))
            .collect();
        for row in 0..batch.num_rows() {
            let values =
                columns.iter().map(|(name, column)| ((*name).clone(), column.value(row).to_string()));
            let outside =
                partition.iter().map(|(name, value)| (name.clone(), value.clone().unwrap_or_default()));
            rows.push(values.chain(outside).collect());
        }
    }
    rows
}
