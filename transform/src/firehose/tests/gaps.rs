//! What is missing of a log is accepted only on purpose, only once, and never forgotten.

use super::{assert_right, drain, own, read, refused, stopped, table, work};
use crate::firehose::commit::flush;
use crate::firehose::work::{Duty, Step, Work};
use crate::firehose::{
    Closed, EPOCH, FirehoseError, GAPS, GAPS_OMITTED, Gap, GapReason, Phase, Status, gaps,
};
use crate::simulation::crash::CrashStore;
use crate::simulation::memory_log::MemoryLog;
use crate::simulation::world::{Fate, START, World, origins, stream};
use chrono::Utc;
use millstream_lake::ledger::passed_app;
use millstream_lake::{Operation, Plan};
use millstream_log::Log;
use millstream_model::name::{LogTopic, Offset, Partition, QUARANTINE, TopicPartition};
use millstream_model::stream::{CloseRule, Start, Stream};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// A world whose topic has one partition, and so many messages in it.
pub(super) async fn one(seed: u64, messages: i64) -> World {
    let mut world = World::new(seed);
    world.log = MemoryLog::new(1);
    send(&mut world, 0..messages).await;
    world
}

pub(super) async fn send(world: &mut World, seconds: std::ops::Range<i64>) {
    for seconds in seconds {
        world.send("d1", r#"{"a":1}"#, seconds, Fate::Readings(1)).await;
    }
}

pub(super) fn partition(world: &World, number: i32) -> TopicPartition {
    TopicPartition { topic: world.topic(), partition: Partition(number) }
}

pub(super) async fn trim(world: &World, before: i64) {
    let place = partition(world, 0);
    world.log.trim(&place, Offset(before)).await.unwrap();
}

pub(super) fn accepting(world: &World, shutdown: CancellationToken) -> (Work, watch::Receiver<Status>) {
    let (mut work, seen) = work(world, world.ingestion(), shutdown);
    work.settings.accept_gap = true;
    (work, seen)
}

/// Commits what the log holds, and accepts what it does not.
pub(super) async fn accept(world: &World) -> Status {
    let (work, seen) = accepting(world, stopped());
    work.run().await.unwrap();
    seen.borrow().clone()
}

/// The gaps of the stream's table without the time of their acceptance.
pub(super) async fn listed(world: &World) -> Vec<(i64, i32, i64, Option<i64>, GapReason)> {
    let snapshot = table(world, "telemetry").await.snapshot().await.unwrap();
    let short = |gap: Gap| {
        assert_eq!(gap.log_topic, world.topic().to_string());
        (gap.epoch, gap.partition.0, gap.first.0, gap.last.map(|last| last.0), gap.why)
    };
    gaps(&snapshot).into_iter().map(short).collect()
}

pub(super) async fn epoch(world: &World) -> Option<String> {
    let snapshot = table(world, "telemetry").await.snapshot().await.unwrap();
    snapshot.property(EPOCH).map(str::to_owned)
}

pub(super) async fn rows(world: &World) -> usize {
    origins(&world.ingestion(), "telemetry").await.len()
}

#[tokio::test(start_paused = true)]
async fn a_trimmed_log_is_refused_until_the_gap_is_accepted_and_then_goes_on_behind_it() {
    let mut world = one(50, 4).await;
    drain(&world).await.unwrap();
    send(&mut world, 4..10).await;
    trim(&world, 7).await;
    assert!(matches!(refused(&world).await, FirehoseError::Gap { wanted: Offset(4), first: Offset(7), .. }));
    assert_eq!(listed(&world).await, []);
    assert_eq!(accept(&world).await.incidents.gaps, 1);
    assert_eq!(listed(&world).await, [(0, 0, 4, Some(6), GapReason::Trimmed)]);
    assert_eq!(rows(&world).await, 7);
    let ledger = table(&world, "telemetry").await;
    let latest = ledger.snapshot().await.unwrap().version();
    let said = ledger.changes(-1, latest).await.unwrap();
    assert_eq!(said.iter().filter(|commit| commit.info.contains_key("millstreamGaps")).count(), 1);
    // Nothing is missing any more, so nothing more is accepted; and it is no licence for the next gap.
    assert_eq!(accept(&world).await.incidents.gaps, 0);
    send(&mut world, 10..14).await;
    trim(&world, 12).await;
    assert!(matches!(refused(&world).await, FirehoseError::Gap { .. }));
    accept(&world).await;
    assert_eq!(listed(&world).await.len(), 2);
    assert_eq!(rows(&world).await, 9);
}

#[tokio::test(start_paused = true)]
async fn a_stream_may_begin_where_the_log_does_but_not_skip_anything_later() {
    let mut world = one(51, 9).await;
    trim(&world, 5).await;
    assert!(matches!(refused(&world).await, FirehoseError::Gap { wanted: Offset(0), .. }));
    world.stream = Arc::new(Stream { start: Start::Earliest, ..(*world.stream).clone() });
    drain(&world).await.unwrap();
    assert_eq!(listed(&world).await, [(0, 0, 0, Some(4), GapReason::Trimmed)]);
    assert_eq!(rows(&world).await, 4);
    send(&mut world, 9..12).await;
    trim(&world, 11).await;
    assert!(matches!(refused(&world).await, FirehoseError::Gap { wanted: Offset(9), .. }));
}

#[tokio::test(start_paused = true)]
async fn it_is_accepted_once_a_run() {
    let mut world = one(52, 3).await;
    let (deal, dealt) = watch::channel(vec![0]);
    let (mut work, mut seen) = accepting(&world, CancellationToken::new());
    work.log = Arc::new(world.log.dealing(dealt));
    let mut tasks = JoinSet::new();
    tasks.spawn(work.run());
    seen.wait_for(|status| status.totals.messages == 3).await.unwrap();
    deal.send_replace(Vec::new());
    seen.wait_for(|status| status.phase == Phase::Standby).await.unwrap();
    send(&mut world, 3..9).await;
    trim(&world, 6).await;
    deal.send_replace(vec![0]);
    let ended = tasks.join_next().await.unwrap().unwrap();
    assert!(matches!(ended, Err(FirehoseError::Gap { .. })), "{ended:?}");
    assert_eq!(listed(&world).await, []);
}

/// Reports wait for it: what comes of the other log is no reason to expect earlier readings.
#[tokio::test(start_paused = true)]
async fn event_time_goes_on_in_a_new_epoch_from_where_it_was() {
    let mut world = one(57, 6).await;
    drain(&world).await.unwrap();
    world.log.recreate();
    send(&mut world, 2..3).await;
    accept(&world).await;
    assert_eq!(epoch(&world).await.as_deref(), Some("1"));
    let snapshot = table(&world, "telemetry").await.snapshot().await.unwrap();
    let passed = passed_app("telemetry", &world.topic(), 1, Partition(0));
    assert_eq!(snapshot.txn(&passed), Some(START + 5_000_000));
}

/// Both where the other log is shorter than what was committed and where it is longer.
#[tokio::test(start_paused = true)]
async fn another_log_raises_the_epoch_and_is_read_from_its_beginning() {
    for messages in [2, 20] {
        let mut world = one(53, 6).await;
        world.send("d1", "broken", 7, Fate::Quarantined).await;
        drain(&world).await.unwrap();
        // This one knows nothing of what happens meanwhile.
        let (late, _) = work(&world, world.ingestion(), CancellationToken::new());
        let mut owned = own(&late).await;
        world.log.recreate();
        send(&mut world, 1000..1000 + messages - 1).await;
        world.send("d1", "broken", 2000, Fate::Quarantined).await;
        read(&late, &mut owned).await;
        assert!(matches!(
            refused(&world).await,
            FirehoseError::OtherLog { .. } | FirehoseError::OtherRecord { .. }
        ));
        accept(&world).await;
        assert_eq!(epoch(&world).await.as_deref(), Some("1"));
        assert_eq!(listed(&world).await, [(0, 0, 7, None, GapReason::OtherLog)]);
        let new = usize::try_from(messages - 1).unwrap();
        assert_eq!(rows(&world).await, 6 + new);
        assert_eq!(origins(&world.ingestion(), QUARANTINE).await.len(), 2);
        if !owned.buffer.is_empty() {
            let (_, batch) = owned.buffer.finish();
            let flushed = flush(&late, &mut owned.claim, batch, Closed::Age).await.unwrap();
            assert!(matches!(flushed, Step::Lost(_)), "{flushed:?}");
        }
        drain(&world).await.unwrap();
        assert_eq!(rows(&world).await, 6 + new);
    }
}

#[tokio::test(start_paused = true)]
async fn another_log_that_is_trimmed_already_is_two_gaps() {
    let mut world = one(54, 6).await;
    drain(&world).await.unwrap();
    world.log.recreate();
    send(&mut world, 1000..1005).await;
    trim(&world, 3).await;
    accept(&world).await;
    assert_eq!(
        listed(&world).await,
        [(0, 0, 6, None, GapReason::OtherLog), (1, 0, 0, Some(2), GapReason::Trimmed)]
    );
    assert_eq!(rows(&world).await, 8);
}

/// As when an older copy of the log is put back: what the table has of it is not read again, and what came since is not lost.
#[tokio::test(start_paused = true)]
async fn a_log_that_has_lost_its_end_is_not_read_twice() {
    for since in [0, 2, 30] {
        let mut world = one(55, 5).await;
        drain(&world).await.unwrap();
        for flush in 1..4 {
            send(&mut world, flush * 5..flush * 5 + 5).await;
            drain(&world).await.unwrap();
        }
        // In the middle of the third flush.
        world.log.cut(&partition(&world, 0), Offset(12));
        let now = (Utc::now().timestamp_micros() - START) / 1_000_000;
        send(&mut world, now + 60..now + 60 + since).await;
        accept(&world).await;
        // The third flush ended behind the cut: there is nothing to compare its records with.
        assert_eq!(
            listed(&world).await,
            [(0, 0, 10, Some(11), GapReason::Uncompared), (0, 0, 20, None, GapReason::LostEnd)]
        );
        assert_eq!(rows(&world).await, 20 + usize::try_from(since).unwrap());
        assert_eq!(epoch(&world).await.as_deref(), Some("1"));
        drain(&world).await.unwrap();
        assert_eq!(rows(&world).await, 20 + usize::try_from(since).unwrap());
    }
}

#[tokio::test(start_paused = true)]
async fn partitions_that_are_recognised_are_not_read_twice_because_one_is_damaged() {
    let mut world = World::new(56);
    world.log = MemoryLog::new(3);
    for seconds in 0..60 {
        world.send(&format!("d{}", seconds % 12), r#"{"a":1}"#, seconds, Fate::Readings(1)).await;
    }
    drain(&world).await.unwrap();
    world.log.cut(&partition(&world, 1), Offset(0));
    let before = rows(&world).await;
    let (mut damaged, mut sent) = (false, 0);
    for number in 0..12 {
        let device = format!("d{number}");
        let place = world
            .log
            .put(&world.topic(), vec![crate::simulation::world::message(&device, r#"{"a":2}"#, 99)])
            .await;
        damaged |= place[0].partition == Partition(1);
        sent += 1;
    }
    assert!(damaged, "one of the devices is in the damaged partition");
    accept(&world).await;
    assert_eq!(rows(&world).await, before + sent);
    let listed = listed(&world).await;
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!((listed[0].1, listed[0].4), (1, GapReason::OtherLog));
}

#[tokio::test(start_paused = true)]
async fn the_list_of_gaps_is_bounded_and_says_how_many_left_it() {
    let mut world = one(57, 4).await;
    drain(&world).await.unwrap();
    let old = Gap {
        log_topic: world.topic().to_string(),
        epoch: 0,
        partition: Partition(0),
        first: Offset(0),
        last: Some(Offset(1)),
        why: GapReason::Trimmed,
        accepted_at: String::new(),
    };
    let full = serde_json::to_string(&vec![old; 256]).unwrap();
    let properties = BTreeMap::from([(GAPS.to_owned(), full)]);
    let set = BTreeMap::from([("test".to_owned(), 1)]);
    let plan = Plan { operation: Operation::Schema, set, properties, ..Plan::default() };
    table(&world, "telemetry").await.commit(plan).await.unwrap();
    send(&mut world, 4..9).await;
    trim(&world, 8).await;
    accept(&world).await;
    let listed = listed(&world).await;
    assert_eq!((listed.len(), listed[255]), (256, (0, 0, 4, Some(7), GapReason::Trimmed)));
    let snapshot = table(&world, "telemetry").await.snapshot().await.unwrap();
    assert_eq!(snapshot.property(GAPS_OMITTED), Some("1"));
}

/// Nothing is accepted where nothing is wrong, whatever the flag says.
#[tokio::test(start_paused = true)]
async fn a_whole_log_is_none_of_its_business() {
    let hour = std::time::Duration::from_secs(3600);
    let mut world = World::new(58);
    world.stream = Arc::new(stream(CloseRule { after: hour, size: 1 << 30, idle: hour }));
    for _ in 0..3 {
        world.append(20).await;
        assert_eq!(accept(&world).await.incidents.gaps, 0);
        assert_right(&world, "whole").await;
    }
    assert_eq!(epoch(&world).await.as_deref(), Some("0"));
}

/// Each meets the other log in its own partition, and all raise the epoch: once.
#[tokio::test(start_paused = true)]
async fn of_several_workers_that_accept_another_log_one_does() {
    for seed in 60..70 {
        let mut world = World::new(seed);
        world.log = MemoryLog::new(3);
        for seconds in 0..60 {
            world.send(&format!("d{}", seconds % 12), r#"{"a":1}"#, seconds, Fate::Readings(1)).await;
        }
        drain(&world).await.unwrap();
        world.log.recreate();
        world.fates.clear();
        for seconds in 100..124 {
            world.send(&format!("d{}", seconds % 12), r#"{"a":2}"#, seconds, Fate::Readings(1)).await;
        }
        let mut tasks = JoinSet::new();
        for share in 0..3 {
            let store =
                CrashStore::new(Arc::clone(&world.store) as _, i64::MAX, true).with_weather(seed + share);
            let (deal, dealt) = watch::channel(vec![i32::try_from(share).unwrap()]);
            let (mut work, _seen) = work(&world, World::bucket(Arc::new(store)), stopped());
            work.settings.accept_gap = true;
            work.log = Arc::new(world.log.dealing(dealt));
            tasks.spawn(async move {
                let _deal = deal;
                work.run().await
            });
        }
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap().unwrap();
        }
        assert_eq!(epoch(&world).await.as_deref(), Some("1"), "seed {seed}");
        assert_eq!(listed(&world).await.len(), 3, "seed {seed}");
        assert_eq!(rows(&world).await, 84, "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn messages_that_no_stream_claims_have_gaps_and_epochs_in_quarantine() {
    let mut world = one(71, 0).await;
    let topic = LogTopic::unrouted();
    let place = TopicPartition { topic: topic.clone(), partition: Partition(0) };
    let unrouted = |accept_gap| {
        let (mut work, _seen) = work(&world, world.ingestion(), stopped());
        work.settings.accept_gap = accept_gap;
        Work { duty: Duty::Unrouted, ..work }.run()
    };
    let message = |seconds| crate::simulation::world::message("d1", "21.5", seconds);
    world.log.put(&topic, (0..6).map(message).collect()).await;
    world.log.trim(&place, Offset(2)).await.unwrap();
    assert!(matches!(unrouted(false).await, Err(FirehoseError::Gap { .. })));
    unrouted(true).await.unwrap();
    world.log.recreate();
    world.log.put(&topic, (10..13).map(message).collect()).await;
    assert!(matches!(unrouted(false).await, Err(FirehoseError::OtherLog { .. })));
    unrouted(true).await.unwrap();
    let found = gaps(&table(&world, QUARANTINE).await.snapshot().await.unwrap());
    let short: Vec<_> =
        found.iter().map(|gap| (gap.log_topic.as_str(), gap.epoch, gap.first.0, gap.why)).collect();
    assert_eq!(
        short,
        [
            ("millstream.unrouted", 0, 0, GapReason::Trimmed),
            ("millstream.unrouted", 0, 6, GapReason::OtherLog)
        ]
    );
    assert_eq!(origins(&world.ingestion(), QUARANTINE).await.len(), 7);
    // What streams put there is counted in their own tables' epoch.
    world.send("d1", "broken", 20, Fate::Quarantined).await;
    drain(&world).await.unwrap();
    drain(&world).await.unwrap();
    assert_eq!(origins(&world.ingestion(), QUARANTINE).await.len(), 8);
}

/// Readers that stand in the middle go on there in another log, if it is long enough.
#[tokio::test(start_paused = true)]
async fn a_log_that_is_made_anew_under_a_running_worker_is_noticed_before_anything_of_it_is_committed() {
    for (before, since) in [(6, 2), (6, 30), (0, 30)] {
        let mut world = one(80, before).await;
        world.stream = Arc::new(stream(CloseRule { size: 1 << 20, ..world.stream.files }));
        let (work, mut seen) = work(&world, world.ingestion(), CancellationToken::new());
        let mut tasks = JoinSet::new();
        tasks.spawn(work.run());
        let messages = u64::try_from(before).unwrap();
        let stands = |status: &Status| status.phase == Phase::Running && status.totals.messages == messages;
        seen.wait_for(stands).await.unwrap();
        if before == 0 {
            // Read and not committed yet.
            send(&mut world, 0..5).await;
            tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        }
        world.log.recreate();
        world.fates.clear();
        send(&mut world, 1000..1000 + since).await;
        if before == 0 {
            seen.wait_for(|status| status.totals.messages == 30).await.unwrap();
            assert_eq!(rows(&world).await, 30, "nothing had been committed, so this is its log");
            continue;
        }
        let ended = tasks.join_next().await.unwrap().unwrap();
        let told = match &ended {
            Err(FirehoseError::OtherLog { .. }) => since == 2,
            Err(FirehoseError::OtherRecord { .. }) => since == 30,
            _ => false,
        };
        assert!(told, "{since}: {ended:?}");
        assert_eq!(rows(&world).await, 6);
    }
}
