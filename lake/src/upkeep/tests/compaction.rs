//! Merging keeps every row, in order, whatever the files are like.

use super::*;
use crate::fixture::{DAY, MIDNIGHT, batch, bytes, faulty, growth, rows, table, wider};
use crate::{Bucket, NewFile};
use arrow::array::{Date32Array, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray};
use chrono::TimeDelta;
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
    let tended = tend(&table, rules(), later()).await;
    assert_eq!((tended.before.files, tended.after.files), (6, 2));
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
