//! Who is let in, what each may publish to, and whose a client identifier is.

use super::device::{BOTH, Device, Speaks, text};
use super::fake_log::FakeLog;
use super::harness::{LIFECYCLE, PATIENCE, Running, TELEMETRY, settings};
use crate::identity::Access;
use crate::identity::password::tests::cheap;
use crate::identity::tests::Fleet;
use crate::session::Sessions;
use std::sync::Arc;

/// A CONNECT with user and password.
fn connect(speaks: Speaks, client_id: &str, clean: bool, user: &str, password: &str) -> Vec<u8> {
    let lasting: &[u8] =
        if speaks == Speaks::V5 && !clean { &[5, 0x11, 0, 0, 0x0E, 0x10] } else { speaks.no_properties() };
    let payload = [text(client_id), text(user), text(password)].concat();
    speaks.connect_with(0b1100_0000 | u8::from(clean) << 1, 60, lasting, &payload)
}

/// The credentials of these devices, whose passwords are their names.
fn entries(names: &[&str], more: &str) -> String {
    let entry = |name: &&str| format!("[device.{name}]\npassword = '{}'\n{more}\n", cheap(name).expose());
    names.iter().map(entry).collect()
}

async fn gateway(fleet: &Fleet) -> Running {
    let access = Access::open(fleet.settings(), None).unwrap();
    Running::knowing(settings(), Sessions::in_memory().unwrap(), Arc::default(), access).await
}

async fn enter(gateway: &Running, speaks: Speaks, client_id: &str, clean: bool, user: &str) -> Device {
    let mut device = gateway.device().await;
    let answer = device.greet(&connect(speaks, client_id, clean, user, user)).await;
    assert_eq!(answer[3], 0, "{answer:x?}");
    device
}

/// The CONNACK's code.
async fn refused(gateway: &Running, connect: &[u8]) -> u8 {
    let mut device = gateway.device().await;
    let answer = device.greet(connect).await;
    assert_eq!(device.packet().await, None);
    answer[3]
}

#[tokio::test]
async fn who_shows_no_right_credential_is_refused_and_the_lifecycle_says_why() {
    for (speaks, wrong, nobody, identifier) in [(Speaks::V3, 4, 5, 2), (Speaks::V5, 0x86, 0x87, 0x85)] {
        let fleet = Fleet::new();
        fleet.know(&entries(&["d1", "d2"], ""));
        let gateway = gateway(&fleet).await;
        assert_eq!(refused(&gateway, &connect(speaks, "d1", true, "d1", "wrong")).await, wrong);
        assert_eq!(refused(&gateway, &connect(speaks, "d9", true, "d9", "d9")).await, wrong);
        assert_eq!(refused(&gateway, &speaks.connect("d1", true)).await, nobody);
        assert_eq!(refused(&gateway, &connect(speaks, "d2", true, "d1", "d1")).await, identifier);
        drop(enter(&gateway, speaks, "d1", true, "d1").await);
        let reasons: Vec<_> = gateway.lifecycle(6).await.into_iter().map(|(_, _, reason)| reason).collect();
        let expected = [
            "wrong_password",
            "unknown_user",
            "no_credential",
            "client_identifier_not_its_own",
            "accepted",
            "connection_closed",
        ];
        assert_eq!(reasons, expected);
        gateway.stop().await;
    }
}

