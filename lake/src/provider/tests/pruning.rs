//! Which files are left out.

use super::*;

/// Three days, two devices a day in files of their own.
async fn six_files() -> (Bucket, Table) {
    let bucket = Bucket::memory("ingestion");
    let table = table(&bucket).await;
    for date in [20_000, 20_001, 20_002] {
        append(&table, batch(&[reading(date, "a", 10.0), reading(date, "a", 20.0)])).await;
        append(
            &table,
            batch(&[reading(date, "b", 30.0), Reading { dust: Some(7), ..reading(date, "b", 40.0) }]),
        )
        .await;
    }
    (bucket, table)
}

async fn check(provider: &Arc<SnapshotProvider>, filter: &str, rows: usize, pruned: Option<usize>) {
    let sql = format!("select temp from telemetry where {filter}");
    let asked = ask(Arc::clone(provider) as _, &sql).await;
    let found = asked.text.lines().count().saturating_sub(4);
    assert_eq!((found, asked.pruned), (rows, pruned), "{filter}\n{}", asked.text);
}

#[tokio::test]
async fn files_are_left_out_by_partition_and_by_statistics() {
    let (bucket, table) = six_files().await;
    let provider = provider(&bucket, &table).await;
    check(&provider, "true", 12, Some(0)).await;
    check(&provider, "date = date '2024-10-04'", 4, Some(4)).await;
    check(&provider, "date > date '2024-10-04'", 8, Some(2)).await;
    check(&provider, "date in (date '2024-10-04', date '2024-10-06')", 8, Some(2)).await;
    check(&provider, "extract(day from date) = 5", 4, Some(4)).await;
    check(&provider, "ts >= timestamp '2024-10-05T00:00:00Z'", 8, Some(2)).await;
    check(&provider, "ts < timestamp '2024-10-05T00:00:00Z' and device_id = 'b'", 2, Some(5)).await;
    check(&provider, "temp > 25", 6, Some(3)).await;
    check(&provider, "temp between 15 and 35", 6, Some(0)).await;
    check(&provider, "device_id like 'b%'", 6, Some(3)).await;
    check(&provider, "\"PM2.5\" = 7", 3, Some(3)).await;
    check(&provider, "\"PM2.5\" is not null", 3, Some(3)).await;
    check(&provider, "date = date '2024-10-04' or temp > 35", 6, Some(2)).await;
    check(&provider, "date = date '1999-01-01'", 0, Some(6)).await;
    check(&provider, "temp + 0 > 25", 6, Some(0)).await;
}

#[tokio::test]
async fn counts_are_answered_without_reading() {
    let (bucket, table) = six_files().await;
    let provider = provider(&bucket, &table).await;
    for (sql, expected) in [
        ("select count(*) as n from telemetry", "| 12 |"),
        ("select count(*) as n from telemetry where date = date '2024-10-04'", "| 4 "),
        ("select count(\"PM2.5\") as n from telemetry", "| 3 "),
    ] {
        let asked = ask(Arc::clone(&provider) as _, sql).await;
        assert!(asked.text.contains(expected), "{sql}\n{}", asked.text);
        assert_eq!(asked.pruned, None, "{sql}");
    }
    let asked = ask(provider, "select count(*) as n from telemetry where temp > 25").await;
    assert!(asked.text.contains("| 6 ") && asked.pruned == Some(3), "{}", asked.text);
}

#[tokio::test]
async fn a_bound_is_not_taken_for_a_value() {
    let bucket = Bucket::memory("ingestion");
    let table = table(&bucket).await;
    let long = "x".repeat(300);
    append(&table, batch(&[reading(20_000, &long, 0.1)])).await;
    let provider = provider(&bucket, &table).await;
    let asked = ask(
        provider,
        "select max(temp) = 0.1 as a, length(max(device_id)) as b, max(date) as c from telemetry",
    )
    .await;
    assert!(asked.text.contains("| true | 300 | 2024-10-04 |"), "{}", asked.text);
}

#[tokio::test]
async fn some_rows_are_taken_from_few_files() {
    let (bucket, table) = six_files().await;
    let provider = provider(&bucket, &table).await;
    let asked = ask(Arc::clone(&provider) as _, "select * from telemetry limit 3").await;
    assert_eq!((asked.text.lines().count() - 4, asked.pruned), (3, Some(4)), "{}", asked.text);
    let asked = ask(provider, "select * from telemetry where temp > 35 limit 2").await;
    assert_eq!((asked.text.lines().count() - 4, asked.pruned), (2, Some(3)), "{}", asked.text);
}

#[tokio::test]
async fn only_some_dates_are_there() {
    let (bucket, table) = six_files().await;
    let snapshot = table.snapshot().await.unwrap();
    let some = SnapshotProvider::of_dates(&bucket, snapshot, &table, &[20_001, 20_002, 30_000]);
    check(&some, "true", 8, Some(2)).await;
    check(&some, "date = date '2024-10-04'", 0, Some(6)).await;
}

#[tokio::test]
async fn the_version_stays_while_the_table_goes_on() {
    let (bucket, table) = six_files().await;
    let provider = provider(&bucket, &table).await;
    append(&table, batch(&[reading(20_003, "c", 1.0)])).await;
    check(&provider, "true", 12, Some(0)).await;
    check(&super::provider(&bucket, &table).await, "true", 13, Some(0)).await;
}

#[tokio::test]
async fn an_empty_table_has_no_rows() {
    let bucket = Bucket::memory("ingestion");
    let table = table(&bucket).await;
    let provider = provider(&bucket, &table).await;
    check(&provider, "temp > 1", 0, Some(0)).await;
    let asked = ask(provider, "select count(*) as n, max(temp) as m from telemetry").await;
    assert!(asked.text.contains("| 0 |"), "{}", asked.text);
}

#[tokio::test]
async fn a_date_that_is_null_is_a_partition_too() {
    let bucket = Bucket::memory("ingestion");
    let table = table(&bucket).await;
    append(&table, batch(&[reading(20_000, "a", 1.0), Reading { date: None, ..reading(0, "b", 2.0) }])).await;
    let provider = provider(&bucket, &table).await;
    check(&provider, "date is null", 1, Some(1)).await;
    check(&provider, "date is not null", 1, Some(1)).await;
    check(&provider, "date <> date '1999-01-01'", 1, Some(1)).await;
    check(&provider, "date is null or temp > 50", 1, Some(1)).await;
    check(&provider, "date is not null or temp > 50", 1, Some(1)).await;
    check(&provider, "date = date '1999-01-01' or temp > 50", 0, Some(2)).await;
    let asked = ask(provider, "select count(date) as n from telemetry").await;
    assert!(asked.text.contains("| 1 "), "{}", asked.text);
}
