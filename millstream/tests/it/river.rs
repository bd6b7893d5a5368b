//! The whole river on real infrastructure: devices, a broker or our gateway, Kafka, MinIO with its own notifications, each stage a process of its own.

use crate::fleet::{self, fleet};
use crate::foreign::{python, script};
use crate::program::{DEADLINE, Ended, Home, Row, Running, eventually, run};
use crate::readers;
use crate::restart::{self, Acknowledged, Outcome};
use crate::stage::Stage;
use millstream_services::{Service, Services, free_port};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// A name is required; a sweep would hide that no notice came.
const CONFIG: &str = r#"
[kafka]
partitions = 3

[lake]
ingestion = "s3://ingestion"
reporting = "s3://reporting"
notices   = "store"

[s3]
path_style = true
allow_http = true

[reports]
sweep = "1h"

[[stream]]
name   = "trucks"
topic  = "fleet/{kind}"
device = "tags.name"
files  = { close_after = "5s", close_idle = "500ms" }

[stream.columns]
tags_name = { type = "string", required = true }

[[report]]
name         = "daily"
partition_by = "date"
sql          = "select date, device_id, count(*) as readings, sum(fields_velocity) as velocity from trucks group by 1, 2"
"#;

/// A Millstream in parts, on services of its own.
pub(crate) struct River {
    pub(crate) services: Services,
    pub(crate) home: Home,
}

impl River {
    pub(crate) fn new(test: &str, config: &str) -> Option<Self> {
        let services = Services::own(test, &[Service::Kafka, Service::Minio, Service::Mosquitto])?;
        Some(Self { services, home: Home::with(config) })
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.home.command(arguments);
        command.envs(self.services.environment()).env("MILLSTREAM__HTTP__LISTEN", "127.0.0.1:0");
        command
    }

    pub(crate) fn stage(&self, name: &str) -> Stage {
        Stage::start(&mut self.command(&[name]))
    }

    #[track_caller]
    pub(crate) fn sql(&self, query: &str) -> Vec<Row> {
        let answer = run(&mut self.command(&["sql", "--format", "json", "-c", query]), b"").good();
        serde_json::from_str(&answer.out).unwrap_or_else(|error| panic!("{error}\n{query}\n{}", answer.out))
    }

    /// Publishes the fleet's readings, and returns how many were acknowledged.
    fn publish(&self, file: &Path, broker: &str, lines: usize) -> u64 {
        let limit = lines.to_string();
        let arguments = [
            "replay",
            "--quiet",
            "--json",
            "--topic",
            "fleet/{measurement}",
            "--clients",
            "4",
            "--in-flight",
            "200",
        ];
        let mut command = self.command(&arguments);
        let Ended { out, .. } =
            run(command.args(["--limit", &limit, "--broker", broker]).arg(file), b"").good();
        let summary: Value = serde_json::from_str(&out).unwrap();
        summary["acknowledged"].as_u64().unwrap()
    }

