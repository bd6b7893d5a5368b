//! Clients that are not ours publish; what they are refused, they are refused as the protocol has it.

use crate::foreign::{mosquitto, python, script};
use crate::mqtt::{Device, Version, kind};
use crate::program::{Home, Running, Up, run};
use crate::proxy::{Cut, Proxy};
use millstream_services::free_port;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

/// Files close soon, so that rows are seen soon.
const QUICK: &str = r#"
[[stream]]
name = "telemetry"
topic = "devices/{device_id}/telemetry"
files = { close_idle = "100ms" }
"#;

/// More than a message may have, less than a packet.
const LARGE_MESSAGE: usize = 200 << 10;

/// More than a packet may have.
const LARGE_PACKET: usize = 2 << 20;

fn paho(
    python: &Path,
    action: &str,
    address: SocketAddr,
    mqtt: &str,
    device: &str,
    more: &[&str],
) -> Command {
    let mut command = Command::new(python);
    command.arg(script("publish.py")).args([action, "--mqtt", mqtt, "--client-id", device]);
    command
        .args(["--port", &address.port().to_string(), "--topic", &format!("devices/{device}/telemetry")])
        .args(more);
    command
}

fn said(command: &mut Command) -> Value {
    let ended = run(command, b"").good();
    serde_json::from_str(&ended.out).unwrap()
}

/// The field `n` of the device's rows, in order.
fn numbers(home: &Home, device: &str, count: usize) -> Vec<i64> {
    let rows = home
        .rows(&format!("select n from telemetry where device_id = '{device}' order by n, _offset"), count);
    rows.iter().map(|row| row["n"].as_f64().unwrap() as i64).collect()
}

#[test]
fn mosquitto_publishes_in_both_versions_at_every_qos() {
    let Some(mosquitto_pub) = mosquitto("mosquitto_pub") else { return };
    let home = Home::with(QUICK);
    let up = home.up();
    for version in ["mqttv311", "mqttv5"] {
        for qos in ["0", "1", "2"] {
            let topic = format!("devices/{version}-{qos}/telemetry");
            let mut command = Command::new(&mosquitto_pub);
            command.args(["-h", "127.0.0.1", "-p", &up.port(), "-V", version, "-q", qos, "-t", &topic, "-l"]);
            run(&mut command, b"{\"n\":0}\n{\"n\":1}\n{\"n\":2}\n").good();
        }
    }
    for version in ["mqttv311", "mqttv5"] {
        for qos in ["0", "1", "2"] {
            assert_eq!(numbers(&home, &format!("{version}-{qos}"), 3), [0, 1, 2], "{version} at QoS {qos}");
        }
    }
    up.drain();
}

#[test]
fn paho_publishes_in_both_versions_at_every_qos() {
    let Some(python) = python() else { return };
    let home = Home::with(QUICK);
    let up = home.up();
    for version in ["3.1.1", "5"] {
        for qos in ["0", "1", "2"] {
            let device = format!("paho-{version}-{qos}");
            said(&mut paho(&python, "messages", up.address(), version, &device, &["--qos", qos]));
            assert_eq!(numbers(&home, &device, 3), [0, 1, 2], "{version} at QoS {qos}");
        }
    }
    up.drain();
}

#[test]
fn a_subscription_is_refused_and_publishing_goes_on() {
    let Some(python) = python() else { return };
    let home = Home::with(QUICK);
    let up = home.up();
    for version in ["3.1.1", "5"] {
        let device = format!("subscriber-{version}");
        let said = said(&mut paho(&python, "subscribe", up.address(), version, &device, &[]));
        let codes: Vec<u64> =
            said["subacks"][0].as_array().unwrap().iter().map(|code| code.as_u64().unwrap()).collect();
        assert!(codes.len() == 2 && codes.iter().all(|code| *code >= 0x80), "{version}: {said}");
        assert_eq!(said["connects"], 1, "{version}");
        assert_eq!(numbers(&home, &device, 3), [0, 1, 2], "{version}");
    }
    if let Some(mosquitto_sub) = mosquitto("mosquitto_sub") {
        for version in ["mqttv311", "mqttv5"] {
            let mut command = Command::new(&mosquitto_sub);
            let ended = run(
                command.args(["-h", "127.0.0.1", "-p", &up.port(), "-V", version, "-t", "devices/#"]),
                b"",
            );
            assert!(ended.err.contains("denied"), "{ended:?}");
        }
    }
    up.drain();
}

#[test]
fn a_message_above_the_limit_is_acknowledged_and_its_head_is_quarantined() {
    let Some(mosquitto_pub) = mosquitto("mosquitto_pub") else { return };
    let home = Home::with(QUICK);
    let up = home.up();
    let payload: Vec<u8> = (0..LARGE_MESSAGE).map(|place| b'a' + u8::try_from(place % 26).unwrap()).collect();
    let file = home.file("large", &payload);
    for (version, qos) in [("mqttv311", "1"), ("mqttv5", "2")] {
        let topic = format!("devices/{version}/telemetry");
        let mut command = Command::new(&mosquitto_pub);
        command
            .args(["-h", "127.0.0.1", "-p", &up.port(), "-V", version, "-q", qos, "-t", &topic, "-f"])
            .arg(&file);
        run(&mut command, b"").good();
    }
    let rows = home.rows("select device_id, reason, detail, encode(payload, 'hex') as payload from quarantine order by device_id", 2);
    let kept: String = payload[..64 << 10].iter().map(|byte| format!("{byte:02x}")).collect();
    for (row, device) in rows.iter().zip(["mqttv311", "mqttv5"]) {
        assert_eq!((&row["device_id"], &row["reason"]), (&json!(device), &json!("too_large")));
        assert!(row["detail"].as_str().unwrap().contains(&LARGE_MESSAGE.to_string()), "{}", row["detail"]);
        assert!(row["payload"] == kept, "the first 64 KiB are not those of the message");
    }
    up.drain();
}

