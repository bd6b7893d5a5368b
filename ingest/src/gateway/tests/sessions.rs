//! Sessions: what a client finds again, and who may be the client.

use super::device::{BOTH, Speaks, text};
use super::fake_log::FakeLog;
use super::harness::{Running, TELEMETRY, settings};
use crate::gateway::GatewaySettings;
use crate::session::tests::on_failing_disk;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

#[tokio::test]
async fn session_present_is_true_also_after_a_restart() {
    for speaks in BOTH {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sessions.redb");
        let mut log: Arc<FakeLog> = Arc::default();
        // Each line is a connection of the same client: clean or not, and whether it finds its session; the gateway restarts after every line.
        for (clean, present) in
            [(false, false), (false, true), (false, true), (true, false), (false, false), (false, true)]
        {
            let gateway = Running::on_file(&path, Arc::clone(&log)).await;
            for present in [present, !clean] {
                let mut device = gateway.device().await;
                device.enter(&speaks.connect("d1", clean), present).await;
                device.send(&[0xE0, 0]).await;
                device.expect_end(None).await;
            }
            log = gateway.stop().await;
        }
    }
}

#[tokio::test]
async fn qos_2_is_logged_once_across_a_reconnect_and_a_restart() {
    for speaks in BOTH {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sessions.redb");
        let gateway = Running::on_file(&path, Arc::default()).await;
        let mut device = gateway.device().await;
        device.enter(&speaks.connect("d1", false), false).await;
        device.send(&speaks.publish("a", 2, 3, b"1")).await;
        device.expect(&[&speaks.ack(0x50, 3)]).await;
        drop(device);
        let again = speaks.publish_with(0b1100, "a", 3, speaks.no_properties(), b"1");
        let mut device = gateway.device().await;
        device.enter(&speaks.connect("d1", false), true).await;
        device.send(&again).await;
        device.expect(&[&speaks.ack(0x50, 3)]).await;
        let log = gateway.stop().await;
        let gateway = Running::on_file(&path, log).await;
        let mut device = gateway.device().await;
        device.enter(&speaks.connect("d1", false), true).await;
        device.send(&again).await;
        device.send(&speaks.release(3)).await;
        device.expect(&[&speaks.ack(0x50, 3), &speaks.ack(0x70, 3)]).await;
        let log = gateway.stop().await;
        assert_eq!(log.count(TELEMETRY), 1);
        // The release is kept as well: the identifier now stands for another message.
        let gateway = Running::on_file(&path, log).await;
        let mut device = gateway.device().await;
        device.enter(&speaks.connect("d1", false), true).await;
        device.send(&speaks.publish("a", 2, 3, b"2")).await;
        device.expect(&[&speaks.ack(0x50, 3)]).await;
        assert_eq!(gateway.stop().await.count(TELEMETRY), 2);
    }
}

#[tokio::test]
async fn a_message_under_an_open_identifier_that_is_not_sent_again_is_another_message() {
    for speaks in BOTH {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sessions.redb");
        let gateway = Running::on_file(&path, Arc::default()).await;
        let mut device = gateway.device().await;
        device.enter(&speaks.connect("d1", false), false).await;
        device.send(&speaks.publish("a", 2, 1, b"old")).await;
        device.expect(&[&speaks.ack(0x50, 1)]).await;
        drop(device);
        // The device has lost its store, and begins to count anew.
        let mut device = gateway.device().await;
        device.enter(&speaks.connect("d1", false), true).await;
        device.send(&speaks.publish("a", 2, 1, b"new")).await;
        device.expect(&[&speaks.ack(0x50, 1)]).await;
        drop(device);
        let log = gateway.stop().await;
        let gateway = Running::on_file(&path, log).await;
        let mut device = gateway.device().await;
        device.enter(&speaks.connect("d1", false), true).await;
        device.send(&speaks.publish_with(0b1100, "a", 1, speaks.no_properties(), b"new")).await;
        device.send(&speaks.release(1)).await;
        device.expect(&[&speaks.ack(0x50, 1), &speaks.ack(0x70, 1)]).await;
        let logged = gateway.log.records(TELEMETRY, 2).await;
        let values: Vec<_> = logged.iter().map(|record| &record.value[..]).collect();
        assert_eq!(values, [b"old", b"new"]);
        gateway.stop().await;
    }
}

