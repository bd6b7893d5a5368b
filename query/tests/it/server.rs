//! SQL over HTTP, by a real connection.

use crate::client::{Running, read, request, serve, serve_over};
use crate::fixture::{FIRST_DAY, append, lakehouse, readings, table, telemetry_schema};
use arrow::array::AsArray;
use arrow::datatypes::{DataType, Float64Type};
use arrow::ipc::reader::StreamReader;
use millstream_lake::Bucket;
use millstream_lake::faults::FaultyStore;
use millstream_model::secret::Secret;
use millstream_query::server::{SQL_BYTES_MAX, Settings};
use millstream_query::{Lakehouse, Limits};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;

/// Works for hours without a row and, once the rows of one side are there, without a pause.
const SILENT: &str = "select count(*) from generate_series(1, 1000000) a cross join generate_series(1, 1000000) b where md5((a.value + b.value)::varchar) = ''";

/// Gives rows for longer than any test lasts.
const TALKATIVE: &str = "select a.value, repeat('x', 100) as text from generate_series(1, 10000000) a cross join generate_series(1, 10000000) b";

#[tokio::test]
async fn an_answer_has_the_form_that_the_client_accepts() {
    let server = serve(Settings::default()).await;
    let sql = "select device_id, temp, ts from telemetry where temp > 20 and date = '2026-11-19' order by ts";
    let check = async |accept: &str, kind: &str, expected: &str| {
        let reply = server.ask(&[("accept", accept)], sql).await;
        assert_eq!(
            (reply.status, reply.whole, reply.header("content-type")),
            (200, true, Some(kind)),
            "{reply:?}"
        );
        assert_eq!(reply.text(), expected);
    };
    check(
        "*/*",
        "application/x-ndjson",
        "{\"device_id\":\"d1\",\"temp\":20.5,\"ts\":\"2026-11-19T06:00:00Z\"}\n",
    )
    .await;
    check(
        "text/csv",
        "text/csv; charset=utf-8; header=present",
        "device_id,temp,ts\nd1,20.5,2026-11-19T06:00:00Z\n",
    )
    .await;
    check(
        "application/json",
        "application/json",
        "[\n  {\"device_id\":\"d1\",\"temp\":20.5,\"ts\":\"2026-11-19T06:00:00Z\"}\n]\n",
    )
    .await;
    for (accept, expected) in
        [("text/csv", "one\n"), ("application/json", "[]\n"), ("application/x-ndjson", "")]
    {
        let reply = server.ask(&[("accept", accept)], "select 1 as one where false").await;
        assert_eq!((reply.status, reply.whole, reply.text()), (200, true, expected), "{accept}");
    }
}

#[tokio::test]
async fn an_arrow_stream_has_the_rows_and_their_types() {
    let server = serve(Settings::default()).await;
    let accept = [("accept", "application/vnd.apache.arrow.stream")];
    let reply = server
        .ask(&accept, "select device_id, temp, arrow_cast('v', 'Utf8View') as view from telemetry")
        .await;
    assert_eq!((reply.status, reply.whole), (200, true));
    let reader = StreamReader::try_new(reply.body.as_slice(), None).unwrap();
    let kinds: Vec<_> = reader.schema().fields().iter().map(|field| field.data_type().clone()).collect();
    assert_eq!(kinds, [DataType::Utf8, DataType::Float64, DataType::Utf8]);
    let batches: Vec<_> = reader.collect::<Result<_, _>>().unwrap();
    assert_eq!(batches.iter().map(|batch| batch.num_rows()).sum::<usize>(), 24);
    let sum: f64 =
        batches.iter().flat_map(|batch| batch.column(1).as_primitive::<Float64Type>().iter().flatten()).sum();
    assert_eq!(sum, 21.0 * 9.0 - 2.75 * 3.0 + 5.25 * 9.0 - 2.75 * 3.0);

    let empty = server.ask(&accept, "select 1 as one where false").await;
    let reader = StreamReader::try_new(empty.body.as_slice(), None).unwrap();
    assert_eq!((reader.schema().fields().len(), reader.count(), empty.whole), (1, 0, true));
}

