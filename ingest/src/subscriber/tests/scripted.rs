//! The order of acknowledgements, generations, refusals and goodbyes, with a broker that the test plays.

use super::harness::{Running, VERSIONS, payloads, settings};
use super::played::{Peer, Played};
use crate::subscriber::{BadFilter, SubscriberError, SubscriberSettings};
use rmqtt_codec::types::QoS;
use rmqtt_codec::v5::{self, Packet, RetainHandling};
use std::num::NonZeroU16;
use std::time::Duration;

#[tokio::test]
async fn a_session_is_kept_and_subscribed_to_anew_on_every_connection() {
    let broker = Played::new().await;
    let mut subscriber = Running::start(SubscriberSettings {
        filters: (0..10).map(|n| format!("devices/{n}")).collect(),
        group: Some("g".to_owned()),
        receive_max: NonZeroU16::new(33).unwrap(),
        session_expiry: Duration::from_secs(99),
        ..settings(&broker.url(), VERSIONS[0])
    });
    for generation in 1..=3 {
        let (mut peer, connect) = broker.accept().await;
        assert_eq!(
            (connect.client_id.to_string(), connect.clean_start),
            ("millstream-test".to_owned(), false)
        );
        assert_eq!((connect.session_expiry_interval_secs, connect.topic_alias_max), (99, 0));
        // A limit would make the broker drop what is larger.
        assert_eq!((connect.receive_max, connect.max_packet_size), (NonZeroU16::new(33), None));
        peer.connack(generation > 1).await;
        let mut filters = Vec::new();
        while filters.len() < 10 {
            let Some(Packet::Subscribe(subscribe)) = peer.packet().await else { panic!("no SUBSCRIBE") };
            for (filter, options) in &subscribe.topic_filters {
                assert_eq!(options.qos, QoS::AtLeastOnce);
                assert_eq!(options.retain_handling, RetainHandling::AtSubscribeNew);
                assert!(!options.no_local && !options.retain_as_published);
                filters.push(filter.to_string());
            }
            let granted = vec![v5::SubscribeAckReason::GrantedQos1; subscribe.topic_filters.len()];
            peer.suback(&subscribe, granted).await;
        }
        assert_eq!(filters, (0..10).map(|n| format!("$share/g/devices/{n}")).collect::<Vec<_>>());
        subscriber.until("connected", |status| status.connected && status.generation == generation).await;
    }
    subscriber.shutdown.cancel();
    subscriber.stopped().await.unwrap();
}

#[tokio::test]
async fn acknowledgements_are_the_completed_prefix_in_the_order_of_the_messages() {
    let broker = Played::new().await;
    let subscriber = Running::start(settings(&broker.url(), VERSIONS[0]));
    let (mut peer, _) = broker.subscribed(false).await;
    subscriber.log.hold();
    for (id, payload) in [(11, "a"), (5, "b"), (7, "c"), (9, "d")] {
        peer.publish(id, payload).await;
    }
    subscriber.held(4).await;
    // The third and the second are durable first: nothing may be said of them.
    subscriber.log.answer(2, None);
    subscriber.log.answer(1, None);
    subscriber.log.answer(0, None);
    assert_eq!([peer.puback().await, peer.puback().await, peer.puback().await], [11, 5, 7]);
    subscriber.log.release();
    assert_eq!(peer.puback().await, 9);
    assert_eq!(payloads(&subscriber.records(4).await), ["a", "b", "c", "d"]);
}

#[tokio::test]
async fn what_the_log_answers_late_confirms_nothing_on_another_connection() {
    let broker = Played::new().await;
    let mut subscriber = Running::start(SubscriberSettings {
        drain_timeout: Duration::from_millis(10),
        ..settings(&broker.url(), VERSIONS[0])
    });
    let (mut peer, _) = broker.subscribed(false).await;
    subscriber.log.hold();
    peer.publish(7, "old").await;
    subscriber.held(1).await;
    drop(peer);
    let (mut peer, _) = broker.subscribed(true).await;
    subscriber.until("connected", |status| status.connected && status.generation == 2).await;
    // Another message under the same identifier.
    peer.publish(7, "new").await;
    peer.publish(8, "next").await;
    subscriber.held(3).await;
    subscriber.log.answer(0, None);
    // The one behind it is durable, too; still nothing may be said.
    subscriber.log.answer(1, None);
    let status = subscriber.until("three", |status| status.received == 3).await;
    assert_eq!(status.acknowledged, 0);
    subscriber.log.answer(0, None);
    assert_eq!([peer.puback().await, peer.puback().await], [7, 8]);
    // And this was all: the next packet is the goodbye.
    subscriber.shutdown.cancel();
    assert!(matches!(peer.packet().await, Some(Packet::Disconnect(_))));
}

#[tokio::test]
async fn at_the_shutdown_what_the_log_has_is_acknowledged_before_the_goodbye() {
    let broker = Played::new().await;
    let mut subscriber = Running::start(SubscriberSettings {
        drain_timeout: Duration::from_secs(20),
        ..settings(&broker.url(), VERSIONS[0])
    });
    let (mut peer, _) = broker.subscribed(false).await;
    subscriber.log.hold();
    peer.publish(1, "a").await;
    peer.publish(2, "b").await;
    subscriber.held(2).await;
    subscriber.shutdown.cancel();
    subscriber.log.release();
    assert_eq!([peer.puback().await, peer.puback().await], [1, 2]);
    let Some(Packet::Disconnect(goodbye)) = peer.packet().await else { panic!("no goodbye") };
    assert_eq!(goodbye.reason_code, v5::DisconnectReasonCode::NormalDisconnection);
    // The session stays as long as was said at first.
    assert_eq!(goodbye.session_expiry_interval_secs, None);
    drop(peer);
    subscriber.stopped().await.unwrap();
}