#[tokio::test]
async fn a_clean_start_forgets_the_open_messages() {
    for speaks in BOTH {
        let gateway = Running::start().await;
        for clean in [false, true] {
            let mut device = gateway.device().await;
            device.enter(&speaks.connect("d1", clean), false).await;
            device.send(&speaks.publish("a", 2, 3, b"1")).await;
            device.expect(&[&speaks.ack(0x50, 3)]).await;
        }
        assert_eq!(gateway.stop().await.count(TELEMETRY), 2);
    }
}

#[tokio::test]
async fn a_client_that_is_cut_before_its_acknowledgement_waits_for_the_log_and_doubles_nothing() {
    for speaks in BOTH {
        let gateway = Running::start().await;
        gateway.log.hold();
        let mut device = gateway.device().await;
        device.enter(&speaks.connect("d1", false), false).await;
        device.send(&speaks.publish("a", 2, 3, b"1")).await;
        gateway.log.held(1).await;
        drop(device);
        let mut device = gateway.device().await;
        device.send(&speaks.connect("d1", false)).await;
        gateway.log.release();
        let connack = device.packet().await.unwrap();
        assert_eq!((connack[2], connack[3]), (1, 0));
        device.send(&speaks.publish_with(0b1100, "a", 3, speaks.no_properties(), b"1")).await;
        device.expect(&[&speaks.ack(0x50, 3)]).await;
        assert_eq!(gateway.stop().await.count(TELEMETRY), 1);
    }
}

#[tokio::test]
async fn the_second_connection_of_a_client_takes_over() {
    for speaks in BOTH {
        let gateway = Running::start().await;
        let mut first = gateway.device().await;
        first.enter(&speaks.connect("d1", false), false).await;
        let mut second = gateway.device().await;
        second.enter(&speaks.connect("d1", false), true).await;
        first.expect_end(speaks.code(0x8E)).await;
        second.send(&speaks.publish("a", 1, 1, b"1")).await;
        second.expect(&[&speaks.ack(0x40, 1)]).await;
        let events = gateway.lifecycle(3).await;
        assert_eq!(events[1], ("disconnect".to_owned(), "d1".to_owned(), "session_taken_over".to_owned()));
        gateway.stop().await;
    }
}

#[tokio::test]
async fn sessions_expire_by_the_clock() {
    let hour = Duration::from_secs(3600);
    for (speaks, lives) in [(Speaks::V3, 24 * 7 * hour), (Speaks::V5, hour)] {
        let gateway = Running::start().await;
        for (away, present) in
            [(Duration::ZERO, false), (lives - Duration::from_secs(1), true), (lives, false)]
        {
            gateway.clock.advance(away);
            let mut device = gateway.device().await;
            device.enter(&speaks.connect("d1", false), present).await;
            device.send(&[0xE0, 0]).await;
            device.expect_end(None).await;
        }
        gateway.stop().await;
    }
}

