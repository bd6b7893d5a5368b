//! `millstream demo`: the README's first command.

use crate::mqtt::{Device, Version};
use crate::program::{Home, Running, Up, eventually, run};
use serde_json::json;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// All of the recording.
const READINGS: usize = 26_115;

fn demo(home: &Home, more: &[&str]) -> String {
    let data = home.data();
    let arguments = [&["demo", "--data", data.to_str().unwrap()], more].concat();
    home.run(&arguments).good().out
}

#[test]
fn it_shows_a_year_of_weather_and_a_second_run_doubles_nothing() {
    let home = Home::new();
    let said = demo(&home, &[]);
    for part in ["2013", "monthly_weather", "parquet", "JFK", " sql --data ", " up --data ", "mosquitto_pub "]
    {
        assert!(said.to_lowercase().contains(&part.to_lowercase()), "no {part:?} in\n{said}");
    }
    check_readings(&home);
    let recent =
        home.value("select count(*) from weather where ts > now() - interval '1 day'").as_u64().unwrap();
    assert!((60..=72).contains(&recent), "{recent} of three stations within a day of now");
    let ahead = home.value("select count(*) from weather where ts > now()");
    assert_eq!(ahead, 0);

    let again = demo(&home, &[]);
    assert!(again.contains("all 26,115 readings") && again.contains("nothing is published again"), "{again}");
    check_readings(&home);
}

#[test]
fn as_recorded_it_leaves_the_times_and_up_goes_on_with_its_directory() {
    let home = Home::new();
    demo(&home, &["--as-recorded"]);
    check_readings(&home);
    let times =
        home.sql("select cast(min(ts) as string) as first, cast(max(ts) as string) as last from weather");
    let (first, last) = (times[0]["first"].as_str().unwrap(), times[0]["last"].as_str().unwrap());
    assert!(first.starts_with("2013-01-01T06:00:00") && last.starts_with("2013-12-30T23:00:00"), "{times:?}");
    let months = home.sql("select date_part('month', date) as month, sum(readings) as n from reporting.monthly_weather group by 1 order by 1");
    assert_eq!(months.len(), 12);
    assert_eq!(months.iter().map(|row| row["n"].as_u64().unwrap()).sum::<u64>(), READINGS as u64);

    let up = home.up();
    Device::connect(up.address(), Version::V5, "c").publish("devices/d1/telemetry", r#"{"temp":21.5}"#);
    up.drain();
    assert_eq!(home.value("select temp from telemetry where device_id = 'd1'"), json!(21.5));
    check_readings(&home);
}

/// Bytes of readings in the log after which a demo is in its middle: all of them are some MiB.
const MIDDLE: u64 = 64 << 10;

/// A demo that has begun to publish, and has not ended.
fn in_the_middle(home: &Home) -> Running {
    let mut command = home.command(["demo", "--data", home.data().to_str().unwrap()]);
    let mut demo = Running::start(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()));
    let partition = home.data().join("log/millstream.weather/0");
    eventually("readings are in the log", || {
        assert_eq!(demo.ended(), None, "the demo ended before it was interrupted");
        // Not there yet, or trimmed meanwhile.
        let segments = fs::read_dir(&partition).into_iter().flatten().flatten();
        let bytes: u64 = segments.flat_map(|segment| segment.metadata()).map(|metadata| metadata.len()).sum();
        (bytes >= MIDDLE).then_some(())
    });
    demo
}

fn check_repeated(home: &Home) {
    let again = demo(home, &[]);
    assert!(again.contains("of a demo that was cut short"), "it was not interrupted in its middle: {again}");
    check_readings(home);
}

#[test]
fn a_killed_demo_is_completed_by_the_next() {
    let home = Home::new();
    in_the_middle(&home).kill();
    check_repeated(&home);
}

#[test]
fn a_demo_that_was_interrupted_twice_is_completed_by_the_next() {
    let home = Home::new();
    let mut interrupted = in_the_middle(&home);
    interrupted.signal("INT");
    // Two signals at the same time are one: again, until one of them is the second.
    let status = eventually("the demo ends", || {
        interrupted.ended().or_else(|| {
            interrupted.signal("INT");
            None
        })
    });
    assert_eq!((status.code(), status.signal()), (Some(130), None));
    check_repeated(&home);
}

