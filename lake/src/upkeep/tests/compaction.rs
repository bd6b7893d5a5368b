//! Merging keeps every row, in order, whatever the files are like.

use super::clocked::Clocked;
use super::*;
use crate::fixture::{DAY, MIDNIGHT, append, batch, bytes, faulty, growth, rows, table, wider};
use crate::{Bucket, NewFile};
use arrow::array::{Date32Array, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray};
use chrono::TimeDelta;
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use parquet::file::reader::{FileReader, SerializedFileReader};

/// A day after the fixture's.
fn later() -> DateTime<Utc> {
    let day = chrono::NaiveDate::from_epoch_days(DAY).unwrap().and_time(chrono::NaiveTime::MIN).and_utc();
    Utc::now().max(day) + TimeDelta::days(3)
}

/// Rows as (offset, device), a microsecond apart; the day is that of `day` days after the fixture's.
pub(crate) fn readings(offsets: std::ops::Range<i64>, day: i64) -> RecordBatch {
    let count = usize::try_from(offsets.end - offsets.start).unwrap();
    let times: Vec<i64> = offsets.clone().map(|offset| MIDNIGHT + day * 86_400_000_000 + offset).collect();
    let devices: StringArray = offsets.clone().map(|offset| Some(format!("d{}", offset % 7))).collect();
    let date = DAY + i32::try_from(day).unwrap();
    let columns: Vec<arrow::array::ArrayRef> = vec![
        Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC")),
        Arc::new(devices),
        Arc::new(Int64Array::from(offsets.clone().collect::<Vec<_>>())),
        Arc::new(Date32Array::from(vec![date; count])),
        Arc::new(offsets.map(|offset| Some(offset as f64 / 4.0)).collect::<Float64Array>()),
    ];
    RecordBatch::try_new(crate::fixture::schema(), columns).unwrap()
}

fn new_file(file: &crate::DataFile) -> NewFile {
    NewFile {
        path: file.path.clone(),
        size: file.size,
        rows: 0,
        partition_values: BTreeMap::new(),
        stats: String::new(),
        tags: BTreeMap::new(),
        modified_ms: 0,
    }
}

const ALL: &str = "select count(*), count(distinct _offset), coalesce(sum(_offset), 0) from t";

#[tokio::test]
async fn merged_files_have_all_rows_in_order_and_are_written_like_any_other() {
    let bucket = Bucket::memory("b");
    let table = table(&bucket).await;
    for step in 0..10 {
        flush(&table, "app", readings(step * 100..(step + 1) * 100, 0)).await;
    }
    let before = ask(&table, ALL).await;
    let tended = tend(&table, rules(), later()).await;
    assert_eq!((tended.before.files, tended.after.files), (10, 1), "{tended:?}");
    assert_eq!((tended.compacted.merged, tended.compacted.written), (10, 1));
    assert_eq!(ask(&table, ALL).await, before);
    assert_eq!(before, [1000, 1000, 499_500]);

    let snapshot = another(&table).await.snapshot().await.unwrap();
    let file = &snapshot.files()[0];
    let stats = file.stats.as_ref().unwrap();
    assert_eq!((file.rows, stats.nulls("_offset")), (Some(1000), Some(0)));
    assert_eq!(stats.min("_offset"), Some(&datafusion::common::ScalarValue::Int64(Some(0))));
    assert_eq!(stats.max("_offset"), Some(&datafusion::common::ScalarValue::Int64(Some(999))));
    let found = rows(&table, &new_file(file)).await;
    let (devices, times) = (
        found["device_id"].as_string::<i32>(),
        found["ts"].as_primitive::<arrow::datatypes::TimestampMicrosecondType>(),
    );
    let order: Vec<(&str, i64)> = devices.iter().flatten().zip(times.values().iter().copied()).collect();
    assert!(order.is_sorted(), "by device and time");
    let reader = SerializedFileReader::new(bytes(&table, &new_file(file)).await).unwrap();
    let group = reader.metadata().row_group(0);
    let bloom: Vec<bool> =
        group.columns().iter().map(|column| column.bloom_filter_offset().is_some()).collect();
    assert_eq!(bloom, [false, true, false, false]);
    assert_eq!(group.sorting_columns().unwrap().len(), 2);
    let summary = table.commit_info(snapshot.version()).await.unwrap();
    assert_eq!(
        (summary.operation.as_str(), summary.data_change, summary.removes.len()),
        ("OPTIMIZE", false, 10)
    );
    // Nothing is left to do, and nothing is done.
    let again = tend(&table, rules(), later()).await;
    assert_eq!((again.compacted, again.after), (Compacted::default(), tended.after));
    assert_eq!(another(&table).await.snapshot().await.unwrap().version(), snapshot.version());
}

