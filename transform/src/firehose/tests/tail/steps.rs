//! The same one call of the store at a time: whatever a firehose has done so far, and wherever it dies, the view is exact.

use super::super::{drain, gaps, stopped, work};
use crate::firehose::TrimRule;
use crate::simulation::book::Side;
use crate::simulation::crash::{CrashStore, Pause};
use crate::simulation::skewed::SkewedLog;
use crate::simulation::view::View;
use crate::simulation::world::{Fate, World, message};
use millstream_log::Log;
use millstream_model::stream::{Start, Stream};
use millstream_query::TailUse;
use std::sync::Arc;
use tokio::task::JoinSet;

/// More calls than a firehose makes in these tests.
const IMMORTAL: i64 = i64::MAX;

fn view(world: &World) -> impl Future<Output = View> {
    let log: Arc<dyn Log> = Arc::new(world.log.clone());
    let (stream, ingestion) = (Arc::clone(&world.stream), world.ingestion());
    async move { View::open(&stream, log, &ingestion, 1).await }
}

async fn assert_exact(view: &View, world: &World, context: &str) {
    let flaw = view.flaw(&world.book).await;
    assert_eq!(flaw, None, "{context}");
}

/// Some of it is committed, and there is something of every kind to commit: readings, new columns, quarantine.
async fn begun(seed: u64) -> World {
    let mut world = World::new(seed);
    world.append(12).await;
    drain(&world).await.unwrap();
    world.send("d1", r#"{"surprise":1}"#, 1, Fate::Readings(1)).await;
    world.send("d1", "broken", 2, Fate::Quarantined).await;
    world.append(4).await;
    world
}

/// A session from before and one from after see the same, and both are right.
#[tokio::test(start_paused = true)]
async fn wherever_a_firehose_dies_the_view_is_exact() {
    for lands in [false, true] {
        for calls in 0.. {
            let context = format!("crash at call {calls}, which lands: {lands}");
            let mut world = begun(21).await;
            let before = view(&world).await;
            assert_exact(&before, &world, "before").await;
            let store = CrashStore::new(Arc::clone(&world.store) as _, calls, lands);
            let dead = Arc::clone(&store.dead);
            let (work, _seen) = work(&world, World::bucket(Arc::new(store)), stopped());
            let survived = tokio::select! {
                ended = work.run() => ended.is_ok(),
                () = dead.notified() => false,
            };
            assert_exact(&before, &world, &context).await;
            world.append(3).await;
            assert_exact(&before, &world, &context).await;
            assert_exact(&view(&world).await, &world, &context).await;
            drain(&world).await.unwrap();
            assert_exact(&before, &world, &context).await;
            if survived {
                assert!(calls > 10, "a flush makes more calls than that");
                break;
            }
        }
    }
}

/// The firehose stands still in the middle of its call while others append and ask; and the log forgets what is committed.
#[tokio::test(start_paused = true)]
async fn while_a_firehose_stands_at_any_call_the_view_is_exact() {
    for calls in 0.. {
        let context = format!("standing at call {calls}");
        let mut world = begun(22).await;
        let before = view(&world).await;
        assert_exact(&before, &world, "before").await;
        let pause = Pause::after(calls);
        let store =
            CrashStore::new(Arc::clone(&world.store) as _, IMMORTAL, false).with_pause(Arc::clone(&pause));
        let (mut work, _seen) = work(&world, World::bucket(Arc::new(store)), stopped());
        work.settings.trim = TrimRule::AfterCommit;
        let mut running = JoinSet::new();
        running.spawn(work.run());
        let stands = tokio::select! {
            () = pause.reached.notified() => true,
            ended = running.join_next() => {
                ended.unwrap().unwrap().unwrap();
                false
            }
        };
        assert_exact(&before, &world, &context).await;
        world.append(3).await;
        assert_exact(&before, &world, &context).await;
        assert_exact(&view(&world).await, &world, &context).await;
        pause.go_on.notify_one();
        if let Some(ended) = running.join_next().await {
            ended.unwrap().unwrap();
        }
        assert_exact(&before, &world, &context).await;
        if !stands {
            assert!(calls > 10, "a flush makes more calls than that");
            break;
        }
    }
}

/// What happens while a question stands still: everything is committed, in two flushes, and the log forgets it; and more comes.
async fn turn_the_page(world: &mut World) {
    for _ in 0..2 {
        world.append(3).await;
        let (mut work, _seen) = work(world, world.ingestion(), stopped());
        work.settings.trim = TrimRule::AfterCommit;
        work.run().await.unwrap();
    }
    world.append(3).await;
}

/// Where a question stands still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stands {
    AtTheStore,
    AtTheLog,
}

