//! A session: one statement, at one version, within limits.

use crate::fixture::{FIRST_DAY, append, csv, lakehouse, readings, session, table, telemetry_schema};
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use millstream_lake::Bucket;
use millstream_query::{Answer, Lakehouse, Limits, QueryError, QueryErrorKind, ScanMetrics, Session};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::task::JoinSet;

#[tokio::test]
async fn a_query_sees_what_was_committed_before_it_began_and_nothing_later() {
    let lakehouse = lakehouse().await;
    let session = Session::open(&lakehouse, Limits::default()).await.unwrap();
    let before = session.query("select count(temp) as n from telemetry where _offset >= 0").await.unwrap();
    append(
        &table(&lakehouse.ingestion, "telemetry", telemetry_schema()).await,
        readings(FIRST_DAY + 3, "d3", 1.0),
    )
    .await;
    let batches = before.collect().await.unwrap();
    let sum: i64 = batches
        .iter()
        .map(|batch| batch.column(0).as_primitive::<Int64Type>().values().iter().sum::<i64>())
        .sum();
    assert_eq!(sum, 18);
    assert_eq!(csv(&session, "select count(temp) as n from telemetry").await.unwrap(), "n\n21\n");
}

#[tokio::test]
async fn one_statement_is_one_answer() {
    let session = session().await;
    let check = async |sql: &str, place: Option<(u64, u64)>| {
        let error = session.query(sql).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.place().map(|place| place.start)),
            (QueryErrorKind::Syntax, place),
            "{sql}"
        );
    };
    check("", None).await;
    check(" -- nothing", None).await;
    check("select 1; select 2", Some((1, 11))).await;
    assert_eq!(csv(&session, "select 1 as one;").await.unwrap(), "one\n1\n");
}

#[tokio::test]
async fn the_cost_of_a_query_is_known() {
    let session = session().await;
    let mut answer = session
        .query("select sum(temp) from telemetry where date = '2026-11-20' and device_id = 'd1'")
        .await
        .unwrap();
    while answer.next().await.unwrap().is_some() {}
    let metrics = answer.metrics();
    assert_eq!((metrics.files_total, metrics.files_pruned), (6, 5));
    assert!(metrics.bytes_read > 0 && metrics.bytes_read < 20_000, "{metrics:?}");

    let mut answer = session.query("select count(*) from telemetry").await.unwrap();
    while answer.next().await.unwrap().is_some() {}
    assert_eq!(answer.metrics(), ScanMetrics::default());
}

#[tokio::test]
async fn more_memory_than_allowed_is_refused_and_spilling_is_bounded() {
    let limits =
        Limits { memory_bytes: 4 << 20, spill_bytes: 1 << 20, parallelism: Some(2), ..Limits::default() };
    let session = Session::open(&lakehouse().await, limits).await.unwrap();
    let sql =
        "select value % 1000003 as k, repeat('x', 100) as pad from generate_series(1, 300000) order by k";
    let error = session.query(sql).await.unwrap().collect().await.unwrap_err();
    assert_eq!(error.kind(), QueryErrorKind::Resources, "{error}");
    assert!(error.to_string().starts_with("the query needs more memory or disk than it may have"), "{error}");
}

#[tokio::test]
async fn what_does_not_fit_in_memory_spills() {
    let limits = Limits { memory_bytes: 24 << 20, parallelism: Some(2), ..Limits::default() };
    let session = Session::open(&lakehouse().await, limits).await.unwrap();
    let sql = "select count(*) as n from (select value % 1000003 as k, repeat('x', 200) as pad from generate_series(1, 200000) order by k limit 199999)";
    assert_eq!(csv(&session, sql).await.unwrap(), "n\n199999\n");
}

