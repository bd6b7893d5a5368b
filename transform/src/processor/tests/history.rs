//! Reports as a model: random histories of commits, late dates, compactions, new columns, retention, notices that are lost, doubled or late, several processors that are
//! killed wherever they are, and stores that fail, lie and delay. No version that any report ever had may be anything else than its SQL over a version of its source;
//! and once nothing happens any more, a look brings each to the latest.
//!
//! `MILLSTREAM_MODEL_CASES` says how many histories, `MILLSTREAM_MODEL_SEED` with which seed they begin. A history that fails says its own seed.

mod judge;
mod source;
mod versions;

use super::super::{Rigor, keep};
use super::*;
use crate::simulation::crash::CrashStore;
use fastrand::Rng;
use judge::{MEANINGS, Meaning};
use source::Source;
use std::sync::atomic::{AtomicU64, Ordering};

/// As many as take about 20 seconds on two cores in a development build.
const CASES: u64 = 200;

/// What happens in a history: so many things, with processors at work between them.
const EVENTS: u32 = 5;

/// Some processors die after so many calls of a store at most.
const LIFE_MAX: i64 = 150;

struct Place {
    rng: Rng,
    /// The buckets as they are.
    calm: [Bucket; 2],
    /// The buckets as processors meet them.
    faulty: [Arc<FaultyStore>; 2],
    reports: Vec<Report>,
    rigor: Rigor,
}

fn bucket(name: &str, store: Arc<dyn object_store::ObjectStore>) -> Bucket {
    Bucket::with_store(name, Url::parse(&format!("memory:///{name}/")).unwrap(), store)
}

impl Place {
    fn new(seed: u64, rigor: Rigor) -> Self {
        let stores = [0, 1].map(|_| Arc::new(InMemory::new()));
        let faulty = stores.clone().map(|store| Arc::new(FaultyStore::new(store as _)));
        let calm =
            [("ingestion", 0), ("reporting", 1)].map(|(name, at)| bucket(name, Arc::clone(&stores[at]) as _));
        let mut rng = Rng::with_seed(seed);
        // A chain, or two of the others: each costs its share of the time.
        let chosen: &[usize] = match rng.u32(0..4) {
            0 | 1 => &[1, 0],
            2 => &[2, 3],
            _ => &[0, 3],
        };
        let reports = chosen.iter().map(|at| definition(&MEANINGS[*at])).collect();
        Self { rng, calm, faulty, reports, rigor }
    }

    /// A processor of its own view of the stores, which may be its end at any call.
    async fn processor(&mut self, log: &Arc<dyn Log>) -> JoinSet<()> {
        let calls = if self.rng.u32(0..3) > 0 { self.rng.i64(0..LIFE_MAX) } else { i64::MAX };
        let at = self.rng.usize(0..2);
        let dead = Arc::new(tokio::sync::Notify::new());
        let mut seen = ["ingestion", "reporting"]
            .iter()
            .zip(&self.faulty)
            .map(|(name, store)| bucket(name, Arc::clone(store) as _))
            .collect::<Vec<_>>();
        let store = CrashStore::new(Arc::clone(&self.faulty[at]) as _, calls, self.rng.bool())
            .with_weather(self.rng.u64(..));
        let died = Arc::clone(&store.dead);
        seen[at] = bucket(["ingestion", "reporting"][at], Arc::new(store));
        let (reporting, ingestion) = (seen.pop().unwrap(), seen.pop().unwrap());
        let settings = Settings {
            trim: if self.rng.bool() { TrimRule::Keep } else { TrimRule::AfterCommit },
            ..Settings::default()
        };
        let (status, _) = watch::channel(Status::default());
        let works = Works::open(settings, &self.reports, Some(Arc::clone(log)), ingestion, reporting, status)
            .await
            .unwrap();
        let works = Works { rigor: self.rigor, ..works };
        let log = Arc::clone(log);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let _dead = dead;
            tokio::select! {
                ended = keep(works, log, CancellationToken::new()) => ended.unwrap(),
                () = died.notified() => {}
            }
        });
        task
    }

    async fn happen(&mut self, source: &mut Source) {
        match self.rng.u32(0..16) {
            0..7 => {
                source.publish(&mut self.rng).await;
                source.commit(&mut self.rng).await;
            }
            7 => source.publish(&mut self.rng).await,
            8 => source.compact().await,
            9 => _ = compact(&self.calm[1], "daily").await,
            10 => source.retire(self.rng.u32(1..3)).await,
            11 => source.widen().await,
            12 => self.faulty[self.rng.usize(0..2)].fail_reads(self.rng.u32(1..4)),
            13 => self.faulty[1].fail_uploads(self.rng.u32(1..3)),
            _ => self.faulty[1].randomly(self.rng.u64(..), 300),
        }
        source.notice(&mut self.rng).await;
    }

    async fn violations(&self, is_settled: bool) -> Vec<String> {
        let mut wrong = Vec::new();
        for meaning in MEANINGS
            .iter()
            .filter(|meaning| self.reports.iter().any(|report| report.name.as_str() == meaning.name))
        {
            wrong.extend(meaning.violations(&self.calm[0], &self.calm[1], is_settled).await);
        }
        wrong
    }
}

