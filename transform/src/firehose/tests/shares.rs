//! Workers that share a log topic out: each commits its own part, and whoever comes next finishes what any of them left.

use super::{assert_right, claim, drain, read, stopped, table, work};
use crate::firehose::commit::flush;
use crate::firehose::ledger::last_decisions;
use crate::firehose::status::{InFlight, Phase, Status};
use crate::firehose::work::{Step, Work};
use crate::firehose::{Closed, FirehoseError};
use crate::simulation::crash::CrashStore;
use crate::simulation::memory_log::{MemoryLog, NOTHING_DEALT};
use crate::simulation::world::{Fate, World, origins, stream};
use millstream_lake::Bucket;
use millstream_lake::ledger::Decision;
use millstream_log::Log;
use millstream_model::name::{Partition, QUARANTINE, TopicPartition};
use millstream_model::stream::CloseRule;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Devices whose messages go to partitions 0, 1 and 2 of a topic that has three.
pub(super) async fn three(seed: u64) -> (World, [String; 3]) {
    let mut world = World::new(seed);
    world.log = MemoryLog::new(3);
    let mut devices: [Option<String>; 3] = [None, None, None];
    for number in 0.. {
        let device = format!("d{number}");
        let partition = usize::try_from(crc32c::crc32c(device.as_bytes()) % 3).unwrap();
        devices[partition].get_or_insert(device);
        if devices.iter().all(Option::is_some) {
            break;
        }
    }
    (world, devices.map(Option::unwrap))
}

async fn part(world: &World, numbers: &[i32]) -> Vec<TopicPartition> {
    let all = world.log.partitions(&world.topic()).await.unwrap();
    all.into_iter().filter(|owned| numbers.contains(&owned.partition.0)).collect()
}

async fn own(world: &World, work: &Work, numbers: &[i32]) -> claim::Owned {
    match claim::own(work, &part(world, numbers).await, None).await.unwrap() {
        Step::Done(owned) => owned,
        Step::Lost(why) => panic!("lost: {why}"),
    }
}

/// A worker that is dealt its share.
pub(super) fn dealt(
    world: &World,
    bucket: Bucket,
    stop: CancellationToken,
    share: &[i32],
) -> (Work, watch::Sender<Vec<i32>>, watch::Receiver<Status>) {
    let (deal, dealt) = watch::channel(share.to_vec());
    let (mut work, seen) = work(world, bucket, stop);
    work.log = Arc::new(world.log.dealing(dealt));
    (work, deal, seen)
}

/// Lets the worker of one partition, which holds one bad message, die between its two commits.
async fn half_decide(world: &World, share: i32) {
    for calls in 0..1000 {
        let store = CrashStore::new(Arc::clone(&world.store) as _, calls, true);
        let dead = Arc::clone(&store.dead);
        let (work, _deal, _seen) = dealt(world, World::bucket(Arc::new(store)), stopped(), &[share]);
        tokio::select! {
            _ = work.run() => {}
            () = dead.notified() => {}
        };
        let snapshot = match millstream_lake::Table::open(&world.ingestion(), "telemetry").await.unwrap() {
            Some(table) => table.snapshot().await.unwrap(),
            None => continue,
        };
        if !part(world, &[share])
            .await
            .iter()
            .any(|owned| crate::firehose::committed(&snapshot, owned).is_none())
        {
            return;
        }
    }
    panic!("no crash fell behind the first commit");
}