/// The engine answers them wrongly: for it, the column outside of the subquery is the one inside.
#[tokio::test]
async fn what_the_engine_answers_wrongly_is_refused() {
    let session = session().await;
    for sql in [
        "select count(*) from telemetry where date >= all (select date from telemetry)",
        "select count(*) from telemetry where date < any (select date from telemetry)",
        "select * from (select date < some (select date from telemetry) as early from telemetry)",
        "select 1 where exists (select 1 from telemetry t where t.temp > all (select temp from telemetry))",
    ] {
        let error = session.query(sql).await.unwrap_err();
        assert_eq!(error.kind(), QueryErrorKind::Forbidden, "{sql}: {error}");
        assert!(error.hints()[0].starts_with("compare with its greatest"), "{:?}", error.hints());
    }
    let sql = "select count(*) as n from telemetry where date >= (select max(date) from telemetry)";
    assert_eq!(csv(&session, sql).await.unwrap(), "n\n8\n");
    let sql = "select count(*) as n from telemetry where date in (select max(date) from telemetry)";
    assert_eq!(csv(&session, sql).await.unwrap(), "n\n8\n");
}

/// Questions that go on for ever, or for years.
const ENDLESS: [&str; 5] = [
    // Few rows are read and very many made of them: nothing but the join itself can pause.
    "select count(*) from generate_series(1, 100000) a cross join generate_series(1, 100000) b where a.value + b.value % 7 > 0",
    "with recursive n as (select 1 as i union all select i + 1 from n) select count(*) from n",
    "select count(*) from generate_series(1, 10000000) a cross join generate_series(1, 10000000) b",
    "select sum(a.value) from generate_series(1, 1000000) a join generate_series(1, 1000000) b on a.value % 2 = b.value % 2",
    "select value from generate_series(1, 1000000000)",
];

/// Joins that work through a million rows for a batch of others without giving one on, for hours.
const BREATHLESS: [&str; 6] = [
    "select count(*) from generate_series(1, 1000000) a cross join generate_series(1, 1000000) b where md5((a.value + b.value)::varchar) = ''",
    "select count(*) from generate_series(1, 1000000) a left join generate_series(1, 1000000) b on md5((a.value + b.value)::varchar) = ''",
    "select count(*) from generate_series(1, 1000000) a where not exists (select 1 from generate_series(1, 1000000) b where md5((a.value + b.value)::varchar) = '')",
    "select count(*) from generate_series(1, 1000000) a join generate_series(1, 1000000) b on a.value % 2 = b.value % 2 and md5((a.value + b.value)::varchar) = ''",
    "select count(*) from generate_series(1, 1000000) a where a.value % 2 in (select b.value % 2 from generate_series(1, 1000000) b)",
    "select count(*) from generate_series(1, 1000000) a where a.value % 2 not in (select b.value % 2 from generate_series(1, 1000000) b)",
];

#[tokio::test]
async fn what_never_ends_is_ended() {
    check_ended(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_never_ends_is_ended_on_several_threads() {
    check_ended(2).await;
}

async fn check_ended(parallelism: usize) {
    let limits =
        Limits { time: Duration::from_millis(500), parallelism: Some(parallelism), ..Limits::default() };
    let session = Session::open(&lakehouse().await, limits).await.unwrap();
    for sql in ENDLESS.into_iter().chain(BREATHLESS) {
        // On a busy machine the time may be over before the first row is asked for.
        let error = match session.query(sql).await {
            Err(error) => error,
            Ok(mut answer) => {
                let error = first_error(&mut answer, sql).await;
                assert_eq!(answer.next().await.unwrap_err().kind(), QueryErrorKind::Resources);
                error
            }
        };
        assert_eq!(error.kind(), QueryErrorKind::Resources, "{sql}: {error}");
        assert_eq!(error.to_string(), "the query takes longer than the 500ms that it may take", "{sql}");
        assert!(error.hints()[0].starts_with("ask for less"), "{:?}", error.hints());
    }
}

/// A runtime waits for its threads when it is dropped: without an end of what they do, so does this test.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_nobody_waits_for_ends() {
    let limits = Limits { parallelism: Some(2), ..Limits::default() };
    let session = Session::open(&lakehouse().await, limits).await.unwrap();
    for sql in BREATHLESS {
        let mut answer = session.query(sql).await.unwrap();
        let waited = tokio::time::timeout(Duration::from_millis(300), answer.next()).await;
        assert!(waited.is_err(), "{sql}");
    }
}

/// The other queries of a runtime, and everything else on it, do not wait for one that does not pause.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn nothing_waits_for_what_does_not_pause() {
    let limits = Limits { parallelism: Some(2), ..Limits::default() };
    let session = Arc::new(Session::open(&lakehouse().await, limits).await.unwrap());
    for sql in BREATHLESS {
        let mut breathless = session.query(sql).await.unwrap();
        let waited = tokio::time::timeout(Duration::from_millis(100), breathless.next()).await;
        assert!(waited.is_err(), "{sql}");
        let mut others = JoinSet::new();
        let beside = Arc::clone(&session);
        let sql = "select temp from telemetry";
        others.spawn(async move { beside.query(sql).await.unwrap().collect().await.unwrap() });
        let batches = others.join_next().await.unwrap().unwrap();
        assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 24);
    }
}

