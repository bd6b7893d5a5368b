//! Logs that are damaged while workers work, or again, or behind what was accepted before: nothing is committed that is not in the log any more, nothing is read
//! twice, nothing is passed over in silence.

use super::gaps::{accept, accepting, epoch, listed, one, partition, rows, send};
use super::shares::{dealt, three};
use super::{drain, own, read, stopped, table, work};
use crate::firehose::commit::flush;
use crate::firehose::ledger::redo;
use crate::firehose::renew::before_anything_newer;
use crate::firehose::work::Step;
use crate::firehose::{Closed, FirehoseError, GapReason, Phase, Progress, Status};
use crate::simulation::crash::{CrashStore, Pause};
use crate::simulation::memory_log::MemoryLog;
use crate::simulation::world::{Fate, World, origins};
use millstream_lake::Table;
use millstream_log::Log;
use millstream_model::name::{Offset, Partition, QUARANTINE};
use millstream_model::stream::{Start, Stream};
use object_store::ObjectStoreExt;
use object_store::path::Path;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

const PAYLOAD: &str = r#"{"a":1}"#;

/// So many messages of a device; what the log is damaged for is no concern of the world's fates.
async fn put(world: &World, device: &str, seconds: std::ops::Range<i64>) {
    let message = |seconds| crate::simulation::world::message(device, PAYLOAD, seconds);
    world.log.put(&world.topic(), seconds.map(message).collect()).await;
}

/// Rows of one partition, each once.
async fn rows_of(world: &World, number: i32) -> usize {
    let all = origins(&world.ingestion(), "telemetry").await;
    let of: Vec<_> = all.into_iter().filter(|(partition, ..)| partition.0 == number).collect();
    assert_eq!(of.iter().collect::<BTreeSet<_>>().len(), of.len(), "doubled in {number}");
    of.len()
}