#[tokio::test]
async fn a_message_on_a_foreign_topic_is_denied_in_its_turn_and_never_logged() {
    let fleet = Fleet::new();
    fleet.know(&entries(&["d1"], ""));
    let gateway = gateway(&fleet).await;
    let mut device = enter(&gateway, Speaks::V5, "d1", true, "d1").await;
    let publish = |topic, qos, id| Speaks::V5.publish(topic, qos, id, b"x");
    device.send(&publish("devices/d1/telemetry", 1, 1)).await;
    device.send(&publish("devices/d2/telemetry", 1, 2)).await;
    device.send(&publish("devices/d2/telemetry", 0, 0)).await;
    device.send(&publish("devices/d2/telemetry", 2, 3)).await;
    device.send(&publish("devices/d1/telemetry", 2, 4)).await;
    device.expect(&[&Speaks::V5.ack(0x40, 1)]).await;
    for (kind, id) in [(0x40, 2), (0x50, 3)] {
        let denied = device.packet().await.unwrap();
        assert_eq!((denied[0], denied[3], denied[4]), (kind, id, 0x87), "{denied:x?}");
    }
    device.expect(&[&Speaks::V5.ack(0x50, 4)]).await;
    // A denied identifier is free again.
    device.send(&publish("devices/d1/telemetry", 2, 3)).await;
    device.expect(&[&Speaks::V5.ack(0x50, 3)]).await;
    device.send(&Speaks::V5.release(3)).await;
    device.expect(&[&Speaks::V5.ack(0x70, 3)]).await;
    device.send(&[0xE0, 0]).await;
    device.expect_end(None).await;
    assert_eq!(gateway.log.records(TELEMETRY, 3).await.len(), 3);
    let events = gateway.log.records(LIFECYCLE, 3).await;
    let events: Vec<serde_json::Value> =
        events.iter().map(|event| serde_json::from_slice(&event.value).unwrap()).collect();
    assert_eq!(
        (&events[1]["event"], &events[1]["detail"]),
        (&"denied".into(), &"devices/d2/telemetry".into())
    );
    assert_eq!(
        (&events[2]["denied"], &events[2]["messages"], &events[2]["identity"]),
        (&3.into(), &3.into(), &"d1".into())
    );
    assert_eq!(gateway.stop().await.count(TELEMETRY), 3);
}

#[tokio::test]
async fn in_3_1_1_a_foreign_topic_ends_the_connection_after_what_came_before() {
    for qos in [0, 1, 2] {
        let fleet = Fleet::new();
        fleet.know(&entries(&["d1"], ""));
        let gateway = gateway(&fleet).await;
        let mut device = enter(&gateway, Speaks::V3, "d1", true, "d1").await;
        device.send(&Speaks::V3.publish("devices/d1/telemetry", 1, 1, b"x")).await;
        device.send(&Speaks::V3.publish("devices/d2/telemetry", qos, 2, b"x")).await;
        device.expect(&[&Speaks::V3.ack(0x40, 1)]).await;
        device.expect_end(None).await;
        assert_eq!(gateway.lifecycle(3).await[2].2, "topic_not_authorized");
        assert_eq!(gateway.stop().await.count(TELEMETRY), 1);
    }
}

#[tokio::test]
async fn a_will_on_a_foreign_topic_is_refused_with_its_connect() {
    let fleet = Fleet::new();
    fleet.know(&entries(&["d1"], ""));
    let gateway = gateway(&fleet).await;
    for (speaks, code) in [(Speaks::V3, 5), (Speaks::V5, 0x87)] {
        for (topic, code) in [("devices/d2/will", code), ("devices/d1/will", 0)] {
            let payload = [
                text("d1"),
                speaks.no_properties().to_vec(),
                text(topic),
                text("gone"),
                text("d1"),
                text("d1"),
            ]
            .concat();
            let connect = speaks.connect_with(0b1100_1110, 60, speaks.no_properties(), &payload);
            let mut device = gateway.device().await;
            assert_eq!(device.greet(&connect).await[3], code, "{topic}");
        }
    }
    assert_eq!(gateway.log.records(TELEMETRY, 2).await.len(), 2);
    assert_eq!(gateway.stop().await.count(TELEMETRY), 2);
}

