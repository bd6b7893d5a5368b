//! What Kafka lost before it was committed: refused in words that say what to do, given up by a person only, and seen afterwards.

use crate::http::{http, sample};
use crate::mqtt::{Device, Version};
use crate::program::{DEADLINE, Home, Row, Up, eventually};
use crate::stage::Stage;
use millstream_services::{Service, Services};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use serde_json::{Value, json};
use std::fs;
use tokio::runtime::Runtime;

const STREAM: &str = r#"
[[stream]]
name  = "telemetry"
topic = "devices/{device_id}/telemetry"
files = { close_idle = "200ms", close_after = "1s" }
"#;

const TOPIC: &str = "millstream.telemetry";
const DEVICES: usize = 6;
const EACH: usize = 40;

/// First and next offset of each partition of a topic, as Kafka says.
pub(crate) fn bounds(brokers: &str, topic: &str) -> Vec<(i64, i64)> {
    let consumer: BaseConsumer = client(brokers).set("group.id", "bounds").create().unwrap();
    let metadata = consumer.fetch_metadata(Some(topic), DEADLINE).unwrap();
    let partitions = metadata.topics()[0].partitions().len();
    let of =
        |partition| consumer.fetch_watermarks(topic, i32::try_from(partition).unwrap(), DEADLINE).unwrap();
    (0..partitions).map(of).collect()
}

/// All that a topic holds.
pub(crate) fn payloads(brokers: &str, topic: &str) -> Vec<String> {
    let consumer: BaseConsumer = client(brokers).set("group.id", "payloads").create().unwrap();
    let (mut all, mut count) = (TopicPartitionList::new(), 0);
    for (partition, (first, next)) in bounds(brokers, topic).into_iter().enumerate() {
        all.add_partition_offset(topic, i32::try_from(partition).unwrap(), Offset::Beginning).unwrap();
        count += next - first;
    }
    consumer.assign(&all).unwrap();
    let payload = |_| {
        // What passes is told like a message.
        let message = eventually("a message", || consumer.poll(DEADLINE).expect("the topic holds more").ok());
        String::from_utf8(message.payload().unwrap().to_vec()).unwrap()
    };
    (0..count).map(payload).collect()
}

fn client(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers);
    config
}

/// The stages apart, on a Kafka of their own, and tables in a directory.
struct Plant {
    home: Home,
    kafka: Services,
}

impl Plant {
    fn new(test: &str, stream: &str) -> Option<Self> {
        let kafka = Services::own(test, &[Service::Kafka])?;
        let home = Home::with(&format!(
            "[gateway]\nlisten = \"127.0.0.1:0\"\n[lake]\ningestion = \"../lake/ingestion\"\nreporting = \"../lake/reporting\"\n\
             [kafka]\nbrokers = {:?}\npartitions = 2\nkeep = \"all\"\n{stream}",
            kafka.kafka
        ));
        Some(Self { home, kafka })
    }

    fn stage(&self, arguments: &[&str]) -> Stage {
        let stage = Stage::start(&mut self.home.command(arguments));
        stage.ready();
        stage
    }

    /// A collector comes, takes so many messages of each device, with values from `first` on, and goes.
    fn publish(&self, first: usize, count: usize) {
        let collect = self.stage(&["collect"]);
        for device in 0..DEVICES {
            let mut connection = Device::connect(collect.devices(), Version::V5, &format!("client-{device}"));
            for value in first..first + count {
                connection.send(
                    &format!("devices/d{device}/telemetry"),
                    format!("{{\"value\":{value}}}").as_bytes(),
                );
            }
            connection.all_acknowledged();
        }
        collect.drain();
    }

    /// A firehose comes, commits what the log holds, and goes.
    fn commit(&self) {
        self.stage(&["firehose"]).drain();
    }

    fn refused(&self) -> String {
        self.home.run(&["firehose"]).refused()
    }

    fn bounds(&self) -> Vec<(i64, i64)> {
        bounds(&self.kafka.kafka, TOPIC)
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        client(&self.kafka.kafka).create().unwrap()
    }

    /// Kafka forgets the older half of what a partition holds behind an offset. Returns the oldest offset that is left.
    fn forget(&self, partition: usize, behind: i64) -> i64 {
        let (_, next) = self.bounds()[partition];
        let first = behind + (next - behind) / 2;
        assert!(behind < first && first < next, "{behind} {first} {next}");
        let mut before = TopicPartitionList::new();
        let number = i32::try_from(partition).unwrap();
        before.add_partition_offset(TOPIC, number, Offset::Offset(first)).unwrap();
        let done = self.admin();
        let done = Runtime::new().unwrap().block_on(done.delete_records(&before, &AdminOptions::new()));
        done.unwrap().elements().iter().for_each(|element| element.error().unwrap());
        assert_eq!(self.bounds()[partition], (first, next));
        first
    }

