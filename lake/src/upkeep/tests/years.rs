//! A table that is written to for a long time stays small, and quick to open, if somebody looks after it.

use super::clocked::Clocked;
use super::compaction::readings;
use super::*;
use crate::Bucket;
use crate::faults::FaultyStore;
use crate::fixture::{DAY, table};
use chrono::{NaiveDate, TimeDelta};
use futures::TryStreamExt;
use millstream_model::stream::DatePartition;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use url::Url;

/// Commits a day, and days: many times fewer than a file a minute for a year, and as many as a test has time for.
const COMMITS: i64 = 12;
const DAYS: i64 = 30;

/// Every how many commits somebody looks after the table, and how many of those times its folder, too.
const TENDED_EVERY: i64 = 4;

fn short_lived() -> Rules {
    let day = Duration::from_secs(24 * 60 * 60);
    let keep = Keep { time: 10 * day, date: DatePartition::Day };
    Rules { target_size: Some(MIB), safe_age: 2 * day, log_keep: 5 * day, keep: Some(keep) }
}

struct Sizes {
    active: usize,
    stored: usize,
    log: usize,
    /// Requests that it takes to open it.
    opening: u64,
    /// Requests that it takes to find the last reading of a device.
    asking: u64,
    rows: i64,
}

async fn grown(rules: Option<Rules>) -> Sizes {
    let begin = NaiveDate::from_epoch_days(DAY).unwrap().and_time(chrono::NaiveTime::MIN).and_utc();
    let clock = Arc::new(Clocked::new(Arc::new(InMemory::new()), begin));
    let store = Arc::new(FaultyStore::new(clock.clone()));
    let bucket = Bucket::with_store("years", Url::parse("memory:///").unwrap(), store.clone());
    let table = table(&bucket).await;
    let mut keeper = upkeep(&table, rules.unwrap_or_else(short_lived)).await;
    let stop = CancellationToken::new();
    for commit in 0..COMMITS * DAYS {
        let (day, minute) = (commit / COMMITS, commit % COMMITS * (24 * 60 / COMMITS));
        let now = begin + TimeDelta::days(day) + TimeDelta::minutes(minute);
        clock.set(now);
        flush(&table, "app", readings(commit * 2..commit * 2 + 2, day)).await;
        table.checkpoint_if_due().await.unwrap();
        if rules.is_some() && commit % TENDED_EVERY == 0 {
            let depth = if commit % COMMITS == 0 { Depth::Folder } else { Depth::Rows };
            // Files say by the real clock when they were written: it stands behind this one, so a day that is over is quiet.
            let now = now.max(Utc::now());
            keeper.tend(depth, Others::Respected, now, &stop, |_| {}).await.unwrap();
        }
    }
    let before = store.requests();
    let opened = another(&table).await;
    let active = opened.snapshot().await.unwrap().files().len();
    let opening = store.requests() - before;
    let before = store.requests();
    let device = format!("d{}", (COMMITS * DAYS * 2 - 1) % 7);
    let sql = format!("select max(_offset) from t where device_id = '{device}'");
    assert_eq!(ask(&opened, &sql).await, [COMMITS * DAYS * 2 - 1]);
    let asking = store.requests() - before;
    let stored: Vec<_> = table.store().list(None).try_collect().await.unwrap();
    let log = stored.iter().filter(|meta| meta.location.as_ref().starts_with("_delta_log/")).count();
    let rows = ask(&opened, "select count(*) from t").await[0];
    Sizes { active, stored: stored.len() - log, log, opening, asking, rows }
}

#[tokio::test]
async fn a_table_that_is_looked_after_stays_small_and_quick_to_ask() {
    let tended = grown(Some(short_lived())).await;
    // Ten days and the one that goes on, each a file, the last ones some more; and what somebody may still read.
    assert!(tended.active <= 11 + 16, "{} files", tended.active);
    assert!(tended.stored <= tended.active + 8 * COMMITS as usize, "{} stored files", tended.stored);
    // Five days of commits, ours among them, and as many as may come before the next checkpoint is old enough.
    assert!(tended.log <= 8 * COMMITS as usize + 100, "{} files of the log", tended.log);
    assert!(tended.rows >= 10 * COMMITS * 2 && tended.rows <= 11 * COMMITS * 2, "{} rows", tended.rows);
    // Without anybody: the negative control.
    let left = grown(None).await;
    assert_eq!((left.active as i64, left.rows), (COMMITS * DAYS, COMMITS * DAYS * 2));
    assert!(left.log as i64 >= COMMITS * DAYS);
    println!(
        "{} files of {}, {} of {} log files, {} requests to open and {} to ask instead of {} and {}",
        tended.active,
        left.active,
        tended.log,
        left.log,
        tended.opening,
        tended.asking,
        left.opening,
        left.asking
    );
    assert!(tended.asking * 8 <= left.asking, "{} requests to ask instead of {}", tended.asking, left.asking);
}