#[tokio::test]
async fn nobody_takes_over_the_connection_or_the_session_of_another() {
    for speaks in BOTH {
        let fleet = Fleet::new();
        fleet.know(&entries(&["d1", "d2"], "client_id = '*'"));
        let gateway = gateway(&fleet).await;
        let code = if speaks == Speaks::V5 { 0x85 } else { 2 };
        let mut device = enter(&gateway, speaks, "shared", false, "d1").await;
        for clean in [true, false] {
            assert_eq!(refused(&gateway, &connect(speaks, "shared", clean, "d2", "d2")).await, code);
        }
        device.expect_nothing().await;
        drop(device);
        gateway.lifecycle(4).await;
        assert_eq!(refused(&gateway, &connect(speaks, "shared", true, "d2", "d2")).await, code);
        let mut again = gateway.device().await;
        again.enter(&connect(speaks, "shared", false, "d1", "d1"), true).await;
        // The same device takes its own connection over.
        let mut third = gateway.device().await;
        third.enter(&connect(speaks, "shared", false, "d1", "d1"), true).await;
        again.expect_end(speaks.code(0x8E)).await;
        assert_eq!(gateway.lifecycle(2).await[1].2, "client_identifier_of_another");
        gateway.stop().await;
    }
}

#[tokio::test]
async fn a_revoked_device_is_disconnected_and_the_others_are_not() {
    for speaks in BOTH {
        let fleet = Fleet::new();
        let (first, others) = (entries(&["d1"], ""), entries(&["d2", "d3"], ""));
        fleet.know(&[&first[..], &others].concat());
        let gateway = gateway(&fleet).await;
        let mut one = enter(&gateway, speaks, "d1", true, "d1").await;
        let mut two = enter(&gateway, speaks, "d2", true, "d2").await;
        fleet.know("[device.d1]\nbroken");
        fleet.know(&[&first[..], "revoked = true\n", &others].concat());
        one.expect_end(speaks.code(0x98)).await;
        two.send(&speaks.publish("devices/d2/telemetry", 1, 7, b"x")).await;
        two.expect(&[&speaks.ack(0x40, 7)]).await;
        let banned = if speaks == Speaks::V5 { 0x8A } else { 5 };
        assert_eq!(refused(&gateway, &connect(speaks, "d1", true, "d1", "d1")).await, banned);
        drop(enter(&gateway, speaks, "d3", true, "d3").await);
        let events = gateway.lifecycle(4).await;
        assert_eq!((events[2].1.as_str(), events[2].2.as_str()), ("d1", "device_revoked"));
        gateway.stop().await;
    }
}

#[tokio::test]
async fn whoever_may_not_be_here_any_more_has_no_last_word() {
    for speaks in BOTH {
        let fleet = Fleet::new();
        fleet.know(&entries(&["d1"], ""));
        let gateway = gateway(&fleet).await;
        let will = [text("d1"), speaks.no_properties().to_vec(), text("devices/d1/telemetry"), text("gone")];
        let payload = [will.concat(), text("d1"), text("d1")].concat();
        let mut device = gateway.device().await;
        let connect = speaks.connect_with(0b1100_1110, 60, speaks.no_properties(), &payload);
        assert_eq!(device.greet(&connect).await[3], 0);
        fleet.know(&entries(&["d1"], "revoked = true"));
        device.expect_end(speaks.code(0x98)).await;
        assert_eq!(gateway.stop().await.count(TELEMETRY), 0);
    }
}

/// A CONNECT of MQTT 5 with a session of an hour and a Will that waits for a minute.
fn connect_with_waiting_will(name: &str) -> Vec<u8> {
    let will = [text(name), vec![5, 0x18, 0, 0, 0, 60], text(&format!("devices/{name}/telemetry"))];
    let payload = [will.concat(), text("gone"), text(name), text(name)].concat();
    Speaks::V5.connect_with(0b1100_1110, 60, &[5, 0x11, 0, 0, 0x0E, 0x10], &payload)
}

