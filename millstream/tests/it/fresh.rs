//! What was acknowledged is in the next answer: by the real program, with clients that are not ours, in one process and in many, also while some of them are killed.

use crate::foreign::{mosquitto, python, script};
use crate::http::{ask, http, sample, sql};
use crate::mqtt::{Device, Version};
use crate::program::{Home, Row, eventually, run};
use crate::stage::Stage;
use millstream_services::{Service, Services};
use serde_json::{Value, json};
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A file closes when the program ends, and not before: whatever is seen meanwhile comes from the log.
const AT_THE_END: &str = r#"
[[stream]]
name = "telemetry"
topic = "devices/{device_id}/telemetry"
files = { close_after = "1h", close_idle = "1h" }
"#;

/// Files close all the time, and are merged all the time.
const ALL_THE_TIME: &str = r#"
[upkeep]
every = "1s"
[[stream]]
name = "telemetry"
topic = "devices/{device_id}/telemetry"
files = { close_after = "200ms", close_idle = "100ms" }
"#;

/// Each row of the table once, and how many rows there are.
const COUNTS: &str = "select sum(n) as n, count(*) as places from \
    (select count(*) as n from telemetry group by _partition, _offset, _index)";

/// Publishes one message at QoS 1 and returns when it is acknowledged.
fn publish_by_mosquitto(program: &Path, address: SocketAddr, device: &str, payload: &str) {
    let topic = format!("devices/{device}/telemetry");
    let port = address.port().to_string();
    let mut command = Command::new(program);
    command.args(["-h", "127.0.0.1", "-p", &port, "-V", "mqttv5", "-q", "1", "-t", &topic, "-m", payload]);
    run(&mut command, b"").good();
}

/// The rows of one answer of the command line; none where the table is not there.
fn committed(home: &Home, query: &str) -> Vec<Row> {
    let answer = home.run(&["sql", "--no-tail", "--format", "json", "-c", query]);
    if answer.status.success() { serde_json::from_str(&answer.out).unwrap() } else { Vec::new() }
}

#[test]
fn what_is_acknowledged_is_in_the_very_next_answer() {
    let Some(mosquitto_pub) = mosquitto("mosquitto_pub") else { return };
    let home = Home::with(AT_THE_END);
    let up = home.up();
    for number in 0..3 {
        // Each has a field that no other had before.
        let payload = format!("{{\"number\":{number},\"new{number}\":{number}}}");
        publish_by_mosquitto(&mosquitto_pub, up.address(), "d1", &payload);
        let rows = home.sql("select number from telemetry order by number");
        assert_eq!(rows.len(), number + 1, "{rows:?}");
        let own = home.value(&format!("select count(*) from telemetry where new{number} = {number}"));
        assert_eq!(own, 1);
        let rows = sql(http(&up), COUNTS);
        assert_eq!(rows, json!([{ "n": number + 1, "places": number + 1 }]));
    }
    publish_by_mosquitto(&mosquitto_pub, up.address(), "d2", "{\"number\":");
    let bad = "select device_id, reason, encode(payload, 'hex') as payload from quarantine";
    let expected = json!([{ "device_id": "d2", "reason": "not_json", "payload": "7b226e756d626572223a" }]);
    assert_eq!(json!(home.sql(bad)), expected);

    // Nothing of it is in files.
    assert!(committed(&home, "select 1 from telemetry").is_empty());
    assert!(committed(&home, "select 1 from quarantine").is_empty());
    let (status, body) =
        ask(http(&up), "POST /v1/sql?tail=off", &["accept: application/json"], "select 1 from telemetry");
    assert!(status != 200 || body.trim() == "[]", "{status}: {body}");
    let said = home.run(&["sql", "-c", "select * from telemetry"]).good();
    assert!(said.err.contains("tail"), "{}", said.err);

    let before = home.sql("select * from telemetry order by number");
    up.drain();
    assert_eq!(home.sql("select * from telemetry order by number"), before);
    assert_eq!(committed(&home, "select * from telemetry order by number"), before);
    assert_eq!(json!(committed(&home, bad)), expected);
}

#[test]
fn what_paho_has_an_acknowledgement_of_is_in_the_very_next_answer() {
    let Some(python) = python() else { return };
    let home = Home::with(AT_THE_END);
    let up = home.up();
    for version in ["3.1.1", "5"] {
        let device = format!("paho-{version}");
        let mut command = Command::new(&python);
        command.arg(script("publish.py")).args(["messages", "--mqtt", version, "--client-id", &device]);
        command.args(["--port", &up.port(), "--topic", &format!("devices/{device}/telemetry"), "--qos", "1"]);
        run(&mut command, b"").good();
        let rows = home.sql(&format!("select n from telemetry where device_id = '{device}' order by n"));
        assert_eq!(json!(rows), json!([{ "n": 0.0 }, { "n": 1.0 }, { "n": 2.0 }]));
    }
    up.drain();
}