/// What there is before the question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    /// Not even a topic.
    Nothing,
    /// Messages, of which nothing was ever committed.
    NoTable,
    /// The same, of a stream that begins where the log does.
    Earliest,
    /// Tables, and messages that wait.
    Tables,
    /// The session has answered before.
    Answers,
}

/// Asks through a session whose n-th call is held up while the page is turned. `false` if there is no n-th call.
async fn asked_meanwhile(stands: Stands, before: Before, calls: i64) -> bool {
    let context = format!("standing {stands:?}, before: {before:?}, at call {calls}");
    let mut world = match before {
        Before::Nothing => World::new(24),
        Before::NoTable | Before::Earliest => {
            let mut world = World::new(24);
            if before == Before::Earliest {
                world.stream = Arc::new(Stream { start: Start::Earliest, ..Stream::clone(&world.stream) });
            }
            world.append(8).await;
            world.send("d1", "broken", 2, Fate::Quarantined).await;
            world
        }
        Before::Tables | Before::Answers => begun(24).await,
    };
    let pause = Pause::after(IMMORTAL);
    let (mut log, mut ingestion): (Arc<dyn Log>, _) = (Arc::new(world.log.clone()), world.ingestion());
    match stands {
        Stands::AtTheLog => log = SkewedLog::pausing(log, Arc::clone(&pause)),
        Stands::AtTheStore => {
            let store = CrashStore::new(Arc::clone(&world.store) as _, IMMORTAL, false);
            ingestion = World::bucket(Arc::new(store.with_pause(Arc::clone(&pause))));
        }
    }
    let view = View::open(&world.stream, log, &ingestion, 1).await;
    if before == Before::Answers {
        assert_exact(&view, &world, "before").await;
        world.append(2).await;
    }
    pause.set(calls);
    let from = world.book.ends();
    let mut asking = std::pin::pin!(view.both(TailUse::Follow));
    let (answer, stood) = tokio::select! {
        answer = &mut asking => (answer, false),
        () = pause.reached.notified() => {
            turn_the_page(&mut world).await;
            pause.go_on.notify_one();
            (asking.await, true)
        }
    };
    let seen = answer.unwrap_or_else(|error| panic!("{context}: {error}"));
    let reached = seen.judge(&world.book, &from).await;
    assert!(reached.is_ok(), "{context}: {reached:?}");
    pause.set(IMMORTAL);
    assert_exact(&view, &world, &context).await;
    stood
}

#[tokio::test(start_paused = true)]
async fn whatever_is_committed_and_trimmed_during_a_question_its_answer_is_right() {
    for stands in [Stands::AtTheStore, Stands::AtTheLog] {
        for before in [Before::Nothing, Before::NoTable, Before::Earliest, Before::Tables, Before::Answers] {
            let mut calls = 0;
            while asked_meanwhile(stands, before, calls).await {
                calls += 1;
            }
            println!("{stands:?}, before: {before:?}: {calls} calls");
            assert!(calls > 0, "a question makes calls");
        }
    }
}