#[test]
fn a_directory_that_is_not_of_a_demo_is_refused_and_left_as_it_is() {
    let home = Home::new();
    let up = home.up();
    Device::connect(up.address(), Version::V5, "c").publish("devices/d1/telemetry", r#"{"temp":21.5}"#);
    up.drain();
    let before = files(&home.data());
    assert!(!before.is_empty());
    let message = home.run(&["demo", "--data", home.data().to_str().unwrap()]).refused();
    for part in [home.data().to_str().unwrap(), "directory", "--data"] {
        assert!(message.contains(part), "no {part:?} in\n{message}");
    }
    assert!(message.contains("name another") || message.contains("name a new"), "{message}");
    let after = files(&home.data());
    assert!(before == after, "changed: {:?} to {:?}", before.keys(), after.keys());
}

/// All files below a folder with their content, and its folders.
fn files(folder: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
            found.insert(path, None);
        } else {
            let content = fs::read(&path).unwrap();
            found.insert(path, Some(content));
        }
    }
    found
}

/// The environment may be that of the user's own Millstream.
#[test]
fn the_environment_says_nothing_to_it() {
    let home = Home::new();
    let elsewhere = home.path("production");
    let data = home.data();
    let mut command = home.command(["demo", "--data", data.to_str().unwrap()]);
    command
        .env("MILLSTREAM__LAKE__INGESTION", &elsewhere)
        .env("MILLSTREAM__LAKE__REPORTING", home.path("production-reports"))
        .env("MILLSTREAM__KAFKA__BROKERS", "127.0.0.1:1")
        .env("MILLSTREAM__SUBSCRIBER__PLANT__BROKER", "mqtt://127.0.0.1:1")
        .env("MILLSTREAM__HTTP__TOKEN_FILE", "no-such-file");
    run(&mut command, b"").good();
    assert!(!elsewhere.exists(), "readings of a demonstration are in the user's own bucket");
    check_readings(&home);
}

/// What it prints to go on with is pasted into a shell, in the folder where it was printed.
#[test]
fn the_commands_that_it_prints_work_in_a_folder_with_a_space_in_its_name() {
    let home = Home::new();
    let folder = home.path("my work");
    fs::create_dir(&folder).unwrap();
    let absolute = folder.join("my demo");
    for data in [absolute.to_str().unwrap(), "my demo"] {
        let said = run(home.command(["demo", "--data", data]).current_dir(&folder), b"").good().out;
        let commands = |part: &str| -> Vec<String> {
            said.lines().map(str::trim).filter(|line| line.contains(part)).map(str::to_owned).collect()
        };
        let [weather, telemetry] = commands(" sql --data ").try_into().unwrap();
        let [up] = commands(" up --data ").try_into().unwrap();
        let shell = |line: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", line]).current_dir(&folder);
            command
        };
        let answer = run(&mut shell(&weather), b"").good().out;
        assert!(["EWR", "JFK", "LGA"].iter().all(|station| answer.contains(station)), "{answer}");
        let mut up = shell(&format!("exec {up}"));
        let up = up
            .env("MILLSTREAM__GATEWAY__LISTEN", "127.0.0.1:0")
            .env("MILLSTREAM__HTTP__LISTEN", "127.0.0.1:0");
        let up = Up::start(up);
        Device::connect(up.address(), Version::V5, "c").publish("devices/d1/telemetry", r#"{"temp":21.5}"#);
        up.drain();
        let answer = run(&mut shell(&telemetry), b"").good().out;
        assert!(answer.contains("d1") && answer.contains("21.5"), "{answer}");
    }
}

/// All of it, each reading once, and nothing quarantined; the report says the same.
fn check_readings(home: &Home) {
    let counts = home.sql(
        "select count(*) as n, (select count(*) from (select distinct device_id, ts from weather)) as different, \
         (select sum(readings) from reporting.monthly_weather) as reported from weather",
    );
    assert_eq!(
        counts,
        [json!({"n": READINGS, "different": READINGS, "reported": READINGS}).as_object().unwrap().clone()]
    );
    let tables = home.run(&["sql", "--format", "csv", "-c", "show tables"]).good().out;
    assert!(
        !tables.contains("ingestion,quarantine") || home.value("select count(*) from quarantine") == 0,
        "{tables}"
    );
}
