//! What a user reads when something is wrong.

use crate::fixture::{FIRST_DAY, append, readings, session, table, telemetry_schema};
use millstream_lake::Bucket;
use millstream_model::fault::Fault;
use millstream_query::{Lakehouse, Limits, QueryErrorKind, Session};

/// Runs the query to its end, and keeps what is said about it.
async fn check(name: &str, sql: &str, kind: QueryErrorKind) {
    let session = session().await;
    let error = match session.query(sql).await {
        Err(error) => error,
        Ok(answer) => answer.collect().await.expect_err(sql),
    };
    assert_eq!(error.kind(), kind, "{}", error.render(sql, false));
    insta::assert_snapshot!(name, error.render(sql, false));
}

#[tokio::test]
async fn syntax() {
    let kind = QueryErrorKind::Syntax;
    check("a_word_misspelt", "select device_id\nform telemetry where temp > 1", kind).await;
    check("an_end_too_early", "select device_id from", kind).await;
    check("a_string_without_end", "select *\nfrom telemetry where device_id = 'd1", kind).await;
    check("a_dotted_name_without_quotes", "select PM2.5 from telemetry", kind).await;
    check("a_second_statement", "select 1;\nselect 2", kind).await;
}

#[tokio::test]
async fn names() {
    check("an_unknown_table", "select *\nfrom telemetri t", QueryErrorKind::UnknownTable).await;
    check("an_unknown_schema", "select * from lake.telemetry", QueryErrorKind::UnknownTable).await;
    check("an_unknown_column", "select device_id,\n       tmp from telemetry", QueryErrorKind::UnknownColumn)
        .await;
    check("a_column_in_capitals", "select avg(TEMP_F) from telemetry", QueryErrorKind::UnknownColumn).await;
    check("a_column_of_an_alias", "select t.humidity from telemetry t", QueryErrorKind::UnknownColumn).await;
    check(
        "text_in_double_quotes",
        "select * from telemetry where device_id = \"d1\"",
        QueryErrorKind::UnknownColumn,
    )
    .await;
    check("an_unknown_function", "select averge(temp) from telemetry", QueryErrorKind::UnknownFunction).await;
    check(
        "a_column_of_two_tables",
        "select temp from telemetry a join telemetry b on a.ts = b.ts",
        QueryErrorKind::Meaning,
    )
    .await;
}

#[tokio::test]
async fn types() {
    let kind = QueryErrorKind::Meaning;
    check("a_sum_of_text", "select sum(device_id) from telemetry", kind).await;
    check("tables_by_a_pattern", "show tables like 't%'", kind).await;
    check("a_function_of_too_many", "select round(temp, 1, 2) from telemetry", kind).await;
    check("text_and_interval", "select device_id + interval '1 day' from telemetry", kind).await;
    check("a_column_that_is_not_grouped", "select device_id, avg(temp) from telemetry", kind).await;
    check("columns_of_a_union", "select ts from telemetry union all select ts, temp from telemetry", kind)
        .await;
}

#[tokio::test]
async fn changes() {
    let kind = QueryErrorKind::Forbidden;
    check("a_delete", "delete from telemetry", kind).await;
    check("a_copy", "-- export\ncopy telemetry to 'x.csv'", kind).await;
    check("an_external_table", "create external table t stored as parquet location '/etc/'", kind).await;
    check("a_setting", "set datafusion.execution.batch_size = 1", kind).await;
    check("select_into", "select * into t from telemetry", kind).await;
    check("a_sample", "select * from telemetry tablesample (10 percent)", kind).await;
}

#[tokio::test]
async fn values() {
    let kind = QueryErrorKind::Value;
    check("a_division_by_zero", "select _offset / (_offset - _offset) from telemetry", kind).await;
    check("a_division_of_constants_by_zero", "select 1 / 0", kind).await;
    check(
        "text_that_is_no_number",
        "select cast(device_id as double) from telemetry where device_id = 'd1'",
        kind,
    )
    .await;
    check("text_that_is_no_instant", "select * from telemetry where ts > 'yesterday'", kind).await;
}

#[tokio::test]
async fn a_file_that_is_gone_is_a_fault_of_the_bucket() {
    let dir = tempfile::tempdir().unwrap();
    let lakehouse = Lakehouse::new(
        Bucket::local(&dir.path().join("ingestion")).unwrap(),
        Bucket::local(&dir.path().join("reporting")).unwrap(),
    );
    let telemetry = table(&lakehouse.ingestion, "telemetry", telemetry_schema()).await;
    append(&telemetry, readings(FIRST_DAY, "d1", 1.0)).await;
    let file = telemetry.snapshot().await.unwrap().files()[0].path.clone();
    std::fs::remove_file(dir.path().join("ingestion/telemetry").join(file)).unwrap();
    let session = Session::open(&lakehouse, Limits::default()).await.unwrap();
    let sql = "select sum(temp) from telemetry";
    let error = session.query(sql).await.unwrap().collect().await.unwrap_err();
    assert_eq!((error.kind(), error.fault()), (QueryErrorKind::Storage, Fault::Retry));
    assert!(
        error.render(sql, false).starts_with("error: failed to read the bucket\n"),
        "{}",
        error.render(sql, false)
    );

    std::fs::write(dir.path().join("ingestion/telemetry/_delta_log/00000000000000000001.json"), "{not json")
        .unwrap();
    let error = session.query(sql).await.unwrap_err();
    assert_eq!(error.kind(), QueryErrorKind::Storage, "{}", error.render(sql, false));
}
