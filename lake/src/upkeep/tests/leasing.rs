//! Of several who look after a table one does the work, and nobody waits for one that is gone.

use super::compaction::readings;
use super::*;
use crate::Bucket;
use crate::fixture::table;
use chrono::TimeDelta;

/// Takes it; until when somebody else has it, if so.
async fn theirs(table: &Table, others: Others, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    match lease::take(table, others, now).await.unwrap() {
        Claimed::Ours(_) => None,
        Claimed::Theirs(until) => Some(until),
    }
}

#[tokio::test]
async fn a_lease_holds_for_others_until_it_is_over_and_a_person_overrules_it() {
    let bucket = Bucket::memory("b");
    let table = table(&bucket).await;
    let now = Utc::now();
    assert_eq!(theirs(&table, Others::Respected, now).await, None);
    let held = theirs(&table, Others::Respected, now).await.unwrap();
    assert!(held > now && held <= now + TimeDelta::minutes(6));
    assert_eq!(leased_until(table.snapshot().await.unwrap().as_ref(), now), Some(held));
    assert_eq!(theirs(&table, Others::Overruled, now).await, None);
    assert_eq!(theirs(&table, Others::Respected, held + TimeDelta::milliseconds(2)).await, None);
    // A clock that was far ahead does not lock the others out for ever, and the lease is worth something again.
    let ahead = Utc::now() + TimeDelta::days(1000);
    lease::take(&table, Others::Overruled, ahead).await.unwrap();
    assert_eq!(theirs(&table, Others::Respected, now).await, None);
    assert!(theirs(&table, Others::Respected, now).await.is_some());
}

#[tokio::test]
async fn of_two_who_come_at_once_one_has_it() {
    let bucket = Bucket::memory("b");
    let (first, second) = (table(&bucket).await, table(&bucket).await);
    let now = Utc::now();
    let (a, b) =
        tokio::join!(theirs(&first, Others::Respected, now), theirs(&second, Others::Respected, now));
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

#[tokio::test(start_paused = true)]
async fn whoever_works_on_keeps_the_lease_and_whoever_lost_it_stops() {
    let bucket = Bucket::memory("b");
    let table = table(&bucket).await;
    for step in 0..10 {
        flush(&table, "app", readings(step * 10..(step + 1) * 10, 0)).await;
    }
    let now = Utc::now() + TimeDelta::days(3);
    let mut lease = lease::take(&table, Others::Respected, now).await.unwrap().ours().unwrap();
    let version = table.snapshot().await.unwrap().version();
    assert!(lease.renew(&table).await.unwrap());
    assert_eq!(table.snapshot().await.unwrap().version(), version, "it has just been taken");
    for minutes in [4, 8] {
        tokio::time::advance(Duration::from_secs(4 * 60)).await;
        assert!(lease.renew(&table).await.unwrap());
        let until = theirs(&table, Others::Respected, now + TimeDelta::minutes(minutes)).await.unwrap();
        assert_eq!(until.timestamp(), (now + TimeDelta::minutes(minutes + 5)).timestamp());
    }
    // A person wants it done now: who comes on schedule leaves it to him.
    tokio::time::advance(Duration::from_secs(4 * 60)).await;
    assert_eq!(theirs(&table, Others::Overruled, now + TimeDelta::minutes(12)).await, None);
    let stop = CancellationToken::new();
    let (done, failure) = compact::compact(&table, MIB, now, Some(lease), &stop, |_| {}).await.unwrap();
    assert_eq!((done, failure.is_none()), (Compacted::default(), true));
}
