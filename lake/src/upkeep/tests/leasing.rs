//! Of several who look after a table one does the work, and nobody waits for one that is gone.

use super::compaction::readings;
use super::*;
use crate::Bucket;
use crate::fixture::table;
use chrono::TimeDelta;

#[tokio::test]
async fn a_lease_holds_for_others_until_it_is_over_and_a_person_overrules_it() {
    let bucket = Bucket::memory("b");
    let table = table(&bucket).await;
    let now = Utc::now();
    assert_eq!(lease::take(&table, Others::Respected, now).await.unwrap(), None);
    let held = lease::take(&table, Others::Respected, now).await.unwrap().unwrap();
    assert!(held > now && held <= now + TimeDelta::minutes(6));
    assert_eq!(leased_until(table.snapshot().await.unwrap().as_ref(), now), Some(held));
    assert_eq!(lease::take(&table, Others::Overruled, now).await.unwrap(), None);
    assert_eq!(
        lease::take(&table, Others::Respected, held + TimeDelta::milliseconds(1)).await.unwrap(),
        None
    );
    // A clock that was far ahead does not lock the others out for ever.
    let ahead = Utc::now() + TimeDelta::days(1000);
    lease::take(&table, Others::Overruled, ahead).await.unwrap();
    assert_eq!(lease::take(&table, Others::Respected, now).await.unwrap(), None);
}

#[tokio::test]
async fn of_two_who_come_at_once_one_has_it() {
    let bucket = Bucket::memory("b");
    let (first, second) = (table(&bucket).await, table(&bucket).await);
    let now = Utc::now();
    let (a, b) = tokio::join!(
        lease::take(&first, Others::Respected, now),
        lease::take(&second, Others::Respected, now)
    );
    let (a, b) = (a.unwrap(), b.unwrap());
    assert!(a.is_none() != b.is_none(), "{a:?} {b:?}");
}

#[tokio::test]
async fn who_comes_on_schedule_leaves_a_leased_table_alone_and_an_idle_one_gets_no_commit() {
    let bucket = Bucket::memory("b");
    let table = table(&bucket).await;
    for step in 0..10 {
        flush(&table, "app", readings(step * 10..(step + 1) * 10, 0)).await;
    }
    let (now, stop) = (Utc::now() + TimeDelta::days(3), CancellationToken::new());
    lease::take(&table, Others::Respected, now).await.unwrap();
    let version = table.snapshot().await.unwrap().version();
    let mut keeper = upkeep(&table, rules()).await;
    let tended = keeper.tend(Depth::Rows, Others::Respected, now, &stop, |_| {}).await.unwrap();
    assert!(tended.leased_until.is_some());
    assert_eq!(table.snapshot().await.unwrap().version(), version);
    let later = now + TimeDelta::minutes(6);
    let tended = keeper.tend(Depth::Rows, Others::Respected, later, &stop, |_| {}).await.unwrap();
    assert_eq!((tended.leased_until, tended.compacted.merged), (None, 10));
    let version = table.snapshot().await.unwrap().version();
    keeper.tend(Depth::Folder, Others::Respected, later, &stop, |_| {}).await.unwrap();
    assert_eq!(table.snapshot().await.unwrap().version(), version);
}
