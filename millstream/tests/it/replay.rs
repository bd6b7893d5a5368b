//! `millstream replay`: files of readings become messages, to our own gateway and to a broker that is not ours.

use crate::program::{Ended, Home, NOBODY, Running, Up, eventually, run, testdata};
use chrono::{DateTime, TimeDelta, Utc};
use flate2::Compression;
use flate2::write::GzEncoder;
use millstream_services::free_port;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// All of the recording.
const READINGS: usize = 26_115;

/// Files close soon, so that rows are seen soon.
const CONFIG: &str = r#"
[[stream]]
name = "weather"
topic = "weather/{device_id}"
time = "time_hour"
partition = "month"
files = { close_idle = "100ms" }

[[stream]]
name = "trucks"
topic = "trucks/{device_id}"
files = { close_idle = "100ms" }
"#;

/// Every second line is a reading; each of the others is none for a reason of its own.
const TRUCKS: [&str; 6] = [
    r#"{"tags": {"name":"t1"},  "load":1.50}"#,
    r#"{"load":2}"#,
    r#"{"tags":{"name":"t2"},"load":3}"#,
    r#"{"tags":{"name":"t3"},"load":"#,
    r#"{"tags":{"name":"t1"},"load":5}"#,
    r#"{"tags":{"name":null},"load":6}"#,
];

fn command(home: &Home, port: &str, topic: &str, more: &[&str], file: &Path) -> Command {
    let broker = format!("127.0.0.1:{port}");
    let mut command = home.command(["replay", "--quiet", "--broker", &broker, "--topic", topic]);
    command.args(more).arg(file);
    command
}

/// The recording, to a gateway.
fn weather(home: &Home, up: &Up, more: &[&str]) -> Ended {
    run(&mut command(home, &up.port(), "weather/{origin}", more, &testdata("weather/weather.csv.gz")), b"")
}

fn trucks(home: &Home, up: &Up, more: &[&str]) -> (Ended, PathBuf) {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(TRUCKS.join("\n").as_bytes()).unwrap();
    let file = home.file("trucks.ndjson.gz", gzip.finish().unwrap());
    (run(&mut command(home, &up.port(), "trucks/{tags.name}", more, &file), b""), file)
}

/// The summary of a replay with `--json`.
#[track_caller]
fn summary(ended: &Ended) -> Value {
    serde_json::from_str(&ended.out).unwrap_or_else(|error| panic!("{error}\n{}\n{}", ended.out, ended.err))
}

/// Some of the summary's counts.
fn counts<const N: usize>(summary: &Value, names: [&str; N]) -> [u64; N] {
    names.map(|name| summary[name].as_u64().unwrap_or_else(|| panic!("no {name} in {summary}")))
}

/// Topics and payloads that the client wrote down; none before it has made the file.
fn acknowledged(path: &Path) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let text_of = |value: &Value| value.as_str().unwrap().to_owned();
    whole
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|message| (text_of(&message["topic"]), text_of(&message["payload"])))
        .collect()
}

#[test]
fn a_missing_value_is_left_out_or_null_and_a_limit_ends_the_file_early() {
    let home = Home::with(CONFIG);
    let up = home.up();
    let check = |missing: &[&str], name: &str, expected: Option<&Value>| {
        let path = home.path(name);
        let more = [&["--limit", "7", "--acknowledged", path.to_str().unwrap()], missing].concat();
        weather(&home, &up, &more).good();
        let messages = acknowledged(&path);
        assert_eq!(messages.len(), 7, "{name}");
        for (topic, payload) in &messages {
            assert_eq!(topic, "weather/EWR", "{name}");
            let payload: Value = serde_json::from_str(payload).unwrap();
            // `NA` in the file's first lines; the temperature is there.
            assert_eq!(payload.get("wind_gust"), expected, "{name}: {payload}");
            assert!(payload["temp"].is_f64(), "{name}: {payload}");
        }
    };
    check(&[], "default", None);
    check(&["--missing", "omit"], "omit", None);
    check(&["--missing", "null"], "null", Some(&Value::Null));
    home.rows("select 1 from weather", 21);
    up.drain();
}

#[test]
fn event_times_are_shifted_by_whole_hours_so_that_the_newest_is_now() {
    let home = Home::with(CONFIG);
    let up = home.up();
    let before = Utc::now();
    let ended =
        weather(&home, &up, &["--limit", "3", "--time-field", "time_hour", "--rebase", "now", "--json"]);
    let after = Utc::now();
    let ended = ended.good();
    let rows = home.rows("select cast(ts as bigint) as micros from weather order by ts", 3);
    let times: Vec<DateTime<Utc>> = rows
        .iter()
        .map(|row| DateTime::from_timestamp_micros(row["micros"].as_i64().unwrap()).unwrap())
        .collect();
    assert!(times[2] <= after && times[2] > before - TimeDelta::hours(1), "{times:?} at {before}");
    // The file's first readings are an hour apart, each on the hour.
    assert_eq!([times[1] - times[0], times[2] - times[1]], [TimeDelta::hours(1); 2]);
    assert_eq!(times[2].timestamp() % 3600, 0);
    let shift = summary(&ended)["shift_hours"].as_i64().unwrap();
    let recorded: DateTime<Utc> = "2013-01-01T08:00:00Z".parse().unwrap();
    assert_eq!(times[2] - recorded, TimeDelta::hours(shift));
    up.drain();
}