    /// Somebody deletes the topic; the next who asks for it gets a new one.
    fn delete(&self) {
        let options = AdminOptions::new().operation_timeout(Some(DEADLINE));
        let (admin, runtime) = (self.admin(), Runtime::new().unwrap());
        for deleted in runtime.block_on(admin.delete_topics(&[TOPIC], &options)).unwrap() {
            deleted.unwrap();
        }
        // The controller has decided it; who asks the broker still sees the topic for a moment.
        let consumer: BaseConsumer = client(&self.kafka.kafka).create().unwrap();
        eventually("the topic is gone", || {
            let all = consumer.fetch_metadata(None, DEADLINE).ok()?;
            all.topics().iter().all(|topic| topic.name() != TOPIC).then_some(())
        });
    }

    /// What an answer says that cannot have what waits in the log.
    fn unanswered(&self) -> String {
        self.home.run(&["sql", "-c", "select count(*) from telemetry"]).refused()
    }

    /// Where the rows in files come from, sorted.
    fn places(&self) -> Vec<(usize, i64)> {
        let query = "select _partition, _offset from telemetry order by 1, 2";
        let answer = self.home.run(&["sql", "--no-tail", "--format", "json", "-c", query]).good();
        let rows: Vec<Row> = serde_json::from_str(&answer.out).unwrap();
        let number = |row: &Row, name: &str| row[name].as_i64().unwrap();
        let place = |row| (usize::try_from(number(row, "_partition")).unwrap(), number(row, "_offset"));
        rows.iter().map(place).collect()
    }

    /// What the table's property and its commits say of gaps, without when they were accepted: both the same.
    fn gaps(&self) -> Value {
        let (mut property, mut said) = (json!([]), Vec::new());
        for action in self.actions() {
            if let Some(text) = action["metaData"]["configuration"]["millstream.gaps"].as_str() {
                property = serde_json::from_str(text).unwrap();
            }
            said.extend(action["commitInfo"]["millstreamGaps"].as_array().into_iter().flatten().cloned());
        }
        assert_eq!(property, json!(said));
        for gap in property.as_array_mut().unwrap() {
            let at = gap.as_object_mut().unwrap().remove("accepted_at").unwrap();
            assert!(at.as_str().unwrap().ends_with('Z'), "{at}");
        }
        property
    }

    /// The table's own log, the oldest first.
    fn actions(&self) -> Vec<Value> {
        let log = self.home.path("lake/ingestion/telemetry/_delta_log");
        let mut commits: Vec<_> = fs::read_dir(log).unwrap().map(|entry| entry.unwrap().path()).collect();
        commits.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
        commits.sort();
        let texts = commits.iter().map(|path| fs::read_to_string(path).unwrap());
        let action = |line: &str| serde_json::from_str(line).unwrap();
        texts.flat_map(|text| text.lines().map(action).collect::<Vec<_>>()).collect()
    }

    /// What `millstream tables` says beside the tables.
    fn told(&self) -> String {
        self.home.run(&["tables"]).good().err
    }
}

/// A gap as it is written down.
fn gap(partition: usize, first: i64, last: Option<i64>, why: &str) -> Value {
    json!({ "log_topic": TOPIC, "epoch": 0, "partition": partition, "first": first, "last": last, "why": why })
}

/// The commands that a refusal names, by their arguments.
fn commands(said: &str) -> Vec<Vec<&str>> {
    let quoted = said.split('`').skip(1).step_by(2);
    let commands = quoted.filter_map(|quoted| quoted.strip_prefix("millstream "));
    commands.map(|command| command.split(' ').collect()).collect()
}

/// All places of these partitions, but for a gap in one of them.
fn all_but(bounds: &[(i64, i64)], partition: usize, gap: std::ops::Range<i64>) -> Vec<(usize, i64)> {
    let all = bounds
        .iter()
        .enumerate()
        .flat_map(|(partition, (_, next))| (0..*next).map(move |at| (partition, at)));
    all.filter(|place| place.0 != partition || !gap.contains(&place.1)).collect()
}

/// The partition with the most messages, and how many.
fn fullest(bounds: &[(i64, i64)]) -> (usize, i64) {
    let (partition, bounds) = bounds.iter().enumerate().max_by_key(|(_, (_, next))| next).unwrap();
    (partition, bounds.1)
}

fn accepted(at: std::net::SocketAddr) -> Option<f64> {
    sample(at, "millstream_firehose_accepted_gaps_total{stream=\"telemetry\"}")
}

