//! What a table costs to which files of one minute are committed for a year, while upkeep looks after it.
//!
//! All 525,600 minutes are really written and committed, each by a commit of its own with what the firehose says in it, to a store in memory whose clock goes on by a
//! minute each time; it begins tomorrow, so that no file is of the past. Beside that the real upkeep runs with the settings that are in force by themselves: every
//! ten minutes of that clock it looks at the rows, every six hours at the folder. Twelve times, nobody else being at work, a reader who has never seen the table
//! opens it and asks, and every answer is checked.
//!
//! Delta's library drops a removed file from checkpoints a week later by the machine's clock, which nobody can set: so a property of the table says, from month to
//! month, how many real seconds a week has taken. Times are those of a store that answers at once; on another, a request costs what it costs there.
//!
//! `just bench year [--minutes N] [--looks N] [--place memory|directory]`

mod feed;
mod look;
mod work;

use anyhow::{Context, bail, ensure};
use chrono::{Days, NaiveTime, Utc};
use feed::{DAY_MINUTES, Feed, TABLE};
use futures::{StreamExt, stream};
use look::{QUESTIONS, ROUNDS, Reader};
use millstream_benches::{Dated, machine, print};
use millstream_lake::faults::FaultyStore;
use millstream_lake::upkeep::Upkeep;
use millstream_lake::{Bucket, Operation, Outcome, Plan, Table};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use work::{RULES, Round, TENDED_EVERY, WORK, Work, tend};

const YEAR_MINUTES: i64 = 365 * DAY_MINUTES;

/// How many minutes are encoded ahead of their commits: enough that nobody waits for them.
const UPLOADS: usize = 8;

/// By then there is a checkpoint.
const LOOK_AFTER_MIN: i64 = 120;

/// How long a checkpoint names a file that was removed, by the property that Delta has for it.
const TOMBSTONES: &str = "delta.deletedFileRetentionDuration";

const SIZES: [&str; 10] = [
    "minutes",
    "days",
    "version",
    "files",
    "MiB",
    "stored files",
    "commits",
    "checkpoints",
    "newest, KiB",
    "actions",
];

#[derive(Debug)]
struct Settings {
    minutes: i64,
    looks: i64,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Memory,
    Directory,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let settings = settings()?;
    let (minutes, looks) = (settings.minutes, settings.looks);
    let mut out = std::io::stdout();
    writeln!(out, "{}", machine())?;
    writeln!(
        out,
        "{minutes} commits of a minute's file of {} devices; in {:?}\n",
        feed::DEVICES,
        settings.place
    )?;
    let home = tempfile::Builder::new().prefix("millstream-bench-").tempdir()?;
    let store = match settings.place {
        Place::Memory => Arc::new(InMemory::new()),
        Place::Directory => Bucket::local(home.path())?.store(),
    };
    let mut year = Year::open(store).await?;
    let (mut sizes, mut costs, mut work) = (Vec::new(), Vec::new(), Vec::new());
    for look in 1..=looks {
        let until = minutes * look / looks / TENDED_EVERY * TENDED_EVERY;
        work.push(year.carry(until).await?);
        let mut row = vec![year.minute.to_string(), (year.minute / DAY_MINUTES).to_string()];
        row.extend(year.reader.sizes().await?);
        sizes.push(row);
        let mut row = vec![year.minute.to_string()];
        row.extend(year.reader.costs(&year.feed, year.minute).await?);
        costs.push(row);
        let last =
            [&sizes, &work, &costs].map(|rows| rows.last().map(|row| row.join(" | ")).unwrap_or_default());
        writeln!(out, "{}", last.join("\n"))?;
    }
    writeln!(out)?;
    print(&SIZES, &sizes)?;
    writeln!(out)?;
    print(&WORK, &work)?;
    writeln!(out, "\nthe middle of {ROUNDS} rounds, requests, KiB that were read:")?;
    print(&[&["minutes"], QUESTIONS.as_slice()].concat(), &costs)
}

/// The table, whoever fills it, whoever looks after it, and whoever reads it: each with a handle and a count of requests of their own.
struct Year {
    feed: Feed,
    clock: Arc<Dated>,
    table: Table,
    /// Away while it works.
    keeper: Option<Upkeep>,
    kept: Arc<FaultyStore>,
    reader: Reader,
    minute: i64,
}

