//! What a tail may take, and what becomes of it when nobody asks.

use super::river::{River, cost, rows, telemetry};
use crate::fixture::csv;
use arrow::array::RecordBatch;
use millstream_model::stream::Stream;
use millstream_query::{Definitions, Exceeded, Limits, QueryErrorKind, Session, TailUse};
use std::sync::Arc;
use tokio::task::JoinSet;

#[tokio::test]
async fn more_than_there_is_memory_for_is_refused_and_said_how_much_waits() {
    let mut river = River::new().await;
    let long = "x".repeat(1000);
    let payload = format!("{{\"note\": \"{long}\"}}");
    for _ in 0..10 {
        river.send("d1", &[payload.as_str(); 30]).await;
    }
    let session = river.limited(Limits { tail_bytes: 200_000, ..Limits::default() }).await;
    for _ in 0..2 {
        let error = csv(&session, "select count(*) from telemetry").await.unwrap_err();
        assert_eq!((error.kind(), error.exceeded()), (QueryErrorKind::Resources, Some(Exceeded::Memory)));
        assert!(error.to_string().contains("300 messages of telemetry wait in the log"), "{error}");
        assert!(error.hints().iter().any(|hint| hint.contains("--no-tail")), "{:?}", error.hints());
    }
    // Its firehose has caught up, but for a little.
    river.commit(290).await;
    assert_eq!(rows(&session, "select count(*) from telemetry").await, "300\n");
    river.commit(10).await;
    // Memory is given back, again and again.
    for _ in 0..10 {
        river.send("d1", &[payload.as_str(); 60]).await;
        rows(&session, "select count(*) from telemetry").await;
        river.commit(60).await;
    }
    assert_eq!(rows(&session, "select count(*) from telemetry").await, "900\n");
}

/// Messages whose readings take a kilobyte each, and a little.
async fn send_kilobytes(river: &mut River, count: usize) {
    let payload = format!("{{\"note\": \"{}\"}}", "x".repeat(1000));
    for _ in 0..count / 10 {
        river.send("d1", &[payload.as_str(); 10]).await;
    }
}

#[tokio::test]
async fn what_a_running_question_reads_counts_until_it_ends() {
    let mut river = River::new().await;
    let session = river.limited(Limits { tail_bytes: 600_000, ..Limits::default() }).await;
    send_kilobytes(&mut river, 200).await;
    let answer = session.query("select note from telemetry").await.unwrap();
    river.commit(200).await;
    // By itself this is less than there may be, and more than half of it.
    send_kilobytes(&mut river, 400).await;
    for _ in 0..2 {
        let error = csv(&session, "select count(*) from telemetry").await.unwrap_err();
        assert_eq!(error.exceeded(), Some(Exceeded::Memory));
        assert!(error.to_string().contains("400 messages of telemetry wait in the log"), "{error}");
        assert!(error.to_string().contains("or by queries that still run"), "{error}");
    }
    // It has all that it began with; and with its end the rest has room, though nothing else has changed.
    let rows_read = answer.collect().await.unwrap().iter().map(RecordBatch::num_rows).sum::<usize>();
    assert_eq!(rows_read, 200);
    assert_eq!(rows(&session, "select count(*) from telemetry").await, "600\n");
}

#[tokio::test]
async fn what_is_held_of_one_table_makes_room_for_another() {
    let mut river = River::new().await;
    let other = Arc::new(Stream { name: "other".parse().unwrap(), ..telemetry() });
    let streams = vec![Arc::clone(&river.stream), Arc::clone(&other)];
    let definitions = Definitions { streams, ..Definitions::default() };
    let lakehouse = river.lakehouse().with_definitions(Arc::new(definitions));
    let limits = Limits { tail_bytes: 600_000, ..Limits::default() };
    let session = Session::open(&lakehouse, limits).await.unwrap();
    send_kilobytes(&mut river, 400).await;
    let payload = "x".repeat(1000);
    river.send_to(&other.name.log_topic(), "d1", &[format!("\"{payload}\"").as_str(); 400]).await;
    for _ in 0..2 {
        for table in ["telemetry", "other"] {
            let sql = format!("select count(*) from {table}");
            assert_eq!(rows(&session, &sql).await, "400\n", "{table}");
        }
    }
    // A question about both at once has no such way out.
    let both = "select (select count(*) from telemetry) + (select count(*) from other)";
    let error = csv(&session, both).await.unwrap_err();
    assert!(error.to_string().contains("are taken by other tables"), "{error}");
}

#[tokio::test]
async fn many_who_ask_at_once_see_all_that_was_there() {
    let mut river = River::new().await;
    let session = Arc::new(river.session().await);
    let mut asking = JoinSet::new();
    for round in 1..=30_i64 {
        river.send("d1", &["1", "{"]).await;
        for _ in 0..3 {
            let session = Arc::clone(&session);
            asking.spawn(async move {
                let seen = rows(&session, "select count(*) from telemetry").await;
                let bad = rows(&session, "select count(*) from quarantine").await;
                for count in [seen, bad] {
                    assert!(count.trim().parse::<i64>().unwrap() >= round, "{count} of {round}");
                }
            });
        }
        if round % 7 == 0 {
            river.commit(5).await;
        }
        tokio::task::yield_now().await;
    }
    while let Some(asked) = asking.join_next().await {
        asked.unwrap();
    }
}

#[tokio::test]
async fn who_goes_away_midway_leaves_the_tail_whole() {
    let mut river = River::new().await;
    let payloads: Vec<String> = (0..5000).map(|n| n.to_string()).collect();
    let payloads: Vec<&str> = payloads.iter().map(String::as_str).collect();
    river.send("d1", &payloads).await;
    let session = river.session().await;
    let sql = "select count(*), sum(value) from telemetry";
    for polls in 0..40 {
        let mut asked = Box::pin(csv(&session, sql));
        for _ in 0..polls {
            if futures::poll!(&mut asked).is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(rows(&session, sql).await, "5000,12497500.0\n");
}

#[tokio::test]
async fn a_tail_that_nobody_asks_for_is_given_up_and_found_again() {
    let mut river = River::new().await;
    river.send("d1", &["1", "2"]).await;
    let session = river.session().await;
    assert_eq!(rows(&session, "select count(*) from telemetry").await, "2\n");
    tokio::time::pause();
    tokio::time::advance(std::time::Duration::from_secs(61)).await;
    tokio::task::yield_now().await;
    tokio::time::resume();
    river.send("d1", &["3"]).await;
    assert_eq!(rows(&session, "select count(*) from telemetry").await, "3\n");
    let tail = cost(&session, "select value from telemetry", TailUse::Follow).await.unwrap().tail;
    assert_eq!(tail.map(|tail| tail.rows), Some(3));
}
