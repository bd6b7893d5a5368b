//! On a real Kafka: those who publish, who commit and who ask are processes of their own, each with its own connection.

use super::load::{Load, Logs, Pace};
use super::seed;
use crate::simulation::world::World;
use fastrand::Rng;
use millstream_log::Log;
use millstream_log::kafka::{KafkaLog, KafkaSettings};
use millstream_services::services;
use object_store::memory::InMemory;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

const PACE: Pace = Pace { questions: 150, askers: 2, devices: 2 };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_asks_on_kafka_sees_each_acknowledged_message_once() {
    let Some(services) = services("the tail on Kafka") else { return };
    let mut rng = Rng::with_seed(seed("the tail on Kafka"));
    let name = services.unique("tail").replace('-', "_");
    let open = async || {
        let settings = KafkaSettings {
            partitions: 3,
            session_timeout: Duration::from_secs(6),
            ..KafkaSettings::new(services.kafka.clone())
        };
        Arc::new(KafkaLog::open(settings).await.unwrap()) as Arc<dyn Log>
    };
    let load = Arc::new(Load::new(&name, World::bucket(Arc::new(InMemory::new()))));
    for _ in 0..2 {
        let firehoses = vec![open().await, open().await];
        let logs = Logs { devices: open().await, firehoses, asked: open().await };
        load.live(&logs, PACE, &mut rng).await;
        load.settle(&logs).await;
    }
    load.say();
    assert!(load.from_tail.load(Ordering::SeqCst) > 0, "no answer had a row of the tail");
}
