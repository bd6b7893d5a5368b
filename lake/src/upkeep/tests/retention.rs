//! Rows leave by whole dates, and it stays known up to where.

use super::compaction::readings;
use super::*;
use crate::Bucket;
use crate::fixture::{DAY, table};
use chrono::{NaiveDate, TimeDelta};
use millstream_model::stream::DatePartition;

fn date(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

#[test]
fn a_date_leaves_when_all_of_it_was_kept_long_enough() {
    let day = Duration::from_secs(24 * 60 * 60);
    let check = |keep: u32, unit: DatePartition, now: &str, expected: &str| {
        let keep = Keep { time: keep * day, date: unit };
        assert_eq!(keep.horizon(now.parse().unwrap()), Some(date(expected)), "{keep:?} at {now}");
    };
    check(1, DatePartition::Day, "2026-11-21T00:00:00Z", "2026-11-20");
    check(1, DatePartition::Day, "2026-11-21T23:59:59Z", "2026-11-20");
    check(365, DatePartition::Day, "2026-11-21T12:00:00Z", "2025-11-21");
    check(30, DatePartition::Month, "2026-11-30T12:00:00Z", "2026-10-01");
    check(30, DatePartition::Month, "2026-12-01T00:00:00Z", "2026-11-01");
}

#[tokio::test]
async fn what_was_kept_long_enough_leaves_at_once_and_late_rows_leave_again() {
    let bucket = Bucket::memory("b");
    let table = table(&bucket).await;
    for day in 0..5 {
        flush(&table, "app", readings(day * 10..(day + 1) * 10, day)).await;
    }
    let first = NaiveDate::from_epoch_days(DAY).unwrap();
    let now = first.and_hms_opt(12, 0, 0).unwrap().and_utc() + TimeDelta::days(13);
    let keep = Keep { time: Duration::from_secs(10 * 86_400), date: DatePartition::Day };
    // The store's clock is not this one, and files that leave are not to be removed here.
    let long = Duration::from_secs(60 * 86_400);
    let rules = Rules { keep: Some(keep), target_size: None, safe_age: long, log_keep: long };
    let mut keeper = upkeep(&table, rules).await;
    let foreseen = keeper.foresee(now).await.unwrap();
    let tended = tend(&table, rules, now).await;
    assert_eq!((&foreseen.retired, foreseen.after), (&tended.retired, tended.after));
    let retired = tended.retired.unwrap();
    assert_eq!((retired.before, retired.files, retired.rows), (first + TimeDelta::days(3), 3, Some(30)));
    assert_eq!(retired.dates, (first, first + TimeDelta::days(2)));
    assert_eq!(ask(&table, "select count(*), min(_offset) from t").await, [20, 30]);
    let snapshot = another(&table).await.snapshot().await.unwrap();
    assert_eq!(retired_before(&snapshot), Some(retired.before));
    assert_eq!(snapshot.txn(&retired_app("t")), Some(i64::from(DAY) + 3));
    let summary = table.commit_info(snapshot.version()).await.unwrap();
    assert_eq!((summary.operation.as_str(), summary.data_change), ("DELETE", true));
    assert_eq!(summary.info["millstream"]["retired_before"], retired.before.to_string());
    assert_eq!(tend(&table, rules, now).await.retired, None, "once is enough");

    // A reading that comes late for such a date leaves with the next upkeep; a longer time that is configured brings nothing back, and takes nothing more.
    flush(&table, "app", readings(100..110, 1)).await;
    let longer = Rules { keep: Some(Keep { time: Duration::from_secs(100 * 86_400), ..keep }), ..rules };
    let tended = tend(&table, longer, now).await;
    assert_eq!(tended.retired.unwrap().rows, Some(10));
    assert_eq!(
        retired_before(another(&table).await.snapshot().await.unwrap().as_ref()),
        Some(retired.before)
    );
}

#[tokio::test]
async fn more_files_than_one_commit_takes_leave_by_whole_dates_the_oldest_first() {
    let bucket = Bucket::memory("b");
    let table = table(&bucket).await;
    for day in 0..4 {
        for step in 0..2 {
            flush(&table, "app", readings(day * 10 + step..day * 10 + step + 1, day)).await;
        }
    }
    let first = NaiveDate::from_epoch_days(DAY).unwrap();
    let now = first.and_hms_opt(0, 0, 0).unwrap().and_utc() + TimeDelta::days(40);
    let keep = Keep { time: Duration::from_secs(86_400), date: DatePartition::Day };
    let snapshot = table.snapshot().await.unwrap();
    let check = |files_max: usize, files: u64, before: i64| {
        let due = retire::due(&snapshot, keep, now, files_max).unwrap();
        assert_eq!(
            (due.retired.files, due.retired.before),
            (files, first + TimeDelta::days(before)),
            "{files_max}"
        );
    };
    check(1, 2, 1);
    check(5, 4, 2);
    check(100, 8, 39);
}
