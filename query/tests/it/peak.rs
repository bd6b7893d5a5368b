//! Values of 100 KB and more, which the engine copies by thousands: however a statement comes by them, the process stays near the memory that queries may have. Each statement is
//! asked by a process of its own, which is this test binary again, because a peak belongs to a process.

use crate::fixture::{FIRST_DAY, append, table};
use arrow::array::{ArrayRef, Date32Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use millstream_lake::Bucket;
use millstream_query::{Lakehouse, Limits, QueryError, QueryErrorKind, Session};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

/// What the process that asks is told: the statement.
const TOLD: &str = "MILLSTREAM_TEST_PEAK";

/// And where its tables lie, if it has any.
const TABLES: &str = "MILLSTREAM_TEST_PEAK_TABLES";

/// Memory of its queries.
const MEMORY_BYTES: usize = 64 << 20;

/// How often that may be there, counted or not: what is held is counted once, and copied once or twice while it is put together; the rest are batches under way.
const COPIES: usize = 4;

/// How a statement ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// With its answer: it needs no more than it may have.
    Answered,
    /// Because it needs more.
    Refused,
}

fn check(sql: &str, expected: End) {
    check_over(None, sql, expected);
}

fn check_over(tables: Option<&Path>, sql: &str, expected: End) {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "peak::the_process_that_asks", "--ignored", "--nocapture"])
        .env(TOLD, sql)
        .envs(tables.map(|tables| (TABLES, tables)))
        .output()
        .unwrap();
    let out = String::from_utf8_lossy(&child.stdout).into_owned();
    let begin: String = sql.chars().take(200).collect();
    let told = |name: &str| {
        let line = out.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("{begin}: {}\n{out}", child.status)).to_owned()
    };
    let kib = |name: &str| told(name).parse::<usize>().unwrap();
    let grown = kib("peak ") - kib("idle ");
    println!("{:>5} MiB, {}: {begin}", grown >> 10, told("ended "));
    let ended = if told("ended ").starts_with("with") { End::Answered } else { End::Refused };
    assert_eq!(ended, expected, "{begin}: {out}");
    assert!(grown << 10 < MEMORY_BYTES * COPIES, "{} MiB: {begin}", grown >> 10);
}

/// So many rows of texts of about so many bytes, no two alike.
fn texts(rows: usize, bytes: usize) -> String {
    format!("(select value as k, lpad('a', {bytes} + value) as t from generate_series(1, {rows}))")
}

#[test]
fn rows_that_meet_many_others_take_no_more_than_there_is() {
    let (few, some) = (texts(4, 60_000), texts(300, 30_000));
    check(
        &format!("select max(a.t), max(value) from {few} a cross join generate_series(1, 8192)"),
        End::Answered,
    );
    check(
        &format!("select max(a.t), max(b.t) from {some} a join {some} b on a.k % 2 = b.k % 2"),
        End::Answered,
    );
    check(&format!("select max(a.t), max(b.t) from {some} a join {some} b on a.k + b.k > 3"), End::Answered);
    // One row of it makes 480 MB.
    check(
        &format!("select max(t), max(v) from (select t, unnest(range(1, 16000)) as v from {some})"),
        End::Refused,
    );
    let gathered = "select string_agg(repeat('x', 1000), '') from generate_series(1, 4000)";
    check(
        &format!(
            "select max(t) from (select ({gathered}) as t, value from generate_series(1, 1000)) where value > 3"
        ),
        End::Answered,
    );
    check(
        &format!("select count(distinct a.t), max(value) from {few} a cross join generate_series(1, 8192)"),
        End::Answered,
    );
    let begin = format!("select k as n, t from {few}");
    let grow = "select n + 10, t from r cross join generate_series(1, 8192) where n < 10";
    check(&format!("with recursive r as ({begin} union all {grow}) select max(t) from r"), End::Refused);
}

#[test]
fn values_that_are_made_row_by_row_take_no_more_than_there_is() {
    let one_or_other =
        "case when value % 2 = 0 then lpad('a', 60000 + value) else lpad('b', 60000 + value) end";
    check(&format!("select max({one_or_other}) from generate_series(1, 8192)"), End::Answered);
    let copies: Vec<_> = (0..50).map(|n| format!("concat(t, '{n}') as c{n}")).collect();
    let wide = "select repeat('a', 3200) || value as t, value from generate_series(1, 4000)";
    check(&format!("select {} from ({wide}) where value > 5", copies.join(", ")), End::Answered);
}

/// A file with so many payloads.
async fn payloads(tables: &Path, name: &str, rows: usize, payload: impl Fn(usize) -> String) {
    let fields = [Field::new("payload", DataType::Utf8, true), Field::new("date", DataType::Date32, true)];
    let schema = Arc::new(Schema::new(fields.to_vec()));
    let table = table(&Bucket::local(tables).unwrap(), name, Arc::clone(&schema)).await;
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values((0..rows).map(payload))),
        Arc::new(Date32Array::from(vec![FIRST_DAY; rows])),
    ];
    append(&table, RecordBatch::try_new(schema, columns).unwrap()).await;
}

#[tokio::test]
async fn the_first_rows_of_a_file_take_no_more_than_there_is() {
    let dir = tempfile::tempdir().unwrap();
    let noise = |row: usize| {
        let mut state = row as u64 + 1;
        let mut word = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            format!("{state:016x}")
        };
        (0..2_500).map(|_| word()).collect::<String>()
    };
    payloads(dir.path(), "noise", 2_500, noise).await;
    let alike = "x".repeat(48_000);
    payloads(dir.path(), "alike", 8_000, |row| format!("{alike}{row}")).await;
    payloads(dir.path(), "same", 8_000, |_| alike.clone()).await;
    for name in ["noise", "alike", "same"] {
        check_over(Some(dir.path()), &format!("select * from {name}"), End::Answered);
        check_over(
            Some(dir.path()),
            &format!("select date from {name} where length(payload) > 5"),
            End::Answered,
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a part of the others"]
async fn the_process_that_asks() {
    let Ok(sql) = std::env::var(TOLD) else { return };
    let ingestion = match std::env::var(TABLES) {
        Ok(tables) => Bucket::local(Path::new(&tables)).unwrap(),
        Err(_) => Bucket::memory("ingestion"),
    };
    let lakehouse = Lakehouse::new(ingestion, Bucket::memory("reporting"));
    let limits = Limits { memory_bytes: MEMORY_BYTES, parallelism: Some(2), ..Limits::default() };
    let session = Session::open(&lakehouse, limits).await.unwrap();
    ask(&session, "select max(repeat('a', 10) || value) from generate_series(1, 10)").await.unwrap();
    println!("\nidle {}", peak_kib());
    let ended = match ask(&session, &sql).await {
        Ok(rows) => format!("with {rows} rows"),
        Err(error) => {
            assert_eq!(error.kind(), QueryErrorKind::Resources, "{error}");
            format!("by {}", error.to_string().replace('\n', " "))
        }
    };
    println!("peak {}\nended {ended}", peak_kib());
}

async fn ask(session: &Session, sql: &str) -> Result<usize, QueryError> {
    let mut answer = session.query(sql).await?;
    let mut rows = 0;
    while let Some(batch) = answer.next().await? {
        rows += batch.num_rows();
    }
    Ok(rows)
}

fn peak_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.trim().trim_end_matches(" kB").parse().unwrap()
}
