//! Questions and values that are large and no more than that: they are answered.

use crate::fixture::{FIRST_DAY, lakehouse};
use arrow::util::display::array_value_to_string;
use millstream_query::{Limits, QueryErrorKind, Session};
use std::sync::Arc;
use tokio::task::JoinSet;

async fn session() -> Arc<Session> {
    let limits = Limits { parallelism: Some(2), ..Limits::default() };
    Arc::new(Session::open(&lakehouse().await, limits).await.unwrap())
}

/// On a thread of the runtime, as in the program: so its stack is as large as there.
async fn check(session: &Arc<Session>, sql: String, expected: &str) {
    let begin: String = sql.chars().take(120).collect();
    println!("{begin}");
    let session = Arc::clone(session);
    let mut task = JoinSet::new();
    task.spawn(async move { session.query(&sql).await?.collect().await });
    let found = task.join_next().await.unwrap().unwrap();
    let found = found.unwrap_or_else(|error| panic!("{begin}: {error}"));
    let mut rows = String::new();
    for batch in &found {
        for row in 0..batch.num_rows() {
            rows += &array_value_to_string(batch.column(0), row).unwrap();
            rows.push('\n');
        }
    }
    assert_eq!(rows, expected, "{begin}");
}

fn chain(count: usize, operator: &str, condition: impl Fn(usize) -> String) -> String {
    (0..count).map(condition).collect::<Vec<_>>().join(operator)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_conditions_are_answered() {
    let session = session().await;
    let most = 200;
    let first = FIRST_DAY * 4;
    let offset = format!("(_offset - {first})");
    let equal = |number: usize| format!("{offset} = {number}");
    let mixed = |number: usize| format!("(temp > {number} and device_id <> 'x{number}')");
    let unequal = |number: usize| format!("temp <> {}.125 + _offset", number + 100);
    let like = |number: usize| format!("device_id like '%{number}x'");
    let rows = "select count(temp) from telemetry where ";
    check(&session, format!("{rows} {}", chain(most, " or ", equal)), "18\n").await;
    check(&session, format!("{rows} {}", chain(most, " or ", mixed)), "18\n").await;
    check(&session, format!("{rows} {}", chain(most, " or ", like)), "0\n").await;
    check(&session, format!("{rows} not ({})", chain(most, " or ", like)), "18\n").await;
    check(&session, format!("{rows} {}", chain(most, " and ", unequal)), "18\n").await;
    check(&session, format!("{rows} not ({})", chain(most, " and ", unequal)), "0\n").await;
    let far = |number: usize| format!("temp = {}.125 + _offset", number + 100);
    check(&session, format!("{rows} not ({})", chain(most, " or ", far)), "18\n").await;
    check(&session, format!("{rows} ({}) = false", chain(most, " or ", far)), "18\n").await;
    let value = |operator: &str| {
        format!("select distinct {} from telemetry where temp > 0", chain(most, operator, unequal))
    };
    check(&session, value(" or "), "true\n").await;
    check(&session, value(" and "), "true\n").await;
    let join = chain(most, " and ", |number| format!("a.temp + b.temp <> {number}.125"));
    check(&session, format!("select count(*) from telemetry a join telemetry b on {join}"), "324\n").await;
    let branches = chain(500, " ", |number| format!("when {offset} = {number} then {number} + 1"));
    check(&session, format!("select sum(case {branches} else 0 end) > 0 from telemetry"), "true\n").await;
    let branches = chain(500, " ", |number| format!("when {number} then 'code {number}'"));
    check(&session, format!("select count(case {offset} {branches} end) from telemetry"), "24\n").await;
    let counts =
        vec!["select count(*) from telemetry where temp > 1000 and temp < 2"; 41].join(" union all ");
    check(&session, counts, &"0\n".repeat(41)).await;
    let sum = chain(140, " + ", |_| "_offset".to_owned());
    check(&session, format!("select min({sum}) >= 0 from telemetry where {sum} = {sum}"), "true\n").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_values_are_made() {
    let session = session().await;
    let rows = |value: &str| format!("select count({value}) from generate_series(1, 8192)");
    let commas = "replace(repeat('a,', 22000), ',', ', ')";
    check(&session, format!("select length({commas})"), "66000\n").await;
    let commas = "replace(repeat(device_id || ',', 14000), ',', ', ')";
    check(&session, format!("select max(length({commas})) from telemetry"), "56000\n").await;
    let rare = "replace(repeat(device_id, 20000) || '!', '!', repeat('?', 100000))";
    check(&session, format!("select max(length({rare})) from telemetry"), "140000\n").await;
    let digits = "regexp_replace(repeat('x', 2000) || value, 'x+', '12345678901234567890')";
    check(&session, rows(&format!("nullif({digits} = '12345678901234567890' || value, false)")), "8192\n")
        .await;
    check(&session, rows("nullif(length(repeat('x', 17000) || value) > 17000, false)"), "8192\n").await;
    check(&session, rows("nullif(lpad(value::varchar, 5000, 'y') = repeat('y', 5000 - length(value::varchar)) || value, false)"), "8192\n").await;
    check(&session, "select length(lpad('x', 40000, 'y'))".to_owned(), "40000\n").await;
    let days =
        "generate_series(date '1970-01-01', date '2010-12-31' - cast(_offset % 2 as int), interval '1 day')";
    check(&session, format!("select max(cardinality({days})) from telemetry"), "14975\n").await;
}

#[tokio::test]
async fn what_is_too_deep_says_what_to_do() {
    let session = session().await;
    let sql = format!(
        "select 1 from telemetry where {}",
        chain(201, " or ", |number| format!("_offset = {number}"))
    );
    let error = session.query(&sql).await.unwrap_err();
    assert_eq!(error.kind(), QueryErrorKind::Forbidden);
    assert!(error.to_string().contains("more conditions in one chain than 200"), "{error}");
    assert_eq!(error.hints(), ["compare with a list: column in (1, 2, 3)"]);
    assert!(error.place().is_some());
}
