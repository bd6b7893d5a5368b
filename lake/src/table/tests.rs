use super::*;
use crate::fixture::{another, append, batch, drop_commit, faulty, table};
use crate::{NewFile, Outcome, Plan, WriteOptions};
use object_store::ObjectStoreExt;
use object_store::path::Path;
use serde_json::{Map, Value, json};

#[tokio::test]
async fn a_checkpoint_is_due_every_so_many_commits() {
    let bucket = Bucket::memory("b");
    let table = table(&bucket).await;
    for step in 1..CHECKPOINT_EVERY {
        table.commit(append(&step.to_string(), "app", (step > 1).then_some(step - 1), step)).await.unwrap();
    }
    assert!(!table.checkpoint_if_due().await.unwrap());
    table.commit(append("last", "app", Some(CHECKPOINT_EVERY - 1), CHECKPOINT_EVERY)).await.unwrap();
    assert!(table.checkpoint_if_due().await.unwrap());
    assert!(!table.checkpoint_if_due().await.unwrap());
    assert!(!another(&table).await.checkpoint_if_due().await.unwrap());
    table
        .store()
        .head(&Path::from(format!("_delta_log/{CHECKPOINT_EVERY:020}.checkpoint.parquet")))
        .await
        .unwrap();
    table
        .store()
        .head(&Path::from(format!("_delta_log/{:020}.json", 0)))
        .await
        .expect("the log is not cleaned");
}

#[tokio::test]
async fn of_several_who_have_a_table_open_one_writes_the_checkpoint() {
    let bucket = Bucket::memory("b");
    let table = table(&bucket).await;
    let others = [another(&table).await, another(&table).await];
    for step in 0..CHECKPOINT_EVERY {
        table.commit(append(&step.to_string(), "app", (step > 0).then_some(step), step + 1)).await.unwrap();
    }
    assert!(table.checkpoint_if_due().await.unwrap());
    for other in &others {
        other.snapshot().await.unwrap();
        assert!(!other.checkpoint_if_due().await.unwrap());
    }
}

#[tokio::test]
async fn what_fails_after_a_commit_takes_nothing_back() {
    let (store, bucket) = faulty();
    let table = table(&bucket).await;
    assert_eq!(table.commit(append("a", "app", None, 1)).await.unwrap(), Outcome::Applied { version: 1 });
    store.fail_reads(100);
    assert!(table.checkpoint().await.is_err());
    assert!(table.snapshot().await.is_err());
    store.heal();
    assert_eq!(table.snapshot().await.unwrap().version(), 1);
}

#[tokio::test]
async fn a_commit_carries_what_another_table_shall_commit_and_is_found_by_its_fence() {
    let bucket = Bucket::memory("b");
    let (stream, quarantine) = (
        table(&bucket).await,
        Table::open_or_create(&bucket, "quarantine", &crate::fixture::definition()).await.unwrap(),
    );
    let waiting = quarantine.write(batch(&[(1, "x")]), &WriteOptions::default()).await.unwrap();
    let info: Map<String, Value> =
        json!({ "closed": "age", "quarantine": waiting }).as_object().unwrap().clone();
    stream.commit(Plan { info, ..append("a", "p0", None, 3) }).await.unwrap();
    stream.commit(append("b", "other", None, 1)).await.unwrap();

    let version = another(&stream).await.version_of_txn("p0").await.unwrap().unwrap();
    let summary = stream.commit_info(version).await.unwrap();
    assert_eq!((version, summary.operation.as_str(), &summary.info["closed"]), (1, "WRITE", &json!("age")));
    let found: Vec<NewFile> = serde_json::from_value(summary.info["quarantine"].clone()).unwrap();
    assert_eq!(found, waiting);
    let redo = Plan { adds: found, data_change: true, ..append("unused", "q0", None, 3) };
    assert_eq!(quarantine.commit(redo).await.unwrap(), Outcome::Applied { version: 1 });

    // Behind a checkpoint the fence does not say where it came from; the log still does, until it is cleaned.
    stream.checkpoint().await.unwrap();
    assert_eq!(another(&stream).await.version_of_txn("p0").await.unwrap(), Some(1));
    assert_eq!(another(&stream).await.version_of_txn("nobody").await.unwrap(), None);
    drop_commit(&stream, 1).await;
    assert_eq!(another(&stream).await.version_of_txn("p0").await.unwrap(), None);
}

