use super::*;
use crate::fixture::{another, append, batch, faulty, file, table};
use crate::{NewFile, Outcome, Plan, WriteOptions};
use object_store::ObjectStoreExt;
use object_store::path::Path;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

async fn drop_commit(table: &Table, version: i64) {
    table.store().delete(&Path::from(format!("_delta_log/{version:020}.json"))).await.unwrap();
}

fn properties(snapshot: &Snapshot) -> BTreeMap<String, String> {
    snapshot.properties().clone().into_iter().collect()
}

/// What a reader can tell two snapshots apart by.
fn assert_same(a: &Snapshot, b: &Snapshot) {
    let sorted = |snapshot: &Snapshot| {
        let mut files = snapshot.files().to_vec();
        files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        files
    };
    assert_eq!((a.version(), a.schema(), a.partition_by()), (b.version(), b.schema(), b.partition_by()));
    assert_eq!(properties(a), properties(b));
    assert_eq!(a.txns().collect::<Vec<_>>(), b.txns().collect::<Vec<_>>());
    assert_eq!(sorted(a), sorted(b));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_grew_commit_by_commit_is_the_one_that_a_newcomer_reads_with_and_without_checkpoint()
{
    let dir = tempfile::tempdir().unwrap();
    for bucket in [Bucket::memory("b"), Bucket::local(dir.path()).unwrap()] {
        let table = table(&bucket).await;
        let adds = table.write(batch(&[(5, "b"), (-5, "a")]), &WriteOptions::default()).await.unwrap();
        table.commit(Plan { adds, data_change: true, ..append("a", "p0", None, 3) }).await.unwrap();
        table.commit(append("b", "p1", None, 4)).await.unwrap();
        let planned = table.snapshot().await.unwrap();
        let removes = planned.files()[..1].to_vec();
        let plan =
            Plan { removes, on_snapshot: Some(planned), ..append("c", &table.maintenance_app(), None, 1) };
        assert_eq!(table.commit(plan).await.unwrap(), Outcome::Applied { version: 3 });
        let grown = table.snapshot().await.unwrap();
        assert_same(&grown, another(&table).await.snapshot().await.unwrap().as_ref());
        table.checkpoint().await.unwrap();
        for version in 0..=3 {
            drop_commit(&table, version).await;
        }
        let read = another(&table).await;
        assert_same(&grown, read.snapshot().await.unwrap().as_ref());
        // And it goes on from there.
        assert_eq!(
            read.commit(append("d", "p0", Some(3), 9)).await.unwrap(),
            Outcome::Applied { version: 4 }
        );
        assert_same(
            table.snapshot().await.unwrap().as_ref(),
            another(&table).await.snapshot().await.unwrap().as_ref(),
        );
    }
}

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

#[tokio::test]
async fn changes_are_told_commit_by_commit_until_they_are_gone() {
    let bucket = Bucket::memory("b");
    let table = table(&bucket).await;
    table.commit(append("a", "app", None, 1)).await.unwrap();
    table.commit(append("b", "app", Some(1), 2)).await.unwrap();
    let changes = table.changes(0, 2).await.unwrap();
    let told: Vec<_> = changes
        .iter()
        .map(|commit| (commit.version, commit.data_change, commit.adds[0].path.clone()))
        .collect();
    assert_eq!(told, [(1, true, file("a").path), (2, true, file("b").path)]);
    assert_eq!(changes[1].txns, BTreeMap::from([("app".to_owned(), 2)]));
    assert!(changes[0].timestamp_ms > 0);
    assert_eq!(changes[0].adds[0].partition_values["date"].as_deref(), Some("2026-11-21"));
    assert_eq!(changes[0].adds[0].tags["closed"], "size");
    assert!(table.changes(2, 2).await.unwrap().is_empty());
    assert!(table.changes(-1, 0).await.unwrap()[0].metadata_change);
    drop_commit(&table, 1).await;
    let gone = table.changes(0, 2).await.unwrap_err();
    assert!(matches!(gone, LakeError::Gone { version: 1, .. }), "{gone}");
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

#[tokio::test]
async fn where_there_is_no_table_none_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    for bucket in [Bucket::memory("b"), Bucket::local(dir.path()).unwrap()] {
        assert!(Table::open(&bucket, "t").await.unwrap().is_none());
        for bad in ["..", "a/b", "Telemetry", ""] {
            assert!(matches!(Table::open(&bucket, bad).await, Err(LakeError::Name { .. })), "{bad}");
        }
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
async fn a_table_that_was_made_anew_in_the_place_of_another_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    for bucket in [Bucket::memory("b"), Bucket::local(dir.path()).unwrap()] {
        // Fewer commits than before, as many, and more.
        for commits in [1, 2, 5] {
            let known = table(&bucket).await;
            known.commit(append("a", "app", None, 1)).await.unwrap();
            known.commit(append("b", "app", Some(1), 2)).await.unwrap();
            let before = known.snapshot().await.unwrap();
            for version in 0..=2 {
                drop_commit(&known, version).await;
            }
            let anew = table(&bucket).await;
            for step in 1..=commits {
                anew.commit(append(&step.to_string(), "other", (step > 1).then_some(step - 1), step))
                    .await
                    .unwrap();
            }
            let seen = known.snapshot().await.unwrap();
            assert_same(&seen, anew.snapshot().await.unwrap().as_ref());
            assert_ne!(seen.id(), before.id());
            for version in 0..=commits {
                drop_commit(&anew, version).await;
            }
        }
    }
}