/// A statement that takes a while to be read does not keep others from being answered: this one is refused without a pause.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn nothing_waits_for_what_is_planned() {
    let session = Arc::new(Session::open(&lakehouse().await, Limits::default()).await.unwrap());
    let long = format!("insert into telemetry values ({})", vec!["1"; 20_000].join(","));
    let (read, mut done) = tokio::sync::mpsc::unbounded_channel();
    let mut tasks = JoinSet::new();
    let (beside, told) = (Arc::clone(&session), read.clone());
    tasks.spawn(async move {
        let mut other = JoinSet::new();
        other.spawn(async move { read.send("something else").unwrap() });
        assert_eq!(beside.query(&long).await.unwrap_err().kind(), QueryErrorKind::Forbidden);
        told.send("the long one").unwrap();
        other.join_all().await;
    });
    tasks.join_all().await;
    assert_eq!((done.recv().await, done.recv().await), (Some("something else"), Some("the long one")));
}

async fn first_error(answer: &mut Answer, sql: &str) -> QueryError {
    loop {
        match answer.next().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it ended: {sql}"),
            Err(error) => return error,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_time_in_which_nobody_asks_does_not_count() {
    let session = session().await;
    let mut answer = session.query("select value from generate_series(1, 100000)").await.unwrap();
    let mut rows = 0;
    while let Some(batch) = answer.next().await.unwrap() {
        rows += batch.num_rows();
        tokio::time::advance(Limits::default().time).await;
    }
    assert_eq!(rows, 100_000);
}

#[tokio::test]
async fn an_empty_lake_says_so() {
    let lakehouse = Lakehouse::new(Bucket::memory("ingestion"), Bucket::memory("reporting"));
    let session = Session::open(&lakehouse, Limits::default()).await.unwrap();
    let error = session.query("select * from telemetry").await.unwrap_err();
    assert_eq!(error.kind(), QueryErrorKind::UnknownTable);
    assert!(error.hints()[0].starts_with("there is no table yet"), "{:?}", error.hints());
    assert_eq!(csv(&session, "select 1 as one").await.unwrap(), "one\n1\n");
}

#[tokio::test]
async fn tables_of_two_buckets_with_files_of_one_name_are_kept_apart() {
    let dir = tempfile::tempdir().unwrap();
    let lakehouse = Lakehouse::new(
        Bucket::local(&dir.path().join("ingestion")).unwrap(),
        Bucket::local(&dir.path().join("reporting")).unwrap(),
    );
    append(
        &table(&lakehouse.ingestion, "telemetry", telemetry_schema()).await,
        readings(FIRST_DAY, "here", 1.0),
    )
    .await;
    append(
        &table(&lakehouse.reporting, "telemetry", telemetry_schema()).await,
        readings(FIRST_DAY, "there", 1.0),
    )
    .await;
    let session = Session::open(&lakehouse, Limits::default()).await.unwrap();
    let sql = "select a.device_id, b.device_id as other from telemetry a join reporting.telemetry b using (ts) where a.temp > 1";
    assert_eq!(csv(&session, sql).await.unwrap(), "device_id,other\nhere,there\n");
}

#[tokio::test]
async fn now_is_when_the_query_begins() {
    let session = session().await;
    let micros = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros();
    let sql = format!("select now() >= to_timestamp_micros({micros}) as later, now() = now() as same");
    assert_eq!(csv(&session, &sql).await.unwrap(), "later,same\ntrue,true\n");
}
