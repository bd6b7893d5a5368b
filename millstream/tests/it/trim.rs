//! What Kafka holds of messages that are in their table.

use crate::gaps::bounds;
use crate::mqtt::{Device, Version};
use crate::program::Home;
use crate::stage::Stage;
use millstream_services::{Service, Services};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use serde_json::json;
use tokio::runtime::Runtime;

const TOPIC: &str = "millstream.telemetry";
const MESSAGES: usize = 50;

/// A whole Millstream on a Kafka of its own.
struct Plant {
    home: Home,
    kafka: Services,
}

impl Plant {
    fn new(test: &str, kafka: &str) -> Option<Self> {
        let services = Services::own(test, &[Service::Kafka])?;
        let home = Home::with(&format!(
            "[gateway]\nlisten = \"127.0.0.1:0\"\n[kafka]\nbrokers = {:?}\npartitions = 2\n{kafka}\n\
             [[stream]]\nname = \"telemetry\"\ntopic = \"devices/{{device_id}}/telemetry\"\n\
             files = {{ close_idle = \"200ms\", close_after = \"1s\" }}\n",
            services.kafka
        ));
        Some(Self { home, kafka: services })
    }

    /// Messages come, and are in the table when this ends.
    fn publish(&self, expected: usize) {
        let up = Stage::start(&mut self.home.command(["up"]));
        up.ready();
        for device in 0..4 {
            let mut connection = Device::connect(up.devices(), Version::V5, &format!("client-{device}"));
            for value in 0..MESSAGES {
                connection.send(
                    &format!("devices/d{device}/telemetry"),
                    format!("{{\"value\":{value}}}").as_bytes(),
                );
            }
            connection.all_acknowledged();
        }
        up.drain();
        assert_eq!(self.home.value("select count(*) from telemetry"), json!(expected));
    }

    fn bounds(&self) -> Vec<(i64, i64)> {
        bounds(&self.kafka.kafka, TOPIC)
    }

    fn retention(&self, topic: &str) -> String {
        let admin: AdminClient<DefaultClientContext> =
            ClientConfig::new().set("bootstrap.servers", &self.kafka.kafka).create().unwrap();
        let name = ResourceSpecifier::Topic(topic);
        let described =
            Runtime::new().unwrap().block_on(admin.describe_configs([&name], &AdminOptions::new()));
        let described = described.unwrap().remove(0).unwrap();
        described.get("retention.ms").unwrap().value.clone().unwrap()
    }
}

/// All but the last record of each partition is gone, by which the log is recognised; and a restart goes on from there.
#[test]
fn what_is_committed_is_trimmed_and_nothing_else() {
    let Some(plant) = Plant::new("trim::what_is_committed_is_trimmed_and_nothing_else", "") else { return };
    for round in 1..=2 {
        plant.publish(round * 4 * MESSAGES);
        let bounds = plant.bounds();
        let total: i64 = bounds.iter().map(|(_, next)| next).sum();
        assert_eq!(usize::try_from(total).unwrap(), round * 4 * MESSAGES, "{bounds:?}");
        for (first, next) in bounds {
            assert_eq!(first, (next - 1).max(0), "round {round}");
        }
    }
    assert_eq!(plant.retention(TOPIC), "-1");
    assert_eq!(plant.retention("millstream.notices"), "86400000");
}

#[test]
fn everything_is_kept_where_that_is_wanted() {
    let test = "trim::everything_is_kept_where_that_is_wanted";
    let Some(plant) = Plant::new(test, "keep = \"all\"") else { return };
    plant.publish(4 * MESSAGES);
    let bounds = plant.bounds();
    assert!(bounds.iter().all(|(first, _)| *first == 0), "{bounds:?}");
}
