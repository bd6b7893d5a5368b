//! A compaction as the lake's rules want it, in a few lines: one date's files become one, on the very snapshot on which that was planned.

use arrow::array::{ArrayRef, Date32Array, new_null_array};
use arrow::compute::concat_batches;
use arrow::record_batch::RecordBatch;
use chrono::NaiveDate;
use millstream_lake::{Bucket, DataFile, Operation, Outcome, Plan, Snapshot, Table, WriteOptions};
use millstream_model::column::reserved;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Merges the files of the date that has most of them, if these are so many. `false` if they are not, or if another commit came between.
pub(crate) async fn compact(bucket: &Bucket, name: &str, at_least: usize) -> bool {
    let Some(table) = Table::open(bucket, name).await.unwrap() else { return false };
    let snapshot = table.snapshot().await.unwrap();
    let Some((date, removes)) = fullest(&snapshot).filter(|(_, files)| files.len() >= at_least) else {
        return false;
    };
    let mut batches = Vec::new();
    for file in &removes {
        let path = Path::parse(&file.path).unwrap();
        let bytes = table.store().get(&path).await.unwrap().bytes().await.unwrap();
        let read = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap();
        batches.extend(read.map(|batch| conform(&batch.unwrap(), &snapshot, &date)));
    }
    let rows = concat_batches(&snapshot.schema(), &batches).unwrap();
    let adds = table.write(rows, &WriteOptions::default()).await.unwrap();
    let maint = table.maintenance_app();
    let before = snapshot.txn(&maint);
    let plan = Plan {
        operation: Operation::Compact,
        expect: BTreeMap::from([(maint.clone(), before)]),
        set: BTreeMap::from([(maint, before.unwrap_or_default() + 1)]),
        adds,
        removes,
        data_change: false,
        on_snapshot: Some(snapshot),
        ..Plan::default()
    };
    matches!(table.commit(plan).await.unwrap(), Outcome::Applied { .. })
}

fn fullest(snapshot: &Snapshot) -> Option<(String, Vec<DataFile>)> {
    let mut dates: BTreeMap<String, Vec<DataFile>> = BTreeMap::new();
    for file in snapshot.files() {
        let date = file.partition_values[reserved::DATE].clone().unwrap();
        dates.entry(date).or_default().push(file.clone());
    }
    dates.into_iter().max_by_key(|(_, files)| files.len())
}

/// The rows with all columns of the table, those that their file does not have among them.
fn conform(batch: &RecordBatch, snapshot: &Snapshot, date: &str) -> RecordBatch {
    let days = (date.parse::<NaiveDate>().unwrap() - NaiveDate::default()).num_days();
    let schema = snapshot.schema();
    let columns = schema.fields().iter().map(|field| match batch.column_by_name(field.name()) {
        Some(column) => Arc::clone(column),
        None if field.name() == reserved::DATE => {
            Arc::new(Date32Array::from(vec![i32::try_from(days).unwrap(); batch.num_rows()])) as ArrayRef
        }
        None => new_null_array(field.data_type(), batch.num_rows()),
    });
    let columns = columns.collect();
    RecordBatch::try_new(schema, columns).unwrap()
}
