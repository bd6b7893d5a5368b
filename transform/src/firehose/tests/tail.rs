//! What a query sees through the tail while everything else happens: each message once, from its acknowledgement on, for ever.

mod histories;
mod kafka;
mod load;
mod steps;

use crate::simulation::world::World;
use fastrand::Rng;
use load::{Load, Logs, Pace};
use millstream_log::Log;
use millstream_log::embedded::{EmbeddedLog, EmbeddedSettings};
use object_store::memory::InMemory;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The program is started so often on the same log and the same tables.
const LIVES: usize = 3;

/// Questions of a life: together thousands, in about three minutes on two cores in a development build.
const PACE: Pace = Pace { questions: 700, askers: 4, devices: 3 };

/// The seed of everything that is left to chance in a test, but for who is faster.
fn seed(test: &str) -> u64 {
    let seed =
        std::env::var("MILLSTREAM_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    println!("{test}: MILLSTREAM_SEED={seed}");
    seed
}

/// Small segments, so that what is committed is trimmed.
fn log_settings() -> EmbeddedSettings {
    EmbeddedSettings {
        partitions: 3,
        segment_bytes: 16 * 1024,
        reserve_bytes: 0,
        ..EmbeddedSettings::default()
    }
}

/// Two firehoses over the same partitions, killed again and again, new columns, a compactor, trimming; and then the same in the next life of the program.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_asks_under_load_sees_each_acknowledged_message_once() {
    let mut rng = Rng::with_seed(seed("the tail under load"));
    let dir = tempfile::tempdir().unwrap();
    let load = Arc::new(Load::new("telemetry", World::bucket(Arc::new(InMemory::new()))));
    let mut trimmed = false;
    for _ in 0..LIVES {
        let log = EmbeddedLog::open(dir.path(), log_settings()).await.unwrap();
        let shared: Arc<dyn Log> = Arc::new(log.clone());
        let firehoses = vec![Arc::clone(&shared), Arc::clone(&shared)];
        let logs = Logs { devices: Arc::clone(&shared), firehoses, asked: Arc::clone(&shared) };
        let questions = std::env::var("MILLSTREAM_TAIL_QUESTIONS");
        let questions = questions.map_or(PACE.questions, |text| text.parse().unwrap());
        load.live(&logs, Pace { questions, ..PACE }, &mut rng).await;
        load.settle(&logs).await;
        load.say();
        for partition in shared.partitions(&load.stream.name.log_topic()).await.unwrap() {
            trimmed |= shared.bounds(&partition).await.unwrap().first.0 > 0;
        }
        drop((logs, shared));
        log.close().await.unwrap();
    }
    load.say();
    assert!(trimmed, "nothing was trimmed");
    assert!(load.from_tail.load(Ordering::SeqCst) > 0, "no answer had a row of the tail");
}
