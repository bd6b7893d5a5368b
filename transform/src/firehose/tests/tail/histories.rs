//! The commit protocol's random histories, asked at every step: the store fails, lies and delays, workers stall, fight and die, and the view is exact all the same.
//!
//! `MILLSTREAM_MODEL_CASES` and `MILLSTREAM_MODEL_SEED` count here as in the model itself.

use super::super::drain;
use super::super::model::{Kind, live, number, watched};
use crate::simulation::book::Book;
use crate::simulation::view::View;
use crate::simulation::world::{Fate, World};
use millstream_log::Log;
use millstream_query::TailUse;
use std::sync::Arc;
use tokio::task::JoinSet;

/// As many as take about ten seconds on two cores in a development build: each is asked some thirty times.
const CASES: u64 = 30;

/// Whoever asks sees the store as it is: what it cannot read, it cannot answer, and that is tested elsewhere.
async fn view(world: &World) -> View {
    let log: Arc<dyn Log> = Arc::new(world.log.clone());
    View::open(&world.stream, log, &world.calm(), 1).await
}

/// Asks again and again between the steps of everybody else: nobody waits for it, and it waits for nobody.
async fn keep_asking(view: View, book: Arc<Book>, seed: u64) {
    loop {
        let from = book.ends();
        let seen = view.both(TailUse::Follow).await;
        let seen = seen.unwrap_or_else(|error| panic!("seed {seed}, meanwhile: {error}"));
        match seen.judge(&book, &from).await {
            Ok(reached) => book.raise(&reached),
            Err(flaw) => panic!("seed {seed}, meanwhile: {flaw}"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(700)).await;
    }
}

#[test]
fn whatever_happens_every_answer_has_each_message_once() {
    let cases =
        std::env::var("MILLSTREAM_MODEL_CASES").map_or(CASES, |_| number("MILLSTREAM_MODEL_CASES", CASES));
    live(cases, |seed| async move {
        let mut world = World::new(seed);
        // What nobody ever sent anything to is no table.
        world.send("d1", "{}", 0, Fate::Readings(1)).await;
        world.send("d1", "broken", 0, Fate::Quarantined).await;
        let one = view(&world).await;
        let mut asking = JoinSet::new();
        asking.spawn(keep_asking(view(&world).await, Arc::clone(&world.book), seed));
        let world = watched(world, seed, Kind::Plain, async |world: &World| {
            let flaw = one.flaw(&world.book).await;
            assert_eq!(flaw, None, "seed {seed}");
        })
        .await;
        if let Some(ended) = asking.try_join_next() {
            ended.unwrap();
        }
        asking.abort_all();
        drain(&world).await.unwrap_or_else(|error| panic!("seed {seed}: {error:?}"));
        assert_eq!(one.flaw(&world.book).await, None, "seed {seed}: drained");
        assert_eq!(world.violations().await, Vec::<String>::new(), "seed {seed}");
    });
}
