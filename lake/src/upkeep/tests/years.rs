//! A table that is written to for a long time stays small, and quick to open and to ask, if somebody looks after it: by counts, never by a clock.
//!
//! A file comes every ten minutes, by a commit of its own, and upkeep looks at it every hour, and at its folder every six: as with a file a minute for a year, but for
//! so few that a test has time for them. `just bench year` is the year itself.

use super::clocked::Clocked;
use super::compaction::readings;
use super::*;
use crate::Bucket;
use crate::faults::FaultyStore;
use crate::fixture::{DAY, another};
use chrono::{Days, NaiveDate, NaiveTime, TimeDelta};
use futures::TryStreamExt;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use url::Url;

/// Commits a day, and an hour.
const COMMITS: i64 = 144;
const AN_HOUR: i64 = COMMITS / 24;

/// Readings of a commit.
const READINGS: i64 = 2;

/// What was so long ago that nobody asks for it any more goes soon, so that it goes within the test.
fn short_lived() -> Rules {
    Rules { safe_age: SAFE_AGE_MIN, log_keep: SAFE_AGE_MIN, ..rules() }
}

/// A table whose store has a clock of its own and counts what is asked of it.
struct Years {
    begin: DateTime<Utc>,
    clock: Arc<Clocked>,
    store: Arc<FaultyStore>,
    table: Table,
    keeper: Option<Upkeep>,
    commits: i64,
}

/// What there is, and what it costs somebody who has never seen it.
#[derive(Debug)]
struct Sizes {
    /// Days that are over.
    days: usize,
    active: usize,
    stored: usize,
    commits: usize,
    checkpoints: usize,
    opening: u64,
    opening_bytes: u64,
    asking: u64,
}

impl Years {
    /// It begins tomorrow: files say by the real clock when they were written, and none is of the future.
    async fn new(rules: Option<Rules>) -> Self {
        let tomorrow = Utc::now().date_naive() + Days::new(1);
        let begin = tomorrow.and_time(NaiveTime::MIN).and_utc();
        let clock = Arc::new(Clocked::new(Arc::new(InMemory::new()), begin));
        let store = Arc::new(FaultyStore::new(clock.clone()));
        let bucket = Bucket::with_store("years", Url::parse("memory:///").unwrap(), store.clone());
        let mut definition = definition();
        // Checkpoints name removed files for a week of the real clock, which nobody can set. What that costs, the benchmark says.
        let forgets = ("delta.deletedFileRetentionDuration".to_owned(), "interval 0 seconds".to_owned());
        definition.properties.extend([forgets]);
        let table = Table::open_or_create(&bucket, "t", &definition).await.unwrap();
        let keeper = match rules {
            Some(rules) => Some(upkeep(&table, rules).await),
            None => None,
        };
        Self { begin, clock, store, table, keeper, commits: 0 }
    }

    /// Goes on until so many hours are over.
    async fn until(&mut self, hours: i64) {
        let first_day = (self.begin.date_naive() - NaiveDate::from_epoch_days(DAY).unwrap()).num_days();
        let stop = CancellationToken::new();
        while self.commits < hours * AN_HOUR {
            let day = first_day + self.commits / COMMITS;
            let from = self.commits * READINGS;
            flush(&self.table, "app", readings(from..from + READINGS, day)).await;
            self.commits += 1;
            let now = self.begin + TimeDelta::minutes(self.commits * 24 * 60 / COMMITS);
            self.clock.set(now);
            if self.commits % AN_HOUR == 0
                && let Some(keeper) = &mut self.keeper
            {
                let is_time = self.commits % (6 * AN_HOUR) == 0;
                let depth = if is_time { Depth::Folder } else { Depth::Rows };
                keeper.tend(depth, Others::Respected, now, &stop, |_| {}).await.unwrap();
            }
        }
    }

    async fn sizes(&self) -> Sizes {
        let (requests, bytes) = (self.store.requests(), self.store.bytes_read());
        let opened = another(&self.table).await;
        let active = opened.snapshot().await.unwrap().files().len();
        let (opening, opening_bytes) = (self.store.requests() - requests, self.store.bytes_read() - bytes);
        let (last, requests) = (self.commits * READINGS - 1, self.store.requests());
        let sql = format!("select _offset from t where device_id = 'd{}' order by ts desc limit 1", last % 7);
        // The engine hands on what it has found when a batch is full: the few rows of these files fill a small one.
        let few = SessionConfig::new().with_target_partitions(2).with_batch_size(32);
        assert_eq!(ask_as(few, &opened, &sql).await, [last]);
        let asking = self.store.requests() - requests;
        let rows = ask(&opened, "select count(*), sum(_offset), count(distinct _offset) from t").await;
        assert_eq!(rows, [last + 1, last * (last + 1) / 2, last + 1]);
        let stored: Vec<_> = self.table.store().list(None).try_collect().await.unwrap();
        let named = |part: &str| stored.iter().filter(|meta| meta.location.as_ref().contains(part)).count();
        Sizes {
            days: usize::try_from(self.commits / COMMITS).unwrap(),
            active,
            stored: named("date="),
            commits: named(".json"),
            checkpoints: named(".checkpoint."),
            opening,
            opening_bytes,
            asking,
        }
    }
}

impl Sizes {
    /// What is larger than it may be, however many days there are.
    fn too_large(&self) -> Vec<&'static str> {
        let (day, hour) = (COMMITS as usize, AN_HOUR as usize);
        // What was committed within the safe age, since the folder was looked at, and what clocks may differ by; about one commit in five is upkeep's own.
        let safe = (day + 7 * hour) * 6 / 5;
        // Beside that what was committed since the last checkpoint that is old enough: one a day stays.
        let logged = safe + (day + 100) * 6 / 5;
        let bounds = [
            // Each day a file, and of the day that goes on fewer than eight, of the smallest size as they are.
            ("active files", self.active, self.days + 8),
            ("stored files", self.stored, self.days + 8 + safe),
            ("commits", self.commits, logged),
            ("checkpoints", self.checkpoints, 6),
            // Each commit since the last checkpoint thrice, and a few for the rest.
            ("requests to open", self.opening as usize, 3 * (100 + hour) + 40),
            // What says a file is a KiB or two, in the checkpoint.
            ("bytes to open", self.opening_bytes as usize, (360 + 2 * self.days) << 10),
            // The newest file or two, of each reader.
            ("requests to ask", self.asking as usize, 16),
        ];
        bounds.into_iter().filter(|(_, size, most)| size > most).map(|(what, ..)| what).collect()
    }
}

#[tokio::test]
async fn a_table_that_is_looked_after_stays_small_and_quick_to_open_and_to_ask() {
    let mut years = Years::new(Some(short_lived())).await;
    for days in 1..=6 {
        // A quarter of the next day later: the day before is put together.
        years.until(days * 24 + 6).await;
        let sizes = years.sizes().await;
        println!("{sizes:?}");
        assert_eq!(sizes.too_large(), [""; 0], "{sizes:?}");
    }
}

/// The negative control of the one above: each of its bounds is one that upkeep keeps, but for that of checkpoints, which nobody writes here.
#[tokio::test]
async fn a_table_that_nobody_looks_after_grows_beyond_every_bound() {
    let mut years = Years::new(None).await;
    years.until(4 * 24).await;
    let sizes = years.sizes().await;
    println!("{sizes:?}");
    let expected =
        ["active files", "stored files", "commits", "requests to open", "bytes to open", "requests to ask"];
    assert_eq!(sizes.too_large(), expected, "{sizes:?}");
}
