//! What a table's files promise, wherever they lie.

use super::Place;
use crate::faults::FaultyStore;
use crate::fixture::{DAY, MIDNIGHT, applied, batch, bytes, growth, large, rows, table, wider};
use crate::provider::SnapshotProvider;
use crate::{Bucket, LakeError, Plan, WriteOptions};
use arrow::array::{AsArray, Date32Array, Float64Array, RecordBatch, StringArray};
use arrow::datatypes::{Float64Type, Int64Type, TimestampMicrosecondType};
use datafusion::common::ScalarValue;
use datafusion::prelude::SessionContext;
use std::sync::Arc;

pub(super) async fn rows_of_a_new_column_follow_the_commit_that_made_it(place: &Place) {
    let bucket = &place.bucket;
    let (table, other) = (table(bucket).await, table(bucket).await);
    let old = batch(&[(1, "a")]);
    let mut columns = old.columns().to_vec();
    columns.push(columns[4].clone());
    let new = RecordBatch::try_new(wider("temp"), columns).unwrap();
    let refused = table.write(new.clone(), &WriteOptions::default()).await.unwrap_err();
    assert!(matches!(refused, LakeError::Refused { what: "batch", .. }), "{refused}");
    other.commit(growth("temp")).await.unwrap();
    let adds = table.write(new, &WriteOptions::default()).await.unwrap();
    let plan = Plan { adds, data_change: true, ..Plan::default() };
    assert_eq!(table.commit(plan).await.unwrap(), applied(2));
    let snapshot = table.snapshot().await.unwrap();
    let stats = snapshot.files()[0].stats.clone().unwrap();
    assert_eq!(stats.min("temp"), stats.min("PM2.5"));
}

pub(super) async fn rows_are_split_by_date_sorted_by_device_and_time_and_measured(place: &Place) {
    let bucket = &place.bucket;
    let table = table(bucket).await;
    let mixed = batch(&[(7, "b"), (-1, "b"), (3, "b"), (9, "a"), (-2, "a")]);
    let files = table.write(mixed, &WriteOptions::default()).await.unwrap();
    assert_eq!(files.iter().map(|file| file.rows).collect::<Vec<_>>(), [2, 3]);
    assert!(
        files[0].path.starts_with("date=2026-11-20/part-")
            && files[1].path.starts_with("date=2026-11-21/part-")
    );
    assert!(files[1].path.ends_with(".zstd.parquet"));
    let read = rows(&table, &files[1]).await;
    assert!(
        read.column_by_name("date").is_none(),
        "the folder and the commit say the date, the file does not"
    );
    let devices: Vec<_> = read["device_id"].as_string::<i32>().iter().flatten().map(str::to_owned).collect();
    let times = read["ts"].as_primitive::<TimestampMicrosecondType>().values();
    assert_eq!(
        (devices, times[0] > times[1], times[1] < times[2]),
        (vec!["a".to_owned(), "b".into(), "b".into()], true, true)
    );
    for file in &files {
        assert_eq!(bytes(&table, file).await.len() as u64, file.size);
    }
    table.commit(Plan { adds: files, data_change: true, ..Plan::default() }).await.unwrap();
    let snapshot = table.snapshot().await.unwrap();
    let newer = &snapshot.files()[1];
    let stats = newer.stats.clone().unwrap();
    assert_eq!((newer.rows, newer.partition_values["date"].as_deref()), (Some(3), Some("2026-11-21")));
    assert_eq!(stats.min("device_id"), Some(&ScalarValue::from("a")));
    assert_eq!(stats.max("_offset"), Some(&ScalarValue::Int64(Some(3))));
    assert_eq!(stats.nulls("PM2.5"), Some(0));
    let (ScalarValue::TimestampMicrosecond(Some(min), Some(zone)), Some(_)) =
        (stats.min("ts").unwrap(), stats.max("ts"))
    else {
        panic!("{stats:?}")
    };
    assert_eq!((*min, zone.as_ref()), (MIDNIGHT + 3, "UTC"));
}

pub(super) async fn a_file_larger_than_a_part_arrives_whole(place: &Place) {
    let bucket = &place.bucket;
    let table = table(bucket).await;
    let count = 1_500_000;
    let noise = |seed| {
        let mut random = fastrand::Rng::with_seed(seed);
        (0..count).map(|_| random.f64()).collect::<Float64Array>()
    };
    let devices = StringArray::from_iter_values((0..count).map(|_| "d"));
    let columns: [(&str, arrow::array::ArrayRef); 3] = [
        ("device_id", Arc::new(devices)),
        ("date", Arc::new(Date32Array::from(vec![DAY; count]))),
        ("PM2.5", Arc::new(noise(1))),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let files = table.write(batch, &WriteOptions::default()).await.unwrap();
    assert!(files[0].size > 8 << 20, "{}", files[0].size);
    let read = rows(&table, &files[0]).await;
    assert_eq!((read.num_rows(), bytes(&table, &files[0]).await.len() as u64), (count, files[0].size));
    let sum = |values: &Float64Array| values.values().iter().sum::<f64>();
    assert!((sum(read["PM2.5"].as_primitive::<Float64Type>()) - sum(&noise(1))).abs() < 1e-3);
    place.assert_staged(0);
}

pub(super) async fn when_one_of_several_files_fails_no_parts_of_any_stay(place: &Place) {
    let store = Arc::new(FaultyStore::new(place.bucket.store()));
    let bucket = Bucket::with_store("b", place.bucket.url().clone(), store.clone());
    let table = table(&bucket).await;
    let rows = large(2);
    // How far the other file is by then is up to chance.
    for passing in 1..4 {
        store.fail_part_after(passing);
        let error = table.write(rows.clone(), &WriteOptions::default()).await.unwrap_err();
        assert!(matches!(error, LakeError::Store { .. }), "{error}");
        assert_eq!(store.uploads_open(), 0, "after {passing} parts");
        place.assert_staged(0);
    }
}

pub(super) async fn a_query_reads_what_was_committed(place: &Place) {
    let table = table(&place.bucket).await;
    for device in ["a", "b"] {
        let rows: Vec<(i64, &str)> = (0..1_000).map(|row| (row, device)).collect();
        let adds = table.write(batch(&rows), &WriteOptions::default()).await.unwrap();
        table.commit(Plan { adds, data_change: true, ..Plan::default() }).await.unwrap();
    }
    let context = SessionContext::new();
    let provider = SnapshotProvider::new(&place.bucket, table.snapshot().await.unwrap(), &table);
    context.register_table("t", provider).unwrap();
    let check = async |sql: &str, expected: i64| {
        let batches = context.sql(sql).await.unwrap().collect().await.unwrap();
        assert_eq!(batches[0].column(0).as_primitive::<Int64Type>().value(0), expected, "{sql}");
    };
    check("select count(*) from t", 2_000).await;
    check("select sum(_offset) from t where device_id = 'b'", 499_500).await;
    check("select count(*) from t where device_id = 'c'", 0).await;
}