/// The negative control: if the cut between files and tail is one offset off, in either direction, this must show.
#[tokio::test(start_paused = true)]
async fn a_cut_that_is_off_by_one_is_found() {
    let mut world = World::new(23);
    for seconds in 0..30 {
        let device = format!("d{}", seconds % 5);
        world.send(&device, r#"{"temp":1}"#, seconds, Fate::Readings(1)).await;
    }
    drain(&world).await.unwrap();
    let committed = world.book.ends();
    for seconds in 30..60 {
        let device = format!("d{}", seconds % 5);
        world.send(&device, r#"{"temp":1}"#, seconds, Fate::Readings(1)).await;
    }
    for by in [-1, 0, 1] {
        let log = SkewedLog::by(Arc::new(world.log.clone()), committed.clone(), by);
        let view = View::open(&world.stream, log, &world.calm(), 1).await;
        let flaw = view.flaw(&world.book).await.unwrap_or_default();
        println!("{by:+}: {flaw}");
        // Too much reaches further than anything that was sent.
        let expected = ["offsets are wrong among", "", "nobody sent all"][usize::try_from(by + 1).unwrap()];
        assert!(flaw.contains(expected) && flaw.is_empty() == (by == 0), "{by}: {flaw}");
    }
}

/// What a session says of a table whose log was made anew, and has so many messages now.
async fn with_another_log(messages: i64, is_warm: bool) {
    let context = format!("{messages} messages in the other log, warm: {is_warm}");
    let mut world = gaps::one(25, 10).await;
    drain(&world).await.unwrap();
    let committed = world.book.ends();
    gaps::send(&mut world, 10..15).await;
    let view = view(&world).await;
    if is_warm {
        assert_exact(&view, &world, &context).await;
    }
    world.log.recreate();
    for seconds in 1_000..1_000 + messages {
        world.log.put(&world.topic(), vec![message("d1", r#"{"b":1}"#, seconds)]).await;
    }
    let files = view.rows(Side::Readings, "true", TailUse::Off).await.unwrap();
    assert_eq!(world.book.judge(Side::Readings, &committed, &files).await, Ok(committed), "{context}");
    match view.rows(Side::Readings, "true", TailUse::Follow).await {
        Ok(found) => assert_eq!(found, files, "{context}"),
        Err(error) => assert!(error.to_string().contains("log"), "{context}: {error}"),
    }

    // Somebody accepts it: then it is the tables' own, with everything that comes.
    gaps::accept(&world).await;
    for expected in [10 + messages, 13 + messages] {
        let rows = view.number("select count(*) from telemetry", TailUse::Follow).await;
        assert_eq!(rows.unwrap_or_else(|error| panic!("{context}: {error}")), expected, "{context}");
        for seconds in 2_000..2_003 {
            world.log.put(&world.topic(), vec![message("d1", r#"{"b":1}"#, seconds)]).await;
        }
    }
}

/// Before anything is committed: as many messages as before in the other log, fewer, and more.
#[tokio::test(start_paused = true)]
async fn nothing_is_learned_from_a_log_that_is_gone() {
    for others in [1, 2, 5] {
        let world = gaps::one(26, 0).await;
        for (seconds, payload) in [(1, r#"{"mood":"low","gone":1}"#), (2, r#"{"mood":"high"}"#)] {
            world.log.put(&world.topic(), vec![message("d1", payload, seconds)]).await;
        }
        let view = view(&world).await;
        let high = view.number("select count(*) from telemetry where mood = 'high'", TailUse::Follow).await;
        assert_eq!(high.unwrap(), 1, "{others}");
        world.log.recreate();
        for seconds in 0..others {
            world.log.put(&world.topic(), vec![message("d1", r#"{"mood":5}"#, seconds)]).await;
        }
        let five = view.number("select count(*) from telemetry where mood = 5", TailUse::Follow).await;
        assert_eq!(five.unwrap(), others, "{others}");
        let gone = view.number("select count(gone) from telemetry", TailUse::Follow).await;
        assert!(gone.is_err(), "{others}: {gone:?}");
    }
}

/// Shorter than what is committed, shorter and longer than what was seen.
#[tokio::test(start_paused = true)]
async fn rows_of_another_log_are_never_taken_for_this_ones() {
    for messages in [0, 5, 10, 12, 15, 40] {
        for is_warm in [false, true] {
            with_another_log(messages, is_warm).await;
        }
    }
}
