//! What looking after a table does, wherever it lies.

use super::Place;
use crate::WriteOptions;
use crate::fixture::{another, table};
use crate::upkeep::tests::{ask, flush, readings, rules, tend};
use chrono::{TimeDelta, Utc};
use object_store::ObjectStoreExt;
use object_store::path::Path;

pub(super) async fn small_files_become_one_and_what_nobody_needs_is_removed(place: &Place) {
    let table = table(&place.bucket).await;
    for step in 0..12 {
        flush(&table, "app", readings(step * 10..(step + 1) * 10, 0)).await;
    }
    let orphan = table.write(readings(0..3, 0), &WriteOptions::default()).await.unwrap().remove(0);
    let stranger = Path::from("date=2026-11-21/theirs.parquet");
    table.store().put(&stranger, "x".into()).await.unwrap();
    table.checkpoint().await.unwrap();
    let before = ask(&table, "select count(*), sum(_offset) from t").await;

    let tended = tend(&table, rules(), Utc::now() + TimeDelta::days(60)).await;
    assert_eq!((tended.before.files, tended.after.files), (12, 1), "{tended:?}");
    let (cleaned, vacuumed) = (tended.cleaned.unwrap(), tended.vacuumed.unwrap());
    assert_eq!((cleaned.commits, vacuumed.files, vacuumed.strangers), (12, 13, 1));
    table.store().head(&Path::from(orphan.path.as_str())).await.unwrap_err();
    table.store().head(&stranger).await.unwrap();
    place.assert_staged(0);

    let opened = another(&table).await;
    assert_eq!(ask(&opened, "select count(*), sum(_offset) from t").await, before);
    flush(&opened, "app", readings(120..130, 0)).await;
    assert_eq!(ask(&table, "select count(*) from t").await, [130]);
}