impl Year {
    async fn open(store: Arc<dyn ObjectStore>) -> anyhow::Result<Self> {
        let tomorrow = Utc::now().date_naive() + Days::new(1);
        let feed = Feed::new(tomorrow.and_time(NaiveTime::MIN).and_utc())?;
        let clock = Arc::new(Dated::new(store, feed.at(0)));
        let (_, bucket) = counted(&clock)?;
        let (kept, keepers) = counted(&clock)?;
        let (asked, readers) = counted(&clock)?;
        let table = Table::open_or_create(&bucket, TABLE, &feed.definition()).await?;
        let keeper = Upkeep::open(&keepers, TABLE, RULES).await?;
        let reader = Reader { counted: asked, bucket: readers };
        Ok(Self { feed, clock, table, keeper, kept, reader, minute: 0 })
    }

    /// Commits minute after minute, upkeep beside it.
    #[expect(clippy::disallowed_methods, reason = "each is awaited here, and an error ends the program")]
    async fn carry(&mut self, until: i64) -> anyhow::Result<Vec<String>> {
        let (began, from, requests) = (Instant::now(), self.minute, self.kept.requests());
        let mut work = Work::new()?;
        let (feed, table) = (self.feed.clone(), self.table.clone());
        let mut uploads = stream::iter(from..until)
            .map(move |minute| {
                let (feed, table) = (feed.clone(), table.clone());
                tokio::spawn(async move { feed.upload(&table, minute).await })
            })
            .buffered(UPLOADS);
        let mut round: Option<JoinHandle<anyhow::Result<Round>>> = None;
        while let Some(uploaded) = uploads.next().await {
            self.minute += 1;
            self.clock.set(self.feed.at(self.minute));
            self.feed.commit(&self.table, uploaded??).await?;
            self.table.checkpoint_if_due().await?;
            if self.minute % TENDED_EVERY != 0 {
                continue;
            }
            if let Some(round) = round.take() {
                self.keeper = Some(work.add(round.await??)?);
            }
            let keeper = self.keeper.take().context("nobody keeps it")?;
            round = Some(tokio::spawn(tend(keeper, self.minute, self.feed.at(self.minute))));
            if self.minute == DAY_MINUTES {
                self.forget_removed(began.elapsed() * 7).await?;
            }
        }
        if let Some(round) = round {
            self.keeper = Some(work.add(round.await??)?);
        }
        let (took, minutes) = (began.elapsed(), u32::try_from(self.minute - from)?);
        self.forget_removed(took * 7 * 1440 / minutes).await?;
        let mut row = vec![
            self.minute.to_string(),
            format!("{:.0}", took.as_secs_f64()),
            format!("{:.0}", f64::from(minutes) / took.as_secs_f64()),
        ];
        row.extend(work.in_words());
        row.push(((self.kept.requests() - requests) * 1440 / u64::from(minutes)).to_string());
        Ok(row)
    }

    /// Tells checkpoints for how long they name removed files: for what a week takes here.
    async fn forget_removed(&self, week: Duration) -> anyhow::Result<()> {
        let seconds = week.as_secs() + 1;
        let properties = BTreeMap::from([(TOMBSTONES.to_owned(), format!("interval {seconds} seconds"))]);
        let plan = Plan { operation: Operation::Schema, properties, ..Plan::default() };
        let outcome = self.table.commit(plan).await?;
        ensure!(matches!(outcome, Outcome::Applied { .. }), "the property was not set: {outcome:?}");
        Ok(())
    }
}

/// The same store for somebody whose requests are counted.
fn counted(clock: &Arc<Dated>) -> anyhow::Result<(Arc<FaultyStore>, Bucket)> {
    let store: Arc<dyn ObjectStore> = Arc::clone(clock) as _;
    let counted = Arc::new(FaultyStore::new(store));
    let bucket = Bucket::with_store("year", "memory:///".parse()?, Arc::clone(&counted) as _);
    Ok((counted, bucket))
}

fn settings() -> anyhow::Result<Settings> {
    let mut settings = Settings { minutes: YEAR_MINUTES, looks: 12, place: Place::Memory };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        // Cargo says it to every benchmark.
        if word == "--bench" {
            continue;
        }
        let value = words.next().with_context(|| format!("{word} needs a value"))?;
        match (word.as_str(), value.as_str()) {
            ("--minutes", _) => settings.minutes = value.parse()?,
            ("--looks", _) => settings.looks = value.parse()?,
            ("--place", "memory") => settings.place = Place::Memory,
            ("--place", "directory") => settings.place = Place::Directory,
            _ => bail!("{word} {value}: there are --minutes N, --looks N and --place memory|directory"),
        }
    }
    let Settings { minutes, looks, .. } = settings;
    ensure!(
        looks > 0 && minutes / looks >= LOOK_AFTER_MIN,
        "a look comes after {LOOK_AFTER_MIN} minutes at least"
    );
    Ok(settings)
}
