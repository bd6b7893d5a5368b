//! Stages in processes of their own, on a real Kafka: two of each do what one process does.

use crate::http::{get, sample, sql};
use crate::mqtt::{Device, Version};
use crate::program::{Home, Row, eventually};
use crate::stage::Stage;
use millstream_services::{Service, Services};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::process::Command;

/// What all processes share. Reports are looked after often, beside the notices.
const STREAMS: &str = r#"
[reports]
sweep = "5s"

[[stream]]
name  = "telemetry"
topic = "devices/{device_id}/telemetry"
files = { close_idle = "200ms", close_after = "1s" }

[[report]]
name         = "counts"
sql          = "select date, device_id, count(*) as readings, sum(value) as total from telemetry group by 1, 2"
partition_by = "date"
"#;

/// Everything that was published, without where it stood in the log.
const READINGS: &str = "select device_id, ts, value from telemetry order by device_id, ts";
const REPORT: &str = "select device_id, readings, total from reporting.counts order by 1";

const DEVICES: usize = 6;
const EACH: usize = 50;

/// Publishes what device number `n` has to say, and returns when all is acknowledged.
fn publish(device: usize, address: SocketAddr) {
    let mut connection = Device::connect(address, Version::V5, &format!("client-{device}"));
    for reading in 0..EACH {
        let payload = format!(
            "{{\"ts\":\"2026-01-01T00:{:02}:{:02}Z\",\"value\":{}}}",
            reading / 60,
            reading % 60,
            device * 1000 + reading
        );
        connection.send(&format!("devices/d{device}/telemetry"), payload.as_bytes());
    }
    connection.all_acknowledged();
}

/// A Millstream in parts.
struct Parts {
    home: Home,
    kafka: Services,
}

impl Parts {
    fn new(test: &str) -> Option<Self> {
        let kafka = Services::own(test, &[Service::Kafka])?;
        let home = Home::with(&format!(
            "[gateway]\nlisten = \"127.0.0.1:0\"\n[lake]\ningestion = \"../lake/ingestion\"\nreporting = \"../lake/reporting\"\n\
             [kafka]\nbrokers = {:?}\npartitions = 4\n{STREAMS}",
            kafka.kafka
        ));
        Some(Self { home, kafka })
    }

    /// A stage with a data directory of its own.
    fn start(&self, stage: &str, number: usize) -> Stage {
        let stage = Stage::start(&mut self.command(stage, number));
        stage.ready();
        stage
    }

    fn command(&self, stage: &str, number: usize) -> Command {
        let mut command = self.home.command([stage]);
        command
            .env("MILLSTREAM_DATA", self.home.path(&format!("{stage}-{number}")))
            .env("MILLSTREAM_CONFIG", self.home.data().join("millstream.toml"));
        command
    }
}

/// The same readings through one process with nothing else installed.
fn by_up() -> (Vec<Row>, Vec<Row>) {
    let home = Home::with(STREAMS);
    let up = home.up();
    (0..DEVICES).for_each(|device| publish(device, up.address()));
    up.drain();
    (home.sql(READINGS), home.sql(REPORT))
}

#[test]
fn two_of_each_stage_give_what_one_process_gives() {
    let Some(parts) = Parts::new("two_of_each_stage_give_what_one_process_gives") else { return };
    let serve = parts.start("serve", 0);
    let collects = [parts.start("collect", 0), parts.start("collect", 1)];
    let firehoses = [parts.start("firehose", 0), parts.start("firehose", 1)];
    let processes = [parts.start("process", 0), parts.start("process", 1)];
    let owned = "millstream_firehose_owned_partitions{stream=\"telemetry\"}";
    eventually("the partitions are shared out", || {
        let shares = firehoses.each_ref().map(|firehose| sample(firehose.http(), owned).unwrap_or_default());
        (shares == [2.0, 2.0]).then_some(())
    });

    (0..DEVICES).for_each(|device| publish(device, collects[device % 2].devices()));
    let total = (DEVICES * EACH) as u64;
    let is = |query: &str, expected: &Value| {
        eventually(query, || (sql(serve.http(), query) == *expected).then_some(()));
    };
    // A table that is not there yet cannot be asked.
    eventually("the first commits", || {
        (get(serve.http(), "/readyz").0 == 200
            && parts.home.path("lake/reporting/counts/_delta_log/00000000000000000000.json").exists())
        .then_some(())
    });
    is("select count(*) as n from telemetry", &json!([{ "n": total }]));
    is("select sum(readings) as n from reporting.counts", &json!([{ "n": total }]));
    let places =
        sql(serve.http(), "select count(distinct (_partition, _offset, _index)) as n from telemetry");
    assert_eq!(places, json!([{ "n": total }]));
    let (readings, report) = by_up();
    assert_eq!(sql(serve.http(), READINGS), json!(readings));
    assert_eq!(sql(serve.http(), REPORT), json!(report));

    let acknowledged = "millstream_gateway_acknowledged_messages_total";
    let each = collects.each_ref().map(|collect| sample(collect.http(), acknowledged).unwrap());
    assert_eq!(each, [(total / 2) as f64; 2]);
    let stages = collects.into_iter().chain(firehoses).chain(processes).chain([serve]);
    stages.for_each(Stage::drain);
}