#[tokio::test]
async fn a_session_of_5_ends_with_the_connection_if_the_client_says_so_at_last() {
    let gateway = Running::start().await;
    let mut device = gateway.device().await;
    device.enter(&Speaks::V5.connect("d1", false), false).await;
    device.send(&[0xE0, 7, 0, 5, 0x11, 0, 0, 0, 0]).await;
    device.expect_end(None).await;
    let mut device = gateway.device().await;
    device.enter(&Speaks::V5.connect("d1", false), false).await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_client_of_5_is_told_what_it_gets() {
    let limits = GatewaySettings {
        keep_alive_max: Duration::from_secs(100),
        session_expiry_max: Duration::from_secs(1000),
        packet_max: 0x0001_0203,
        ..settings()
    };
    let gateway = Running::with(limits).await;
    for keep_alive in [0, 101] {
        let mut device = gateway.device().await;
        let connack = device
            .greet(&Speaks::V5.connect_with(0, keep_alive, &[5, 0x11, 255, 255, 255, 255], &text("")))
            .await;
        let has = |property: &[u8]| connack.windows(property.len()).any(|bytes| bytes == property);
        assert!(
            has(&[0x11, 0, 0, 3, 0xE8])
                && has(&[0x13, 0, 100])
                && has(&[0x27, 0, 1, 2, 3])
                && has(&[0x21, 4, 0]),
            "{connack:x?}"
        );
        let name =
            connack.windows(5).position(|bytes| bytes == b"auto-").expect("an assigned client identifier");
        assert_eq!((connack[name - 3], connack[name - 1]), (0x12, 37));
    }
    let mut device = gateway.device().await;
    let connack = device.greet(&Speaks::V5.connect_with(2, 100, &[0], &text("d1"))).await;
    assert!(!connack.contains(&0x13) && !connack.contains(&0x12), "{connack:x?}");
    gateway.stop().await;
}

#[tokio::test]
async fn an_empty_client_identifier_needs_a_clean_session_in_3_1_1_only() {
    let gateway = Running::start().await;
    let mut device = gateway.device().await;
    assert_eq!(device.greet(&Speaks::V3.connect("", false)).await, [0x20, 2, 0, 2]);
    device.expect_end(None).await;
    for (speaks, clean) in [(Speaks::V3, true), (Speaks::V5, true), (Speaks::V5, false)] {
        let mut device = gateway.device().await;
        device.enter(&speaks.connect("", clean), false).await;
        device.send(&speaks.publish("a", 1, 1, b"1")).await;
        device.expect(&[&speaks.ack(0x40, 1)]).await;
    }
    let keys: Vec<_> =
        gateway.log.records(TELEMETRY, 3).await.iter().map(|record| record.key.clone()).collect();
    assert!(keys.iter().all(|key| key.starts_with(b"auto-")) && keys[0] != keys[1], "{keys:?}");
    gateway.stop().await;
}

#[tokio::test]
async fn a_session_too_many_is_refused() {
    for (speaks, code) in [(Speaks::V3, 3), (Speaks::V5, 0x97)] {
        let gateway = Running::with(GatewaySettings { sessions_max: 1, ..settings() }).await;
        let mut first = gateway.device().await;
        first.enter(&speaks.connect("d1", false), false).await;
        let mut second = gateway.device().await;
        let connack = second.greet(&speaks.connect("d2", false)).await;
        assert_eq!((connack[2], connack[3]), (0, code));
        second.expect_end(None).await;
        // Who leaves nothing behind may still come, and who has a session may come back.
        let mut third = gateway.device().await;
        third.enter(&speaks.connect("d3", true), false).await;
        let mut again = gateway.device().await;
        again.enter(&speaks.connect("d1", false), true).await;
        let refused = gateway.lifecycle(2).await.remove(1);
        assert_eq!(refused, ("refused".to_owned(), "d2".to_owned(), "sessions_max".to_owned()));
        gateway.stop().await;
    }
}

#[tokio::test]
async fn without_durable_sessions_no_session_is_promised_and_no_message_of_qos_2_received() {
    for (speaks, code) in [(Speaks::V3, 3), (Speaks::V5, 0x88)] {
        let (sessions, failing) = on_failing_disk();
        let gateway = Running::over(settings(), sessions, Arc::default()).await;
        let mut device = gateway.device().await;
        device.enter(&speaks.connect("d1", false), false).await;
        failing.store(true, Ordering::SeqCst);
        device.send(&speaks.publish("a", 1, 1, b"1")).await;
        device.expect(&[&speaks.ack(0x40, 1)]).await;
        device.send(&speaks.publish("a", 2, 2, b"1")).await;
        device.expect_end(speaks.code(0x89)).await;
        let mut device = gateway.device().await;
        let connack = device.greet(&speaks.connect("d1", false)).await;
        assert_eq!((connack[2], connack[3]), (0, code));
        gateway.stop().await;
    }
}

#[tokio::test]
async fn a_take_over_that_waits_too_long_for_the_log_is_refused() {
    for (speaks, code) in [(Speaks::V3, 3), (Speaks::V5, 0x88)] {
        let gateway =
            Running::with(GatewaySettings { drain_timeout: Duration::from_millis(50), ..settings() }).await;
        gateway.log.hold();
        let mut first = gateway.device().await;
        first.enter(&speaks.connect("d1", false), false).await;
        first.send(&speaks.publish("a", 2, 2, b"1")).await;
        gateway.log.held(1).await;
        let mut second = gateway.device().await;
        let connack = second.greet(&speaks.connect("d1", false)).await;
        assert_eq!((connack[2], connack[3]), (0, code));
        gateway.log.release();
        // Connected, refused, disconnected: then the first has let go of the name.
        gateway.lifecycle(3).await;
        let mut third = gateway.device().await;
        third.enter(&speaks.connect("d1", false), true).await;
        gateway.stop().await;
    }
}