#[test]
fn a_packet_above_the_limit_ends_the_connection() {
    let home = Home::with(QUICK);
    let up = home.up();
    let mut header = vec![kind::PUBLISH | 0b10];
    header.extend([0x80, 0x80, 0x80, 0x01]);
    let mut device = Device::connect(up.address(), Version::V5, "large-5");
    device.raw(&header);
    let goodbye = device.read().expect("a DISCONNECT");
    assert_eq!((goodbye.first, goodbye.body[0]), (kind::DISCONNECT, 0x95));
    assert_eq!(device.read(), None);

    let mut device = Device::connect(up.address(), Version::V3, "large-3");
    device.raw(&header);
    assert_eq!(device.read(), None);

    if let Some(python) = python() {
        let size = LARGE_PACKET.to_string();
        let said = said(&mut paho(&python, "large", up.address(), "5", "large-paho", &["--size", &size]));
        assert_eq!(said, json!({"disconnects": [0x95]}));
    }
    Device::connect(up.address(), Version::V3, "after").publish("devices/after/telemetry", r#"{"n":1}"#);
    up.drain();
    assert_eq!(numbers(&home, "after", 1), [1]);
}

#[test]
fn a_client_that_dies_leaves_its_will_as_a_row() {
    let Some(python) = python() else { return };
    let home = Home::with(QUICK);
    let up = home.up();
    for version in ["3.1.1", "5"] {
        let device = format!("will-{version}");
        let mut command = paho(&python, "will", up.address(), version, &device, &[]);
        let mut client = Running::start(command.stdin(Stdio::piped()).stdout(Stdio::piped()));
        let mut line = String::new();
        BufReader::new(client.child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "connected\n");
        client.kill();
        let rows = home.rows(&format!("select died from telemetry where device_id = '{device}'"), 1);
        assert_eq!(rows[0]["died"], true);
    }
    up.drain();
}

#[test]
fn a_mosquitto_client_that_dies_leaves_its_will_and_one_that_says_goodbye_does_not() {
    let Some(mosquitto_pub) = mosquitto("mosquitto_pub") else { return };
    let home = Home::with(QUICK);
    let up = home.up();
    let start = |device: &str| {
        let topic = format!("devices/{device}/telemetry");
        let mut command = Command::new(&mosquitto_pub);
        command.args(["-h", "127.0.0.1", "-p", &up.port(), "-q", "1", "-t", &topic, "-l"]);
        command.args(["--will-topic", &topic, "--will-payload", r#"{"n":2}"#, "--will-qos", "1"]);
        let mut client = Running::start(command.stdin(Stdio::piped()));
        let mut input = client.child.stdin.take().unwrap();
        input.write_all(b"{\"n\":1}\n").unwrap();
        assert_eq!(numbers(&home, device, 1), [1]);
        (client, input)
    };
    let (mut polite, input) = start("polite");
    drop(input);
    assert!(polite.wait().success());
    let (mut dying, _input) = start("dying");
    dying.kill();
    assert_eq!(numbers(&home, "dying", 2), [1, 2]);
    up.drain();
    assert_eq!(numbers(&home, "polite", 1), [1]);
}

/// Ten messages within a session; the connection is cut by the rule, and something happens before the client can connect again.
fn resends(
    (python, version, qos): (&Path, &str, &str),
    rule: Cut,
    expected: &[i64],
    meanwhile: impl FnOnce(&Home, Up) -> Up,
) {
    let home = Home::with(QUICK);
    let up = home.up_at(free_port());
    let proxy = Proxy::start(up.address(), rule);
    let mut command =
        paho(python, "resend", proxy.address, version, "resender", &["--qos", qos, "--messages", "10"]);
    let client = std::thread::spawn(move || said(&mut command));
    let mut up = Some(up);
    proxy.when_cut(|| up = up.take().map(|running| meanwhile(&home, running)));
    assert_eq!(client.join().unwrap(), json!({"sessions": [false, true]}));
    up.unwrap().drain();
    assert_eq!(numbers(&home, "resender", expected.len()), expected, "QoS {qos}, {version}, {rule:?}");
}

const ONCE: [i64; 10] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
const TWICE: [i64; 20] = [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9];

#[test]
fn messages_that_never_arrived_come_with_the_next_connection() {
    let Some(python) = python() else { return };
    for version in ["3.1.1", "5"] {
        resends((&python, version, "1"), Cut::BeforeTheGateway(10), &ONCE, |_, up| up);
    }
}

#[test]
fn messages_without_their_acknowledgements_come_again_at_qos_1() {
    let Some(python) = python() else { return };
    for version in ["3.1.1", "5"] {
        resends((&python, version, "1"), Cut::BeforeTheClient(10), &TWICE, |_, up| up);
    }
}

#[test]
fn messages_without_their_acknowledgements_are_known_again_at_qos_2() {
    let Some(python) = python() else { return };
    for version in ["3.1.1", "5"] {
        resends((&python, version, "2"), Cut::BeforeTheClient(10), &ONCE, |_, up| up);
    }
}

#[test]
fn sessions_survive_the_death_of_the_gateway() {
    let Some(python) = python() else { return };
    for (qos, expected) in [("1", TWICE.as_slice()), ("2", ONCE.as_slice())] {
        resends((&python, "5", qos), Cut::BeforeTheClient(10), expected, |home, up| {
            let port = up.address().port();
            up.kill();
            home.up_at(port)
        });
    }
}
