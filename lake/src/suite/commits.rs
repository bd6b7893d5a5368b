//! What a table promises, wherever it lies.

use super::Place;
use crate::fixture::{
    another, append, applied, assert_same, batch, commits, definition, drop_commit, file, growth, names,
    rewrite, table, wider,
};
use crate::{LakeError, Operation, Outcome, Plan, Table, WriteOptions};
use futures::future::join_all;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use std::collections::BTreeMap;

pub(super) async fn of_many_who_make_a_table_at_once_one_makes_it_and_all_have_it(place: &Place) {
    let bucket = &place.bucket;
    let definition = definition();
    let made = join_all((0..8).map(|_| Table::open_or_create(bucket, "t", &definition))).await;
    let mut ids = Vec::new();
    for table in made {
        let snapshot = table.unwrap().snapshot().await.unwrap();
        assert_eq!(snapshot.version(), 0);
        ids.push(snapshot.id().to_owned());
    }
    ids.dedup();
    assert_eq!((ids.len(), commits(bucket).await), (1, 1));
}

pub(super) async fn a_snapshot_that_grew_commit_by_commit_is_the_one_that_a_newcomer_reads_with_and_without_checkpoint(
    place: &Place,
) {
    let bucket = &place.bucket;
    let table = table(bucket).await;
    let adds = table.write(batch(&[(5, "b"), (-5, "a")]), &WriteOptions::default()).await.unwrap();
    table.commit(Plan { adds, data_change: true, ..append("a", "p0", None, 3) }).await.unwrap();
    table.commit(append("b", "p1", None, 4)).await.unwrap();
    let planned = table.snapshot().await.unwrap();
    let removes = planned.files()[..1].to_vec();
    let plan = Plan { removes, on_snapshot: Some(planned), ..append("c", &table.maintenance_app(), None, 1) };
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
    assert_eq!(read.commit(append("d", "p0", Some(3), 9)).await.unwrap(), Outcome::Applied { version: 4 });
    assert_same(
        table.snapshot().await.unwrap().as_ref(),
        another(&table).await.snapshot().await.unwrap().as_ref(),
    );
}

