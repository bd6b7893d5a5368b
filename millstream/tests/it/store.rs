//! The store and the log under it fail in their own ways: notices that never come, a Kafka that stands still, a MinIO that is killed.

use crate::gaps::payloads;
use crate::http::sample;
use crate::mqtt::{Device, Version};
use crate::program::{eventually, run};
use crate::restart::{self, Acknowledged, MESSAGES, Outcome};
use crate::river::{River, finish};
use crate::stage::Stage;
use millstream_services::Service;
use millstream_services::free_port;
use serde_json::json;
use std::io::Write;
use std::time::Duration;

/// Buckets without a rule: the store tells nobody of them.
const QUIET: &str = r#"
[gateway]
listen = "127.0.0.1:0"

[lake]
ingestion = "s3://quiet-ingestion"
reporting = "s3://quiet-reporting"
notices   = "store"

[s3]
path_style = true
allow_http = true

[reports]
sweep = "2s"

[[stream]]
name  = "telemetry"
topic = "devices/{device_id}/telemetry"
files = { close_idle = "200ms", close_after = "1s" }

[[report]]
name = "counts"
sql  = "select device_id, count(*) as readings from telemetry group by 1"
"#;

#[test]
fn reports_follow_by_the_sweep_where_the_store_says_nothing() {
    const ROUNDS: usize = 3;
    const EACH: usize = 20;
    let Some(river) = River::new("reports_follow_by_the_sweep_where_the_store_says_nothing", QUIET) else {
        return;
    };
    for bucket in ["quiet-ingestion", "quiet-reporting"] {
        assert_eq!(river.services.bucket(bucket), bucket);
    }
    let stages = ["process", "firehose", "collect"].map(|name| river.stage(name));
    stages.iter().for_each(Stage::ready);
    let [process, firehose, collect] = stages;
    let mut device = Device::connect(collect.devices(), Version::V5, "d1");
    // What the first round shows may be the look at the start; the others nobody has announced.
    for round in 1..=ROUNDS {
        for reading in 0..EACH {
            device.send("devices/d1/telemetry", format!("{{\"temp\":{reading}}}").as_bytes());
        }
        device.all_acknowledged();
        river.until("select sum(readings) as n from counts", &json!([{ "n": round * EACH }]));
    }
    let runs = sample(process.http(), "millstream_report_runs_total{report=\"counts\"}");
    assert!(runs >= Some(ROUNDS as f64), "{runs:?}");

    let said = run(&mut river.command(&["doctor", "--notice-wait", "2s"]), b"");
    assert_eq!(said.code(), Some(1), "{}{}", said.out, said.err);
    let failed: Vec<&str> = said.out.lines().filter(|line| line.starts_with("failed")).collect();
    let expected = "failed   notices: no event of the store arrived within 2 s; until then reports follow within 2 s, by the sweep";
    assert_eq!(failed, [expected], "{}", said.out);

    let notices = payloads(&river.services.kafka, "millstream.notices");
    assert!(notices.iter().all(|notice| !notice.contains("quiet-")), "{notices:?}");
    [collect, firehose, process].into_iter().for_each(Stage::drain);
}

/// The services' own buckets, with their rule.
const BUSY: &str = r#"
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
sweep = "2s"

[[report]]
name = "stations"
sql  = "select device_id, count(*) as readings, sum(temp) as temp from weather group by 1"
"#;

/// Messages a second: all of them take half a minute, and longer where something stands still.
const RATE: &str = "500";

/// Carries all messages through while something happens, which begins when it likes by what is acknowledged. Then every message is where it belongs once, the
/// report shows it, and no stage has ended meanwhile.
fn carry(test: &str, disturb: impl FnOnce(&River, &mut dyn FnMut(usize))) {
    let Some(river) = River::new(test, &format!("{BUSY}{}", restart::STREAM)) else { return };
    let port = free_port();
    let gateway = format!("127.0.0.1:{port}");
    let collect = Stage::start(river.command(&["collect"]).env("MILLSTREAM__GATEWAY__LISTEN", gateway));
    let stages = [collect, river.stage("firehose"), river.stage("process")];
    stages.iter().for_each(Stage::ready);

    let readings = river.home.path("readings.csv");
    restart::write_readings(&readings);
    let mut client = restart::replay(&river.home, &readings, port, RATE);
    let mut acknowledged = Acknowledged::open(&river.home.path("acknowledged"));
    disturb(&river, &mut |count| {
        eventually("messages are acknowledged", || {
            assert_eq!(client.ended(), None, "the client ended too early");
            (acknowledged.count() >= count).then_some(())
        });
    });
    let summary = finish(&mut client);
    stages.iter().for_each(Stage::ready);
    let [collect, firehose, process] = stages;
    collect.drain();
    firehose.drain();
    let resent = usize::try_from(summary["resent"].as_u64().unwrap()).unwrap();
    Outcome::read(|query| river.sql(query)).check(&acknowledged.keys(), resent);
    let rows = river.sql("select count(*) as n from weather");
    river.until("select sum(readings) as n from stations", &json!(rows));
    process.drain();
}

