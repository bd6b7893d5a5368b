use super::*;
use crate::fixture::{DAY, batch, bytes, definition, large, rows, table};
use crate::{Bucket, TableDefinition};
use arrow::array::{Date32Array, StringArray};
use parquet::basic::{Compression, Encoding};
use parquet::file::reader::{FileReader, SerializedFileReader};
use std::sync::Arc;

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

#[tokio::test]
async fn whichever_part_of_a_file_fails_the_store_keeps_none_of_them() {
    let (store, bucket) = crate::fixture::faulty();
    let table = table(&bucket).await;
    let rows = large(1);
    let written = table.write(rows.clone(), &WriteOptions::default()).await.unwrap();
    let parts = written[0].size.div_ceil(8 << 20);
    assert!((2..10).contains(&parts), "{parts}");
    // The last one is only waited for when the file is to be completed.
    for failing in [0, parts - 1] {
        store.fail_part_after(u32::try_from(failing).unwrap());
        let error = table.write(rows.clone(), &WriteOptions::default()).await.unwrap_err();
        assert!(matches!(error, LakeError::Store { .. }), "{error}");
        assert_eq!(store.uploads_open(), 0, "part {failing} of {parts}");
    }
}