/// What a restart finds in the log is visible before it is committed, and what was visible stays.
#[test]
fn a_kill_takes_nothing_out_of_sight() {
    let home = Home::with(AT_THE_END);
    let up = home.up();
    let mut device = Device::connect(up.address(), Version::V5, "d1");
    for number in 0..20 {
        device.publish("devices/d1/telemetry", format!("{{\"number\":{number}}}"));
    }
    assert_eq!(sql(http(&up), COUNTS), json!([{ "n": 20, "places": 20 }]));
    up.kill();
    let up = home.up();
    assert_eq!(sql(http(&up), COUNTS), json!([{ "n": 20, "places": 20 }]));
    up.drain();
    assert_eq!(home.value("select count(*) from telemetry"), 20);
}

/// Messages of a device, one after the other, until it is told to stop. What was acknowledged is counted as soon as it is.
fn publish_on(address: SocketAddr, device: usize, acknowledged: &AtomicU64, stop: &AtomicBool) {
    let mut connection = Device::connect(address, Version::V5, &format!("client-{device}"));
    let topic = format!("devices/d{device}/telemetry");
    for number in 0.. {
        if stop.load(Ordering::SeqCst) {
            return;
        }
        connection.publish(&topic, format!("{{\"number\":{number}}}"));
        acknowledged.fetch_add(1, Ordering::SeqCst);
    }
}

/// Asks whoever answers, in turn, so many times: never less than what was acknowledged before the question, never less than what was seen before, nothing twice.
fn ask_on(servers: &[SocketAddr], times: usize, acknowledged: &AtomicU64, mut meanwhile: impl FnMut(usize)) {
    let mut seen = 0;
    for time in 0..times {
        meanwhile(time);
        let least = acknowledged.load(Ordering::SeqCst).max(seen);
        let answer = sql(servers[time % servers.len()], COUNTS);
        let value = |name: &str| answer[0][name].as_u64().unwrap();
        assert!(value("n") >= least, "answer {time}: {answer}, and {least} were there before");
        assert_eq!(value("n"), value("places"), "answer {time}: something is there twice");
        seen = value("n");
    }
    let all = acknowledged.load(Ordering::SeqCst);
    writeln!(std::io::stderr(), "{times} questions, {seen} rows in the last answer, {all} acknowledged")
        .unwrap();
}

#[test]
fn no_answer_has_less_than_one_before_while_files_are_committed() {
    let home = Home::with(&format!("[log]\npartitions = 2\nsegment_size = \"1MiB\"\n{ALL_THE_TIME}"));
    let up = home.up();
    let (acknowledged, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for device in 0..2 {
            let (acknowledged, stop, address) = (&acknowledged, &stop, up.address());
            scope.spawn(move || publish_on(address, device, acknowledged, stop));
        }
        eventually("the first acknowledgement", || (acknowledged.load(Ordering::SeqCst) > 0).then_some(()));
        let stopped = Stop(&stop);
        ask_on(&[http(&up)], 150, &acknowledged, |_| {});
        drop(stopped);
    });
    let of = "millstream_firehose_commits_total{stream=\"telemetry\"}";
    let commits = sample(http(&up), of);
    assert!(commits.is_none_or(|commits| commits > 1.0), "{commits:?}");
    up.drain();
    assert_eq!(home.value("select count(*) from telemetry"), acknowledged.load(Ordering::SeqCst));
}

/// Tells those who publish to stop, also when a question fails.
struct Stop<'s>(&'s AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A Millstream in parts on a real Kafka, its tables in a directory.
struct Parts {
    home: Home,
    /// Ends with the test.
    _kafka: Services,
}

impl Parts {
    fn new(test: &str, stream: &str) -> Option<Self> {
        let kafka = Services::own(test, &[Service::Kafka])?;
        let home = Home::with(&format!(
            "[gateway]\nlisten = \"127.0.0.1:0\"\n[lake]\ningestion = \"../lake/ingestion\"\nreporting = \"../lake/reporting\"\n\
             [kafka]\nbrokers = {:?}\npartitions = 4\n{stream}",
            kafka.kafka
        ));
        Some(Self { home, _kafka: kafka })
    }

    /// A command with a data directory of its own, as on another machine.
    fn command(&self, arguments: &[&str], number: usize) -> Command {
        let mut command = self.home.command(arguments);
        command
            .env("MILLSTREAM_DATA", self.home.path(&format!("{}-{number}", arguments[0])))
            .env("MILLSTREAM_CONFIG", self.home.data().join("millstream.toml"));
        command
    }

    fn start(&self, stage: &str, number: usize) -> Stage {
        let stage = Stage::start(&mut self.command(&[stage], number));
        stage.ready();
        stage
    }

    /// The rows of an answer of the command line.
    fn sql(&self, more: &[&str], query: &str) -> Value {
        let mut arguments = vec!["sql", "--format", "json", "-c", query];
        arguments.extend(more);
        let answer = run(&mut self.command(&arguments, 0), b"").good();
        serde_json::from_str(&answer.out).unwrap()
    }
}