#[tokio::test]
async fn a_will_that_waits_is_dropped_if_who_left_it_is_revoked_or_changed_meanwhile() {
    let fleet = Fleet::new();
    fleet.know(&entries(&["d1", "d2", "d3", "watch"], ""));
    let gateway = gateway(&fleet).await;
    for name in ["d1", "d2", "d3"] {
        let mut device = gateway.device().await;
        assert_eq!(device.greet(&connect_with_waiting_will(name)).await[3], 0);
        // Cut, and not said goodbye.
        drop(device);
    }
    gateway.lifecycle(6).await;
    let mut watch = enter(&gateway, Speaks::V5, "watch", true, "watch").await;
    // The second device gets another hash of its password: it is another credential.
    let (revoked, others) = (entries(&["d1", "watch"], "revoked = true"), entries(&["d2"], ""));
    let unchanged = std::fs::read_to_string(fleet.credentials()).unwrap();
    let third = unchanged.find("[device.d3]").unwrap()..unchanged.find("[device.watch]").unwrap();
    fleet.know(&[&revoked, &others, &unchanged[third]].concat());
    // This one was told, so the change is known.
    watch.expect_end(Speaks::V5.code(0x98)).await;
    // Its session is new, so that the Will of the old one would be published now.
    drop(enter(&gateway, Speaks::V5, "d2", true, "d2").await);
    assert_eq!(gateway.log.count(TELEMETRY), 0);
    let log = gateway.stop().await;
    let wills = log.records(TELEMETRY, 1).await;
    assert_eq!((wills.len(), &wills[0].key[..]), (1, &b"d3"[..]));
    let events = log.records(LIFECYCLE, 0).await;
    let events: Vec<serde_json::Value> =
        events.iter().map(|event| serde_json::from_slice(&event.value).unwrap()).collect();
    let denied: Vec<_> = events
        .iter()
        .filter(|event| event["event"] == "denied")
        .map(|event| ["client_id", "reason", "detail", "identity"].map(|key| event[key].as_str().unwrap()))
        .collect();
    let changed = "its Will on devices/d2/telemetry: the device's credential was changed or taken back";
    let revoked = "its Will on devices/d1/telemetry: the device d1 is revoked";
    assert_eq!(
        denied,
        [["d2", "credential_changed", changed, "d2"], ["d1", "device_revoked", revoked, "d1"]]
    );
}

#[tokio::test]
async fn a_client_that_is_named_by_us_has_a_name_of_its_own() {
    let fleet = Fleet::new();
    fleet.know(&entries(&["d1"], "topics = ['devices/${device}/#']"));
    let gateway = gateway(&fleet).await;
    let mut device = gateway.device().await;
    let answer = device.greet(&connect(Speaks::V5, "", true, "d1", "d1")).await;
    assert_eq!(answer[3], 0, "{answer:x?}");
    device.send(&Speaks::V5.publish("devices/d1/telemetry", 1, 1, b"x")).await;
    device.expect(&[&Speaks::V5.ack(0x40, 1)]).await;
    gateway.stop().await;
}

#[tokio::test]
async fn many_wrong_passwords_do_not_hold_up_a_device_that_was_known_before() {
    let fleet = Fleet::new();
    fleet.know(&entries(&["d1"], ""));
    let gateway = gateway(&fleet).await;
    drop(enter(&gateway, Speaks::V5, "d1", true, "d1").await);
    let mut guesses = Vec::new();
    for _ in 0..50 {
        let mut device = gateway.device().await;
        device.send(&connect(Speaks::V5, "d1", true, "d1", "guess")).await;
        guesses.push(device);
    }
    tokio::time::timeout(PATIENCE, enter(&gateway, Speaks::V5, "d1", true, "d1")).await.unwrap();
    for mut guess in guesses {
        assert_eq!(guess.packet().await.unwrap()[3], 0x86);
    }
    let log: Arc<FakeLog> = gateway.stop().await;
    assert_eq!(log.count(TELEMETRY), 0);
}
