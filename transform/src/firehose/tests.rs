//! Regressions of the commit protocol, one a hazard.

mod columns;
mod damage;
mod gaps;
mod kafka;
mod model;
mod places;
mod shares;
mod tail;
mod waiting;

use super::claim;
use super::commit::{flush, lost};
use super::status::{Phase, Status};
use super::work::{Duty, Fence, Step, Work};
use super::{Closed, EPOCH, FirehoseError, Settings, TrimRule, ledger};
use crate::simulation::crash::CrashStore;
use crate::simulation::world::{Fate, SMALL_FILES, World, origins, stream};
use arrow::array::AsArray;
use millstream_lake::ledger::Decision;
use millstream_lake::{Bucket, Operation, Outcome, Plan, Table};
use millstream_log::{Log, ReadLimit};
use millstream_model::name::{LogTopic, Offset, Partition, QUARANTINE, TopicPartition};
use millstream_model::notice::Notice;
use millstream_model::stream::CloseRule;
use millstream_model::time::Micros;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

fn work(world: &World, ingestion: Bucket, shutdown: CancellationToken) -> (Work, watch::Receiver<Status>) {
    let (status, seen) = watch::channel(Status::default());
    let (settings, duty, log) =
        (Settings::default(), Duty::Stream(Arc::clone(&world.stream)), Arc::new(world.log.clone()));
    (Work { settings, duty, log, ingestion, shutdown, status, fence: Fence::Checked }, seen)
}

fn stopped() -> CancellationToken {
    let token = CancellationToken::new();
    token.cancel();
    token
}

/// Commits what the log holds.
async fn drain(world: &World) -> Result<Status, FirehoseError> {
    let (work, seen) = work(world, world.ingestion(), stopped());
    work.run().await.map(|()| seen.borrow().clone())
}

async fn own(work: &Work) -> claim::Owned {
    let partitions = work.log.partitions(&work.duty.topic()).await.unwrap();
    match claim::own(work, &partitions, None).await.unwrap() {
        Step::Done(owned) => owned,
        Step::Lost(why) => panic!("lost: {why}"),
    }
}

/// Everything that the log holds and the table does not, read but not committed.
async fn read(work: &Work, owned: &mut claim::Owned) {
    owned.intake.end_here(work.log.as_ref()).await.unwrap();
    while !owned.intake.is_drained() {
        let (partition, records) = owned.intake.next(ReadLimit { records: 7, bytes: 10_000 }).await;
        let records = records.unwrap();
        owned.buffer.push(partition, &records, Micros(0), usize::MAX);
    }
}

async fn table(world: &World, name: &str) -> Table {
    Table::open(&world.ingestion(), name).await.unwrap().unwrap()
}

async fn decisions(world: &World) -> Vec<Decision> {
    let table = table(world, world.stream.name.as_str()).await;
    let latest = table.snapshot().await.unwrap().version();
    let commits = table.changes(-1, latest).await.unwrap();
    commits.iter().filter_map(|commit| Decision::from_info(&commit.info).unwrap()).collect()
}