#[tokio::test]
async fn a_file_without_a_newer_column_gets_nulls_and_not_a_number_stays() {
    let bucket = Bucket::memory("b");
    let table = table(&bucket).await;
    flush(&table, "app", batch(&[(5, "b"), (3, "a")])).await;
    table.commit(growth("humidity")).await.unwrap();
    let narrow = batch(&[(4, "a"), (1, "c")]);
    let mut columns = narrow.columns().to_vec();
    columns.push(Arc::new(Float64Array::from(vec![Some(0.5), Some(f64::NAN)])));
    flush(&table, "app", RecordBatch::try_new(wider("humidity"), columns).unwrap()).await;
    let tended = tend(&table, rules(), later()).await;
    assert_eq!(tended.after.files, 1);
    assert_eq!(ask(&table, "select count(*), count(humidity) from t").await, [4, 2]);
    // SQL counts NaN as the greatest number: a bound that leaves it out would lose the row.
    assert_eq!(ask(&table, "select count(*) from t where humidity > 1e300").await, [1]);
    assert_eq!(ask(&table, "select count(*) from t where humidity is null").await, [2]);
}

#[tokio::test]
async fn each_date_is_merged_by_itself_and_rows_of_no_date_are_a_date_of_their_own() {
    let bucket = Bucket::memory("b");
    let table = table(&bucket).await;
    for step in 0..3 {
        flush(&table, "app", readings(step * 10..(step + 1) * 10, 0)).await;
        flush(&table, "app", readings(1000 + step * 10..1010 + step * 10, 1)).await;
    }
    // These never come to an end: eight of about one size become one.
    for step in 0..8 {
        let rows = readings(2000 + step..2001 + step, 0);
        let mut columns = rows.columns().to_vec();
        columns[3] = Arc::new(Date32Array::from(vec![None]));
        flush(&table, "app", RecordBatch::try_new(rows.schema(), columns).unwrap()).await;
    }
    let tended = tend(&table, rules(), later()).await;
    assert_eq!((tended.before.files, tended.after.files), (14, 3));
    assert_eq!(ask(&table, "select count(*) from t where date is null").await, [8]);
    assert_eq!(ask(&table, "select count(*) from t where date = '2026-11-21'").await, [30]);
    assert_eq!(ask(&table, "select count(*) from t where date = '2026-11-22'").await, [30]);
}

