//! The commit protocol as a model: random histories of messages, workers that stall, fight, stop and die, whose shares of the partitions move and overlap, and a store
//! that fails, lies and delays. Afterwards every offset must have exactly its one outcome. In some of them a partition of the log is lost and begins anew, which some
//! of the workers accept and the others refuse: then the same must be so of all other partitions.
//!
//! `MILLSTREAM_MODEL_CASES` says how many histories, `MILLSTREAM_MODEL_SEED` with which seed they begin. A history that fails says its own seed.

use super::gaps::accept;
use super::{assert_right, drain, work};
use crate::firehose::work::{Fence, Work};
use crate::firehose::{FirehoseError, TrimRule};
use crate::simulation::crash::CrashStore;
use crate::simulation::memory_log::MemoryLog;
use crate::simulation::world::World;
use millstream_model::name::{Partition, TopicPartition};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// As many as take about 25 seconds on two cores in a development build.
const CASES: u64 = 150;

/// More calls than a worker makes in a history: it does not die.
const IMMORTAL: i64 = i64::MAX;

/// A worker that runs, as a process of its own: with its own view of the store, and a death of its own.
struct Process {
    stop: CancellationToken,
    /// Deals it its share of the partitions.
    share: watch::Sender<Vec<i32>>,
    task: JoinSet<Result<(), FirehoseError>>,
}

impl Process {
    fn start(world: &mut World, kind: Kind) -> Self {
        let mortal = kind != Kind::Unfenced && world.rng.u32(0..3) > 0;
        let calls = if mortal { world.rng.i64(0..120) } else { IMMORTAL };
        let store = CrashStore::new(Arc::clone(&world.store) as _, calls, world.rng.bool())
            .with_weather(world.rng.u64(..));
        let dead = Arc::clone(&store.dead);
        let stop = CancellationToken::new();
        let (share, dealt) = watch::channel(deal(world));
        let (mut work, _) = work(world, World::bucket(Arc::new(store)), stop.clone());
        work.log = Arc::new(world.log.dealing(dealt));
        work.settings.trim = if world.rng.bool() { TrimRule::Keep } else { TrimRule::AfterCommit };
        work.settings.accept_gap = kind == Kind::Damaged && world.rng.bool();
        let fence = if kind == Kind::Unfenced { Fence::Off } else { Fence::Checked };
        let work = Work { fence, ..work };
        let mut task = JoinSet::new();
        task.spawn(async move {
            tokio::select! {
                ended = work.run() => ended,
                () = dead.notified() => Ok(()),
            }
        });
        Self { stop, share, task }
    }

    /// Tells it to stop and waits for its end. What a faulty store kept it from is for the next.
    async fn stop(mut self, world: &World) {
        self.stop.cancel();
        match self.task.join_next().await.unwrap().unwrap() {
            Err(FirehoseError::Undrained { .. }) => {}
            ended => assert!(may_end(world, &ended), "a worker gave up: {ended:?}"),
        }
    }
}

/// Whether a worker may end so without being told to: it died, or it refuses a log that was lost.
fn may_end(world: &World, ended: &Result<(), FirehoseError>) -> bool {
    match ended {
        Ok(()) => true,
        Err(
            FirehoseError::OtherLog { partition, .. }
            | FirehoseError::OtherRecord { partition, .. }
            | FirehoseError::Gap { partition, .. },
        ) => world.damaged == Some(partition.partition),
        Err(_) => false,
    }
}

/// What happens in a history beside what always does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Plain,
    /// A partition of the log is lost.
    Damaged,
    /// Workers do not look at the fences.
    Unfenced,
}

/// Loses one partition of the log, once.
fn damage(world: &mut World) {
    if world.damaged.is_none() {
        let partition = Partition(world.rng.i32(0..world.partitions));
        world.damaged = Some(partition);
        world.log.lose(&TopicPartition { topic: world.topic(), partition });
    }
}

/// All partitions, or some, or none.
fn deal(world: &mut World) -> Vec<i32> {
    let all = world.rng.u32(0..3) == 0;
    (0..world.partitions).filter(|_| all || world.rng.bool()).collect()
}

/// A partition goes from one process to another; now and then one of them hears of it late, or both have it, or nobody.
fn move_one(world: &mut World, running: &[Process]) {
    let partition = world.rng.i32(0..world.partitions);
    let to = world.rng.usize(0..=running.len());
    for (number, process) in running.iter().enumerate() {
        if world.rng.u32(0..4) == 0 {
            continue;
        }
        process.share.send_modify(|share| {
            share.retain(|owned| *owned != partition);
            if number == to {
                share.push(partition);
                share.sort_unstable();
            }
        });
    }
}

