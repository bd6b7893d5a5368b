//! Upkeep in a hurry: what it does to a table within a year, at any moment that a test likes.

use chrono::{DateTime, TimeDelta, Utc};
use millstream_lake::Bucket;
use millstream_lake::upkeep::{Depth, Others, Rules, Upkeep};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Looks after a table as a janitor does; whether files were merged. False if there is no such table yet.
pub(crate) async fn compact(bucket: &Bucket, name: &str) -> bool {
    let rules = Rules { target_size: Some(128 << 20), safe_age: 7 * DAY, log_keep: 30 * DAY, keep: None };
    let Some(mut upkeep) = Upkeep::open(bucket, name, rules).await.unwrap() else { return false };
    let stop = CancellationToken::new();
    let mut tend = async |depth: Depth, now: DateTime<Utc>| {
        upkeep.tend(depth, Others::Overruled, now, &stop, |_| {}).await.unwrap()
    };
    // In a year every day is over, and two files of it are enough to be merged. Nothing is old enough to be removed now.
    let tended = tend(Depth::Rows, Utc::now() + TimeDelta::days(365)).await;
    tend(Depth::Folder, Utc::now()).await;
    tended.compacted.written > 0
}