#[tokio::test(start_paused = true)]
async fn each_of_several_workers_may_leave_a_decision_and_the_next_owner_finishes_all() {
    let (mut world, devices) = three(40).await;
    for device in &devices {
        world.send(device, "broken", 0, Fate::Quarantined).await;
    }
    for share in [0, 1, 2] {
        half_decide(&world, share).await;
    }
    assert_eq!(origins(&world.ingestion(), QUARANTINE).await, [], "nothing is quarantined yet");
    let ledger = table(&world, "telemetry").await;
    let snapshot = ledger.snapshot().await.unwrap();
    let all = part(&world, &[0, 1, 2]).await;
    let found = last_decisions(&ledger, &snapshot, &world.topic(), &all).await.unwrap();
    assert_eq!(found.by_version.len(), 3, "each worker decided in a commit of its own");
    // The next owner of one partition finishes that one's decision, and no other has to wait for it.
    let (first, _) = work(&world, world.ingestion(), CancellationToken::new());
    own(&world, &first, &[1]).await;
    assert_eq!(origins(&world.ingestion(), QUARANTINE).await.len(), 1);
    drain(&world).await.unwrap();
    assert_right(&world, "all finished").await;
}

/// One decision about two partitions, each of which another worker owns next.
#[tokio::test(start_paused = true)]
async fn a_decision_about_several_partitions_is_finished_once_by_whoever_owns_one_of_them() {
    let (mut world, devices) = three(41).await;
    for device in &devices {
        world.send(device, "broken", 0, Fate::Quarantined).await;
    }
    let (slow, _) = work(&world, world.ingestion(), CancellationToken::new());
    let mut owned = own(&world, &slow, &[0, 1]).await;
    read(&slow, &mut owned).await;
    let (_, batch) = owned.buffer.finish();
    assert!(matches!(flush(&slow, &mut owned.claim, batch, Closed::Age).await.unwrap(), Step::Done(())));
    let ledger = table(&world, "telemetry").await;
    let latest = ledger.snapshot().await.unwrap().version();
    let decision = Decision::from_info(&ledger.commit_info(latest).await.unwrap().info).unwrap().unwrap();
    assert_eq!(decision.ranges.len(), 2);
    // Another goes on with one of them before the slow one says again what it had decided.
    world.send(&devices[1], "broken again", 1, Fate::Quarantined).await;
    let (other, _deal, _seen) = dealt(&world, world.ingestion(), stopped(), &[1]);
    other.run().await.unwrap();
    let quarantine = table(&world, QUARANTINE).await;
    let redone = crate::firehose::ledger::redo(&quarantine, &world.topic(), &decision).await.unwrap();
    assert!(matches!(redone, Step::Done(None)), "{redone:?}");
    drain(&world).await.unwrap();
    assert_right(&world, "finished once").await;
}