/// Lives a history and gives back the world as it is when nobody works any more.
async fn history(seed: u64, kind: Kind) -> World {
    watched(World::new(seed), seed, kind, async |_| {}).await
}

/// Lives a history in this world, and lets somebody look at it after each step.
pub(super) async fn watched(
    mut world: World,
    seed: u64,
    kind: Kind,
    mut look: impl AsyncFnMut(&World),
) -> World {
    if kind == Kind::Damaged {
        (world.partitions, world.log) = (3, MemoryLog::new(3));
    }
    let mut running: Vec<Process> = Vec::new();
    for _ in 0..world.rng.u32(10..40) {
        match world.rng.u32(0..40) {
            0..9 => {
                let count = world.rng.usize(1..12);
                world.append(count).await;
            }
            9..18 => tokio::time::sleep(Duration::from_millis(world.rng.u64(0..3000))).await,
            18..24 if running.len() < 2 => {
                running.push(Process::start(&mut world, kind));
            }
            24 | 25 if !running.is_empty() => {
                let one = running.swap_remove(world.rng.usize(0..running.len()));
                one.stop(&world).await;
            }
            // Dropping it is kill -9.
            26 | 27 if !running.is_empty() => drop(running.swap_remove(world.rng.usize(0..running.len()))),
            28 => {
                let (seed, per_mille) = (world.rng.u64(..), world.rng.u32(0..400));
                world.store.randomly(seed, per_mille);
            }
            29 => world.store.fail_reads(world.rng.u32(0..4)),
            30 => world.store.heal(),
            31..36 if !running.is_empty() => move_one(&mut world, &running),
            36 | 37 if !running.is_empty() => {
                let (one, share) = (world.rng.usize(0..running.len()), deal(&mut world));
                running[one].share.send_replace(share);
            }
            38 | 39 if kind == Kind::Damaged => damage(&mut world),
            _ => {}
        }
        running.retain_mut(|process| match process.task.try_join_next() {
            None => true,
            Some(ended) => {
                let ended = ended.unwrap();
                assert!(may_end(&world, &ended), "seed {seed}: a worker gave up: {ended:?}");
                false
            }
        });
        look(&world).await;
    }
    world.append(1).await;
    look(&world).await;
    world.store.heal();
    let last = if world.rng.bool() { running.pop() } else { None };
    drop(running);
    if let Some(last) = last {
        last.stop(&world).await;
    }
    world
}

fn paused<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(future)
}

pub(super) fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

/// Lives so many histories of a kind, on all cores.
pub(super) fn live<F: Future<Output = ()>>(cases: u64, check: impl Fn(u64) -> F + Sync) {
    let first = number("MILLSTREAM_MODEL_SEED", 1);
    println!("{cases} histories from seed {first}");
    let next = AtomicU64::new(first);
    let live = || loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= first + cases {
            return;
        }
        paused(check(seed));
    };
    std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        (0..threads)
            .map(|_| scope.spawn(live))
            .collect::<Vec<_>>()
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn whatever_happens_every_offset_has_exactly_one_outcome() {
    live(number("MILLSTREAM_MODEL_CASES", CASES), |seed| async move {
        let world = history(seed, Kind::Plain).await;
        drain(&world).await.unwrap_or_else(|error| panic!("seed {seed}: {error:?}"));
        assert_right(&world, &format!("seed {seed}")).await;
    });
}

/// A third as many as of the others: they are longer.
#[test]
fn whatever_happens_a_partition_that_was_lost_costs_the_others_nothing() {
    live(number("MILLSTREAM_MODEL_CASES", CASES) / 3, |seed| async move {
        let world = history(seed, Kind::Damaged).await;
        accept(&world).await;
        assert_right(&world, &format!("seed {seed}, damaged {:?}", world.damaged)).await;
    });
}

/// The negative control: if this finds nothing, the model above proves nothing.
#[test]
fn without_the_fence_the_model_finds_a_violation() {
    let found = (1..500).find(|seed| {
        paused(async {
            let world = history(*seed, Kind::Unfenced).await;
            // Nothing is lost by it: all that is left in the log is committed before the look.
            drain(&world).await.is_ok() && !world.violations().await.is_empty()
        })
    });
    println!("seed {found:?} is the first that shows it");
    assert!(found.is_some());
}