#[tokio::test]
async fn a_wrong_question_is_answered_by_what_is_wrong_with_it() {
    let server = serve(Settings::default()).await;
    let check = async |sql: &str, status: u16, kind: &str, place: Option<(u64, u64)>, message: &str| {
        let reply = server.ask(&[], sql).await;
        let error = reply.error();
        let found = error["line"].as_u64().zip(error["column"].as_u64());
        assert_eq!(
            (reply.status, error["kind"].as_str().unwrap(), found),
            (status, kind, place),
            "{sql}: {error}"
        );
        assert!(error["message"].as_str().unwrap().contains(message), "{sql}: {error}");
        assert!(error["hints"].is_array() && error.as_object().unwrap().len() == 10, "{error}");
    };
    check("select 1\nform t", 400, "syntax", Some((2, 6)), "").await;
    check("select * from telemetri", 400, "unknown_table", Some((1, 15)), "no table is named telemetri")
        .await;
    check("select tmp from telemetry", 400, "unknown_column", Some((1, 8)), "no column is named tmp").await;
    check("select averge(1)", 400, "unknown_function", Some((1, 8)), "no function is named averge").await;
    check("select sum(device_id) from telemetry", 400, "meaning", Some((1, 8)), "").await;
    check("drop table telemetry", 400, "forbidden", Some((1, 1)), "SQL only reads").await;
    check("select 1; select 2", 400, "syntax", Some((1, 11)), "more than one statement").await;
    check("", 400, "syntax", None, "there is no statement").await;
    check("select 1 / (temp - temp) from telemetry where temp is not null and _offset / (_offset - _offset) > 1", 400, "value", None, "division by zero").await;
    let reply = server.ask(&[], "select * from telemetri").await;
    assert_eq!(reply.error()["hints"][0], "did you mean telemetry?");
    assert_eq!(server.counters.read().failed, server.counters.read().total);
}

#[tokio::test]
async fn a_request_that_is_none_is_refused() {
    let server = serve(Settings::default()).await;
    let long = "x".repeat(SQL_BYTES_MAX + 1);
    let chunked = format!(
        "POST /v1/sql HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{long}\r\n0\r\n\r\n",
        long.len()
    );
    let check = async |request: String, status: u16, message: &str| {
        let reply = read(server.send(&request).await).await;
        assert_eq!(reply.status, status, "{reply:?}");
        let error = reply.error();
        assert!(error["message"].as_str().unwrap().contains(message), "{error}");
        reply
    };
    let sql = "select 1";
    check(request(&[("accept", "text/html")], sql), 406, "in a form").await;
    check(request(&[("content-type", "application/json")], sql), 415, "application/json").await;
    check(request(&[("content-type", "text/plain; charset=latin1")], sql), 415, "latin1").await;
    check(request(&[("content-encoding", "gzip")], sql), 415, "gzip").await;
    let with = |parameters: &str| request(&[], sql).replace("/v1/sql", &format!("/v1/sql?{parameters}"));
    check(with("limit=3"), 400, "no parameter \"limit\"").await;
    check(with("tail=off&Tail=off"), 400, "no parameter \"Tail\"").await;
    check(with("tail=no"), 400, "\"tail\" cannot be \"no\"").await;
    check(with("tail"), 400, "\"tail\" cannot be \"\"").await;
    check(with("tail=off&tail=off"), 400, "more than once").await;
    for parameters in ["tail=off", "tail=on", ""] {
        assert_eq!(read(server.send(&with(parameters)).await).await.status, 200, "{parameters}");
    }
    check(request(&[("origin", "http://127.0.0.1:8474")], sql), 403, "browser").await;
    check(request(&[], sql).replace("HTTP/1.1", "HTTP/1.0"), 505, "HTTP/1.1").await;
    check(chunked, 413, "longer than the 262144 bytes").await;
    let announced =
        "POST /v1/sql HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 262145\r\n\r\n";
    check(announced.to_owned(), 413, "longer than the 262144 bytes").await;
    for method in ["GET", "PUT", "DELETE", "OPTIONS"] {
        let reply = check(request(&[], sql).replacen("POST", method, 1), 405, "by POST").await;
        assert_eq!(reply.header("allow"), Some("POST"));
        assert!(reply.error()["hints"][0].as_str().unwrap().starts_with("curl"), "{reply:?}");
    }
    for kind in
        ["text/plain", "text/plain; charset=UTF-8", "application/sql", "application/x-www-form-urlencoded"]
    {
        assert_eq!(server.ask(&[("content-type", kind)], "select 1 as one").await.text(), "{\"one\":1}\n");
    }
}