#[test]
fn a_stage_is_not_ready_while_kafka_stands_still() {
    let Some(parts) = Parts::new("a_stage_is_not_ready_while_kafka_stands_still") else { return };
    let stages = [parts.start("collect", 0), parts.start("firehose", 0)];
    let serve = parts.start("serve", 0);
    parts.kafka.stop(Service::Kafka);
    for (stage, name) in stages.iter().zip(["collect", "firehose"]) {
        let body = eventually("it says that it is not ready", || {
            Some(stage.get("/readyz")).filter(|(status, _)| *status == 503).map(|(_, body)| body)
        });
        let said: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(said["stages"][name]["ready"], false, "{said}");
        assert!(said["stages"][name]["reasons"].to_string().contains("the log"), "{said}");
        assert_eq!(stage.get("/healthz").0, 200);
        let ready = format!("millstream_stage_ready{{stage=\"{name}\"}}");
        assert_eq!(sample(stage.http(), &ready), Some(0.0));
    }
    // It still answers for committed files.
    eventually("serve says what it cannot do", || {
        let (status, body) = serve.get("/readyz");
        let said: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, &said["stages"]["serve"]["ready"]), (200, &json!(true)), "{said}");
        said["stages"]["serve"]["troubles"].to_string().contains("the log").then_some(())
    });
    serve.drain();
    parts.kafka.cont(Service::Kafka);
    stages.iter().for_each(Stage::ready);
    let [collect, firehose] = stages;
    publish(0, collect.devices());
    firehose.drain();
    let count = "select count(*) as n from telemetry";
    assert_eq!(json!(parts.home.sql(count)), json!([{ "n": EACH }]));

    // What nobody carries to files is in an answer all the same.
    publish(1, collect.devices());
    let said = parts.home.run(&["sql", "-c", count]).good();
    assert!(said.out.contains(&format!(" {} ", 2 * EACH)), "{}", said.out);
    assert!(said.err.contains(&format!("{EACH} rows from the tail, complete to ")), "{}", said.err);
    let said = parts.home.run(&["sql", "--no-tail", "-c", count]).good();
    assert!(said.out.contains(&format!(" {EACH} ")), "{}", said.out);
    collect.drain();
    parts.start("firehose", 1).drain();
    assert_eq!(json!(parts.home.sql(count)), json!([{ "n": 2 * EACH }]));
}

#[test]
fn a_stage_alone_needs_a_log_that_others_reach() {
    let home = Home::new();
    for stage in ["collect", "firehose", "process"] {
        let said = home.run(&[stage]).refused();
        assert!(
            said.contains(&format!("`{stage}` alone needs a log"))
                && said.contains("MILLSTREAM__KAFKA__BROKERS"),
            "{said}"
        );
    }
    let said = home.run(&["up", "--accept-gap", "telemetri"]).refused();
    assert!(said.contains("there is no such stream") && said.contains("telemetry"), "{said}");
}

#[test]
fn kafka_that_is_not_there_is_named() {
    let home = Home::with("[kafka]\nbrokers = \"127.0.0.1:1\"\n");
    let said = home.run(&["collect"]).refused();
    assert!(said.contains("failed to open the log on Kafka at 127.0.0.1:1"), "{said}");
}