pub(super) async fn changes_are_told_commit_by_commit_until_they_are_gone(place: &Place) {
    let bucket = &place.bucket;
    let table = table(bucket).await;
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

pub(super) async fn where_there_is_no_table_none_is_opened(place: &Place) {
    let bucket = &place.bucket;
    assert!(Table::open(bucket, "t").await.unwrap().is_none());
    for bad in ["..", "a/b", "Telemetry", ""] {
        assert!(matches!(Table::open(bucket, bad).await, Err(LakeError::Name { .. })), "{bad}");
    }
}

pub(super) async fn a_table_that_was_made_anew_in_the_place_of_another_is_noticed(place: &Place) {
    let bucket = &place.bucket;
    // Fewer commits than before, as many, and more.
    for commits in [1, 2, 5] {
        let known = table(bucket).await;
        known.commit(append("a", "app", None, 1)).await.unwrap();
        known.commit(append("b", "app", Some(1), 2)).await.unwrap();
        let before = known.snapshot().await.unwrap();
        for version in 0..=2 {
            drop_commit(&known, version).await;
        }
        let anew = table(bucket).await;
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

pub(super) async fn writers_of_different_apps_all_land_whatever_they_had_seen(place: &Place) {
    let bucket = &place.bucket;
    let table = table(bucket).await;
    let writer = async |number: usize| {
        let handle = another(&table).await;
        let app = format!("app{number}");
        for step in 0..3 {
            let plan = append(&format!("{number}-{step}"), &app, (step > 0).then_some(step - 1), step);
            assert!(matches!(handle.commit(plan).await.unwrap(), Outcome::Applied { .. }));
        }
    };
    join_all((0..4).map(writer)).await;
    let snapshot = table.snapshot().await.unwrap();
    assert_eq!((snapshot.version(), snapshot.files().len()), (12, 12));
    assert!((0..4).all(|number| snapshot.txn(&format!("app{number}")) == Some(2)));
}

pub(super) async fn a_second_writer_of_the_same_app_is_fenced_even_if_it_came_to_the_same_place(
    place: &Place,
) {
    let bucket = &place.bucket;
    let (first, second) = (table(bucket).await, table(bucket).await);
    assert_eq!(first.commit(append("a", "app", None, 9)).await.unwrap(), applied(1));
    let fenced = Outcome::Fenced { app: "app".to_owned(), expected: None, found: Some(9) };
    assert_eq!(second.commit(append("b", "app", None, 9)).await.unwrap(), fenced);
    assert_eq!(second.commit(append("b", "app", None, 10)).await.unwrap(), fenced);
    assert_eq!(names(&first).await, ["a"]);
    assert_eq!(second.commit(append("b", "app", Some(9), 10)).await.unwrap(), applied(2));
}

pub(super) async fn a_replacement_planned_before_an_append_or_a_compaction_has_to_be_planned_anew(
    place: &Place,
) {
    let bucket = &place.bucket;
    let (table, other) = (table(bucket).await, table(bucket).await);
    table.commit(append("a", "app", None, 1)).await.unwrap();
    let planned = table.snapshot().await.unwrap();
    other.commit(append("b", "app", Some(1), 2)).await.unwrap();
    assert_eq!(
        table.commit(rewrite("r", Operation::Replace, &planned, &table)).await.unwrap(),
        Outcome::Moved
    );

    let planned = table.snapshot().await.unwrap();
    let compaction = rewrite("ab", Operation::Compact, &other.snapshot().await.unwrap(), &other);
    assert_eq!(other.commit(compaction).await.unwrap(), applied(3));
    let refused = table.commit(rewrite("r", Operation::Replace, &planned, &table)).await.unwrap();
    assert!(matches!(refused, Outcome::Fenced { .. }), "the maint txn is the first to say so: {refused:?}");

    let planned = table.snapshot().await.unwrap();
    assert_eq!(table.commit(rewrite("r", Operation::Replace, &planned, &table)).await.unwrap(), applied(4));
    assert_eq!(names(&table).await, ["r"]);
}

pub(super) async fn a_compaction_planned_before_a_foreign_append_lands_only_when_planned_anew(place: &Place) {
    let bucket = &place.bucket;
    let table = table(bucket).await;
    table.commit(append("a", "app", None, 1)).await.unwrap();
    let planned = table.snapshot().await.unwrap();
    table.commit(append("b", "app", Some(1), 2)).await.unwrap();
    assert_eq!(
        table.commit(rewrite("c", Operation::Compact, &planned, &table)).await.unwrap(),
        Outcome::Moved
    );
    assert_eq!(names(&table).await, ["a", "b"]);
    let planned = table.snapshot().await.unwrap();
    assert_eq!(table.commit(rewrite("c", Operation::Compact, &planned, &table)).await.unwrap(), applied(3));
    assert_eq!(names(&table).await, ["c"]);
    let summary = table.commit_info(3).await.unwrap();
    assert_eq!(
        (summary.operation.as_str(), summary.data_change, summary.removes.len()),
        ("OPTIMIZE", false, 2)
    );
}

pub(super) async fn columns_and_properties_grow_in_one_commit_and_who_relied_on_the_old_ones_is_told(
    place: &Place,
) {
    let bucket = &place.bucket;
    let table = table(bucket).await;
    let before = table.snapshot().await.unwrap();
    let properties = BTreeMap::from([("millstream.input_schema".to_owned(), "[]".to_owned())]);
    let grow = Plan { properties, metadata_of: Some(before.clone()), ..growth("temp") };
    assert_eq!(table.commit(grow.clone()).await.unwrap(), applied(1));
    let after = another(&table).await.snapshot().await.unwrap();
    assert_eq!(after.schema(), wider("temp"));
    assert_eq!(
        (after.property("millstream.input_schema"), after.property("millstream.epoch")),
        (Some("[]"), Some("0"))
    );
    assert_eq!(after.metadata().id(), before.metadata().id());

    let stale = Plan { metadata_of: Some(before), ..append("a", "app", None, 1) };
    assert_eq!(table.commit(stale).await.unwrap(), Outcome::Moved);
    assert_eq!(table.commit(grow).await.unwrap(), Outcome::Moved);
    // Whoever grew from the old columns would drop the new one: refused even where nothing was said about the ground.
    assert_eq!(table.commit(growth("humidity")).await.unwrap(), Outcome::Moved);
    let current = Plan { metadata_of: Some(after), ..append("a", "app", None, 1) };
    assert_eq!(table.commit(current).await.unwrap(), applied(2));
}

pub(super) async fn table_names_are_the_folders_that_have_a_delta_log(place: &Place) {
    let bucket = &place.bucket;
    for key in [
        "telemetry/_delta_log/0.json",
        "quarantine/_delta_log/0.json",
        "notes/readme",
        "_staging/x",
        "Bad/_delta_log/0.json",
    ] {
        bucket.store().put(&Path::from(key), "x".into()).await.unwrap();
    }
    assert_eq!(bucket.table_names().await.unwrap(), ["quarantine", "telemetry"]);
}

pub(super) async fn a_bucket_that_is_opened_anew_has_what_was_committed(place: &Place) {
    let first = table(&place.bucket).await;
    assert_eq!(first.commit(append("a", "app", None, 1)).await.unwrap(), applied(1));
    let reopened = place.reopened();
    assert_eq!((reopened.name(), reopened.url()), (place.bucket.name(), place.bucket.url()));
    let second = Table::open(&reopened, "t").await.unwrap().unwrap();
    assert_eq!(second.commit(append("b", "app", Some(1), 2)).await.unwrap(), applied(2));
    let fenced = first.commit(append("c", "app", Some(1), 2)).await.unwrap();
    assert!(matches!(fenced, Outcome::Fenced { found: Some(2), .. }), "{fenced:?}");
    assert_same(first.snapshot().await.unwrap().as_ref(), second.snapshot().await.unwrap().as_ref());
    assert_eq!(names(&first).await, ["a", "b"]);
}