#[test]
fn at_a_speed_all_is_acknowledged_and_the_summary_adds_up() {
    let home = Home::with(CONFIG);
    let up = home.up();
    // A hundred hours in a third of a second.
    let pace = ["--time-field", "time_hour", "--speed", "1000000"];
    let ended = weather(&home, &up, &[&pace[..], &["--limit", "100", "--json"]].concat()).good();
    let summary = summary(&ended);
    assert_eq!(counts(&summary, ["read", "published", "acknowledged"]), [100; 3]);
    assert_eq!(counts(&summary, ["unpublished", "unacknowledged", "resent", "reconnects"]), [0; 4]);
    assert_eq!(counts(&summary, ["clients"]), [1]);
    assert_eq!((&summary["refused"]["count"], &summary["bad_lines"]["count"]), (&json!(0), &json!(0)));
    assert_eq!((&summary["cancelled"], &summary["shift_hours"]), (&json!(false), &Value::Null));
    let latency = |name: &str| summary["latency"][name].as_f64().unwrap();
    assert!(0.0 < latency("p50") && latency("p50") <= latency("p99") && latency("p99") <= latency("max"));
    assert!(summary["elapsed"].as_f64().unwrap() >= latency("max"), "{summary}");
    home.rows("select 1 from weather", 100);
    up.drain();
}

#[test]
fn lines_without_a_topic_are_skipped_and_named_and_the_others_arrive_byte_for_byte() {
    let home = Home::with(CONFIG);
    let up = home.up();
    let path = home.path("acknowledged");
    let (ended, file) = trucks(&home, &up, &["--acknowledged", path.to_str().unwrap()]);
    let said = ended.good().out;
    assert!(said.contains("3 messages published, 3 acknowledged"), "{said}");
    assert!(said.contains("skipped 3 lines"), "{said}");
    for (line, reason) in [(2, "tags.name"), (4, "not JSON"), (6, "tags.name")] {
        let place = format!("{}:{line}: ", file.display());
        let named = said.lines().find(|named| named.contains(&place));
        assert!(named.is_some_and(|named| named.contains(reason)), "no {place}{reason} in\n{said}");
    }
    let expected = [("trucks/t1", TRUCKS[0]), ("trucks/t2", TRUCKS[2]), ("trucks/t1", TRUCKS[4])];
    assert_eq!(acknowledged(&path), expected.map(|(topic, payload)| (topic.to_owned(), payload.to_owned())));
    let rows = home.rows("select device_id, load from trucks order by _offset", 3);
    let loads: Vec<_> = rows.iter().map(|row| (&row["device_id"], &row["load"])).collect();
    assert_eq!(
        loads,
        [(&json!("t1"), &json!(1.5)), (&json!("t2"), &json!(3.0)), (&json!("t1"), &json!(5.0))]
    );
    up.drain();
}

#[test]
fn a_strict_replay_ends_at_the_first_line_that_is_none_and_names_it() {
    let home = Home::with(CONFIG);
    let up = home.up();
    let (ended, file) = trucks(&home, &up, &["--strict"]);
    let said = ended.refused();
    assert!(said.contains(&format!("{}:2", file.display())) && said.contains("tags.name"), "{said}");
    // What stood before it was published.
    home.rows("select 1 from trucks", 1);
    up.drain();
}

#[test]
fn without_a_broker_it_fails_and_says_how_to_start_one() {
    let home = Home::new();
    let (_, port) = NOBODY.split_once(':').unwrap();
    let file = testdata("weather/weather.csv.gz");
    let said = run(&mut command(&home, port, "weather/{origin}", &[], &file), b"").refused();
    for part in [NOBODY, "is a broker listening", "`millstream up`"] {
        assert!(said.contains(part), "no {part:?} in\n{said}");
    }
}

#[test]
fn an_interrupted_replay_ends_and_says_what_was_acknowledged() {
    let home = Home::with(CONFIG);
    let up = home.up();
    let interrupted = |path: &Path, more: &[&str]| {
        // Two minutes and more for all of it: the signal hits the middle.
        let paced = [&["--rate", "200", "--acknowledged", path.to_str().unwrap()], more].concat();
        let file = testdata("weather/weather.csv.gz");
        let mut command = command(&home, &up.port(), "weather/{origin}", &paced, &file);
        let mut replay = Running::start(command.stdin(Stdio::null()).stdout(Stdio::piped()));
        eventually("messages are acknowledged", || {
            assert_eq!(replay.ended(), None);
            (acknowledged(path).len() >= 20).then_some(())
        });
        replay.signal("INT");
        assert_eq!(replay.wait().code(), Some(1));
        let mut said = String::new();
        replay.child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        (said, acknowledged(path).len())
    };
    let (said, first) = interrupted(&home.path("first"), &[]);
    assert!(said.contains(&format!("{first} messages published, {first} acknowledged")), "{said}");
    assert!(said.contains("ended early: 0 published and not acknowledged"), "{said}");

    let (said, second) = interrupted(&home.path("second"), &["--json"]);
    let summary: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(summary["cancelled"], true, "{summary}");
    assert_eq!(counts(&summary, ["published", "acknowledged"]), [second as u64; 2]);
    assert_eq!(counts(&summary, ["unacknowledged"]), [0]);
    assert!(second < READINGS);
    up.drain();
    assert_eq!(home.value("select count(*) from weather"), first + second);
}

