//! What a tail may take, and what becomes of it when nobody asks.

use super::river::{River, cost, rows};
use crate::fixture::csv;
use millstream_query::{Exceeded, Limits, QueryErrorKind, TailUse};
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