#[tokio::test]
async fn only_who_has_the_token_may_ask() {
    let token = Some(Secret::new("open sesame".to_owned()));
    let server = serve(Settings { token, ..Settings::default() }).await;
    let check = async |headers: &[(&str, &str)], status: u16| {
        let reply = server.ask(headers, "select 1").await;
        assert_eq!(reply.status, status, "{headers:?}");
        assert_eq!(reply.header("www-authenticate").is_some(), status == 401);
    };
    check(&[], 401).await;
    check(&[("authorization", "Bearer open sesam")], 401).await;
    check(&[("authorization", "Basic b3Blbg==")], 401).await;
    check(&[("authorization", "Bearer open sesame")], 200).await;
    check(&[("authorization", "Bearer open sesame"), ("origin", "https://example.com")], 200).await;
}

#[tokio::test]
async fn each_question_sees_the_tables_as_they_are() {
    let lakehouse = lakehouse().await;
    let server = serve_over(Settings::default(), &lakehouse, Limits::default()).await;
    let count = async |table: &str| {
        server
            .ask(&[("accept", "text/csv")], &format!("select count(*) as n from {table}"))
            .await
            .text()
            .to_owned()
    };
    assert_eq!(count("telemetry").await, "n\n24\n");
    let telemetry = table(&lakehouse.ingestion, "telemetry", telemetry_schema()).await;
    append(&telemetry, readings(FIRST_DAY + 3, "d3", 1.0)).await;
    assert_eq!(count("telemetry").await, "n\n28\n");
    assert!(count("climate").await.contains("no table is named climate"));
    let climate = table(&lakehouse.ingestion, "climate", telemetry_schema()).await;
    append(&climate, readings(FIRST_DAY, "d1", 1.0)).await;
    assert_eq!(count("climate").await, "n\n4\n");
}