/// One worker is slow at any of its calls, while another accepts that a partition was lost that the slow one does not own, and commits what the slow one has read.
#[tokio::test(start_paused = true)]
async fn a_worker_of_a_former_epoch_commits_nothing_wherever_it_was_when_the_epoch_was_raised() {
    for calls in 0.. {
        let (mut world, [damaged, whole, _]) = three(90).await;
        world.partitions = 3;
        put(&world, &damaged, 0..3).await;
        put(&world, &whole, 0..3).await;
        drain(&world).await.unwrap();
        let surprise = crate::simulation::world::message(&whole, r#"{"surprise":1}"#, 9);
        world.log.put(&world.topic(), vec![surprise]).await;
        let pause = Pause::after(calls);
        let store =
            CrashStore::new(Arc::clone(&world.store) as _, i64::MAX, true).with_pause(Arc::clone(&pause));
        let (slow, _deal, _seen) = dealt(&world, World::bucket(Arc::new(store)), stopped(), &[1]);
        let mut tasks = JoinSet::new();
        tasks.spawn(slow.run());
        let ended = tokio::select! {
            () = pause.reached.notified() => None,
            ended = tasks.join_next() => ended,
        };
        if let Some(ended) = ended {
            ended.unwrap().unwrap();
            assert!(calls > 10, "a flush makes more calls than that");
            break;
        }
        world.log.cut(&partition(&world, 0), Offset(0));
        put(&world, &damaged, 100..101).await;
        accept(&world).await;
        assert_eq!(epoch(&world).await.as_deref(), Some("1"));
        pause.go_on.notify_one();
        tasks.join_next().await.unwrap().unwrap().unwrap();
        drain(&world).await.unwrap();
        assert_eq!(rows_of(&world, 1).await, 4, "paused at call {calls}");
    }
}

/// Three partitions with something in the first two, of which the first was lost and accepted; the second was idle since.
async fn accepted_once(seed: u64) -> (World, [String; 3]) {
    let (world, devices) = three(seed).await;
    put(&world, &devices[0], 0..4).await;
    put(&world, &devices[1], 0..4).await;
    drain(&world).await.unwrap();
    world.log.cut(&partition(&world, 0), Offset(0));
    put(&world, &devices[0], 100..102).await;
    accept(&world).await;
    assert_eq!(rows(&world).await, 10);
    (world, devices)
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_was_carried_over_is_still_known() {
    let (world, devices) = accepted_once(91).await;
    world.log.recreate();
    put(&world, &devices[0], 200..220).await;
    put(&world, &devices[1], 200..220).await;
    let (work, _deal, _seen) = dealt(&world, world.ingestion(), stopped(), &[1]);
    let refused = work.run().await.unwrap_err();
    assert!(matches!(refused, FirehoseError::OtherRecord { committed: Offset(3), .. }), "{refused:?}");
    accept(&world).await;
    assert_eq!(rows(&world).await, 50);
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_was_carried_over_is_not_read_again_when_another_is_lost_a_second_time() {
    let (world, devices) = accepted_once(92).await;
    world.log.cut(&partition(&world, 0), Offset(0));
    put(&world, &devices[0], 200..203).await;
    accept(&world).await;
    assert_eq!(rows_of(&world, 1).await, 4);
    assert_eq!(epoch(&world).await.as_deref(), Some("2"));
}

#[tokio::test(start_paused = true)]
async fn a_partition_of_which_nothing_is_known_any_more_is_neither_read_again_nor_passed_over() {
    let (world, devices) = three(93).await;
    put(&world, &devices[0], 0..4).await;
    put(&world, &devices[1], 0..4).await;
    drain(&world).await.unwrap();
    let ledger = table(&world, "telemetry").await;
    let latest = ledger.snapshot().await.unwrap().version();
    ledger.checkpoint().await.unwrap();
    for version in 0..=latest {
        ledger.store().delete(&Path::from(format!("_delta_log/{version:020}.json"))).await.unwrap();
    }
    world.log.cut(&partition(&world, 0), Offset(0));
    let (work, _seen) = accepting(&world, stopped());
    let refused = work.run().await.unwrap_err();
    let told = matches!(&refused, FirehoseError::Unrecognised { partition, committed: Offset(3), .. } if partition.partition.0 == 1);
    assert!(told, "{refused:?}");
    assert_eq!((rows(&world).await, listed(&world).await), (8, Vec::new()));
}

/// As when a broker that lagged behind is made the leader: what was committed is there, and behind it others than were read.
#[tokio::test(start_paused = true)]
async fn records_that_are_not_in_the_log_any_more_are_not_committed() {
    for since in [2, 5, 9] {
        let mut world = one(94, 5).await;
        drain(&world).await.unwrap();
        let (slow, _) = work(&world, world.ingestion(), CancellationToken::new());
        let mut owned = own(&slow).await;
        send(&mut world, 5..10).await;
        read(&slow, &mut owned).await;
        world.log.cut(&partition(&world, 0), Offset(5));
        send(&mut world, 1000..1000 + since).await;
        let (_, batch) = owned.buffer.finish();
        let flushed = flush(&slow, &mut owned.claim, batch, Closed::Age).await.unwrap();
        assert!(matches!(flushed, Step::Lost(_)), "{since}: {flushed:?}");
        drain(&world).await.unwrap();
        assert_eq!(rows(&world).await, 5 + usize::try_from(since).unwrap());
    }
}

#[tokio::test(start_paused = true)]
async fn a_log_that_says_it_has_more_and_does_not_give_it_is_not_waited_for_for_ever() {
    let world = one(95, 5).await;
    let (work, _) = work(&world, world.ingestion(), CancellationToken::new());
    let place = partition(&world, 0);
    let never = before_anything_newer(&work, &place, Offset(2), Offset(9), i64::MAX);
    let silent = tokio::time::timeout(Duration::from_secs(3600), never).await.unwrap();
    assert!(matches!(silent, Err(FirehoseError::Silent { offset: Offset(5), .. })), "{silent:?}");
}

/// A rebalance brings a partition long after a person accepted what was missing of the others.
#[tokio::test(start_paused = true)]
async fn what_is_accepted_was_there_when_the_run_began() {
    for (later, accepted) in [(Duration::from_secs(10), true), (Duration::from_secs(3600), false)] {
        let (world, devices) = three(96).await;
        put(&world, &devices[1], 0..4).await;
        drain(&world).await.unwrap();
        put(&world, &devices[1], 4..9).await;
        let (mut work, deal, mut seen) = dealt(&world, world.ingestion(), CancellationToken::new(), &[0]);
        work.settings.accept_gap = true;
        let mut tasks = JoinSet::new();
        tasks.spawn(work.run());
        seen.wait_for(|status| status.phase == Phase::Running).await.unwrap();
        world.log.trim(&partition(&world, 1), Offset(6)).await.unwrap();
        tokio::time::sleep(later).await;
        deal.send_replace(vec![0, 1]);
        if accepted {
            seen.wait_for(|status| status.totals.messages == 3).await.unwrap();
            assert_eq!(listed(&world).await, [(0, 1, 4, Some(5), GapReason::Trimmed)]);
        } else {
            let ended = tokio::time::timeout(later, tasks.join_next()).await.unwrap().unwrap().unwrap();
            assert!(matches!(ended, Err(FirehoseError::Gap { .. })), "{ended:?}");
            assert_eq!(listed(&world).await, []);
        }
    }
}

/// Whoever is slower finds it done, and has lost nothing by that.
#[tokio::test(start_paused = true)]
async fn two_that_finish_the_same_decision_both_find_it_finished() {
    for seed in 0..40 {
        let mut world = World::new(97);
        world.log = MemoryLog::new(1);
        world.send("d1", "broken", 0, Fate::Quarantined).await;
        let (worker, _) = work(&world, world.ingestion(), CancellationToken::new());
        let mut owned = own(&worker).await;
        read(&worker, &mut owned).await;
        let (_, batch) = owned.buffer.finish();
        flush(&worker, &mut owned.claim, batch, Closed::Age).await.unwrap();
        let decision = super::decisions(&world).await.pop().unwrap();
        // As it was before the second commit.
        let quarantine = table(&world, QUARANTINE).await;
        quarantine.store().delete(&Path::from(format!("_delta_log/{:020}.json", 1))).await.unwrap();
        let slow = |seed| {
            let store = CrashStore::new(Arc::clone(&world.store) as _, i64::MAX, true).with_weather(seed);
            World::bucket(Arc::new(store))
        };
        let (one, other) = (slow(2 * seed), slow(2 * seed + 1));
        let open = async |bucket| Table::open(&bucket, QUARANTINE).await.unwrap().unwrap();
        let (one, other) = tokio::join!(open(one), open(other));
        let topic = world.topic();
        let done = tokio::join!(redo(&one, &topic, &decision), redo(&other, &topic, &decision));
        for done in [done.0.unwrap(), done.1.unwrap()] {
            assert!(matches!(done, Step::Done(_)), "seed {seed}: {done:?}");
        }
        assert_eq!(origins(&world.ingestion(), QUARANTINE).await.len(), 1);
    }
}

/// A stream that may begin where the log does asks the log no more than another.
#[tokio::test(start_paused = true)]
async fn what_was_looked_at_for_gaps_is_not_looked_at_again_for_the_claim() {
    let mut asked = Vec::new();
    for start in [Start::Refuse, Start::Earliest] {
        let mut world = one(98, 5).await;
        world.stream = Arc::new(Stream { start, ..(*world.stream).clone() });
        drain(&world).await.unwrap();
        let (readers, requests) = (world.log.readers(), world.store.requests());
        drain(&world).await.unwrap();
        asked.push((world.log.readers() - readers, world.store.requests() - requests));
    }
    assert_eq!(asked[0], asked[1]);
}

#[tokio::test(start_paused = true)]
async fn a_look_that_was_overtaken_by_a_commit_does_not_say_that_the_log_has_shrunk() {
    let world = one(99, 0).await;
    let (work, seen) = work(&world, world.ingestion(), CancellationToken::new());
    let check = |before: Option<i64>, committed, next, looked, expected, shrunk| {
        let committed = Some(Offset(committed));
        let progress = Progress {
            committed,
            next: Offset(next),
            received_at: None,
            committed_at: None,
            waiting_since: None,
        };
        work.report(|status| _ = status.partitions.insert(Partition(0), progress));
        work.saw_end(Partition(0), before.map(Offset), Offset(looked));
        let after = |status: &Status| (status.partitions[&Partition(0)].next.0, status.has_shrunk());
        assert_eq!(after(&seen.borrow()), (expected, shrunk));
    };
    check(Some(9), 9, 10, 14, 14, false);
    check(Some(9), 9, 14, 5, 5, true);
    check(Some(4), 9, 10, 7, 10, false);
    check(None, 9, 10, 17, 17, false);
}