#[tokio::test]
async fn a_merge_that_fails_or_is_stopped_leaves_the_table_and_the_store_as_they_were() {
    let (store, bucket) = faulty();
    let table = table(&bucket).await;
    for step in 0..4 {
        flush(&table, "app", readings(step * 10..(step + 1) * 10, 0)).await;
    }
    let version = table.snapshot().await.unwrap().version();
    store.fail_uploads(1);
    let stop = CancellationToken::new();
    let mut upkeep = upkeep(&table, rules()).await;
    upkeep.tend(Depth::Rows, Others::Overruled, later(), &stop, |_| {}).await.unwrap_err();
    stop.cancel();
    let tended = upkeep.tend(Depth::Rows, Others::Overruled, later(), &stop, |_| {}).await.unwrap();
    assert_eq!(tended.compacted, Compacted::default());
    let snapshot = another(&table).await.snapshot().await.unwrap();
    assert_eq!((snapshot.files().len(), store.uploads_open()), (4, 0));
    assert_eq!(snapshot.version(), version);
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_named_and_nothing_else_suffers_for_it() {
    let (_, bucket) = faulty();
    let table = table(&bucket).await;
    for step in 0..12 {
        flush(&table, "app", readings(step * 10..(step + 1) * 10, 0)).await;
    }
    let orphan = table.write(readings(0..3, 0), &WriteOptions::default()).await.unwrap().remove(0).path;
    let paths: Vec<String> =
        table.snapshot().await.unwrap().files().iter().map(|file| file.path.clone()).collect();
    let (lost, garbled) = (Path::from(paths[3].as_str()), Path::from(paths[7].as_str()));
    table.store().delete(&lost).await.unwrap();
    let size = table.store().head(&garbled).await.unwrap().size;
    table.store().put(&garbled, vec![7; usize::try_from(size).unwrap()].into()).await.unwrap();
    let (stop, now) = (CancellationToken::new(), later() + TimeDelta::days(30));
    let mut keeper = upkeep(&table, rules()).await;
    let mut removed = 0;
    for _ in 0..2 {
        let ended = keeper.tend(Depth::Folder, Others::Overruled, now, &stop, |_| {}).await.unwrap_err();
        removed += ended.done.unwrap().vacuumed.unwrap().files;
        let said = ended.error.to_string();
        assert!([&lost, &garbled].iter().any(|path| said == format!("read {path} of table t")), "{said}");
    }
    let snapshot = table.snapshot().await.unwrap();
    let mut left: Vec<Option<u64>> = snapshot.files().iter().map(|file| file.rows).collect();
    left.sort_unstable();
    assert_eq!(left, [Some(10), Some(10), Some(100)]);
    table.store().head(&Path::from(orphan)).await.expect_err("the folder is looked after, too");
    // It, and by the second time the ten that were merged: whoever asked hears of both.
    assert_eq!(removed, 1 + 10);
}

#[tokio::test]
async fn what_is_foreseen_is_what_is_done_however_many_rounds_it_takes() {
    let bucket = Bucket::memory("b");
    let table = table(&bucket).await;
    let mut adds = Vec::new();
    for row in 0..300 {
        adds.extend(table.write(readings(row..row + 1, 0), &WriteOptions::default()).await.unwrap());
    }
    table.commit(Plan { adds, ..append("unused", "app", None, 1) }).await.unwrap();
    // The next commits make a checkpoint due: those of the merges are the last of them.
    for step in 1..97 {
        let nothing = Plan { adds: Vec::new(), ..append("unused", "app", Some(step), step + 1) };
        table.commit(nothing).await.unwrap();
    }
    let foreseen = upkeep(&table, rules()).await.foresee(later()).await.unwrap();
    let done = tend(&table, rules(), later()).await;
    assert_eq!((foreseen.compacted.merged, foreseen.compacted.written), (302, 3));
    assert_eq!((done.compacted.merged, done.compacted.written), (302, 3));
    assert_eq!((foreseen.after.files, done.after.files), (1, 1));
    assert!(foreseen.checkpoint && done.checkpoint);
}

#[tokio::test]
async fn a_look_at_what_is_in_order_costs_two_requests() {
    let (store, bucket) = faulty();
    let table = table(&bucket).await;
    flush(&table, "app", readings(0..10, 0)).await;
    let keep =
        Keep { time: Duration::from_secs(400 * 86_400), date: millstream_model::stream::DatePartition::Day };
    let mut keeper = upkeep(&table, Rules { keep: Some(keep), ..rules() }).await;
    let (stop, before) = (CancellationToken::new(), store.requests());
    keeper.tend(Depth::Rows, Others::Respected, later(), &stop, |_| {}).await.unwrap();
    assert_eq!(store.requests() - before, 2);
}

#[tokio::test]
async fn of_many_files_few_are_asked_for_at_once() {
    let store = Arc::new(Clocked::new(Arc::new(InMemory::new()), Utc::now()));
    let bucket = Bucket::with_store("clocked", url::Url::parse("memory:///").unwrap(), store.clone());
    let table = table(&bucket).await;
    for step in 0..40 {
        flush(&table, "app", readings(step * 10..(step + 1) * 10, 0)).await;
    }
    assert_eq!(tend(&table, rules(), later()).await.compacted.merged, 40);
    assert_eq!(store.most_at_once(), 16);
}
