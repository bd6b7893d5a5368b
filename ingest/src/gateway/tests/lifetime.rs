//! How connections begin and end: Wills, time limits, subscriptions, shutdown.

use super::device::{BOTH, Speaks, text};
use super::harness::{LIFECYCLE, Running, TELEMETRY, settings};
use crate::gateway::GatewaySettings;
use millstream_model::arrival::ArrivalView;
use std::time::Duration;

#[tokio::test]
async fn a_goodbye_with_will_a_violation_a_take_over_and_a_shutdown_publish_the_will() {
    let gateway = Running::start().await;
    for ending in [&[0xE0, 1, 4][..], &[0x30, 0], &Speaks::V5.connect("x", true)] {
        let mut device = gateway.device().await;
        device.enter(&Speaks::V5.connect_with_will("d1", 60), false).await;
        device.send(ending).await;
        while device.packet().await.is_some() {}
    }
    assert_eq!(gateway.log.records(TELEMETRY, 3).await.len(), 3);
    let mut first = gateway.device().await;
    first.enter(&Speaks::V5.connect_with_will("d1", 60), false).await;
    let mut second = gateway.device().await;
    second.enter(&Speaks::V5.connect_with_will("d1", 60), false).await;
    assert_eq!(gateway.log.records(TELEMETRY, 4).await.len(), 4);
    assert_eq!(gateway.stop().await.count(TELEMETRY), 5);
}

#[tokio::test]
async fn a_silent_client_is_cut_off_and_its_will_published() {
    for speaks in BOTH {
        let gateway = Running::start().await;
        let mut device = gateway.device().await;
        device.enter(&speaks.connect_with_will("d1", 1), false).await;
        device.expect_end(speaks.code(0x8D)).await;
        assert_eq!(gateway.log.records(TELEMETRY, 1).await.len(), 1);
        let events = gateway.lifecycle(2).await;
        assert_eq!(events[1], ("disconnect".to_owned(), "d1".to_owned(), "keep_alive_timeout".to_owned()));
        gateway.stop().await;
    }
}