#[tokio::test(start_paused = true)]
async fn workers_of_other_partitions_do_not_fence_each_other_and_new_columns_of_one_make_the_other_look_again()
 {
    let (mut world, devices) = three(42).await;
    for device in &devices {
        world.send(device, r#"{"a":1}"#, 0, Fate::Readings(1)).await;
    }
    drain(&world).await.unwrap();
    let (first, _) = work(&world, world.ingestion(), CancellationToken::new());
    let (second, _) = work(&world, world.ingestion(), CancellationToken::new());
    for (payload, both) in [(r#"{"a":2}"#, true), (r#"{"b":2}"#, false)] {
        for device in &devices {
            world.send(device, payload, 1, Fate::Readings(1)).await;
        }
        let mut left = own(&world, &first, &[0, 2]).await;
        let mut right = own(&world, &second, &[1]).await;
        read(&first, &mut left).await;
        read(&second, &mut right).await;
        let (_, batch) = left.buffer.finish();
        assert!(matches!(flush(&first, &mut left.claim, batch, Closed::Age).await.unwrap(), Step::Done(())));
        let (_, batch) = right.buffer.finish();
        let flushed = flush(&second, &mut right.claim, batch, Closed::Age).await.unwrap();
        assert_eq!(matches!(flushed, Step::Done(())), both, "{payload}: {flushed:?}");
    }
    drain(&world).await.unwrap();
    assert_right(&world, "both").await;
}

#[tokio::test(start_paused = true)]
async fn what_is_given_up_is_committed_before_others_get_it() {
    let (mut world, devices) = three(43).await;
    let hour = Duration::from_secs(3600);
    world.stream = Arc::new(stream(CloseRule { after: hour, size: 1 << 30, idle: hour }));
    let stop = CancellationToken::new();
    let (work, deal, mut seen) = dealt(&world, world.ingestion(), stop.clone(), &[0, 1]);
    let mut tasks = JoinSet::new();
    tasks.spawn(work.run());
    let owns = |numbers: &'static [i32]| {
        move |status: &Status| {
            let owned: Vec<i32> = status.partitions.keys().map(|partition| partition.0).collect();
            status.phase == Phase::Running && owned == numbers
        }
    };
    seen.wait_for(owns(&[0, 1])).await.unwrap();
    for device in &devices {
        world.send(device, r#"{"a":1}"#, 0, Fate::Readings(1)).await;
    }
    // Long enough to read, and too short for the files to close.
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(seen.borrow().partitions.values().map(|progress| progress.lag()).sum::<u64>(), 2);
    let held = seen.borrow().in_flight.clone();
    let one = InFlight { messages: 1, bytes: 7 };
    assert_eq!(held, BTreeMap::from([(Partition(0), one), (Partition(1), one)]));
    deal.send_replace(vec![1, 2]);
    seen.wait_for(owns(&[1, 2])).await.unwrap();
    let status = seen.borrow().clone();
    for totals in status.by_partition.values() {
        assert_eq!((totals.commits, totals.messages, totals.bytes, totals.errors), (1, 1, 7, 0));
    }
    assert_eq!(status.last_commit.map(|commit| commit.closed), Some(Closed::Rebalance));
    assert_eq!((status.incidents.rebalances, status.by_partition.len()), (1, 2));
    deal.send_replace(Vec::new());
    seen.wait_for(|status| status.phase == Phase::Standby && status.partitions.is_empty()).await.unwrap();
    deal.send_replace(vec![2]);
    seen.wait_for(owns(&[2])).await.unwrap();
    stop.cancel();
    tasks.join_next().await.unwrap().unwrap().unwrap();
    assert_right(&world, "handed over").await;
    let found: BTreeSet<_> = origins(&world.ingestion(), "telemetry").await.into_iter().collect();
    assert_eq!(found.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_worker_without_partitions_ends_when_it_is_told_to() {
    let (world, _) = three(44).await;
    let stop = CancellationToken::new();
    let (work, _deal, mut seen) = dealt(&world, world.ingestion(), stop.clone(), &[]);
    let mut tasks = JoinSet::new();
    tasks.spawn(work.run());
    seen.wait_for(|status| status.phase == Phase::Standby).await.unwrap();
    stop.cancel();
    tasks.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!(seen.borrow().phase, Phase::Drained);
}

/// A worker that had a share, and whose group has ceased to count it in.
struct CountedOut {
    tasks: JoinSet<Result<(), FirehoseError>>,
    stop: CancellationToken,
    deal: watch::Sender<Vec<i32>>,
    seen: watch::Receiver<Status>,
}

impl CountedOut {
    async fn new(world: &World) -> Self {
        let stop = CancellationToken::new();
        let (work, deal, mut seen) = dealt(world, world.ingestion(), stop.clone(), &[0]);
        let mut tasks = JoinSet::new();
        tasks.spawn(work.run());
        seen.wait_for(|status| status.phase == Phase::Running).await.unwrap();
        deal.send_replace(vec![NOTHING_DEALT]);
        seen.wait_for(|status| status.phase == Phase::Starting).await.unwrap();
        Self { tasks, stop, deal, seen }
    }
}

/// A group that waits for a silent member, after a Kafka stood still perhaps, deals nothing: what the log holds may be this worker's all the same.
#[tokio::test(start_paused = true)]
async fn a_worker_that_was_counted_out_drains_what_it_is_dealt_after_the_stop() {
    let (mut world, devices) = three(46).await;
    let CountedOut { mut tasks, stop, deal, seen } = CountedOut::new(&world).await;
    world.send(&devices[0], r#"{"a":1}"#, 0, Fate::Readings(1)).await;
    stop.cancel();
    // As long as a group waits for a member that is gone.
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(tasks.try_join_next().is_none(), "{:?}", seen.borrow().phase);
    deal.send_replace(vec![0]);
    tasks.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!(seen.borrow().phase, Phase::Drained);
    assert_right(&world, "drained").await;
}

/// Waits 30 s in vain, whatever the log holds.
async fn assert_no_share(
    work: impl Future<Output = Result<(), FirehoseError>>,
    seen: &watch::Receiver<Status>,
) {
    let began = Instant::now();
    let error = work.await.unwrap_err();
    assert!(matches!(error, FirehoseError::NoShare { .. }), "{error:?}");
    assert_eq!(seen.borrow().phase, Phase::Failed);
    assert_eq!(began.elapsed().as_secs(), 30);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_was_dealt_nothing_does_not_say_that_it_has_drained() {
    let (world, _) = three(47).await;
    let (work, _deal, seen) = dealt(&world, world.ingestion(), stopped(), &[NOTHING_DEALT]);
    assert_no_share(work.run(), &seen).await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_was_counted_out_does_not_say_that_it_has_drained_while_something_waits() {
    let (mut world, devices) = three(49).await;
    let CountedOut { mut tasks, stop, deal: _deal, seen } = CountedOut::new(&world).await;
    world.send(&devices[0], r#"{"a":1}"#, 0, Fate::Readings(1)).await;
    stop.cancel();
    assert_no_share(async { tasks.join_next().await.unwrap().unwrap() }, &seen).await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_was_counted_out_ends_as_soon_as_others_have_committed_everything() {
    let (mut world, devices) = three(48).await;
    let CountedOut { mut tasks, stop, deal: _deal, seen } = CountedOut::new(&world).await;
    for device in &devices {
        world.send(device, r#"{"a":1}"#, 0, Fate::Readings(1)).await;
    }
    stop.cancel();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(tasks.try_join_next().is_none(), "{:?}", seen.borrow().phase);
    drain(&world).await.unwrap();
    tasks.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!(seen.borrow().phase, Phase::Drained);
    assert_right(&world, "by the other").await;
}

/// The lag is seen to grow while the store takes nothing.
#[tokio::test(start_paused = true)]
async fn what_waits_is_counted_while_nothing_can_be_committed() {
    let (mut world, devices) = three(45).await;
    world.send(&devices[0], r#"{"a":1}"#, 0, Fate::Readings(1)).await;
    drain(&world).await.unwrap();
    let stop = CancellationToken::new();
    let (work, _deal, mut seen) = dealt(&world, world.ingestion(), stop.clone(), &[0]);
    let mut tasks = JoinSet::new();
    tasks.spawn(work.run());
    seen.wait_for(|status| status.phase == Phase::Running).await.unwrap();
    world.store.fail_uploads(u32::MAX);
    for seconds in 1..4 {
        world.send(&devices[0], r#"{"a":1}"#, seconds, Fate::Readings(1)).await;
    }
    let lag = |lag| move |status: &Status| status.partitions.values().any(|progress| progress.lag() == lag);
    seen.wait_for(lag(3)).await.unwrap();
    seen.wait_for(|status| status.phase == Phase::Retrying && status.incidents.errors > 1).await.unwrap();
    world.send(&devices[0], r#"{"a":1}"#, 5, Fate::Readings(1)).await;
    seen.wait_for(lag(4)).await.unwrap();
    world.store.heal();
    seen.wait_for(lag(0)).await.unwrap();
    let progress = *seen.borrow().partitions.values().next().unwrap();
    assert!(progress.received_at.is_some() && progress.committed_at.is_some());
    stop.cancel();
    tasks.join_next().await.unwrap().unwrap().unwrap();
    assert_right(&world, "healed").await;
}