#[test]
fn it_publishes_in_both_versions_at_every_qos() {
    const MESSAGES: usize = 300;
    let home = Home::with(CONFIG);
    let up = home.up();
    for version in ["3.1.1", "5"] {
        for qos in ["0", "1", "2"] {
            let topic = format!("weather/{version}-{qos}-{{origin}}");
            let more = ["--mqtt", version, "--qos", qos, "--limit", &MESSAGES.to_string(), "--json"];
            let file = testdata("weather/weather.csv.gz");
            let ended = run(&mut command(&home, &up.port(), &topic, &more, &file), b"").good();
            let summary = summary(&ended);
            // Nothing is acknowledged at QoS 0.
            let acknowledged = if qos == "0" { 0 } else { MESSAGES as u64 };
            assert_eq!(
                counts(&summary, ["published", "acknowledged", "unacknowledged"]),
                [MESSAGES as u64, acknowledged, 0],
                "{version} at QoS {qos}"
            );
            home.rows(&format!("select 1 from weather where device_id = '{version}-{qos}-EWR'"), MESSAGES);
        }
    }
    up.drain();
}

/// A year of weather to mosquitto, and from there to a subscriber whose session it keeps meanwhile.
#[test]
fn another_broker_acknowledges_all_of_it_and_passes_it_on() {
    let Some((broker, mosquitto_sub)) = broker().zip(crate::foreign::mosquitto("mosquitto_sub")) else {
        return;
    };
    let home = Home::new();
    let port = free_port();
    let config = home.file(
        "mosquitto.conf",
        format!("listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\nlog_dest none\n"),
    );
    let mut command = Command::new(broker);
    let mut broker = Running::start(command.arg("-c").arg(config).stdin(Stdio::null()));
    eventually("mosquitto listens", || {
        assert_eq!(broker.ended(), None, "mosquitto ended");
        TcpStream::connect(("127.0.0.1", port)).ok()
    });
    let port = port.to_string();
    let subscriber = |more: &[&str]| {
        let mut command = Command::new(&mosquitto_sub);
        command.args([
            "-h",
            "127.0.0.1",
            "-p",
            &port,
            "-i",
            "subscriber",
            "-c",
            "-q",
            "1",
            "-t",
            "weather/#",
        ]);
        run(command.args(more), b"").good().out
    };
    // It ends when it is subscribed.
    subscriber(&["-E"]);

    let path = home.path("acknowledged");
    let more = ["--clients", "3", "--json", "--acknowledged", path.to_str().unwrap()];
    let file = testdata("weather/weather.csv.gz");
    let ended = run(&mut self::command(&home, &port, "weather/{origin}", &more, &file), b"").good();
    let summary = summary(&ended);
    assert_eq!(counts(&summary, ["read", "published", "acknowledged"]), [READINGS as u64; 3]);
    assert_eq!(counts(&summary, ["unacknowledged", "reconnects"]), [0; 2]);

    let received = subscriber(&["-C", &READINGS.to_string(), "-F", "%t %p"]);
    let sent: Vec<String> =
        acknowledged(&path).iter().map(|(topic, payload)| format!("{topic} {payload}")).collect();
    assert_eq!(sent.len(), READINGS);
    // Apart from each other, devices have no order.
    let by_device = |messages: &mut dyn Iterator<Item = &str>| {
        let mut devices: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for message in messages {
            let (topic, payload) = message.split_once(' ').unwrap();
            devices.entry(topic.to_owned()).or_default().push(payload.to_owned());
        }
        devices
    };
    assert!(
        by_device(&mut received.lines()) == by_device(&mut sent.iter().map(String::as_str)),
        "the subscriber received something else than was acknowledged, or in another order"
    );
}

/// Mosquitto's broker, which Debian keeps where only root looks.
fn broker() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    let found = folders.map(|folder| folder.join("mosquitto")).find(|file| file.is_file());
    if found.is_none() {
        assert!(std::env::var_os("CI").is_none(), "the broker mosquitto (the package mosquitto) is missing");
        let test = std::thread::current().name().unwrap_or_default().to_owned();
        // Not by a macro: libtest swallows what those print.
        writeln!(std::io::stderr(), "LEFT OUT: {test} needs the broker mosquitto (the package mosquitto)")
            .unwrap();
    }
    found
}
