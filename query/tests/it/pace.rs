//! Wide rows go together in fewer at a time, and a query may begin again for that: whoever asks sees nothing of it.

use crate::fixture::{FIRST_DAY, append, csv, readings, table, telemetry_schema};
use millstream_lake::Bucket;
use millstream_lake::faults::FaultyStore;
use millstream_query::{Lakehouse, Limits, Session};
use std::sync::Arc;

/// With so little a batch of texts of 2 KB is too large, with so much it is not.
const LITTLE: usize = 64 << 20;
const MUCH: usize = 4 << 30;

async fn session(memory_bytes: usize) -> Session {
    let lakehouse = Lakehouse::new(Bucket::memory("ingestion"), Bucket::memory("reporting"));
    let limits = Limits { memory_bytes, parallelism: Some(2), ..Limits::default() };
    Session::open(&lakehouse, limits).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_is_the_same_however_often_its_query_began_again() {
    let (little, much) = (session(LITTLE).await, session(MUCH).await);
    let texts = "(select value as k, lpad('', 2000 + value % 7, chr(65 + value % 26)) as t from generate_series(1, 10000))";
    for sql in [
        format!("select k, t from {texts} order by k"),
        format!("select k, t from {texts} order by t desc, k limit 100 offset 50"),
        format!("select count(*), count(distinct t), sum(length(t)), min(t), max(t) from {texts}"),
        format!("select k % 5 as g, count(*), max(t) from {texts} group by 1 order by 1"),
        format!(
            "select a.k, a.t || b.t as t from {texts} a join {texts} b on a.k = b.k + 1 order by a.k limit 3000"
        ),
        format!(
            "select count(*), sum(length(t)), count(distinct now()) from (select t from {texts} union all select t from {texts})"
        ),
        format!("select k, lag(t) over (order by k) as t from {texts} order by k limit 2000"),
        format!("select length(string_agg(t, ',' order by k)) from {texts} where k < 300"),
        format!("select max(t) as t, count(*) from (select t, unnest(range(1, 4)) as v from {texts})"),
    ] {
        let (one, other) = (csv(&little, &sql).await.unwrap(), csv(&much, &sql).await.unwrap());
        assert!(one.len() > 5 && one == other, "{sql}: {} and {} bytes", one.len(), other.len());
    }
    // In any order.
    let sorted = async |session: &Session| {
        let text = csv(session, &format!("select k, t from {texts} where k % 2 = 0")).await.unwrap();
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort_unstable();
        lines
    };
    let lines = sorted(&little).await;
    assert_eq!(lines.len(), 5_001);
    assert!(lines == sorted(&much).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_large_value_behind_many_small_ones_ends_no_answer() {
    let session = session(LITTLE).await;
    let made = "case when value = 50000 then repeat('x', 70000 + value) else 'a' end";
    let sql = format!("select value, {made} as t from generate_series(1, 60000)");
    let text = csv(&session, &sql).await.unwrap();
    assert_eq!(text.lines().count(), 60_001);
    assert!(text.lines().any(|line| line.len() > 120_000));
}

/// What looks at rows stands between the step that keeps the last ones and the files, and hides neither from the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_rows_are_found_in_the_newest_files_alone() {
    const DAYS: i32 = 60;
    let memory = Bucket::memory("ingestion");
    let store = Arc::new(FaultyStore::new(memory.store()));
    let ingestion = Bucket::with_store("ingestion", memory.url().clone(), Arc::clone(&store) as _);
    let telemetry = table(&ingestion, "telemetry", telemetry_schema()).await;
    for day in FIRST_DAY..FIRST_DAY + DAYS {
        append(&telemetry, readings(day, "d1", 1.0)).await;
    }
    let lakehouse = Lakehouse::new(ingestion, Bucket::memory("reporting"));
    let limits = Limits { parallelism: Some(2), ..Limits::default() };
    let session = Session::open(&lakehouse, limits).await.unwrap();
    csv(&session, "select count(*) from telemetry").await.unwrap();
    let asked = async |sql: &str| {
        let before = store.requests();
        let text = csv(&session, sql).await.unwrap();
        (text, store.requests() - before)
    };
    let (text, few) = asked("select _offset, note from telemetry order by ts desc limit 1").await;
    assert!(text.contains(&(i64::from(FIRST_DAY + DAYS) * 4 - 1).to_string()), "{text}");
    let (_, all) = asked("select _offset, note from telemetry order by _offset desc limit 1").await;
    assert!(few < 20 && all >= u64::from(DAYS.unsigned_abs()), "{few} requests, {all} for all files");
}
