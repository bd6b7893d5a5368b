//! What is acknowledged, when, and in which order.

use super::device::{BOTH, Device, PING, PONG, Speaks, text};
use super::harness::{PATIENCE, Running, TELEMETRY, settings};
use crate::gateway::GatewaySettings;
use millstream_log::LogError;
use millstream_model::arrival::{self, ArrivalView};
use std::io;
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

async fn entered(gateway: &Running, speaks: Speaks, client_id: &str) -> Device {
    let mut device = gateway.device().await;
    device.enter(&speaks.connect(client_id, true), false).await;
    device
}

#[tokio::test]
async fn nothing_is_acknowledged_before_the_log_has_it() {
    for speaks in BOTH {
        for (qos, ack) in [(1, 0x40), (2, 0x50)] {
            let gateway = Running::start().await;
            gateway.log.hold();
            let mut device = entered(&gateway, speaks, "d1").await;
            device.send(&speaks.publish("a", qos, 7, b"1")).await;
            gateway.log.held(1).await;
            device.expect_nothing().await;
            gateway.log.release();
            device.expect(&[&speaks.ack(ack, 7)]).await;
            gateway.stop().await;
        }
    }
}

#[tokio::test]
async fn acknowledgements_keep_the_order_of_the_messages() {
    for speaks in BOTH {
        let gateway = Running::start().await;
        gateway.log.hold();
        let mut device = entered(&gateway, speaks, "d1").await;
        for id in 1..=3 {
            device.send(&speaks.publish("a", 1, id, b"1")).await;
        }
        gateway.log.held(3).await;
        gateway.log.answer(2, None);
        gateway.log.answer(1, None);
        device.expect_nothing().await;
        gateway.log.answer(0, None);
        device.expect(&[&speaks.ack(0x40, 1), &speaks.ack(0x40, 2), &speaks.ack(0x40, 3)]).await;
        gateway.stop().await;
    }
}

#[tokio::test]
async fn qos_0_is_logged_without_an_answer() {
    for speaks in BOTH {
        let gateway = Running::start().await;
        let mut device = entered(&gateway, speaks, "d1").await;
        device.send(&speaks.publish("a", 0, 0, b"1")).await;
        device.expect_nothing().await;
        assert_eq!(gateway.log.records(TELEMETRY, 1).await[0].value, "1");
        gateway.stop().await;
    }
}

#[tokio::test]
async fn qos_2_is_logged_once_however_often_it_is_sent() {
    for speaks in BOTH {
        for clean in [true, false] {
            let gateway = Running::start().await;
            let mut device = gateway.device().await;
            device.enter(&speaks.connect("d1", clean), false).await;
            for _ in 0..3 {
                device.send(&speaks.publish("a", 2, 9, b"1")).await;
                device.expect(&[&speaks.ack(0x50, 9)]).await;
            }
            assert_eq!(gateway.log.count(TELEMETRY), 1);
            device.send(&speaks.release(9)).await;
            device.expect(&[&speaks.ack(0x70, 9)]).await;
            // Released, the identifier is free for the next message.
            device.send(&speaks.publish("a", 2, 9, b"2")).await;
            device.expect(&[&speaks.ack(0x50, 9)]).await;
            assert_eq!(gateway.log.count(TELEMETRY), 2);
            gateway.stop().await;
        }
    }
}

#[tokio::test]
async fn qos_2_sent_again_while_under_way_is_one_message() {
    let gateway = Running::start().await;
    gateway.log.hold();
    let mut device = entered(&gateway, Speaks::V3, "d1").await;
    device.send(&Speaks::V3.publish("a", 2, 9, b"1")).await;
    device.send(&Speaks::V3.publish("a", 2, 9, b"1")).await;
    device.expect_nothing().await;
    assert_eq!(gateway.log.count(TELEMETRY), 1);
    gateway.log.release();
    device.expect(&[&Speaks::V3.ack(0x50, 9)]).await;
    gateway.stop().await;
}

#[tokio::test]
async fn releasing_what_is_not_open_completes_and_says_so() {
    for (speaks, expected) in [(Speaks::V3, vec![0x70, 2, 0, 5]), (Speaks::V5, vec![0x70, 4, 0, 5, 0x92, 0])]
    {
        let gateway = Running::start().await;
        let mut device = entered(&gateway, speaks, "d1").await;
        device.send(&speaks.release(5)).await;
        device.expect(&[&expected]).await;
        gateway.stop().await;
    }
}

