//! What the ledger keeps: the first decision, every partition's place, and the way back when a table begins anew.

use super::{assert_right, decisions, drain, refused, stopped, table, work};
use crate::firehose::{EPOCH, FirehoseError};
use crate::simulation::crash::CrashStore;
use crate::simulation::memory_log::MemoryLog;
use crate::simulation::world::{Fate, SMALL_FILES, World, origins, rows, stream};
use arrow::array::AsArray;
use futures::TryStreamExt;
use millstream_lake::ledger::app;
use millstream_lake::{Operation, Plan};
use millstream_model::column::{Column, ColumnType};
use millstream_model::name::{Partition, QUARANTINE};
use millstream_model::stream::{Misfit, Stream};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Lets a worker die between its two commits, over a message that fits and one that does not.
async fn half_decided(on_mismatch: Misfit) -> World {
    for calls in 0..1000 {
        let mut world = World::new(30);
        let temp = Column { name: "temp".to_owned(), kind: ColumnType::Double, required: false };
        world.stream = Arc::new(Stream { on_mismatch, columns: vec![temp], ..stream(SMALL_FILES) });
        world.send("d1", r#"{"temp":1}"#, 0, Fate::Readings(1)).await;
        world.send("d1", r#"{"temp":"x"}"#, 1, Fate::Quarantined).await;
        let store = CrashStore::new(Arc::clone(&world.store) as _, calls, true);
        let dead = Arc::clone(&store.dead);
        let (work, _seen) = work(&world, World::bucket(Arc::new(store)), stopped());
        tokio::select! {
            _ = work.run() => {}
            () = dead.notified() => {}
        };
        let in_table = origins(&world.ingestion(), "telemetry").await.len();
        if in_table == 1 && origins(&world.ingestion(), QUARANTINE).await.is_empty() {
            return world;
        }
    }
    panic!("no crash fell between the commits");
}

#[tokio::test(start_paused = true)]
async fn what_was_decided_before_a_crash_stands_whatever_the_stream_says_now() {
    let mut world = half_decided(Misfit::Quarantine).await;
    let note = Column { name: "note".to_owned(), kind: ColumnType::String, required: false };
    world.stream = Arc::new(Stream { columns: vec![note], ..stream(SMALL_FILES) });
    world.send("d1", r#"{"temp":"y","note":"n"}"#, 2, Fate::Readings(1)).await;
    drain(&world).await.unwrap();
    assert_right(&world, "decided once").await;
    let quarantined = rows(&world.ingestion(), QUARANTINE).await;
    let reasons: Vec<_> = quarantined
        .iter()
        .flat_map(|batch| batch.column_by_name("reason").unwrap().as_string::<i32>().iter().flatten())
        .collect();
    assert_eq!(reasons, ["type_mismatch"]);
}

/// Deletes what lies in a folder of the bucket, but for paths that are to be kept.
async fn delete(world: &World, folder: &str, keep: impl Fn(&str) -> bool) {
    let found: Vec<_> = world.store.list(Some(&Path::from(folder))).try_collect().await.unwrap();
    for object in found.iter().filter(|object| !keep(object.location.as_ref())) {
        world.store.delete(&object.location).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_hides_neither_the_place_nor_the_log_that_it_belongs_to() {
    let mut world = World::new(31);
    for seconds in 0..4 {
        world.send("d1", r#"{"a":1}"#, seconds, Fate::Readings(1)).await;
        world.send("d1", "broken", seconds, Fate::Quarantined).await;
        drain(&world).await.unwrap();
    }
    for name in ["telemetry", QUARANTINE] {
        table(&world, name).await.checkpoint().await.unwrap();
    }
    world.send("d1", r#"{"a":1}"#, 9, Fate::Readings(1)).await;
    drain(&world).await.unwrap();
    assert_right(&world, "behind a checkpoint").await;
    table(&world, "telemetry").await.checkpoint().await.unwrap();
    world.log.recreate();
    for seconds in 100..120 {
        world.send("d1", r#"{"a":2}"#, seconds, Fate::Readings(1)).await;
    }
    assert!(matches!(refused(&world).await, FirehoseError::OtherRecord { .. }));
}

#[tokio::test(start_paused = true)]
async fn the_place_outlives_the_commits_that_said_it() {
    let mut world = World::new(32);
    world.append(40).await;
    drain(&world).await.unwrap();
    let ledger = table(&world, "telemetry").await;
    let set = BTreeMap::from([("other".to_owned(), 1)]);
    let properties = BTreeMap::from([("other".to_owned(), "1".to_owned())]);
    ledger.commit(Plan { operation: Operation::Schema, set, properties, ..Plan::default() }).await.unwrap();
    ledger.checkpoint().await.unwrap();
    let last = format!("{:020}.json", ledger.snapshot().await.unwrap().version());
    let keep = |path: &str| !path.ends_with(".json") || path.ends_with(&last);
    delete(&world, "telemetry/_delta_log", keep).await;
    world.append(10).await;
    drain(&world).await.unwrap();
    assert_eq!(world.violations().await, Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn every_commit_says_where_all_partitions_stand() {
    let mut world = World::new(33);
    world.log = MemoryLog::new(3);
    for device in 0..12 {
        world.send(&format!("d{device}"), r#"{"a":1}"#, 0, Fate::Readings(1)).await;
    }
    let partitions: BTreeSet<Partition> = world.fates.keys().map(|(partition, _)| *partition).collect();
    assert_eq!(partitions.len(), 3, "the devices are in all partitions");
    drain(&world).await.unwrap();
    world.send("d0", r#"{"a":2}"#, 1, Fate::Readings(1)).await;
    drain(&world).await.unwrap();
    assert_eq!(decisions(&world).await.last().unwrap().ranges.len(), 1);
    let mut expected = BTreeMap::new();
    for (partition, offset) in world.fates.keys() {
        expected.insert(app("telemetry", &world.topic(), 0, *partition), offset.0);
    }
    let ledger = table(&world, "telemetry").await;
    let latest = ledger.snapshot().await.unwrap().version();
    let mut said = ledger.commit_info(latest).await.unwrap().txns;
    // How far each has passed in event time is said beside that.
    said.retain(|name, _| !name.ends_with("/time"));
    assert_eq!(said, expected);
}

#[tokio::test(start_paused = true)]
async fn quarantines_files_say_what_they_belong_to() {
    let mut world = World::new(34);
    world.send("d1", "broken", 0, Fate::Quarantined).await;
    drain(&world).await.unwrap();
    let snapshot = table(&world, QUARANTINE).await.snapshot().await.unwrap();
    let tags = &snapshot.files()[0].tags;
    let partition = world.fates.keys().next().unwrap().0;
    let said = |name: &str| tags[&format!("millstream.{name}")].as_str();
    assert_eq!((said("log_topic"), said("closed")), ("millstream.telemetry", "shutdown"));
    assert_eq!((said("ranges"), said("quarantined")), (format!("{partition}:0-0").as_str(), "1"));
}

#[tokio::test(start_paused = true)]
async fn a_table_that_was_moved_away_begins_anew_and_so_does_its_quarantine() {
    let mut world = World::new(35);
    for seconds in 0..5 {
        world.send("d1", "broken", seconds, Fate::Quarantined).await;
    }
    drain(&world).await.unwrap();
    world.log.recreate();
    let error = refused(&world).await;
    assert!(matches!(error, FirehoseError::OtherLog { .. }), "{error}");

    delete(&world, "telemetry", |_| false).await;
    world.fates.clear();
    world.send("d1", r#"{"a":1}"#, 10, Fate::Readings(1)).await;
    world.send("d1", "broken anew", 11, Fate::Quarantined).await;
    drain(&world).await.unwrap();
    drain(&world).await.unwrap();
    let snapshot = table(&world, "telemetry").await.snapshot().await.unwrap();
    assert_eq!(snapshot.property(EPOCH), Some("1"));
    assert_eq!(origins(&world.ingestion(), "telemetry").await.len(), 1);
    assert_eq!(origins(&world.ingestion(), QUARANTINE).await.len(), 6);
}
