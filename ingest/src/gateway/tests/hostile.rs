//! What no client should send: it closes that connection, with the right code, and no other.

use super::device::{BOTH, Device, Speaks, packet, text};
use super::harness::{PATIENCE, Running, TELEMETRY, settings};
use crate::gateway::GatewaySettings;

const MALFORMED: u8 = 0x81;
const PROTOCOL: u8 = 0x82;
const TOPIC_NAME: u8 = 0x90;
const TOPIC_ALIAS: u8 = 0x94;
const TOO_LARGE: u8 = 0x95;
const QUOTA: u8 = 0x97;

/// Sends the bytes on an accepted connection each and expects the end with this code, while another client's messages are acknowledged.
async fn check(speaks: Speaks, cases: &[(&str, Vec<u8>, u8)]) {
    // A device that still sends when it is cut off must be able to read why.
    let gateway = Running::with(GatewaySettings { linger_timeout: PATIENCE, ..settings() }).await;
    let mut bystander = gateway.device().await;
    bystander.enter(&speaks.connect("bystander", true), false).await;
    for (what, bytes, code) in cases {
        let mut device = gateway.device().await;
        device.enter(&speaks.connect("hostile", true), false).await;
        device.send(&speaks.publish("before", 1, 1, b"1")).await;
        device.expect(&[&speaks.ack(0x40, 1)]).await;
        device.try_send(bytes).await;
        println!("{speaks:?}: {what}");
        device.expect_end(speaks.code(*code)).await;
        bystander.send(&speaks.publish("good", 1, 1, b"1")).await;
        bystander.expect(&[&speaks.ack(0x40, 1)]).await;
    }
    assert_eq!(gateway.log.count(TELEMETRY), 2 * cases.len());
    drop(bystander);
    gateway.stop().await;
}

#[tokio::test]
async fn hostile_packets_of_both_versions() {
    for speaks in BOTH {
        let none: &[u8] = if speaks == Speaks::V5 { &[0] } else { &[] };
        let empty_topic = if speaks == Speaks::V5 { PROTOCOL } else { TOPIC_NAME };
        let bad_utf8 = packet(0x30, &[&[0, 2, 0xC3, 0x28][..], none].concat());
        let cases = [
            ("a multi-level wildcard", speaks.publish("a/#", 1, 1, b""), TOPIC_NAME),
            ("a single-level wildcard", speaks.publish("+/a", 0, 0, b""), TOPIC_NAME),
            ("a topic of our own", speaks.publish("$millstream/lifecycle", 0, 0, b""), TOPIC_NAME),
            ("NUL in a topic", speaks.publish("a\0b", 0, 0, b""), MALFORMED),
            ("a topic that is not UTF-8", bad_utf8, MALFORMED),
            ("an empty topic", speaks.publish("", 0, 0, b""), empty_topic),
            ("QoS 3", speaks.publish_with(0b0110, "a", 1, none, b""), MALFORMED),
            ("QoS 0 with DUP", speaks.publish_with(0b1000, "a", 1, none, b""), MALFORMED),
            ("packet identifier 0", speaks.publish("a", 1, 0, b""), MALFORMED),
            ("a PUBLISH that ends in its topic", packet(0x30, &[0, 9, b'a']), MALFORMED),
            ("a second CONNECT", speaks.connect("hostile", true), PROTOCOL),
            ("CONNACK", packet(0x20, &[0, 0]), PROTOCOL),
            ("PUBACK", packet(0x40, &[0, 1]), PROTOCOL),
            ("PUBREC", packet(0x50, &[0, 1]), PROTOCOL),
            ("PUBCOMP", packet(0x70, &[0, 1]), PROTOCOL),
            ("SUBACK", packet(0x90, &[0, 1, 0]), PROTOCOL),
            ("UNSUBACK", packet(0xB0, &[0, 1]), PROTOCOL),
            ("PINGRESP", packet(0xD0, &[]), PROTOCOL),
            ("AUTH", packet(0xF0, &[]), PROTOCOL),
            ("packet type 0", packet(0x00, &[]), MALFORMED),
            ("wrong flags of PUBREL", packet(0x60, &[0, 1]), MALFORMED),
            ("wrong flags of SUBSCRIBE", packet(0x80, &[0, 1]), MALFORMED),
            ("wrong flags of DISCONNECT", packet(0xE1, &[]), MALFORMED),
            ("bytes behind PINGREQ", packet(0xC0, &[0]), MALFORMED),
            ("SUBSCRIBE of nothing", packet(0x82, &[&[0, 1][..], none].concat()), PROTOCOL),
            ("UNSUBSCRIBE of nothing", packet(0xA2, &[&[0, 1][..], none].concat()), PROTOCOL),
            ("PUBREL of packet identifier 0", packet(0x62, &[0, 0]), MALFORMED),
            ("bytes behind PUBREL", packet(0x62, &[0, 1, 0, 0, 0]), MALFORMED),
            ("a length of five bytes", vec![0x30, 0x80, 0x80, 0x80, 0x80, 1], MALFORMED),
            ("a length beyond the limit", vec![0x30, 0xFD, 0xFF, 0x3F], TOO_LARGE),
            ("two megabytes", speaks.publish("a", 1, 1, &vec![0; 2 << 20]), TOO_LARGE),
        ];
        check(speaks, &cases).await;
    }
}