#[test]
fn what_kafka_forgot_is_refused_until_it_is_given_up_and_all_else_is_a_row_once() {
    let test = "what_kafka_forgot_is_refused_until_it_is_given_up_and_all_else_is_a_row_once";
    let Some(plant) = Plant::new(test, STREAM) else { return };
    plant.publish(0, EACH);
    plant.commit();
    let committed = plant.places();
    assert_eq!(committed.len(), DEVICES * EACH);
    let (partition, wanted) = fullest(&plant.bounds());
    plant.publish(EACH, EACH);
    let first = plant.forget(partition, wanted);

    let said = plant.refused();
    assert!(said.contains(&format!("{TOPIC}/{partition} begins at offset {first}")), "{said}");
    let up = ["up", "--accept-gap", "telemetry"];
    assert_eq!(commands(&said), [up, ["firehose", "--accept-gap", "telemetry"]], "{said}");
    let said = plant.home.run(&["firehose", "--accept-gap", "telemetri"]).refused();
    assert!(said.contains("there is no such stream") && said.contains("telemetry"), "{said}");
    assert_eq!((plant.places(), plant.gaps(), plant.told()), (committed, json!([]), String::new()));
    // No answer passes over it either.
    let said = plant.unanswered();
    assert!(said.contains(&format!("{TOPIC}/{partition} begins at offset {first}")), "{said}");
    assert!(said.contains("millstream doctor") && said.contains("--no-tail"), "{said}");

    let running = Up::start(&mut plant.home.command(up));
    eventually("the gap is accepted", || (accepted(http(&running)) == Some(1.0)).then_some(()));
    running.drain();
    let lost = json!([gap(partition, wanted, Some(first - 1), "trimmed")]);
    assert_eq!(plant.gaps(), lost);
    assert_eq!(plant.places(), all_but(&plant.bounds(), partition, wanted..first));
    let told = plant.told();
    let words = format!("{TOPIC}/{partition}, offsets {wanted} to {}: forgotten by the log", first - 1);
    assert!(
        told.contains("ingestion.telemetry lacks what was lost in 1 accepted gap") && told.contains(&words),
        "{told}"
    );

    plant.publish(2 * EACH, EACH);
    plant.commit();
    assert_eq!(plant.places(), all_but(&plant.bounds(), partition, wanted..first));
    assert_eq!(plant.gaps(), lost);
}

#[test]
fn a_topic_that_was_deleted_and_made_anew_is_refused_until_it_is_taken_for_what_it_is() {
    let test = "a_topic_that_was_deleted_and_made_anew_is_refused_until_it_is_taken_for_what_it_is";
    let Some(plant) = Plant::new(test, STREAM) else { return };
    plant.publish(0, EACH);
    plant.commit();
    let before = plant.bounds();
    plant.delete();
    plant.publish(EACH, 2 * EACH);

    let said = plant.refused();
    assert!(said.contains("is not the one that was committed to table telemetry"), "{said}");
    let firehose = ["firehose", "--accept-gap", "telemetry"];
    assert!(commands(&said).contains(&firehose.to_vec()), "{said}");
    assert_eq!((plant.places().len(), plant.gaps()), (DEVICES * EACH, json!([])));
    let said = plant.unanswered();
    assert!(said.contains("is not the one that was committed") && said.contains("--no-tail"), "{said}");

    let running = plant.stage(&firehose);
    let filled = before.iter().enumerate().filter(|(_, (_, next))| *next > 0);
    let lost: Vec<Value> =
        filled.map(|(partition, (_, next))| gap(partition, *next, None, "other_log")).collect();
    assert_eq!(accepted(running.http()), Some(lost.len() as f64));
    running.drain();
    assert_eq!(plant.gaps(), json!(lost));
    let epochs = plant.actions();
    let epoch = epochs
        .iter()
        .rev()
        .find_map(|action| action["metaData"]["configuration"]["millstream.epoch"].as_str());
    assert_eq!(epoch, Some("1"));
    assert!(plant.told().contains("the log was made anew"), "{}", plant.told());

    plant.publish(3 * EACH, EACH);
    plant.commit();
    let rows =
        plant.home.sql("select device_id, cast(value as bigint) as value from telemetry order by 1, 2");
    let expected = (0..DEVICES).flat_map(|device| {
        (0..4 * EACH).map(move |value| json!({ "device_id": format!("d{device}"), "value": value }))
    });
    assert_eq!(json!(rows), expected.collect::<Value>());
}

#[test]
fn a_stream_may_begin_where_the_log_does_but_what_is_lost_later_is_refused() {
    let test = "a_stream_may_begin_where_the_log_does_but_what_is_lost_later_is_refused";
    let Some(plant) = Plant::new(test, &format!("{STREAM}start = \"earliest\"\n")) else { return };
    plant.publish(0, EACH);
    let (partition, _) = fullest(&plant.bounds());
    let first = plant.forget(partition, 0);
    plant.commit();
    let lost = json!([gap(partition, 0, Some(first - 1), "trimmed")]);
    assert_eq!(plant.gaps(), lost);
    assert_eq!(plant.places(), all_but(&plant.bounds(), partition, 0..first));

    let wanted = plant.bounds()[partition].1;
    plant.publish(EACH, EACH);
    let later = plant.forget(partition, wanted);
    let said = plant.refused();
    assert!(said.contains(&format!("{TOPIC}/{partition} begins at offset {later}")), "{said}");
    assert_eq!(plant.gaps(), lost);
}