#[tokio::test]
async fn a_connect_that_stays_incomplete_is_cut_off() {
    let gateway =
        Running::with(GatewaySettings { connect_timeout: Duration::from_millis(50), ..settings() }).await;
    let whole = Speaks::V5.connect("d1", true);
    for sent in [&[][..], &[0x10], &[0x10, 0x20, 0, 4], &whole[..whole.len() - 1]] {
        let mut device = gateway.device().await;
        device.send(sent).await;
        device.expect_end(None).await;
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_cut_off() {
    let limits = GatewaySettings { write_timeout: Duration::from_millis(200), ..settings() };
    let gateway = Running::with(limits).await;
    let mut device = gateway.device().await;
    device.enter(&Speaks::V3.connect("d1", true), false).await;
    let filters = text("a").into_iter().chain([0]).collect::<Vec<_>>().repeat(200_000);
    let subscribe = super::device::packet(0x82, &[&[0, 1][..], &filters].concat());
    let flood = async {
        loop {
            device.try_send(&subscribe).await;
            if gateway.log.count(LIFECYCLE) == 2 {
                break;
            }
        }
    };
    tokio::time::timeout(super::harness::PATIENCE, flood).await.unwrap();
    assert_eq!(gateway.lifecycle(2).await[1].2, "write_timeout");
    gateway.stop().await;
}

#[tokio::test]
async fn subscribing_fails_and_publishing_goes_on() {
    for speaks in BOTH {
        let gateway = Running::start().await;
        let mut device = gateway.device().await;
        device.enter(&speaks.connect("d1", true), false).await;
        let none: &[u8] = if speaks == Speaks::V5 { &[0] } else { &[] };
        let two_filters = [&[0, 1][..], none, &text("a/#"), &[1], &text("$share/g/b"), &[0]].concat();
        device.send(&super::device::packet(0x82, &two_filters)).await;
        let suback = device.packet().await.unwrap();
        let refused = if speaks == Speaks::V5 { [0x83, 0x83] } else { [0x80, 0x80] };
        assert_eq!((suback[0], &suback[suback.len() - 2..]), (0x90, &refused[..]));
        device.send(&super::device::packet(0xA2, &[&[0, 2][..], none, &text("a/#")].concat())).await;
        let unsuback: &[u8] = if speaks == Speaks::V5 { &[0xB0, 4, 0, 2, 0, 0x11] } else { &[0xB0, 2, 0, 2] };
        device.expect(&[unsuback]).await;
        device.send(&speaks.publish("a", 1, 3, b"1")).await;
        device.expect(&[&speaks.ack(0x40, 3)]).await;
        gateway.stop().await;
    }
}

#[tokio::test]
async fn what_was_appended_before_the_shutdown_is_acknowledged() {
    for speaks in BOTH {
        let mut gateway = Running::start().await;
        gateway.log.hold();
        let mut device = gateway.device().await;
        device.enter(&speaks.connect("d1", false), false).await;
        device.send(&speaks.publish("a", 1, 1, b"1")).await;
        device.send(&speaks.publish("a", 2, 2, b"2")).await;
        gateway.log.held(2).await;
        gateway.shutdown.cancel();
        gateway.log.release();
        device.expect(&[&speaks.ack(0x40, 1), &speaks.ack(0x50, 2)]).await;
        device.expect_end(speaks.code(0x8B)).await;
        drop(device);
        gateway.stopped().await;
        assert_eq!(gateway.lifecycle(2).await[1].2, "server_shutting_down");
    }
}

#[tokio::test]
async fn a_log_that_never_answers_does_not_hold_the_shutdown() {
    let mut gateway =
        Running::with(GatewaySettings { drain_timeout: Duration::from_millis(50), ..settings() }).await;
    gateway.log.hold();
    let mut device = gateway.device().await;
    device.enter(&Speaks::V5.connect("d1", false), false).await;
    device.send(&Speaks::V5.publish("a", 2, 1, b"1")).await;
    gateway.log.held(1).await;
    gateway.shutdown.cancel();
    device.expect_end(Some(0x8B)).await;
    gateway.stopped().await;
}

#[tokio::test]
async fn connections_beyond_the_limit_are_refused_and_told_so() {
    for (speaks, code) in [(Speaks::V3, 3), (Speaks::V5, 0x97)] {
        let gateway = Running::with(GatewaySettings { connections_max: 1, ..settings() }).await;
        let mut first = gateway.device().await;
        first.enter(&speaks.connect("d1", true), false).await;
        let mut second = gateway.device().await;
        let connack = second.greet(&speaks.connect("d2", true)).await;
        assert_eq!((connack[0], connack[3]), (0x20, code));
        second.expect_end(None).await;
        first.expect_nothing().await;
        gateway.stop().await;
    }
}

#[tokio::test]
async fn a_disconnect_counts_the_messages_that_came_with_it() {
    for speaks in BOTH {
        let gateway = Running::start().await;
        gateway.log.hold();
        let mut device = gateway.device().await;
        device.enter(&speaks.connect("d1", true), false).await;
        let publish = speaks.publish("a", 0, 0, b"1");
        device.send(&[&publish[..], &publish, &[0xE0, 0]].concat()).await;
        device.expect_end(None).await;
        let event: serde_json::Value =
            serde_json::from_slice(&gateway.log.records(LIFECYCLE, 2).await[1].value).unwrap();
        assert_eq!((&event["event"], &event["messages"]), (&"disconnect".into(), &2.into()));
        gateway.log.release();
        gateway.stop().await;
    }
}

#[tokio::test]
async fn lifecycle_events_are_records_with_a_key() {
    let gateway = Running::start().await;
    let mut device = gateway.device().await;
    device.enter(&Speaks::V5.connect("d1", false), false).await;
    device.send(&Speaks::V5.publish("a", 1, 3, b"1")).await;
    device.expect(&[&Speaks::V5.ack(0x40, 3)]).await;
    device.send(&[0xE0, 0]).await;
    device.expect_end(None).await;
    let records = gateway.log.records(LIFECYCLE, 2).await;
    let events: Vec<serde_json::Value> =
        records.iter().map(|record| serde_json::from_slice(&record.value).unwrap()).collect();
    let common = serde_json::json!({"ts": "2023-11-14T22:13:20.000000Z", "client_id": "d1", "protocol": "5", "address": events[0]["address"]});
    let with = |mut more: serde_json::Value| {
        more.as_object_mut().unwrap().extend(common.as_object().unwrap().clone());
        more
    };
    assert_eq!(
        events[0],
        with(serde_json::json!({"event": "connect", "reason": "accepted", "session_present": false}))
    );
    assert_eq!(
        events[1],
        with(serde_json::json!({"event": "disconnect", "reason": "disconnected", "messages": 1}))
    );
    assert!(
        records
            .iter()
            .all(|record| record.key == "d1" && ArrivalView(record).topic() == "$millstream/lifecycle")
    );
    gateway.stop().await;
}