async fn assert_right(world: &World, context: &str) {
    assert_eq!(world.violations().await, Vec::<String>::new(), "{context}");
    let mut next = BTreeMap::new();
    for decision in decisions(world).await {
        for range in decision.ranges.iter().filter(|range| Some(range.partition) != world.damaged) {
            let expected = next.insert(range.partition, range.last.next()).unwrap_or(Offset::ZERO);
            assert_eq!(range.first, expected, "ranges follow each other, {context}");
            let offsets = u64::try_from(range.last.0 - range.first.0 + 1).unwrap();
            assert_eq!(range.messages, offsets, "every offset is counted, {context}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn every_message_gets_its_one_outcome_and_a_second_start_adds_nothing() {
    let mut world = World::new(1);
    world.append(200).await;
    let status = drain(&world).await.unwrap();
    assert_right(&world, "first").await;
    assert_eq!((status.phase, status.totals.messages), (Phase::Drained, 200));
    assert_eq!(status.last_error, None);
    let again = drain(&world).await.unwrap();
    assert_eq!(again.totals.commits, 0);
    assert!(
        again
            .partitions
            .values()
            .all(|progress| progress.committed.map_or(0, |offset| offset.0 + 1) == progress.next.0)
    );
    world.append(100).await;
    drain(&world).await.unwrap();
    assert_right(&world, "second").await;
}

/// The table's columns, its rows, quarantine: whichever call is the last that a worker makes, before or after it has its effect.
#[tokio::test(start_paused = true)]
async fn a_crash_at_any_call_loses_and_doubles_nothing() {
    for lands in [false, true] {
        for calls in 0.. {
            let mut world = World::new(7);
            world.append(12).await;
            drain(&world).await.unwrap();
            world.send("d1", r#"{"surprise":1}"#, 1, Fate::Readings(1)).await;
            world.send("d1", "broken", 2, Fate::Quarantined).await;
            let store = CrashStore::new(Arc::clone(&world.store) as _, calls, lands);
            let dead = Arc::clone(&store.dead);
            let (work, _seen) = work(&world, World::bucket(Arc::new(store)), stopped());
            let survived = tokio::select! {
                ended = work.run() => ended.is_ok(),
                () = dead.notified() => false,
            };
            world.append(6).await;
            drain(&world).await.unwrap();
            assert_right(&world, &format!("crash at call {calls}, which lands: {lands}")).await;
            if survived {
                assert!(calls > 10, "a flush makes more calls than that");
                break;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn of_two_workers_one_is_fenced_and_drops_its_buffer() {
    let mut world = World::new(3);
    world.append(20).await;
    let (first, _) = work(&world, world.ingestion(), CancellationToken::new());
    let mut owned = own(&first).await;
    read(&first, &mut owned).await;
    drain(&world).await.unwrap();
    let (_, batch) = owned.buffer.finish();
    let flushed = flush(&first, &mut owned.claim, batch, Closed::Age).await.unwrap();
    assert!(matches!(flushed, Step::Lost(_)), "{flushed:?}");
    drain(&world).await.unwrap();
    assert_right(&world, "fenced").await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_knows_older_columns_is_refused() {
    let mut world = World::new(4);
    drain(&world).await.unwrap();
    world.send("d1", r#"{"level":"high"}"#, 0, Fate::Readings(1)).await;
    let (slow, _) = work(&world, world.ingestion(), CancellationToken::new());
    let mut owned = own(&slow).await;
    read(&slow, &mut owned).await;
    // Another gives the same column another type, and gets no further than that.
    let other = table(&world, "telemetry").await;
    let properties = BTreeMap::from([("millstream.input_schema".to_owned(), "{}".to_owned())]);
    let set = BTreeMap::from([("other".to_owned(), 1)]);
    let outcome = other
        .commit(Plan { operation: Operation::Schema, set, properties, ..Plan::default() })
        .await
        .unwrap();
    assert!(matches!(outcome, Outcome::Applied { .. }), "{}", lost(&outcome));
    let (_, batch) = owned.buffer.finish();
    let flushed = flush(&slow, &mut owned.claim, batch, Closed::Age).await.unwrap();
    assert!(matches!(flushed, Step::Lost(_)), "{flushed:?}");
    assert_eq!(origins(&world.ingestion(), "telemetry").await, []);
}

#[tokio::test(start_paused = true)]
async fn an_old_decision_is_not_quarantined_again() {
    let mut world = World::new(5);
    world.send("d1", "broken", 0, Fate::Quarantined).await;
    drain(&world).await.unwrap();
    let old = decisions(&world).await.pop().unwrap();
    assert!(!old.quarantine.is_empty());
    world.send("d1", "broken again", 1, Fate::Quarantined).await;
    drain(&world).await.unwrap();
    let redone = ledger::redo(&table(&world, QUARANTINE).await, &world.topic(), &old).await.unwrap();
    assert!(matches!(redone, Step::Done(None)), "{redone:?}");
    assert_right(&world, "redone").await;
}

#[tokio::test(start_paused = true)]
async fn a_flush_of_bad_messages_only_moves_the_ledger() {
    let mut world = World::new(6);
    for _ in 0..5 {
        world.send("d1", "broken", 0, Fate::Quarantined).await;
    }
    world.send("d1", "[]", 0, Fate::Dropped).await;
    let status = drain(&world).await.unwrap();
    assert_eq!((status.totals.quarantined, status.totals.dropped, status.totals.readings), (5, 1, 0));
    assert_eq!(table(&world, "telemetry").await.snapshot().await.unwrap().files(), []);
    assert_right(&world, "bad").await;
    assert_eq!(drain(&world).await.unwrap().totals.commits, 0);
}

async fn refused(world: &World) -> FirehoseError {
    let (work, seen) = work(world, world.ingestion(), CancellationToken::new());
    let error = work.run().await.unwrap_err();
    assert_eq!(seen.borrow().phase, Phase::Failed);
    error
}

#[tokio::test(start_paused = true)]
async fn a_log_that_is_not_the_tables_own_is_refused_until_the_epoch_is_raised() {
    let mut world = World::new(8);
    for seconds in 0..10 {
        world.send("d1", r#"{"a":1}"#, seconds, Fate::Readings(1)).await;
    }
    drain(&world).await.unwrap();
    world.log.recreate();
    assert!(matches!(refused(&world).await, FirehoseError::OtherLog { .. }));
    for seconds in 100..110 {
        world.send("d1", r#"{"a":2}"#, seconds, Fate::Readings(1)).await;
    }
    assert!(matches!(refused(&world).await, FirehoseError::OtherRecord { .. }));
    let set = BTreeMap::from([("operator".to_owned(), 1)]);
    let properties = BTreeMap::from([(EPOCH.to_owned(), "1".to_owned())]);
    let raise = Plan { operation: Operation::Schema, set, properties, ..Plan::default() };
    table(&world, "telemetry").await.commit(raise).await.unwrap();
    drain(&world).await.unwrap();
    assert_eq!(origins(&world.ingestion(), "telemetry").await.len(), 20);
}

#[tokio::test(start_paused = true)]
async fn records_that_are_gone_before_they_were_committed_are_refused() {
    let mut world = World::new(9);
    for seconds in 0..4 {
        world.send("d1", r#"{"a":1}"#, seconds, Fate::Readings(1)).await;
    }
    let partition = world.fates.keys().next().unwrap().0;
    let partition = TopicPartition { topic: world.topic(), partition };
    world.log.trim(&partition, Offset(1)).await.unwrap();
    let error = refused(&world).await;
    assert!(matches!(error, FirehoseError::Gap { wanted: Offset(0), first: Offset(1), .. }), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn after_both_commits_the_log_may_forget_all_but_the_last_record() {
    let mut world = World::new(10);
    for seconds in 0..4 {
        world.send("d1", r#"{"a":1}"#, seconds, Fate::Readings(1)).await;
    }
    let (mut work, _seen) = work(&world, world.ingestion(), stopped());
    work.settings.trim = TrimRule::AfterCommit;
    work.run().await.unwrap();
    let partition = TopicPartition { topic: world.topic(), partition: world.fates.keys().next().unwrap().0 };
    assert_eq!(world.log.bounds(&partition).await.unwrap().first, Offset(3));
    drain(&world).await.unwrap();
    assert_right(&world, "trimmed").await;
}

#[tokio::test(start_paused = true)]
async fn messages_that_no_stream_claims_are_quarantined_once() {
    let mut world = World::new(11);
    let record = crate::simulation::world::message("d1", "21.5", 0);
    world.log.put(&LogTopic::unrouted(), vec![record.clone(), record]).await;
    for expected in [1, 0] {
        let (work, seen) = work(&world, world.ingestion(), stopped());
        Work { duty: Duty::Unrouted, ..work }.run().await.unwrap();
        assert_eq!(seen.borrow().totals.commits, expected);
    }
    let rows = crate::simulation::world::rows(&world.ingestion(), QUARANTINE).await;
    assert_eq!(rows.iter().map(|batch| batch.num_rows()).sum::<usize>(), 2);
    assert_eq!(rows[0].column_by_name("reason").unwrap().as_string::<i32>().value(0), "no_stream");
    // The same partition of a stream has its own transaction there.
    world.send("d1", "broken", 0, Fate::Quarantined).await;
    drain(&world).await.unwrap();
    assert_eq!(origins(&world.ingestion(), QUARANTINE).await.len(), 3);
}

/// Runs a worker until it has committed once by itself, and says why the files closed.
async fn closes(rule: CloseRule, messages: usize, pause: Duration) -> Closed {
    let mut world = World::new(12);
    world.stream = Arc::new(stream(rule));
    let shutdown = CancellationToken::new();
    let (work, mut seen) = work(&world, world.ingestion(), shutdown.clone());
    let mut tasks = JoinSet::new();
    tasks.spawn(work.run());
    for _ in 0..messages {
        world.send("d1", r#"{"temp":21.5}"#, 0, Fate::Readings(1)).await;
        tokio::time::sleep(pause).await;
    }
    if rule.idle == Duration::MAX {
        shutdown.cancel();
    }
    let committed = seen.wait_for(|status| status.last_commit.is_some()).await.unwrap().last_commit.clone();
    shutdown.cancel();
    tasks.join_next().await.unwrap().unwrap().unwrap();
    assert_right(&world, "closed").await;
    committed.unwrap().closed
}

#[tokio::test(start_paused = true)]
async fn files_close_by_size_age_idleness_or_shutdown_and_say_which() {
    let large =
        CloseRule { after: Duration::from_secs(3600), size: 1 << 30, idle: Duration::from_secs(1800) };
    let second = Duration::from_secs(1);
    assert_eq!(closes(CloseRule { size: 1, ..large }, 1, Duration::ZERO).await, Closed::Size);
    assert_eq!(closes(CloseRule { after: second * 10, ..large }, 30, second).await, Closed::Age);
    assert_eq!(closes(CloseRule { idle: second * 2, ..large }, 3, second).await, Closed::Idle);
    assert_eq!(
        closes(CloseRule { after: second * 86_400, idle: Duration::MAX, ..large }, 3, second).await,
        Closed::Shutdown
    );
}

/// One read may become more than a batch can hold; whether a message is a reading must not depend on which others were read with it.
#[tokio::test(start_paused = true)]
async fn a_read_that_becomes_more_than_there_is_memory_for_is_committed_in_parts() {
    let mut world = World::new(12);
    let many = format!("[{}]", vec!["{}"; 100].join(","));
    for seconds in 0..20 {
        world.send("d1", &many, seconds, Fate::Readings(100)).await;
    }
    let (mut work, seen) = work(&world, world.ingestion(), stopped());
    work.settings.buffer_max = 20_000;
    work.run().await.unwrap();
    assert_right(&world, "in parts").await;
    let status = seen.borrow().clone();
    assert!((5..=20).contains(&status.totals.commits), "{status:?}");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_comes_back_costs_nothing_but_time() {
    let mut world = World::new(13);
    world.append(30).await;
    let shutdown = CancellationToken::new();
    let (work, mut seen) = work(&world, world.ingestion(), shutdown.clone());
    world.store.randomly(1, 900);
    world.store.fail_reads(40);
    let mut tasks = JoinSet::new();
    tasks.spawn(work.run());
    seen.wait_for(|status| status.phase == Phase::Retrying && status.last_error.is_some()).await.unwrap();
    world.store.heal();
    let ends = |status: &Status| status.phase == Phase::Running && status.totals.messages == 30;
    assert_eq!(seen.wait_for(ends).await.unwrap().last_error, None);
    shutdown.cancel();
    tasks.join_next().await.unwrap().unwrap().unwrap();
    assert_right(&world, "healed").await;
}

#[tokio::test(start_paused = true)]
async fn each_commit_is_noticed_with_its_version() {
    let mut world = World::new(14);
    world.send("d1", r#"{"a":1}"#, 0, Fate::Readings(1)).await;
    let status = drain(&world).await.unwrap();
    let mut noticed = Vec::new();
    for partition in world.log.partitions(&LogTopic::notices()).await.unwrap() {
        let bounds = world.log.bounds(&partition).await.unwrap();
        if bounds.next > bounds.first {
            let mut reader = world.log.reader(&partition, bounds.first).await.unwrap();
            for stored in reader.next(ReadLimit { records: 100, bytes: 100_000 }).await.unwrap() {
                assert_eq!(stored.record.key, "telemetry");
                noticed.extend(Notice::parse(&stored.record.value).unwrap());
            }
        }
    }
    let committed = status.last_commit.unwrap().version;
    let last = noticed.last().unwrap();
    assert_eq!(
        (last.bucket.as_str(), last.commit()),
        ("ingestion", Some(("telemetry", u64::try_from(committed).unwrap())))
    );
}

#[tokio::test(start_paused = true)]
async fn files_say_what_they_hold_and_why_they_closed() {
    let mut world = World::new(15);
    world.send("d1", r#"{"a":1}"#, 0, Fate::Readings(1)).await;
    world.send("d1", "[]", 0, Fate::Dropped).await;
    drain(&world).await.unwrap();
    let snapshot = table(&world, "telemetry").await.snapshot().await.unwrap();
    let tags = &snapshot.files()[0].tags;
    let said = |name: &str| tags[&format!("millstream.{name}")].as_str();
    let partition: Partition = world.fates.keys().next().unwrap().0;
    assert_eq!((said("ranges"), said("closed")), (format!("{partition}:0-1").as_str(), "shutdown"));
    assert_eq!((said("messages"), said("readings"), said("dropped")), ("2", "1", "1"));
    assert_eq!(SMALL_FILES.idle, world.stream.files.idle);
}
