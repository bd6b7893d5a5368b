//! What the tests of this package stand on.

use crate::faults::FaultyStore;
use crate::{Bucket, NewFile, Operation, Outcome, Plan, Snapshot, Table, TableDefinition};
use arrow::array::{
    ArrayRef, Date32Array, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::collections::BTreeMap;
use std::sync::Arc;
use url::Url;

/// 2026-11-21, as days and as microseconds since 1970.
pub(crate) const DAY: i32 = 20_778;
pub(crate) const MIDNIGHT: i64 = DAY as i64 * 86_400_000_000;

pub(crate) fn schema() -> SchemaRef {
    let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    Arc::new(Schema::new(vec![
        Field::new("ts", utc, true),
        Field::new("device_id", DataType::Utf8, true),
        Field::new("_offset", DataType::Int64, true),
        Field::new("date", DataType::Date32, true),
        Field::new("PM2.5", DataType::Float64, true),
    ]))
}

pub(crate) fn definition() -> TableDefinition {
    let properties = BTreeMap::from([("millstream.epoch".to_owned(), "0".to_owned())]);
    TableDefinition { schema: schema(), partition_by: vec!["date".to_owned()], properties }
}

/// Rows of (microseconds after midnight, device); the day is that of the time.
pub(crate) fn batch(rows: &[(i64, &str)]) -> RecordBatch {
    let times: Vec<i64> = rows.iter().map(|row| MIDNIGHT + row.0).collect();
    let days: Vec<i32> =
        times.iter().map(|time| i32::try_from(time.div_euclid(86_400_000_000)).unwrap()).collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC")),
        Arc::new(rows.iter().map(|row| Some(row.1)).collect::<StringArray>()),
        Arc::new((0..).zip(rows).map(|(offset, _)| Some(offset)).collect::<Int64Array>()),
        Arc::new(Date32Array::from(days)),
        Arc::new(rows.iter().map(|row| Some(row.0 as f64 / 2.0)).collect::<Float64Array>()),
    ];
    RecordBatch::try_new(schema(), columns).unwrap()
}

/// Rows of this many days, those of each day a file of several parts: few of them, with long texts none of which can be made shorter.
pub(crate) fn large(days: usize) -> RecordBatch {
    let mut random = fastrand::Rng::with_seed(7);
    let mut device = || -> String { (0..700).map(|_| random.char('!'..='\u{2fff}')).collect() };
    let devices: Vec<(i64, String)> =
        (0..9_000 * days).map(|row| ((row / 9_000) as i64 * 86_400_000_000, device())).collect();
    batch(&devices.iter().map(|(time, device)| (*time, device.as_str())).collect::<Vec<_>>())
}

/// A bucket whose store fails when it is told to.
pub(crate) fn faulty() -> (Arc<FaultyStore>, Bucket) {
    let store = Arc::new(FaultyStore::new(Arc::new(InMemory::new())));
    let bucket = Bucket::with_store("faulty", Url::parse("memory:///").unwrap(), store.clone());
    (store, bucket)
}

pub(crate) async fn table(bucket: &Bucket) -> Table {
    Table::open_or_create(bucket, "t", &definition()).await.unwrap()
}

/// Another process that has the same table open.
pub(crate) async fn another(table: &Table) -> Table {
    Table::open(table.bucket(), table.name()).await.unwrap().unwrap()
}

/// A file that need not exist: commits do not look.
pub(crate) fn file(name: &str) -> NewFile {
    NewFile {
        path: format!("date=2026-11-21/{name}.parquet"),
        size: 10,
        rows: 1,
        partition_values: BTreeMap::from([("date".to_owned(), Some("2026-11-21".to_owned()))]),
        stats: r#"{"numRecords":1,"minValues":{"_offset":1},"maxValues":{"_offset":7},"nullCount":{"_offset":0}}"#.to_owned(),
        tags: BTreeMap::from([("closed".to_owned(), "size".to_owned())]),
        modified_ms: chrono::Utc::now().timestamp_millis(),
    }
}

/// An append of one file that moves one fence.
pub(crate) fn append(name: &str, app: &str, from: Option<i64>, to: i64) -> Plan {
    Plan {
        adds: vec![file(name)],
        data_change: true,
        expect: BTreeMap::from([(app.to_owned(), from)]),
        set: BTreeMap::from([(app.to_owned(), to)]),
        ..Plan::default()
    }
}

/// The name of a file, as `append` was given it.
pub(crate) fn stem(path: &str) -> &str {
    path.trim_start_matches("date=2026-11-21/").trim_end_matches(".parquet")
}

/// The names of the table's files, sorted.
pub(crate) async fn names(table: &Table) -> Vec<String> {
    let snapshot = another(table).await.snapshot().await.unwrap();
    let mut names: Vec<String> = snapshot.files().iter().map(|file| stem(&file.path).to_owned()).collect();
    names.sort_unstable();
    names
}

pub(crate) fn applied(version: i64) -> Outcome {
    Outcome::Applied { version }
}

pub(crate) fn wider(name: &str) -> SchemaRef {
    let mut fields: Vec<Field> = schema().fields().iter().map(|field| field.as_ref().clone()).collect();
    fields.push(Field::new(name, DataType::Float64, true));
    Arc::new(Schema::new(fields))
}

pub(crate) fn growth(name: &str) -> Plan {
    Plan { operation: Operation::Schema, schema: Some(wider(name)), ..Plan::default() }
}

/// Puts one file in the place of all others, as compaction and replacement do.
pub(crate) fn rewrite(name: &str, operation: Operation, planned: &Arc<Snapshot>, table: &Table) -> Plan {
    let app = table.maintenance_app();
    let from = planned.txn(&app);
    Plan {
        operation,
        removes: planned.files().to_vec(),
        data_change: operation == Operation::Replace,
        on_snapshot: Some(planned.clone()),
        ..append(name, &app, from, from.unwrap_or(0) + 1)
    }
}

pub(crate) async fn drop_commit(table: &Table, version: i64) {
    table.store().delete(&Path::from(format!("_delta_log/{version:020}.json"))).await.unwrap();
}

fn properties(snapshot: &Snapshot) -> BTreeMap<String, String> {
    snapshot.properties().clone().into_iter().collect()
}

/// What a reader can tell two snapshots apart by.
pub(crate) fn assert_same(a: &Snapshot, b: &Snapshot) {
    let sorted = |snapshot: &Snapshot| {
        let mut files = snapshot.files().to_vec();
        files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        files
    };
    assert_eq!((a.version(), a.schema(), a.partition_by()), (b.version(), b.schema(), b.partition_by()));
    assert_eq!(properties(a), properties(b));
    assert_eq!(a.txns().collect::<Vec<_>>(), b.txns().collect::<Vec<_>>());
    assert_eq!(sorted(a), sorted(b));
}

pub(crate) async fn bytes(table: &Table, file: &NewFile) -> bytes::Bytes {
    table.store().get(&Path::from(file.path.as_str())).await.unwrap().bytes().await.unwrap()
}

pub(crate) async fn rows(table: &Table, file: &NewFile) -> RecordBatch {
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes(table, file).await).unwrap().build().unwrap();
    let batches: Vec<RecordBatch> = reader.map(Result::unwrap).collect();
    concat_batches(&batches[0].schema(), &batches).unwrap()
}

/// How many commits the table `t` has.
pub(crate) async fn commits(bucket: &Bucket) -> usize {
    let folder = Path::from("t/_delta_log");
    bucket.store().list_with_delimiter(Some(&folder)).await.unwrap().objects.len()
}