#[tokio::test]
async fn a_message_that_the_log_refuses_closes_the_connection_unacknowledged() {
    let full = LogError::Full { path: PathBuf::from("log"), free: 1, reserve: 2 };
    let broken = LogError::Io {
        action: "write",
        path: PathBuf::from("log"),
        source: Arc::new(io::Error::other("broken")),
    };
    for speaks in BOTH {
        for (failure, code) in [(&full, 0x97), (&broken, 0x89)] {
            for qos in [0, 1, 2] {
                let gateway = Running::start().await;
                let mut device = entered(&gateway, speaks, "d1").await;
                gateway.log.fail(Some(failure.clone()));
                device.send(&speaks.publish("a", qos, 1, b"1")).await;
                device.expect_end(speaks.code(code)).await;
                gateway.log.fail(None);
                let mut device = entered(&gateway, speaks, "d1").await;
                device.send(&speaks.publish("a", 1, 1, b"1")).await;
                device.expect(&[&speaks.ack(0x40, 1)]).await;
                gateway.stop().await;
            }
        }
    }
}

#[tokio::test]
async fn what_was_in_the_log_before_a_failure_is_acknowledged() {
    let gateway = Running::start().await;
    gateway.log.hold();
    let mut device = entered(&gateway, Speaks::V5, "d1").await;
    for id in 1..=2 {
        device.send(&Speaks::V5.publish("a", 1, id, b"1")).await;
    }
    gateway.log.held(2).await;
    gateway.log.answer(0, None);
    gateway.log.answer(0, Some(LogError::Unknown { detail: "test".to_owned() }));
    device.expect(&[&Speaks::V5.ack(0x40, 1)]).await;
    device.expect_end(Some(0x89)).await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_client_of_3_1_1_waits_at_the_limit_and_goes_on() {
    let limit = NonZeroU16::new(2).unwrap();
    let gateway = Running::with(GatewaySettings { in_flight_max: limit, ..settings() }).await;
    gateway.log.hold();
    let mut device = entered(&gateway, Speaks::V3, "d1").await;
    for id in 1..=5 {
        device.send(&Speaks::V3.publish("a", 1, id, b"1")).await;
    }
    device.send(PING).await;
    gateway.log.held(2).await;
    assert_eq!(gateway.log.count(TELEMETRY), 2);
    gateway.log.answer(0, None);
    device.expect(&[&Speaks::V3.ack(0x40, 1)]).await;
    gateway.log.held(2).await;
    assert_eq!(gateway.log.count(TELEMETRY), 3);
    gateway.log.release();
    for id in 2..=4 {
        device.expect(&[&Speaks::V3.ack(0x40, id)]).await;
    }
    let (fifth, pong) = (device.packet().await.unwrap(), device.packet().await.unwrap());
    let mut rest = [fifth, pong];
    rest.sort();
    assert_eq!(rest, [Speaks::V3.ack(0x40, 5), PONG.to_vec()]);
    gateway.stop().await;
}

#[tokio::test]
async fn a_client_of_5_that_exceeds_the_receive_maximum_is_cut_off() {
    for qos in [1, 2] {
        let limit = NonZeroU16::new(2).unwrap();
        let gateway = Running::with(GatewaySettings { in_flight_max: limit, ..settings() }).await;
        gateway.log.hold();
        let mut device = gateway.device().await;
        let connack = device.greet(&Speaks::V5.connect("d1", true)).await;
        assert!(connack.windows(3).any(|property| property == [0x21, 0, 2]), "{connack:x?}");
        for id in 1..=3 {
            device.send(&Speaks::V5.publish("a", qos, id, b"1")).await;
        }
        gateway.log.held(2).await;
        gateway.log.release();
        let ack = if qos == 1 { 0x40 } else { 0x50 };
        device.expect(&[&Speaks::V5.ack(ack, 1), &Speaks::V5.ack(ack, 2)]).await;
        device.expect_end(Some(0x93)).await;
        assert_eq!(gateway.log.count(TELEMETRY), 2);
        gateway.stop().await;
    }
}

#[tokio::test]
async fn bytes_under_way_are_bounded_over_all_connections() {
    let bounded = GatewaySettings { in_flight_bytes: 5000, ..settings() };
    let gateway = Running::with(bounded).await;
    gateway.log.hold();
    let mut devices = Vec::new();
    for client_id in ["d1", "d2", "d3"] {
        let mut device = entered(&gateway, Speaks::V3, client_id).await;
        device.send(&Speaks::V3.publish("a", 1, 1, &[0; 3000])).await;
        devices.push(device);
    }
    for appended in 1..=3 {
        gateway.log.held(1).await;
        assert_eq!(gateway.log.count(TELEMETRY), appended);
        gateway.log.answer(0, None);
    }
    for device in &mut devices {
        device.expect(&[&Speaks::V3.ack(0x40, 1)]).await;
    }
    gateway.stop().await;
}

#[tokio::test]
async fn long_packets_take_turns_and_one_that_does_not_come_to_its_end_is_cut_off() {
    for speaks in BOTH {
        let bounded = GatewaySettings {
            undecoded_bytes: 20_000,
            packet_timeout: Duration::from_millis(200),
            linger_timeout: PATIENCE,
            ..settings()
        };
        let gateway = Running::with(bounded).await;
        let long = speaks.publish("a", 1, 1, &[0; 15_000]);
        let mut stalls = entered(&gateway, speaks, "stalls").await;
        stalls.send(&long[..10_000]).await;
        let mut devices = Vec::new();
        for client_id in ["d1", "d2", "d3"] {
            let mut device = entered(&gateway, speaks, client_id).await;
            device.send(&long).await;
            devices.push(device);
        }
        // What is short needs no turn.
        let mut short = entered(&gateway, speaks, "short").await;
        short.send(&speaks.publish("a", 1, 1, b"1")).await;
        short.expect(&[&speaks.ack(0x40, 1)]).await;
        for device in &mut devices {
            device.expect(&[&speaks.ack(0x40, 1)]).await;
        }
        stalls.expect_end(speaks.code(0x83)).await;
        drop(stalls);
        // One that is longer than all the room takes all of it.
        devices[0].send(&speaks.publish("a", 1, 2, &[0; 50_000])).await;
        devices[0].expect(&[&speaks.ack(0x40, 2)]).await;
        assert_eq!(gateway.log.count(TELEMETRY), 5);
        drop((devices, short));
        gateway.stop().await;
    }
}

#[tokio::test]
async fn the_record_says_how_the_message_came() {
    let gateway = Running::start().await;
    let mut device = entered(&gateway, Speaks::V5, "client").await;
    let mut properties = vec![0];
    properties.extend([2, 0, 0, 0, 0]);
    properties.extend([&[3][..], &text("application/json")].concat());
    for (name, value) in [("traceparent", "00-1"), ("traceparent", "00-2")] {
        properties.extend([&[0x26][..], &text(name), &text(value)].concat());
    }
    properties[0] = u8::try_from(properties.len() - 1).unwrap();
    device.send(&Speaks::V5.publish_with(0b1011, "devices/d7/telemetry", 1, &properties, b"{}")).await;
    device.expect(&[&Speaks::V5.ack(0x40, 1)]).await;
    let record = gateway.log.records(TELEMETRY, 1).await.remove(0);
    let expected = [
        (arrival::TOPIC, "devices/d7/telemetry"),
        (arrival::QOS, "1"),
        (arrival::RETAIN, "1"),
        (arrival::DUP, "1"),
        (arrival::RECEIVED_AT, "2023-11-14T22:13:20.000000Z"),
        (arrival::CONTENT_TYPE, "application/json"),
        ("traceparent", "00-1"),
        ("traceparent", "00-2"),
    ];
    let headers: Vec<_> = record
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), std::str::from_utf8(value).unwrap()))
        .collect();
    assert_eq!(headers, expected);
    assert_eq!((&record.key[..], &record.value[..]), (&b"d7"[..], &b"{}"[..]));
    gateway.stop().await;
}

