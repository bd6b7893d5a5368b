use super::*;
use crate::fixture::{DAY, batch, definition, table};
use crate::{Bucket, Plan, TableDefinition};
use arrow::array::{AsArray, Date32Array, Float64Array, StringArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{Float64Type, TimestampMicrosecondType};
use datafusion::common::ScalarValue;
use object_store::ObjectStoreExt;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, Encoding};
use parquet::file::reader::{FileReader, SerializedFileReader};
use std::sync::Arc;

async fn bytes(table: &Table, file: &NewFile) -> bytes::Bytes {
    table.store().get(&Path::from(file.path.as_str())).await.unwrap().bytes().await.unwrap()
}

async fn rows(table: &Table, file: &NewFile) -> RecordBatch {
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes(table, file).await).unwrap().build().unwrap();
    let batches: Vec<RecordBatch> = reader.map(Result::unwrap).collect();
    concat_batches(&batches[0].schema(), &batches).unwrap()
}

#[tokio::test]
async fn rows_are_split_by_date_sorted_by_device_and_time_and_measured() {
    let dir = tempfile::tempdir().unwrap();
    for bucket in [Bucket::memory("b"), Bucket::local(dir.path()).unwrap()] {
        let table = table(&bucket).await;
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
        let devices: Vec<_> =
            read["device_id"].as_string::<i32>().iter().flatten().map(str::to_owned).collect();
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
        assert_eq!((*min, zone.as_ref()), (crate::fixture::MIDNIGHT + 3, "UTC"));
    }
}

#[tokio::test]
async fn files_are_encoded_as_promised() {
    let bucket = Bucket::memory("b");
    let table = table(&bucket).await;
    let many: Vec<(i64, &str)> =
        (0..25_000).map(|row| (row, if row % 2 == 0 { "even" } else { "odd" })).collect();
    let options = WriteOptions { row_group_rows: 10_000, ..WriteOptions::default() };
    let files = table.write(batch(&many), &options).await.unwrap();
    let reader = SerializedFileReader::new(bytes(&table, &files[0]).await).unwrap();
    let metadata = reader.metadata();
    assert_eq!(metadata.num_row_groups(), 3);
    for column in metadata.row_group(0).columns() {
        let name = column.column_path().parts().join("|");
        assert!(matches!(column.compression(), Compression::ZSTD(_)), "{name}");
        assert!(column.statistics().is_some() && column.column_index_offset().is_some(), "{name}");
        assert_eq!(column.bloom_filter_offset().is_some(), name == "device_id", "{name}");
        let encodings: Vec<Encoding> = column.encodings().collect();
        assert_eq!(
            encodings.contains(&Encoding::DELTA_BINARY_PACKED),
            ["ts", "_offset"].contains(&name.as_str()),
            "{name}: {encodings:?}"
        );
        assert_eq!(
            encodings.contains(&Encoding::RLE_DICTIONARY),
            ["device_id", "PM2.5"].contains(&name.as_str()),
            "{name}: {encodings:?}"
        );
    }
    assert!(metadata.row_group(0).columns().iter().any(|column| column.column_path().parts() == ["PM2.5"]));
    assert_eq!(rows(&table, &files[0]).await.num_rows(), many.len());
}

#[tokio::test]
async fn a_file_larger_than_a_part_arrives_whole() {
    let dir = tempfile::tempdir().unwrap();
    let bucket = Bucket::local(dir.path()).unwrap();
    let table = table(&bucket).await;
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
    assert_eq!(std::fs::read_dir(dir.path().join("_staging")).unwrap().count(), 0);
}

#[tokio::test]
async fn rows_that_are_not_the_tables_are_refused() {
    let bucket = Bucket::memory("b");
    let table = table(&bucket).await;
    let good = batch(&[(1, "a")]);
    let without_date = good.project(&[0, 1]).unwrap();
    let text: arrow::array::ArrayRef = Arc::new(StringArray::from(vec!["x"]));
    let other_type =
        RecordBatch::try_from_iter([("date", good["date"].clone()), ("PM2.5", text.clone())]).unwrap();
    let unknown = RecordBatch::try_from_iter([("date", good["date"].clone()), ("unknown", text)]).unwrap();
    for bad in [without_date, other_type, unknown] {
        let error = table.write(bad, &WriteOptions::default()).await.unwrap_err();
        assert!(matches!(error, LakeError::Refused { what: "batch", .. }), "{error}");
    }
    assert!(table.write(good.slice(0, 0), &WriteOptions::default()).await.unwrap().is_empty());
}

#[tokio::test]
async fn rows_without_a_date_and_tables_without_partitions_have_their_place() {
    let bucket = Bucket::memory("b");
    let table = table(&bucket).await;
    let no_date: arrow::array::ArrayRef = Arc::new(Date32Array::from(vec![None, Some(DAY)]));
    let devices: arrow::array::ArrayRef = Arc::new(StringArray::from(vec!["a", "../../etc"]));
    let batch = RecordBatch::try_from_iter([("date", no_date), ("device_id", devices)]).unwrap();
    let files = table.write(batch.clone(), &WriteOptions::default()).await.unwrap();
    assert_eq!(files[0].partition_values["date"], None);
    assert!(files[0].path.starts_with("date=__HIVE_DEFAULT_PARTITION__/part-"));
    assert!(files.iter().all(|file| !file.path.contains("..") && !file.path.contains("etc")));
    let flat = TableDefinition { partition_by: Vec::new(), ..definition() };
    let flat = Table::open_or_create(&bucket, "flat", &flat).await.unwrap();
    let files = flat.write(batch, &WriteOptions::default()).await.unwrap();
    assert_eq!((files.len(), files[0].rows, files[0].partition_values.len()), (1, 2, 0));
    assert!(files[0].path.starts_with("part-"));
    assert!(rows(&flat, &files[0]).await.column_by_name("date").is_some());
}

#[tokio::test]
async fn an_upload_that_fails_is_an_error_worth_a_retry_and_hangs_nobody() {
    let (store, bucket) = crate::fixture::faulty();
    let table = table(&bucket).await;
    // Small enough for one put; large enough for parts, with the encoder still at work when the first one fails.
    let mut random = fastrand::Rng::with_seed(7);
    let large: Vec<(i64, &str)> = (0..700_000).map(|_| (random.i64(0..1 << 36), "d")).collect();
    for rows in [&large[..10], &large[..]] {
        store.fail_uploads(1);
        let error = table.write(batch(rows), &WriteOptions::default()).await.unwrap_err();
        assert!(matches!(error, LakeError::Store { .. }), "{error}");
        assert_eq!(error.fault(), millstream_model::fault::Fault::Retry);
        assert_eq!(
            table.write(batch(rows), &WriteOptions::default()).await.unwrap()[0].rows,
            rows.len() as u64
        );
    }
}