    /// Asks until the answer is this one.
    #[track_caller]
    pub(crate) fn until(&self, query: &str, expected: &Value) {
        let started = Instant::now();
        loop {
            let answer = run(&mut self.command(&["sql", "--format", "json", "-c", query]), b"");
            if serde_json::from_str::<Value>(&answer.out).is_ok_and(|found| found == *expected) {
                return;
            }
            let last = answer.out + &answer.err;
            assert!(
                started.elapsed() < DEADLINE,
                "waited in vain for {expected}; the last answer to {query}: {last}"
            );
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// What plain Python finds in the file, and DuckDB in the tables.
    fn others(&self, python: &Path, file: &Path, lines: usize) -> Value {
        let mut command = Command::new(python);
        command.arg(script("trucks.py")).arg(file).arg(lines.to_string());
        command
            .args(["s3://ingestion/trucks", "s3://ingestion/quarantine"])
            .envs(self.services.environment());
        serde_json::from_str(&run(&mut command, b"").good().out).unwrap()
    }

    /// All that was published is in the table or in quarantine, whoever asks, and a notice has brought it into the report.
    fn check(&self, python: &Path, file: &Path, lines: usize) {
        self.until(
            "select (select count(*) from trucks) + (select count(*) from quarantine) as n",
            &json!([{ "n": lines }]),
        );
        let others = self.others(python, file, lines);
        let truth = &others["file"];
        assert_eq!(truth["trucks"].as_array().map(Vec::len), Some(20), "{truth}");
        assert!(truth["nameless"].as_u64() > Some(0), "{truth}");
        if lines == fleet::LINES {
            assert_eq!(truth["nameless"], 315);
        }
        readers::check("duckdb", &truth["trucks"], &others["duckdb"]["trucks"]);
        assert_eq!(truth["nameless"], others["duckdb"]["nameless"]);

        let ours = self.sql(
            "select device_id, count(*) as rows, count(fields_velocity) as velocities, sum(fields_velocity) as velocity, \
             count(fields_fuel_state) as states, sum(fields_fuel_state) as state, sum(cast(extract(epoch from ts) as bigint)) as seconds \
             from trucks group by 1 order by 1",
        );
        let ours = ours.into_iter().map(|row| row.into_iter().map(|(_, value)| value).collect::<Value>());
        readers::check("sql", &truth["trucks"], &ours.collect());
        let quarantined = self.sql("select stream, reason, count(*) as n from quarantine group by 1, 2");
        assert_eq!(
            json!(quarantined),
            json!([{ "stream": "trucks", "reason": "missing_field", "n": truth["nameless"] }])
        );

        let good = lines as u64 - truth["nameless"].as_u64().unwrap();
        self.until("select sum(readings) as n from daily", &json!([{ "n": good }]));
        let differing = "select count(*) as n from (select date, device_id, count(*) as readings, sum(fields_velocity) as velocity from trucks group by 1, 2) a \
             full join daily b using (date, device_id) \
             where (a.readings is distinct from b.readings) or abs(coalesce(a.velocity, 0) - coalesce(b.velocity, 0)) > 1e-6";
        assert_eq!(json!(self.sql(differing)), json!([{ "n": 0 }]), "the report is its SQL over the table");
    }
}

/// Lines that are published: in CI a good part of the file, all of it by `just river`.
fn lines() -> usize {
    std::env::var("MILLSTREAM_RIVER_LINES").map_or(100_000, |lines| lines.parse().unwrap())
}

#[test]
fn a_fleet_behind_a_broker_reaches_the_report() {
    const TEST: &str = "river::a_fleet_behind_a_broker_reaches_the_report";
    let Some(python) = python() else { return };
    let Some(river) = River::new(TEST, CONFIG) else { return };
    let file = fleet(&river.home);
    let subscriber = format!(
        "{CONFIG}\n[[subscriber]]\nname = \"plant\"\nbroker = \"mqtt://{}\"\nfilters = [\"fleet/#\"]\n[gateway]\nlisten = \"\"\n",
        river.services.mqtt
    );
    std::fs::write(river.home.data().join("millstream.toml"), subscriber).unwrap();
    let stages = ["process", "firehose", "collect"].map(|name| river.stage(name));
    stages[2].ready();
    let acknowledged = river.publish(&file, &river.services.mqtt, lines());
    assert_eq!(acknowledged, lines() as u64);
    river.check(&python, &file, lines());
    stages.into_iter().rev().for_each(Stage::drain);
}

#[test]
fn a_fleet_at_the_gateway_reaches_the_report() {
    const TEST: &str = "river::a_fleet_at_the_gateway_reaches_the_report";
    let Some(python) = python() else { return };
    let Some(river) = River::new(TEST, CONFIG) else { return };
    let file = fleet(&river.home);
    let gateway = format!("127.0.0.1:{}", free_port());
    let [process, firehose] = ["process", "firehose"].map(|name| river.stage(name));
    let collect = Stage::start(river.command(&["collect"]).env("MILLSTREAM__GATEWAY__LISTEN", &gateway));
    let acknowledged = river.publish(&file, &gateway, lines());
    assert_eq!(acknowledged, lines() as u64);
    river.check(&python, &file, lines());
    [collect, firehose, process].into_iter().for_each(Stage::drain);
}

/// How often a process is killed.
const KILLS: usize = 10;

/// Messages a second: a process takes a second or two to start again.
const RATE: &str = "400";

/// Two firehoses share the partitions; whoever is killed, the other goes on.
#[test]
fn ten_kills_on_the_real_three_lose_nothing_and_double_nothing() {
    const TEST: &str = "river::ten_kills_on_the_real_three_lose_nothing_and_double_nothing";
    let seed =
        std::env::var("MILLSTREAM_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    writeln!(std::io::stderr(), "ten kills on the real three: MILLSTREAM_SEED={seed}").unwrap();
    let mut random = fastrand::Rng::with_seed(seed);
    let config = CONFIG.split("[[stream]]").next().unwrap().to_owned() + restart::STREAM;
    let Some(river) = River::new(TEST, &config) else { return };
    let port = free_port();
    let collect = || {
        Stage::start(
            river.command(&["collect"]).env("MILLSTREAM__GATEWAY__LISTEN", format!("127.0.0.1:{port}")),
        )
    };
    let mut collector = collect();
    let mut firehoses = [river.stage("firehose"), river.stage("firehose")];

    let readings = river.home.path("readings.csv");
    restart::write_readings(&readings);
    let mut client = restart::replay(&river.home, &readings, port, RATE);
    let mut acknowledged = Acknowledged::open(&river.home.path("acknowledged"));
    let mut collectors_killed = 0;
    for kill in 0..KILLS {
        let planned = (restart::MESSAGES * kill + random.usize(restart::MESSAGES / 10..restart::MESSAGES))
            / (KILLS + 1);
        let target = planned.max(acknowledged.count() + random.usize(1..100));
        eventually("messages are acknowledged", || {
            assert_eq!(client.ended(), None, "the client ended before kill {kill}");
            (acknowledged.count() >= target).then_some(())
        });
        std::thread::sleep(Duration::from_micros(random.u64(0..200_000)));
        if kill % 2 == 0 {
            let victim = &mut firehoses[random.usize(0..2)];
            victim.kill();
            *victim = river.stage("firehose");
        } else {
            collector.kill();
            collector = collect();
            collectors_killed += 1;
        }
    }
    let summary = finish(&mut client);
    collector.drain();
    firehoses.into_iter().for_each(Stage::drain);
    // A partition whose owner was killed may have been nobody's until the end: one more firehose takes what is left.
    let last = river.stage("firehose");
    last.ready();
    last.drain();
    assert!(
        summary["reconnects"].as_u64() >= Some(collectors_killed),
        "a kill that no client felt: {summary}"
    );
    let resent = usize::try_from(summary["resent"].as_u64().unwrap()).unwrap();
    Outcome::read(|query| river.sql(query)).check(&acknowledged.keys(), resent);
}

pub(crate) fn finish(client: &mut Running) -> Value {
    let mut summary = String::new();
    client.child.stdout.take().unwrap().read_to_string(&mut summary).unwrap();
    assert!(client.wait().success(), "{summary}");
    serde_json::from_str(&summary).unwrap()
}