fn definition(meaning: &Meaning) -> Report {
    let when = match meaning.complete {
        true => When::Complete { lateness: Duration::from_secs(3600) },
        false => When::Always,
    };
    Report { when, ..report(meaning.name, meaning.sql, meaning.by_date.then_some("date")) }
}

/// Lives a history, and says what is wrong after it.
async fn live(seed: u64, rigor: Rigor) -> Vec<String> {
    let mut place = Place::new(seed, rigor);
    let mut source = Source::new(&place.calm[0]).await;
    let log: Arc<dyn Log> = Arc::new(source.log.clone());
    let mut running = Vec::new();
    for _ in 0..EVENTS {
        if running.is_empty() || (running.len() < 3 && place.rng.u32(0..3) == 0) {
            running.push(place.processor(&log).await);
        }
        place.happen(&mut source).await;
        // Long enough for a sweep, or for a few calls, or not at all.
        let pause = [0, 0, 5, 50, 500, 70_000][place.rng.usize(0..6)];
        tokio::time::sleep(Duration::from_millis(pause)).await;
        if place.rng.u32(0..5) == 0 {
            // Wherever it is.
            running.swap_remove(place.rng.usize(0..running.len()));
        }
        running.retain_mut(|processor| processor.try_join_next().is_none());
    }
    drop(running);
    place.faulty.iter().for_each(|store| store.heal());
    let [ingestion, reporting] =
        [0, 1].map(|at| bucket(["ingestion", "reporting"][at], Arc::clone(&place.faulty[at]) as _));
    let (status, _) = watch::channel(Status::default());
    catch_up(Settings::default(), &place.reports, Some(log), ingestion, reporting, status)
        .await
        .unwrap_or_else(|error| panic!("seed {seed}: {error:?}"));
    place.violations(true).await
}

fn paused<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(future)
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

/// Lives histories on all cores, until one has something wrong with it; says which.
fn first_wrong(rigor: Rigor, seeds: std::ops::Range<u64>) -> Option<(u64, Vec<String>)> {
    let (next, found) = (AtomicU64::new(seeds.start), std::sync::Mutex::new(None));
    let work = || loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= seeds.end || found.lock().unwrap().is_some() {
            return;
        }
        let wrong = paused(live(seed, rigor));
        if !wrong.is_empty() {
            _ = found.lock().unwrap().get_or_insert((seed, wrong));
        }
    };
    std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
    found.into_inner().unwrap()
}

#[test]
fn whatever_happens_no_version_of_a_report_is_anything_but_its_sql() {
    let (first, cases) = (number("MILLSTREAM_MODEL_SEED", 1), number("MILLSTREAM_MODEL_CASES", CASES));
    println!("{cases} histories from seed {first}");
    let wrong = first_wrong(Rigor::Full, first..first + cases);
    assert!(wrong.is_none(), "seed and what is wrong: {wrong:?}");
}

/// The negative controls: if these find nothing, the model above proves nothing.
#[test]
fn without_the_fence_the_model_finds_a_violation() {
    let wrong = first_wrong(Rigor::Unfenced, 1..400);
    println!("{wrong:?}");
    assert!(wrong.is_some());
}

#[test]
fn with_versions_that_were_not_computed_the_model_finds_a_violation() {
    let wrong = first_wrong(Rigor::NewestVersions, 1..400);
    println!("{wrong:?}");
    assert!(wrong.is_some());
}
