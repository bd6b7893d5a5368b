//! `millstream up`: its first minute, its refusals, and how it ends.

use crate::foreign::mosquitto;
use crate::mqtt::{Device, Version};
use crate::program::{Home, eventually, run};
use serde_json::Value;
use std::net::TcpListener;
use std::process::Command;

#[test]
fn without_any_configuration_a_first_message_is_a_row() {
    let Some(mosquitto_pub) = mosquitto("mosquitto_pub") else { return };
    let home = Home::new();
    let up = home.up();
    // All under one name: at QoS 0 the next connection might cut off what the one before has sent.
    let publish = |topic: &str, payload: &str| {
        let mut command = Command::new(&mosquitto_pub);
        command.args(["-p", &up.port(), "-i", "laptop", "-q", "1", "-t", topic, "-m", payload]);
        run(&mut command, b"").good();
    };
    publish("test/a", "21.5");
    publish("devices/d1/telemetry", r#"{"temp":21.5}"#);
    let rows = home.rows("select device_id, _topic, value, temp from telemetry order by _offset", 2);
    let expected = serde_json::json!([
        {"device_id": "laptop", "_topic": "test/a", "value": 21.5, "temp": null},
        {"device_id": "d1", "_topic": "devices/d1/telemetry", "value": null, "temp": 21.5},
    ]);
    assert_eq!(Value::from_iter(rows), expected);
    publish("test/a", "22");
    home.rows("select 1 from telemetry", 3);
    let told = |topic: &str| {
        up.out().matches(&format!("first message on \"{topic}\" -> a row of telemetry")).count()
    };
    assert_eq!((told("test/a"), told("devices/d1/telemetry")), (1, 1), "{}", up.out());
    up.drain();
}

/// What it prints for a first message is pasted into a shell.
#[test]
fn the_commands_that_it_prints_work() {
    let Some(_) = mosquitto("mosquitto_pub") else { return };
    let home = Home::new();
    let up = home.up();
    let command = |begin: &str| {
        let line =
            |out: &str| out.lines().map(str::trim).find(|line| line.contains(begin)).map(str::to_owned);
        eventually(begin, || line(&up.out()))
    };
    let shell = |line: &str| run(Command::new("sh").args(["-c", line]), b"").good().out;
    shell(&command("mosquitto_pub "));
    home.rows("select 1 from telemetry", 1);
    let answer = shell(&command(" sql --data "));
    assert!(answer.contains("21.5") && answer.contains("d1"), "{answer}");
    up.drain();
}

#[test]
fn a_second_one_on_the_same_directory_is_refused() {
    let home = Home::new();
    let up = home.up();
    let mut second = home.command(["up"]);
    let message = run(second.env("MILLSTREAM__GATEWAY__LISTEN", "127.0.0.1:0"), b"").refused();
    assert!(message.contains(home.data().to_str().unwrap()), "{message}");
    assert!(message.contains("another") || message.contains("already"), "{message}");
    // The first one is not harmed.
    Device::connect(up.address(), Version::V5, "c").publish("test/a", "1");
    up.drain();
    assert_eq!(home.value("select count(*) from telemetry"), 1);
}

#[test]
fn a_port_that_is_taken_is_refused_with_a_hint() {
    let home = Home::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let message = run(home.command(["up"]).env("MILLSTREAM__GATEWAY__LISTEN", &address), b"").refused();
    assert!(message.contains(&address) && message.contains("MILLSTREAM__GATEWAY__LISTEN="), "{message}");
    home.up().drain();
}

/// That the gateway asks for credentials there is shown where they are; SQL is not answered there at all.
#[test]
fn beyond_loopback_nobody_asks_without_a_token() {
    let home = Home::new();
    let message = run(home.command(["up"]).env("MILLSTREAM__HTTP__LISTEN", "0.0.0.0:0"), b"").refused();
    assert!(message.contains("http.listen") && message.contains("token_file"), "{message}");
}

#[test]
fn a_signal_drains_and_the_next_start_goes_on() {
    let home = Home::new();
    for (round, signal) in ["TERM", "INT", "TERM"].into_iter().enumerate() {
        let up = home.up();
        let mut device = Device::connect(up.address(), Version::V5, "c");
        (0..100).for_each(|n| device.send("test/a", format!("{{\"n\":{n},\"round\":{round}}}").as_bytes()));
        device.all_acknowledged();
        up.signal(signal);
        let out = eventually("`up` has drained", || Some(up.out()).filter(|out| out.contains("\ndrained\n")));
        assert!(out.contains("draining"), "{out}");
        assert_eq!(up.wait().code(), Some(0));
        let rows = home.sql(
            "select count(*) as n, count(distinct _offset) as offsets, max(_offset) as last from telemetry",
        );
        let expected = (round + 1) * 100;
        assert_eq!(
            Value::from_iter(rows),
            serde_json::json!([{"n": expected, "offsets": expected, "last": expected - 1}])
        );
    }
}

/// Whoever is connected is told that it ends, and why.
#[test]
fn a_drain_says_goodbye() {
    let home = Home::new();
    let up = home.up();
    let mut device = Device::connect(up.address(), Version::V5, "c");
    device.publish("test/a", "1");
    up.drain();
    let goodbye = device.read().expect("a DISCONNECT");
    assert_eq!((goodbye.first, goodbye.body[0]), (crate::mqtt::kind::DISCONNECT, 0x8B));
    assert_eq!(device.read(), None);
}

#[test]
fn a_second_signal_stops_at_once_and_loses_nothing() {
    let home = Home::new();
    let up = home.up();
    let mut device = Device::connect(up.address(), Version::V5, "c");
    (0..100).for_each(|n| device.send("test/a", n.to_string().as_bytes()));
    device.all_acknowledged();
    // Both arrive while it stands still, so that they are there together when it goes on.
    ["STOP", "TERM", "INT", "CONT"].iter().for_each(|signal| up.signal(signal));
    assert_eq!(up.wait().code(), Some(130));
    home.up().drain();
    assert_eq!(home.value("select count(*) from telemetry"), 100);
}

#[test]
fn its_log_lines_are_json_where_nobody_watches_and_call_nobody_for_nothing() {
    let home = Home::new();
    let up = home.up();
    Device::connect(up.address(), Version::V3, "c").publish("test/a", "not json");
    up.signal("TERM");
    eventually("it ends", || up.out().contains("\ndrained\n").then_some(()));
    let lines = up.err();
    assert_ne!(lines, "");
    for line in lines.lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(line["timestamp"].is_string() && line["message"].is_string(), "{line}");
        // An error is what a person must do something about.
        assert_ne!(line["level"], "ERROR", "{line}");
    }
    assert_eq!(up.wait().code(), Some(0));
}

#[test]
fn where_devices_need_credentials_it_prints_how_to_make_them() {
    let home = Home::with("[gateway.access]\nanonymous = false\n");
    let up = home.up();
    let out = up.out();
    assert!(!out.contains("mosquitto_pub"), "{out}");
    let line = out.lines().find(|line| line.contains(" device add d1 ")).unwrap_or_else(|| panic!("{out}"));
    let mut command = Command::new("sh");
    let said = run(command.args(["-c", line.trim()]).current_dir(home.path(".")), b"").good().out;
    assert!(said.contains("d1 has the password") && said.contains("mosquitto_pub"), "{said}");
    up.drain();
}