#[tokio::test]
async fn messages_of_qos_2_in_a_session_from_elsewhere_are_taken_too() {
    let broker = Played::new().await;
    let subscriber = Running::start(settings(&broker.url(), VERSIONS[0]));
    let (mut peer, _) = broker.subscribed(true).await;
    peer.publish_as(QoS::ExactlyOnce, 3, "two").await;
    let Some(Packet::PublishReceived(received)) = peer.packet().await else { panic!("no PUBREC") };
    peer.send(Packet::PublishRelease(v5::PublishAck2 {
        packet_id: received.packet_id,
        ..v5::PublishAck2::default()
    }))
    .await;
    assert!(matches!(peer.packet().await, Some(Packet::PublishComplete(done)) if done.packet_id.get() == 3));
    assert_eq!(payloads(&subscriber.records(1).await), ["two"]);
}

#[tokio::test]
async fn a_refused_subscription_is_said_and_the_others_work() {
    let broker = Played::new().await;
    let mut subscriber = Running::start(SubscriberSettings {
        filters: vec!["devices/#".to_owned(), "secret/#".to_owned()],
        ..settings(&broker.url(), VERSIONS[0])
    });
    let refused = v5::SubscribeAckReason::NotAuthorized;
    let answer = async |first: v5::SubscribeAckReason| {
        let (mut peer, _) = broker.accept().await;
        peer.connack(false).await;
        let Some(Packet::Subscribe(subscribe)) = peer.packet().await else { panic!("no SUBSCRIBE") };
        peer.suback(&subscribe, vec![first, refused]).await;
        peer
    };
    drop(answer(refused).await);
    subscriber.complaint("refuses every subscription: secret/#: NotAuthorized (0x87)").await;
    let mut peer: Peer = answer(v5::SubscribeAckReason::GrantedQos1).await;
    let status = subscriber.connected().await;
    assert_eq!(
        status.last_error.as_deref(),
        Some("the broker refuses a subscription: secret/#: NotAuthorized (0x87)")
    );
    peer.publish(1, "a").await;
    assert_eq!(peer.puback().await, 1);
}

#[tokio::test]
async fn it_says_why_a_broker_cannot_be_used() {
    let check = async |bytes: &[u8], expected: &str| {
        let broker = Played::new().await;
        let mut subscriber = Running::start(SubscriberSettings {
            keep_alive: Duration::from_secs(1),
            ..settings(&broker.url(), VERSIONS[0])
        });
        let (mut peer, _) = broker.accept().await;
        peer.bytes(bytes).await;
        if !expected.starts_with("nothing was heard") {
            drop(peer);
        }
        subscriber.complaint(expected).await;
        // It tries again.
        broker.accept().await;
    };
    check(&[0x20, 2, 0, 1], "the broker speaks MQTT 3.1.1 and not 5").await;
    check(&[0x20, 3, 0, 0x86, 0], "the broker refuses us: BadUserNameOrPassword (0x86)").await;
    check(&[], "the broker closed the connection instead of an answer to CONNECT").await;
    check(
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        "the broker sent something that it should not: its first packet is no CONNACK",
    )
    .await;
    check(&[0x20, 3, 0, 0, 0, 0xE0, 2, 0x8E, 0], "SessionTakenOver (0x8e); another program connects with our client id: each needs one of its own, as those that share a `group` have").await;
    check(&[0x20, 3, 0, 0, 0, 0xE0, 2, 0x8B, 0], "ended the connection: ServerShuttingDown (0x8b)").await;
    check(&[0x20, 3, 0, 0, 0, 0x31, 4, 0, 1, b'a', 0x7F], "a message that ends too early").await;
    check(&[0x20, 3, 0, 0, 0], "nothing was heard from the broker for 1.5s").await;
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused() {
    let check = async |settings: SubscriberSettings| Running::start(settings).stopped().await.unwrap_err();
    let good = || settings("mqtt://127.0.0.1:1", VERSIONS[0]);
    let none = check(SubscriberSettings { filters: Vec::new(), ..good() }).await;
    assert!(matches!(none, SubscriberError::Filter { source: BadFilter::Empty, .. }), "{none}");
    let bad = check(SubscriberSettings { filters: vec!["a/#/b".to_owned()], ..good() }).await;
    assert!(matches!(bad, SubscriberError::Filter { source: BadFilter::RestNotLast, .. }), "{bad}");
    let bad = check(SubscriberSettings { group: Some("a/b".to_owned()), ..good() }).await;
    assert!(matches!(bad, SubscriberError::Filter { source: BadFilter::Group, .. }), "{bad}");
    let nameless = check(SubscriberSettings { client_id: String::new(), ..good() }).await;
    assert!(matches!(nameless, SubscriberError::ClientId), "{nameless}");
}
