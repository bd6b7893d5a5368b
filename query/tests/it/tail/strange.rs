//! A log that is not what the files say of it: an error that says so, never an answer with a hole or with another log's rows.

use super::river::{River, apply, rows, telemetry};
use crate::fixture::csv;
use futures::{StreamExt, TryStreamExt};
use millstream_lake::Plan;
use millstream_lake::ledger::{EPOCH, app, fingerprint};
use millstream_log::Log;
use millstream_model::name::Offset;
use millstream_model::stream::{Start, Stream};
use millstream_query::{Ask, TailUse};
use std::collections::BTreeMap;

const COUNT: &str = "select count(*) from telemetry";

async fn refused(river: &River, expected: &str) {
    let session = river.session().await;
    let error = csv(&session, COUNT).await.unwrap_err();
    assert!(error.to_string().contains(expected), "{error}");
    assert!(error.hints().iter().any(|hint| hint.contains("--no-tail")), "{:?}", error.hints());
    let answer = session.ask(COUNT, Ask { tail: TailUse::Off }).await;
    assert!(answer.unwrap().collect().await.is_ok());
}

#[tokio::test]
async fn a_log_that_ends_before_its_files_is_refused() {
    let mut river = River::new().await;
    river.send("d1", &["1", "2", "3"]).await;
    river.commit(3).await;
    river.recreate_log().await;
    refused(&river, "the log ends before offset 0").await;
    river.send("d1", &["4", "5"]).await;
    refused(&river, "the log ends before offset 2").await;
}

#[tokio::test]
async fn another_log_that_is_long_enough_is_recognised() {
    let mut river = River::new().await;
    river.send("d1", &["1", "2", "3"]).await;
    river.commit(3).await;
    river.recreate_log().await;
    river.send("d1", &["6", "7", "8", "9"]).await;
    refused(&river, "is not the one that was committed").await;
}

#[tokio::test]
async fn a_raised_epoch_begins_anew() {
    let mut river = River::new().await;
    river.send("d1", &["1", "2", "3"]).await;
    river.commit(2).await;
    let session = river.session().await;
    assert_eq!(rows(&session, COUNT).await, "3\n");
    // A person gave up what the former log had beyond its files: this is another one, and all of it is new.
    let properties = BTreeMap::from([(EPOCH.to_owned(), "1".to_owned())]);
    apply(&river.table().await, Plan { properties, ..Plan::default() }).await;
    river.recreate_log().await;
    river.send("d1", &["4"]).await;
    assert_eq!(rows(&river.session().await, COUNT).await, "3\n");
    assert_eq!(rows(&river.session().await, "select value from telemetry where value > 2").await, "4.0\n");
}

#[tokio::test]
async fn records_that_are_gone_are_missed_unless_the_stream_begins_where_the_log_does() {
    let long = "x".repeat(3000);
    let payload = format!("{{\"note\": \"{long}\"}}");
    for start in [Start::Refuse, Start::Earliest] {
        let mut river = River::with(Stream { start, ..telemetry() }, 1).await;
        for _ in 0..10 {
            river.send("d1", &[&payload]).await;
        }
        river.table().await;
        let partition = river.partition(0);
        river.log.trim(&partition, Offset(9)).await.unwrap();
        let first = river.log.bounds(&partition).await.unwrap().first;
        assert!(first > Offset::ZERO);
        match start {
            Start::Refuse => refused(&river, "is gone from the log").await,
            Start::Earliest => {
                assert_eq!(rows(&river.session().await, COUNT).await, format!("{}\n", 10 - first.0));
            }
        }
    }
}

#[tokio::test]
async fn what_was_committed_and_trimmed_since_the_last_look_is_in_files() {
    let long = "x".repeat(1000);
    let payload = format!("{{\"note\": \"{long}\"}}");
    let mut river = River::new().await;
    let session = river.session().await;
    for round in 1..20 {
        for _ in 0..4 {
            river.send("d1", &[&payload]).await;
        }
        if round % 3 == 0 {
            assert_eq!(rows(&session, COUNT).await, format!("{}\n", round * 4));
        }
        river.commit(3).await;
        river.trim().await;
    }
    assert_eq!(rows(&session, COUNT).await, "76\n");
    assert!(river.log.bounds(&river.partition(0)).await.unwrap().first > Offset(40));
}

#[tokio::test]
async fn a_table_that_is_deleted_and_made_anew_begins_where_the_log_does() {
    let mut river = River::new().await;
    river.send("d1", &["1", "2", "3"]).await;
    river.commit(2).await;
    let session = river.session().await;
    assert_eq!(rows(&session, COUNT).await, "3\n");
    let store = river.ingestion.store();
    let files = store.list(Some(&"telemetry".into())).map_ok(|file| file.location);
    store.delete_stream(files.boxed()).try_collect::<Vec<_>>().await.unwrap();
    assert_eq!(rows(&session, COUNT).await, "3\n");
    river.table().await;
    assert_eq!(rows(&session, COUNT).await, "3\n");
    river.commit(1).await;
    river.send("d1", &["4"]).await;
    assert_eq!(rows(&session, "select count(*), sum(value) from telemetry").await, "4,10.0\n");
    assert_eq!(rows(&river.session().await, COUNT).await, "4\n");
}

#[tokio::test]
async fn a_transaction_that_no_decision_explains_is_believed() {
    let mut river = River::new().await;
    river.send("d1", &["1", "2", "3"]).await;
    let set = BTreeMap::from([(app("telemetry", &river.topic(), 0, river.partition(0).partition), 1)]);
    apply(&river.table().await, Plan { set, ..Plan::default() }).await;
    assert_eq!(rows(&river.session().await, "select value from telemetry").await, "3.0\n");
    assert_eq!(fingerprint(&super::river::message("d1", "1", 0)).len(), 8);
}