#[tokio::test]
async fn a_payload_that_is_too_large_is_kept_in_part_and_acknowledged() {
    let gateway = Running::start().await;
    let mut device = entered(&gateway, Speaks::V3, "d1").await;
    for (length, kept, truncated_from) in
        [(131_072, 131_072, None), (131_073, 65_536, Some(131_073)), (900_000, 65_536, Some(900_000))]
    {
        device.send(&Speaks::V3.publish("a", 1, 1, &vec![7; length])).await;
        device.expect(&[&Speaks::V3.ack(0x40, 1)]).await;
        let record = gateway.log.records(TELEMETRY, 1).await.pop().unwrap();
        assert_eq!((record.value.len(), ArrivalView(&record).truncated_from()), (kept, truncated_from));
    }
    gateway.stop().await;
}

#[tokio::test]
async fn the_observer_hears_of_a_topic_once() {
    let gateway = Running::start().await;
    for client_id in ["d1", "d2"] {
        let mut device = entered(&gateway, Speaks::V3, client_id).await;
        for topic in ["a", "devices/x/telemetry", "a"] {
            device.send(&Speaks::V3.publish(topic, 0, 0, b"1")).await;
        }
        device.expect_nothing().await;
    }
    let seen = gateway
        .seen
        .0
        .lock()
        .unwrap()
        .iter()
        .map(|(topic, route)| (topic.clone(), route.device_id.clone()))
        .collect::<Vec<_>>();
    assert_eq!(seen, [("a".to_owned(), "d1".to_owned()), ("devices/x/telemetry".to_owned(), "x".to_owned())]);
    gateway.stop().await;
}