/// How long Kafka stands still: longer than its clients' sessions last.
const PAUSE: Duration = Duration::from_secs(20);

#[test]
fn a_kafka_that_stands_still_for_a_while_costs_nothing_but_the_while() {
    carry("a_kafka_that_stands_still_for_a_while_costs_nothing_but_the_while", |river, acknowledged| {
        acknowledged(MESSAGES / 4);
        river.services.stop(Service::Kafka);
        // It is the time that is tested, not an event that is waited for.
        std::thread::sleep(PAUSE);
        river.services.cont(Service::Kafka);
        acknowledged(MESSAGES / 2);
    });
}

/// The first is counted out while it stands still, and when it joins again, its group has to wait for the second, which was killed meanwhile and never answers.
#[test]
fn a_firehose_that_is_told_to_stop_before_it_is_dealt_its_share_again_drains_it_all_the_same() {
    const READINGS: usize = 50;
    let test = "a_firehose_that_is_told_to_stop_before_it_is_dealt_its_share_again_drains_it_all_the_same";
    // So long the group waits for the second: for all that happens meanwhile.
    let session = "[kafka.properties]\n\"session.timeout.ms\" = \"28000\"\n";
    let Some(river) = River::new(test, &format!("{BUSY}{}{session}", restart::STREAM)) else { return };
    let collect = Stage::start(river.command(&["collect"]).env("MILLSTREAM__GATEWAY__LISTEN", "127.0.0.1:0"));
    let [first, mut second] = [(); 2].map(|()| river.stage("firehose"));
    [&collect, &first, &second].into_iter().for_each(Stage::ready);
    let owns =
        |stage: &Stage| sample(stage.http(), "millstream_firehose_owned_partitions{stream=\"weather\"}");
    eventually("both have a share", || (owns(&first) > Some(0.0) && owns(&second) > Some(0.0)).then_some(()));
    first.signal("STOP");
    eventually("the second has all", || (owns(&second) == Some(3.0)).then_some(()));
    second.kill();
    first.signal("CONT");
    let waits = || {
        sample(first.http(), "millstream_firehose_phase{stream=\"weather\",phase=\"starting\"}") == Some(1.0)
    };
    eventually("the first knows that it is counted out", || waits().then_some(()));

    let readings: String = (0..READINGS).map(|seq| format!("JFK,{seq},1,2013-01-01T00:00:00Z\n")).collect();
    let readings = river.home.file("readings.csv", format!("origin,seq,temp,time_hour\n{readings}"));
    let broker = collect.devices().to_string();
    let arguments = ["replay", "--quiet", "--topic", "weather/{origin}", "--broker", &broker];
    run(river.command(&arguments).arg(readings), b"").good();
    assert!(waits(), "nobody reads what was published");
    first.drain();
    let committed =
        ["sql", "--no-tail", "--format", "csv", "-c", "select count(distinct seq), count(*) from weather"];
    let answer = run(&mut river.command(&committed), b"").good();
    assert_eq!(answer.out.lines().last(), Some("50,50"));
    collect.drain();
}

/// How often MinIO is killed.
const KILLS: usize = 3;

#[test]
fn a_minio_that_is_killed_during_commits_costs_no_row_and_doubles_none() {
    let seed =
        std::env::var("MILLSTREAM_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    writeln!(std::io::stderr(), "three kills of MinIO: MILLSTREAM_SEED={seed}").unwrap();
    let mut random = fastrand::Rng::with_seed(seed);
    carry("a_minio_that_is_killed_during_commits_costs_no_row_and_doubles_none", |river, acknowledged| {
        for kill in 1..=KILLS {
            acknowledged(MESSAGES * kill / (KILLS + 2));
            // A commit takes about as long.
            std::thread::sleep(Duration::from_micros(random.u64(0..250_000)));
            river.services.kill_9(Service::Minio);
            std::thread::sleep(Duration::from_millis(random.u64(0..2_000)));
            river.services.start_again();
        }
    });
}