#[tokio::test]
async fn hostile_packets_of_mqtt_5() {
    let publish = |topic: &str, properties: &[u8]| {
        let mut length = packet(0, properties);
        length.remove(0);
        Speaks::V5.publish_with(0, topic, 0, &length, b"")
    };
    let user_property = [&[0x26][..], &text("n"), &text("v")].concat();
    let long_property = [&[0x26][..], &text("n"), &text(&"v".repeat(60_000))].concat();
    let cases = [
        ("a topic alias", publish("a", &[0x23, 0, 1]), TOPIC_ALIAS),
        ("a topic alias alone", publish("", &[0x23, 0, 1]), TOPIC_ALIAS),
        ("a subscription identifier", publish("a", &[0x0B, 1]), PROTOCOL),
        ("a wildcard as response topic", publish("a", &[&[8][..], &text("r/#")].concat()), PROTOCOL),
        ("a property twice", publish("a", &[2, 0, 0, 0, 1, 2, 0, 0, 0, 1]), MALFORMED),
        ("an unknown property", publish("a", &[0x7F]), MALFORMED),
        ("a property of another packet", publish("a", &[0x11, 0, 0, 0, 1]), MALFORMED),
        ("NUL in a content type", publish("a", &[&[3][..], &text("\0")].concat()), MALFORMED),
        ("NUL in a user property", publish("a", &[&[0x26][..], &text("a\0"), &text("")].concat()), MALFORMED),
        ("properties beyond the packet", packet(0x30, &[0, 1, b'a', 9]), MALFORMED),
        ("a property beyond the properties", packet(0x30, &[0, 1, b'a', 1, 2, 0, 0, 0, 1]), MALFORMED),
        ("1025 user properties", publish("a", &user_property.repeat(1025)), QUOTA),
        ("more than 64 KiB of properties", publish("a", &long_property.repeat(2)), QUOTA),
        ("a session that is to last after all", vec![0xE0, 7, 0, 5, 0x11, 0, 0, 0, 9], PROTOCOL),
        ("bytes behind DISCONNECT", vec![0xE0, 3, 0, 0, 0], MALFORMED),
    ];
    check(Speaks::V5, &cases).await;
}

#[tokio::test]
async fn hostile_packets_of_mqtt_3_1_1() {
    check(Speaks::V3, &[("bytes behind DISCONNECT", vec![0xE0, 1, 0], MALFORMED)]).await;
}

/// A CONNECT's answer before the end: the code of its CONNACK, or none.
async fn answer(device: &mut Device, bytes: &[u8]) -> Option<u8> {
    device.try_send(bytes).await;
    let answer = device.packet().await?;
    assert_eq!((answer[0], answer[2]), (0x20, 0), "{answer:x?}");
    device.expect_end(None).await;
    Some(answer[3])
}