#[tokio::test]
async fn a_second_question_costs_two_requests_more_than_what_it_reads() {
    let store = Arc::new(FaultyStore::new(Bucket::memory("ingestion").store()));
    let url = Bucket::memory("ingestion").url().clone();
    let ingestion = Bucket::with_store("ingestion", url, Arc::clone(&store) as _);
    let telemetry = table(&ingestion, "telemetry", telemetry_schema()).await;
    append(&telemetry, readings(FIRST_DAY, "d1", 1.0)).await;
    let lakehouse = Lakehouse::new(ingestion, Bucket::memory("reporting"));
    let server = serve_over(Settings::default(), &lakehouse, Limits::default()).await;
    let cost = async |sql: &str| {
        let before = store.requests();
        assert_eq!(server.ask(&[], sql).await.status, 200);
        store.requests() - before
    };
    let first = cost("select count(*) from telemetry").await;
    assert!(first > 10, "{first}");
    assert_eq!(cost("select count(*) from telemetry").await, 2);
    assert_eq!(cost("select count(*) from telemetry a, telemetry b").await, 2);
    let reading = cost("select sum(temp) from telemetry").await;
    let again = cost("select sum(temp) from telemetry").await;
    assert!(again < reading && again <= 4, "{reading} {again}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_query_ends_when_its_client_goes() {
    let server = serve(Settings::default()).await;
    for sql in [SILENT, TALKATIVE] {
        let mut client = server.begin(sql).await;
        server.until(|counts| counts.running == 1).await;
        if sql == TALKATIVE {
            client.read_exact(&mut [0; 1000]).await.unwrap();
        }
        drop(client);
        server.until(|counts| counts.running == 0).await;
    }
    let counts = server.counters.read();
    assert_eq!((counts.total, counts.answered, counts.failed), (2, 0, 0));
    assert_eq!(server.ask(&[], "select 1 as one").await.text(), "{\"one\":1}\n");
}

#[tokio::test]
async fn a_client_that_takes_nothing_loses_its_query() {
    let server = serve(Settings { stall: Duration::from_millis(100), ..Settings::default() }).await;
    let client = server.begin(TALKATIVE).await;
    server.until(|counts| counts.bytes > 0).await;
    server.until(|counts| counts.running == 0).await;
    let reply = read(client).await;
    assert_eq!((reply.status, reply.whole), (200, false));
}

#[tokio::test]
async fn a_slow_client_makes_a_slow_query() {
    let server = serve(Settings::default()).await;
    let mut client = server.begin(TALKATIVE).await;
    // What nobody reads fills the buffers of the connection, and then the query stands still: the same count twice, with time between to make much more.
    let mut seen = 0;
    loop {
        tokio::time::sleep(Duration::from_millis(300)).await;
        match server.counters.read().bytes {
            bytes if bytes > 0 && bytes == seen => break,
            bytes => seen = bytes,
        }
    }
    assert!(seen < 64 << 20, "{seen}");
    let mut taken = vec![0; 32 << 20];
    client.read_exact(&mut taken).await.unwrap();
    server.until(|counts| counts.bytes > seen).await;
}

#[tokio::test]
async fn an_answer_that_fails_on_the_way_cannot_be_taken_for_whole() {
    let server = serve(Settings::default()).await;
    let sql = "select 1 / (value - 50000) as x, repeat('x', 100) as pad from generate_series(1, 100000)";
    for accept in
        ["application/x-ndjson", "text/csv", "application/json", "application/vnd.apache.arrow.stream"]
    {
        let reply = server.ask(&[("accept", accept)], sql).await;
        assert_eq!((reply.status, reply.whole), (200, false), "{accept}");
        assert!(!reply.body.is_empty());
        // The mark by which an Arrow stream says that it is over.
        assert!(
            !reply.body.ends_with(&[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]) && !reply.body.ends_with(b"]\n")
        );
    }
    server.until(|counts| (counts.failed, counts.running) == (4, 0)).await;
}

#[tokio::test]
async fn who_asks_for_trailers_is_told_what_the_answer_cost_or_why_it_broke_off() {
    const ARROW: &str = "application/vnd.apache.arrow.stream";
    let server = serve(Settings::default()).await;
    let good = "select sum(temp) as warmth from telemetry where date = '2026-11-20' and device_id = 'd1'";
    let bad = "select 1 / (value - 50000) as x from generate_series(1, 100000)";
    for accept in [ARROW, "text/csv", "application/json", "application/x-ndjson"] {
        let reply = server.ask(&[("accept", accept), ("te", "trailers")], good).await;
        let summary = reply.trailer("millstream-summary").unwrap();
        assert!(reply.whole && reply.trailer("millstream-error").is_none(), "{reply:?}");
        assert_eq!((&summary["files"], &summary["skipped"]), (&6.into(), &5.into()), "{accept}");
        assert!(summary["bytes"].as_u64().unwrap() > 0 && summary["tail"].is_null(), "{summary}");

        // Who does not ask sees nothing of it.
        let plain = server.ask(&[("accept", accept)], good).await;
        assert_eq!((plain.header("trailer"), plain.trailer("millstream-summary")), (None, None));
        assert_eq!(plain.body, reply.body);

        // An end in good order says that text is whole, so it is not given to what broke off. Arrow has a mark of its own.
        let broken = server.ask(&[("accept", accept), ("te", "trailers")], bad).await;
        assert_eq!((broken.status, broken.whole), (200, accept == ARROW), "{accept}");
        let error = broken.trailer("millstream-error");
        assert_eq!(error.is_some(), accept == ARROW);
        if let Some(error) = error {
            assert_eq!((&error["kind"], &error["message"]), (&"value".into(), &"division by zero".into()));
            assert!(!broken.body.ends_with(&[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]));
        }
    }
    server.until(|counts| (counts.answered, counts.failed, counts.running) == (8, 4, 0)).await;
    // An answer without any bytes has its end, too.
    let empty = server.ask(&[("te", "trailers")], "select 1 where false").await;
    assert!(empty.whole && empty.trailer("millstream-summary").is_some(), "{empty:?}");
}

async fn limited(limits: Limits) -> Running {
    serve_over(Settings::default(), &lakehouse().await, limits).await
}

#[tokio::test]
async fn a_query_beyond_its_limits_has_a_status_of_its_own() {
    let check = async |limits: Limits, sql: &str, status: u16, kind: &str, message: &str| {
        let reply = limited(limits).await.ask(&[], sql).await;
        let error = reply.error();
        assert_eq!((reply.status, error["kind"].as_str().unwrap()), (status, kind), "{error}");
        assert!(error["message"].as_str().unwrap().contains(message), "{error}");
    };
    let time = Limits { time: Duration::from_millis(300), parallelism: Some(1), ..Limits::default() };
    check(time, SILENT, 504, "time", "takes longer").await;
    let memory =
        Limits { memory_bytes: 4 << 20, spill_bytes: 1 << 20, parallelism: Some(2), ..Limits::default() };
    let sort =
        "select value % 1000003 as k, repeat('x', 100) as pad from generate_series(1, 300000) order by k";
    check(memory, sort, 507, "memory", "more memory or disk").await;
    let scan = Limits { scan_bytes: Some(100), ..Limits::default() };
    check(
        scan.clone(),
        "select sum(temp) from telemetry",
        422,
        "scan",
        "bytes in 6 files, and 100 bytes are",
    )
    .await;
    check(
        scan.clone(),
        "select sum(temp) from telemetry where date = '2026-11-19'",
        422,
        "scan",
        "in 2 files",
    )
    .await;
    let server = limited(scan).await;
    assert_eq!(server.ask(&[], "select count(*) as n from telemetry").await.text(), "{\"n\":24}\n");
    assert_eq!(server.ask(&[], "select temp from telemetry where date = '2020-01-01'").await.status, 200);
}

#[tokio::test]
async fn a_bucket_that_fails_is_a_fault_of_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let lakehouse = Lakehouse::new(
        Bucket::local(&dir.path().join("ingestion")).unwrap(),
        Bucket::local(&dir.path().join("reporting")).unwrap(),
    );
    let telemetry = table(&lakehouse.ingestion, "telemetry", telemetry_schema()).await;
    append(&telemetry, readings(FIRST_DAY, "d1", 1.0)).await;
    let file = telemetry.snapshot().await.unwrap().files()[0].path.clone();
    std::fs::remove_file(dir.path().join("ingestion/telemetry").join(file)).unwrap();
    let server = serve_over(Settings::default(), &lakehouse, Limits::default()).await;
    let reply = server.ask(&[], "select sum(temp) from telemetry").await;
    assert_eq!((reply.status, reply.error()["kind"].as_str().unwrap()), (500, "storage"), "{reply:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn queries_wait_for_each_other_and_not_for_ever() {
    let one = NonZeroUsize::MIN;
    let server = serve(Settings { running_max: one, waiting_max: 1, ..Settings::default() }).await;
    let first = server.begin(SILENT).await;
    server.until(|counts| counts.running == 1).await;
    let second = server.begin("select 2 as two").await;
    server.until(|counts| counts.waiting == 1).await;
    let third = server.ask(&[], "select 3").await;
    assert_eq!((third.status, third.header("retry-after")), (503, Some("5")), "{third:?}");
    assert_eq!(third.error()["kind"], "busy");
    // Who goes leaves the queue, and his place is another's.
    drop(second);
    server.until(|counts| counts.waiting == 0).await;
    let second = server.begin("select 2 as two").await;
    server.until(|counts| counts.waiting == 1).await;
    drop(first);
    assert_eq!(read(second).await.text(), "{\"two\":2}\n");
    server.until(|counts| (counts.running, counts.waiting) == (0, 0)).await;

    let wait = Duration::from_millis(50);
    let server = serve(Settings { running_max: one, wait, ..Settings::default() }).await;
    let first = server.begin(SILENT).await;
    server.until(|counts| counts.running == 1).await;
    let late = server.ask(&[], "select 2").await;
    assert_eq!((late.status, server.counters.read().waiting), (503, 0), "{late:?}");
    drop(first);
}

#[tokio::test]
async fn many_questions_at_once_are_all_answered() {
    let server = Arc::new(serve(Settings { waiting_max: 100, ..Settings::default() }).await);
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..40 {
        let server = Arc::clone(&server);
        clients.spawn(async move {
            let reply = server.ask(&[], &format!("select {number} + count(*) as n from telemetry")).await;
            assert_eq!(reply.text(), format!("{{\"n\":{}}}\n", number + 24));
        });
    }
    for done in clients.join_all().await {
        let () = done;
    }
    let counts = server.counters.read();
    assert_eq!((counts.total, counts.answered, counts.rows, counts.running), (40, 40, 40, 0));
}
