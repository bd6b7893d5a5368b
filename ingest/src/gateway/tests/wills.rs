//! Wills: who leaves one, and when it is published.

use super::device::{BOTH, Device, Speaks, text};
use super::harness::{Running, TELEMETRY, settings};
use crate::gateway::GatewaySettings;
use millstream_model::arrival::ArrivalView;

/// A CONNECT of MQTT 5 with a session of an hour and a Will that waits for so many seconds.
fn connect_with_delay(client_id: &str, clean: bool, session: bool, delay: u32) -> Vec<u8> {
    let session: &[u8] = if session { &[5, 0x11, 0, 0, 0x0E, 0x10] } else { &[0] };
    let delay = [&[5, 0x18][..], &delay.to_be_bytes()].concat();
    let payload = [text(client_id), delay, text("wills"), text("gone")].concat();
    Speaks::V5.connect_with(if clean { 0b0110 } else { 0b0100 }, 60, session, &payload)
}

async fn dies(gateway: &Running, connect: &[u8]) {
    let mut device: Device = gateway.device().await;
    device.greet(connect).await;
    drop(device);
}

#[tokio::test]
async fn a_client_that_dies_leaves_its_will_and_one_that_says_goodbye_does_not() {
    for speaks in BOTH {
        let gateway = Running::start().await;
        let mut leaves = gateway.device().await;
        leaves.enter(&speaks.connect_with_will("leaves", 60), false).await;
        leaves.send(&[0xE0, 0]).await;
        leaves.expect_end(None).await;
        let mut dies = gateway.device().await;
        dies.enter(&speaks.connect_with_will("dies", 60), false).await;
        drop(dies);
        let record = gateway.log.records(TELEMETRY, 1).await.remove(0);
        assert_eq!(
            (ArrivalView(&record).topic(), &record.value[..], &record.key[..]),
            ("wills/dies", &b"gone"[..], &b"dies"[..])
        );
        assert_eq!(gateway.stop().await.count(TELEMETRY), 1);
    }
}

#[tokio::test]
async fn a_client_that_comes_back_to_its_session_takes_back_a_will_that_waits() {
    let gateway = Running::start().await;
    dies(&gateway, &connect_with_delay("d1", true, true, 3600)).await;
    let mut device = gateway.device().await;
    device.enter(&Speaks::V5.connect("d1", false), true).await;
    device.send(&[0xE0, 0]).await;
    device.expect_end(None).await;
    assert_eq!(gateway.stop().await.count(TELEMETRY), 0);
}

#[tokio::test]
async fn a_will_that_waits_is_published_when_its_delay_or_its_session_or_the_gateway_ends() {
    let gateway = Running::start().await;
    dies(&gateway, &connect_with_delay("delay", true, true, 1)).await;
    assert_eq!(gateway.log.records(TELEMETRY, 1).await[0].key, "delay");
    dies(&gateway, &connect_with_delay("no session", true, false, 3600)).await;
    assert_eq!(gateway.log.records(TELEMETRY, 2).await[1].key, "no session");
    dies(&gateway, &connect_with_delay("session", true, true, 3600)).await;
    let mut device = gateway.device().await;
    device.enter(&Speaks::V5.connect("session", true), false).await;
    assert_eq!(gateway.log.records(TELEMETRY, 3).await[2].key, "session");
    dies(&gateway, &connect_with_delay("gateway", true, true, 3600)).await;
    let log = gateway.stop().await;
    assert_eq!(log.records(TELEMETRY, 4).await[3].key, "gateway");
}

#[tokio::test]
async fn a_will_that_finds_no_room_refuses_its_client() {
    for (speaks, code) in [(Speaks::V3, 3), (Speaks::V5, 0x97)] {
        let gateway = Running::with(GatewaySettings { will_bytes: 20, ..settings() }).await;
        let mut first = gateway.device().await;
        first.enter(&speaks.connect_with_will("d1", 60), false).await;
        let mut second = gateway.device().await;
        let connack = second.greet(&speaks.connect_with_will("d2", 60)).await;
        assert_eq!((connack[0], connack[3]), (0x20, code));
        second.expect_end(None).await;
        let mut third = gateway.device().await;
        third.enter(&speaks.connect("d3", true), false).await;
        gateway.stop().await;
    }
}