/// Nobody carries anything to files: no firehose runs yet. Two collect, two serve.
#[test]
fn on_kafka_what_any_process_acknowledged_every_process_answers() {
    let test = "fresh::on_kafka_what_any_process_acknowledged_every_process_answers";
    let (Some(parts), Some(mosquitto_pub)) = (Parts::new(test, AT_THE_END), mosquitto("mosquitto_pub"))
    else {
        return;
    };
    let collects = [parts.start("collect", 0), parts.start("collect", 1)];
    let serves = [parts.start("serve", 0), parts.start("serve", 1)];
    let addresses = serves.each_ref().map(Stage::http);
    for number in 0..6 {
        let payload = format!("{{\"number\":{number},\"new{number}\":{number}}}");
        let device = format!("d{number}");
        publish_by_mosquitto(&mosquitto_pub, collects[number % 2].devices(), &device, &payload);
        for address in addresses {
            assert_eq!(sql(address, COUNTS), json!([{ "n": number + 1, "places": number + 1 }]));
            let own = format!("select device_id from telemetry where new{number} = {number}");
            assert_eq!(sql(address, &own), json!([{ "device_id": device }]));
        }
    }
    publish_by_mosquitto(&mosquitto_pub, collects[0].devices(), "bad", "{\"number\":");
    let bad = "select device_id, reason from quarantine";
    let quarantined = json!([{ "device_id": "bad", "reason": "not_json" }]);
    assert_eq!(sql(addresses[0], bad), quarantined);
    assert_eq!(sql(addresses[1], bad), quarantined);

    // The command line through a server, and by itself.
    let all = json!([{ "n": 6, "places": 6 }]);
    assert_eq!(parts.sql(&["--server", &format!("http://{}", addresses[1])], COUNTS), all);
    assert_eq!(parts.sql(&[], COUNTS), all);
    assert_eq!(parts.sql(&[], bad), quarantined);

    collects.into_iter().for_each(Stage::drain);
    parts.start("firehose", 0).drain();
    for address in addresses {
        assert_eq!(sql(address, COUNTS), all);
        assert_eq!(sql(address, bad), quarantined);
    }
    assert_eq!(parts.sql(&["--no-tail"], COUNTS), all);
    assert_eq!(parts.sql(&["--no-tail"], bad), quarantined);
    serves.into_iter().for_each(Stage::drain);
}

/// Two of each stage; each firehose is killed in turn, and started again, while both servers are asked.
#[test]
fn no_answer_has_less_than_one_before_while_firehoses_are_killed() {
    let test = "fresh::no_answer_has_less_than_one_before_while_firehoses_are_killed";
    let Some(parts) = Parts::new(test, ALL_THE_TIME) else { return };
    let serves = [parts.start("serve", 0), parts.start("serve", 1)];
    let collects = [parts.start("collect", 0), parts.start("collect", 1)];
    let mut firehoses = [Some(parts.start("firehose", 0)), Some(parts.start("firehose", 1))];
    let addresses = serves.each_ref().map(Stage::http);
    let (acknowledged, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for device in 0..4 {
            let (acknowledged, stop, address) = (&acknowledged, &stop, collects[device % 2].devices());
            scope.spawn(move || publish_on(address, device, acknowledged, stop));
        }
        eventually("the first acknowledgement", || (acknowledged.load(Ordering::SeqCst) > 0).then_some(()));
        let stopped = Stop(&stop);
        ask_on(&addresses, 160, &acknowledged, |time| {
            let number = time / 40 % 2;
            if time % 40 == 20 {
                firehoses[number].take().unwrap().kill();
            } else if time % 40 == 30 {
                firehoses[number] = Some(parts.start("firehose", number));
            }
        });
        drop(stopped);
    });
    let total = acknowledged.load(Ordering::SeqCst);
    let all = json!([{ "n": total, "places": total }]);
    assert_eq!(sql(addresses[0], COUNTS), all);
    collects.into_iter().for_each(Stage::drain);
    // Who was started last may be without a share: told to stop, it would leave what nobody else has yet.
    let owned = "millstream_firehose_owned_partitions{stream=\"telemetry\"}";
    eventually("the partitions are shared out", || {
        let shares =
            firehoses.iter().flatten().map(|firehose| sample(firehose.http(), owned).unwrap_or_default());
        let shares: Vec<f64> = shares.collect();
        (shares.iter().sum::<f64>() == 4.0 && !shares.contains(&0.0)).then_some(())
    });
    firehoses.into_iter().flatten().for_each(Stage::drain);
    assert_eq!(sql(addresses[1], COUNTS), all);
    assert_eq!(parts.sql(&["--no-tail"], COUNTS), all);
    serves.into_iter().for_each(Stage::drain);
}