#[tokio::test]
async fn a_bad_connect_is_refused_with_a_code_where_there_is_one() {
    let gateway = Running::start().await;
    let with_will = |topic: &str| [text("d1"), text(topic), text("")].concat();
    let with_will_5 = |topic: &str| [&text("d1")[..], &[0], &text(topic), &text("")].concat();
    let trailing =
        |speaks: Speaks, none: &[u8]| speaks.connect_with(2, 60, none, &[&text("d1")[..], &[0]].concat());
    let long = text(&"x".repeat(1025));
    let cases = [
        ("HTTP", b"GET / HTTP/1.1\r\n\r\n".to_vec(), None),
        ("TLS", vec![0x16, 3, 1, 0, 0x20, 1], None),
        ("PUBLISH first", Speaks::V3.publish("a", 0, 0, b""), None),
        ("not MQTT", vec![0x10, 2, 0, 0], None),
        ("too large", vec![0x10, 0xFF, 0xFF, 0xFF, 0x7F], None),
        ("MQTT 3.1", packet(0x10, b"\0\x06MQIsdp\x03\x02\0\x3C\0\x02d1"), Some(1)),
        ("level 3", packet(0x10, b"\0\x04MQTT\x03\x02\0\x3C\0\x02d1"), Some(1)),
        ("level 6", packet(0x10, b"\0\x04MQTT\x06\x02\0\x3C\0\0\x02d1"), Some(0x84)),
        ("3: reserved flag", Speaks::V3.connect_with(3, 60, &[], &text("d1")), None),
        ("3: trailing byte", trailing(Speaks::V3, &[]), None),
        ("3: wildcard will", Speaks::V3.connect_with(6, 60, &[], &with_will("a/#")), None),
        (
            "3: password alone",
            Speaks::V3.connect_with(0x42, 60, &[], &[text("d1"), text("p")].concat()),
            None,
        ),
        ("3: long client identifier", Speaks::V3.connect_with(2, 60, &[], &long), Some(2)),
        ("5: reserved flag", Speaks::V5.connect_with(3, 60, &[0], &text("d1")), Some(MALFORMED)),
        ("5: trailing byte", trailing(Speaks::V5, &[0]), Some(MALFORMED)),
        ("5: ends too early", Speaks::V5.connect_with(6, 60, &[0], &text("d1")), Some(MALFORMED)),
        ("5: wildcard will", Speaks::V5.connect_with(6, 60, &[0], &with_will_5("a/#")), Some(TOPIC_NAME)),
        (
            "5: will of our own",
            Speaks::V5.connect_with(6, 60, &[0], &with_will_5("$millstream/x")),
            Some(TOPIC_NAME),
        ),
        ("5: will of QoS 3", Speaks::V5.connect_with(0x1E, 60, &[0], &with_will_5("a")), Some(MALFORMED)),
        (
            "5: NUL in the client identifier",
            Speaks::V5.connect_with(2, 60, &[0], &text("a\0")),
            Some(MALFORMED),
        ),
        ("5: long client identifier", Speaks::V5.connect_with(2, 60, &[0], &long), Some(0x85)),
        (
            "5: authentication",
            Speaks::V5.connect_with(2, 60, &[5, 0x15, 0, 2, b'm', b'd'], &text("d1")),
            Some(0x8C),
        ),
        (
            "5: authentication data",
            Speaks::V5.connect_with(2, 60, &[4, 0x16, 0, 1, 0], &text("d1")),
            Some(PROTOCOL),
        ),
    ];
    for (what, bytes, expected) in cases {
        let mut device = gateway.device().await;
        assert_eq!(answer(&mut device, &bytes).await, expected, "{what}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_client_is_sent_nothing_larger_than_it_takes() {
    let gateway = Running::start().await;
    let mut device = gateway.device().await;
    // 40 bytes: room for the CONNACK and for a DISCONNECT without its text.
    device.enter(&Speaks::V5.connect_with(2, 60, &[5, 0x27, 0, 0, 0, 40], &text("d1")), false).await;
    device.send(&Speaks::V5.publish("a/#", 0, 0, b"")).await;
    device.expect(&[&[0xE0, 2, TOPIC_NAME, 0]]).await;
    let mut device = gateway.device().await;
    device.send(&Speaks::V5.connect_with(2, 60, &[5, 0x27, 0, 0, 0, 1], &text("d2"))).await;
    device.send(&Speaks::V5.publish("a/#", 0, 0, b"")).await;
    device.expect_end(None).await;
    gateway.stop().await;
}