/// However many are asked for, the log is read backward once, and no further than the oldest of their commits.
#[tokio::test]
async fn the_commits_of_several_fences_are_found_in_one_walk() {
    let (store, bucket) = faulty();
    let table = table(&bucket).await;
    for (step, app) in ["old", "p0", "p1", "p2", "busy"].into_iter().enumerate() {
        table.commit(append(&step.to_string(), app, None, 1)).await.unwrap();
    }
    for step in 1..60 {
        table.commit(append(&format!("busy{step}"), "busy", Some(step), step + 1)).await.unwrap();
    }
    table.checkpoint().await.unwrap();
    table.commit(append("last", "late", None, 1)).await.unwrap();
    let asked = async |apps: &[&str]| {
        let table = another(&table).await;
        table.snapshot().await.unwrap();
        let before = store.requests();
        let found = table.versions_of_txns(apps).await.unwrap();
        (found, store.requests() - before)
    };
    let (one, least) = asked(&["p0"]).await;
    assert_eq!(one, [("p0".to_owned(), 2)].into());
    let (all, requests) = asked(&["p2", "late", "p0", "p1", "nobody"]).await;
    let expected = [("p0", 2), ("p1", 3), ("p2", 4), ("late", 65)];
    assert_eq!(all, expected.map(|(app, version)| (app.to_owned(), version)).into());
    assert_eq!(requests, least);
}

#[tokio::test]
async fn a_table_beyond_our_protocol_is_refused() {
    let bucket = Bucket::memory("b");
    let table = table(&bucket).await;
    let commit = r#"{"protocol":{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":["deletionVectors"],"writerFeatures":["deletionVectors"]}}"#;
    table.store().put(&Path::from(format!("_delta_log/{:020}.json", 1)), commit.into()).await.unwrap();
    for refused in [table.snapshot().await.map(drop), Table::open(&bucket, "t").await.map(drop)] {
        assert!(matches!(refused, Err(LakeError::Protocol { reader: 3, writer: 7, .. })), "{refused:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_handle_that_has_not_looked_for_long_does_not_take_a_cleaned_log_for_an_idle_one() {
    let bucket = Bucket::memory("b");
    let (table, sleeper) = (table(&bucket).await, table(&bucket).await);
    table.commit(append("a", "app", None, 1)).await.unwrap();
    table.commit(append("b", "app", Some(1), 2)).await.unwrap();
    table.checkpoint().await.unwrap();
    for version in 0..2 {
        drop_commit(&table, version).await;
    }
    tokio::time::advance(std::time::Duration::from_secs(60 * 60)).await;
    assert_eq!(sleeper.snapshot().await.unwrap().version(), 2);
    let fenced = sleeper.commit(append("z", "app", None, 1)).await.unwrap();
    assert!(matches!(fenced, Outcome::Fenced { found: Some(2), .. }), "{fenced:?}");
}

#[tokio::test]
async fn a_look_at_what_has_not_changed_costs_two_small_requests() {
    let (store, bucket) = faulty();
    let table = table(&bucket).await;
    table.commit(append("a", "app", None, 1)).await.unwrap();
    table.snapshot().await.unwrap();
    let before = store.requests();
    assert_eq!(table.snapshot().await.unwrap().version(), 1);
    assert_eq!(store.requests() - before, 2);
}

#[tokio::test]
async fn who_asks_while_others_look_shares_the_next_look_and_sees_what_was_there_when_it_asked() {
    let (store, bucket) = faulty();
    let (table, other) = (table(&bucket).await, table(&bucket).await);
    table.snapshot().await.unwrap();
    other.commit(append("a", "app", None, 1)).await.unwrap();
    let before = store.requests();
    let holder = table.inner.latest.lock().await;
    let asking = futures::future::join_all((0..10).map(|_| table.snapshot()));
    // All of them wait when the lock is given back.
    let (snapshots, ()) = tokio::join!(asking, async { drop(holder) });
    assert!(snapshots.into_iter().all(|snapshot| snapshot.unwrap().version() == 1));
    assert_eq!(store.requests() - before, 3);
    // A look that was begun before is not taken for one's own.
    other.commit(append("b", "app", Some(1), 2)).await.unwrap();
    assert_eq!(table.snapshot().await.unwrap().version(), 2);
}

#[tokio::test]
async fn a_look_that_fails_is_shared_by_nobody() {
    let (store, bucket) = faulty();
    let table = table(&bucket).await;
    table.snapshot().await.unwrap();
    // Each look reads twice, at once.
    store.fail_reads(1);
    let holder = table.inner.latest.lock().await;
    let (first, second, ()) = tokio::join!(table.snapshot(), table.snapshot(), async { drop(holder) });
    assert!(first.is_err());
    assert_eq!(second.unwrap().version(), 0);
}
