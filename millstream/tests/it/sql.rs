//! `millstream sql`: how it is asked, how it answers, what it refuses.

use crate::mqtt::{Device, Version};
use crate::program::{Home, Up, run};
use millstream_services::{Service, Services};

/// A file closes when the program ends, and not before.
const AT_THE_END: &str = r#"
[[stream]]
name = "telemetry"
topic = "devices/{device_id}/telemetry"
files = { close_after = "1h", close_idle = "1h" }
"#;

const READINGS: [(&str, &str); 3] = [
    ("devices/d1/telemetry", r#"{"temp":21.5,"label":"a,b"}"#),
    ("devices/d2/telemetry", r#"{"temp":-3}"#),
    ("devices/d3/telemetry", r#"{"label":"say \"hi\" | bye"}"#),
];

/// A directory with a few readings, on which nothing runs.
fn with_readings() -> Home {
    let home = Home::with(AT_THE_END);
    let up = home.up();
    let mut device = Device::connect(up.address(), Version::V5, "c");
    READINGS.iter().for_each(|(topic, payload)| device.publish(topic, payload));
    up.drain();
    home
}

const QUERY: &str = "select device_id, temp, label from telemetry order by device_id";

#[test]
fn an_answer_has_the_format_that_was_asked_for() {
    let home = with_readings();
    let check = |format: &str, expected: &str| {
        let answer = home.run(&["sql", "--format", format, "-c", QUERY]).good();
        assert_eq!(answer.out, expected, "{format}");
    };
    check("csv", "device_id,temp,label\nd1,21.5,\"a,b\"\nd2,-3.0,\nd3,,\"say \"\"hi\"\" | bye\"\n");
    check(
        "json",
        "[\n  {\"device_id\":\"d1\",\"temp\":21.5,\"label\":\"a,b\"},\n  {\"device_id\":\"d2\",\"temp\":-3.0,\"label\":null},\n  \
         {\"device_id\":\"d3\",\"temp\":null,\"label\":\"say \\\"hi\\\" | bye\"}\n]\n",
    );
    check(
        "ndjson",
        "{\"device_id\":\"d1\",\"temp\":21.5,\"label\":\"a,b\"}\n{\"device_id\":\"d2\",\"temp\":-3.0,\"label\":null}\n\
         {\"device_id\":\"d3\",\"temp\":null,\"label\":\"say \\\"hi\\\" | bye\"}\n",
    );
    check(
        "markdown",
        "| device_id | temp | label |\n| --- | ---: | --- |\n| d1 | 21.5 | a,b |\n| d2 | -3.0 |  |\n| d3 |  | say \"hi\" \\| bye |\n",
    );
    let boxed = home.run(&["sql", "-c", QUERY]).good();
    assert!(boxed.out.contains("21.5") && boxed.out.lines().count() >= 6, "{}", boxed.out);
    assert!(boxed.err.contains("3 rows in "), "{}", boxed.err);
    assert_eq!(
        home.run(&["sql", "--format", "json", "-c", "select 1 from telemetry where false"]).good().out,
        "[]\n"
    );
    assert_eq!(home.run(&["sql", "--format", "xml", "-c", QUERY]).code(), Some(2));
}

#[test]
fn a_question_comes_from_the_command_line_a_file_or_standard_input() {
    let home = with_readings();
    let statements = "select count(*) as n from telemetry;\n-- and\nselect max(temp) as n from telemetry;";
    let file = home.file("question.sql", statements);
    let expected = "{\"n\":3}\n{\"n\":21.5}\n";
    assert_eq!(home.run(&["sql", "--format", "ndjson", "-c", statements]).good().out, expected);
    assert_eq!(home.run(&["sql", "--format", "ndjson", "-f", file.to_str().unwrap()]).good().out, expected);
    assert_eq!(
        run(&mut home.command(["sql", "--format", "ndjson"]), statements.as_bytes()).good().out,
        expected
    );
    let missing = home.run(&["sql", "-f", "no-such-file.sql"]).refused();
    assert!(missing.contains("no-such-file.sql"), "{missing}");
}

#[test]
fn a_bad_question_is_refused_and_the_message_points_at_the_place() {
    let home = with_readings();
    let check = |query: &str, mark: &str, expected: &[&str]| {
        let message = home.run(&["sql", "-c", query]).refused();
        for part in expected {
            assert!(message.contains(part), "{query}: no {part:?} in\n{message}");
        }
        // The marked line, and below it the mark under the very word.
        let lines: Vec<&str> = message.lines().collect();
        let below = lines.windows(2).find(|lines| lines[0].contains(" | ") && lines[1].contains('^'));
        let [line, marks] = below.unwrap_or_else(|| panic!("{query}: nothing is marked in\n{message}"))
        else {
            unreachable!()
        };
        let from = marks.find('^').unwrap();
        assert!(line[from..].starts_with(mark), "{query}: not {mark:?} is marked in\n{message}");
    };
    check("select tmp from telemetry", "tmp", &["tmp", "temp"]);
    check("select temp\nfrom telemetri", "telemetri", &["telemetri", "telemetry"]);
    check("select temp frm telemetry where", "telemetry", &[]);
    check("select 1;\nselect nothing_such(temp) from telemetry", "nothing_such", &["nothing_such"]);
    check("drop table telemetry", "drop", &["only reads"]);
    check("copy telemetry to 'out.csv'", "copy", &["only reads"]);
    assert_eq!(home.value("select count(*) from telemetry"), 3);
}

#[test]
fn an_answer_has_what_waits_for_its_file_and_says_so() {
    const COUNT: &str = "select count(*) as n from telemetry";
    let home = Home::with(AT_THE_END);
    let up = home.up();
    let mut device = Device::connect(up.address(), Version::V3, "c");
    READINGS.iter().for_each(|(topic, payload)| device.publish(topic, payload));
    device.publish("devices/d4/telemetry", r#"[{"temp":1},{"temp":2}]"#);
    let check = |more: &[&str], rows: &str, said: &str| {
        let answer = home.run(&[&["sql", "-c", COUNT], more].concat()).good();
        assert!(answer.out.contains(rows), "{more:?}: {}{}", answer.out, answer.err);
        assert!(answer.err.contains(said), "{more:?}: {}", answer.err);
    };
    // By the server, and beside it: what was acknowledged is there at once.
    check(&[], " 5 ", ", 5 rows from the tail, complete to ");
    check(&["--local"], " 5 ", ", 5 rows from the tail, complete to ");
    // Committed files alone: there is none yet.
    check(&["--no-tail"], " 0 ", "1 row in ");
    check(&["--no-tail", "--local"], " 0 ", "1 row in ");
    drop(device);
    up.kill();
    // Nobody has to run for it.
    check(&[], " 5 ", ", 5 rows from the tail, complete to ");
    home.up().drain();
    check(&[], " 5 ", ", 0 rows from the tail, complete to ");
    check(&["--no-tail"], " 5 ", "1 row in ");
    let answer = home.run(&["sql", "--no-tail", "-c", COUNT]).good();
    assert!(!answer.err.contains("tail"), "{}", answer.err);
}

/// Whoever serves no HTTP answers nobody, and its log is read beside it all the same.
#[test]
fn what_waits_is_seen_without_a_server() {
    let home = Home::with(AT_THE_END);
    let mut command = home.command(["up"]);
    let command =
        command.env("MILLSTREAM__GATEWAY__LISTEN", "127.0.0.1:0").env("MILLSTREAM__HTTP__LISTEN", "");
    let up = Up::start(command);
    let mut device = Device::connect(up.address(), Version::V5, "c");
    READINGS.iter().for_each(|(topic, payload)| device.publish(topic, payload));
    assert!(!home.data().join("server").exists());
    let answer = home.run(&["sql", "--format", "csv", "-c", QUERY]).good();
    assert_eq!(answer.out, "device_id,temp,label\nd1,21.5,\"a,b\"\nd2,-3.0,\nd3,,\"say \"\"hi\"\" | bye\"\n");
    up.drain();
}

#[test]
fn files_alone_are_an_answer_only_for_who_asks_for_that() {
    let home = with_readings();
    // What remains of a log whose beginning is gone.
    std::fs::remove_dir_all(home.data().join("log")).unwrap();
    std::fs::create_dir_all(home.data().join("log/millstream.telemetry/0")).unwrap();
    let message = home.run(&["sql", "-c", QUERY]).refused();
    assert!(message.contains("--no-tail") && message.contains("failed to look into the log"), "{message}");
    let answer = home.run(&["sql", "--no-tail", "--format", "csv", "-c", QUERY]).good();
    assert_eq!(answer.out.lines().count(), 4, "{}", answer.out);
}

#[test]
fn a_directory_that_is_not_there_is_named() {
    let home = Home::new();
    let message = home.run(&["sql", "-c", "select 1"]).refused();
    assert!(message.contains(home.data().to_str().unwrap()), "{message}");
    assert!(!home.data().exists(), "asking makes nothing");
}

#[test]
fn what_lies_in_kafka_and_a_store_is_asked_from_anywhere() {
    const TEST: &str = "sql::what_lies_in_kafka_and_a_store_is_asked_from_anywhere";
    let Some(services) = Services::own(TEST, &[Service::Kafka, Service::Minio]) else { return };
    let lake = "[lake]\ningestion = \"s3://ingestion\"\nreporting = \"s3://reporting\"\n[s3]\npath_style = true\nallow_http = true\n";
    let config = format!("{lake}{AT_THE_END}");
    let here = Home::with(&config);
    let mut command = here.command(["up"]);
    let up =
        Up::start(command.envs(services.environment()).env("MILLSTREAM__GATEWAY__LISTEN", "127.0.0.1:0"));
    let mut device = Device::connect(up.address(), Version::V5, "c");
    READINGS.iter().for_each(|(topic, payload)| device.publish(topic, payload));
    up.drain();

    let there = Home::new();
    let ask = |config: &str| {
        let file = there.file("millstream.toml", config);
        let mut command = there.command(["sql", "--format", "csv", "-c", QUERY, "--config"]);
        run(command.arg(file).envs(services.environment()), b"")
    };
    let answer = ask(&config).good();
    assert_eq!(answer.out.lines().count(), 4, "{}", answer.out);
    assert!(!there.data().exists(), "asking makes nothing");
    // A bucket that would lie in it is missed.
    let message = ask(&config.replace("reporting = \"s3://reporting\"\n", "")).refused();
    assert!(message.contains("there is no data directory"), "{message}");
}
