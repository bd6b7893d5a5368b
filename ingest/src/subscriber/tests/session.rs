//! What a broker says about the session, and what it has lost of it.

use super::harness::{Running, VERSIONS, payloads, settings};
use super::mosquitto::Mosquitto;
use super::played::Played;
use crate::subscriber::{MqttVersion, Seconds, SessionTerm, SubscriberSettings, probe};
use rmqtt_codec::v5::Packet;
use std::time::Duration;

const DAY: u32 = 24 * 3600;

fn shorter(asked: u32, granted: u32) -> SessionTerm {
    SessionTerm::Shorter { asked: Seconds(asked), granted: Seconds(granted) }
}

#[tokio::test]
async fn the_status_says_how_long_the_broker_keeps_the_session() {
    let broker = Played::new().await;
    let mut subscriber = Running::start(settings(&broker.url(), VERSIONS[0]));
    let week = 7 * DAY;
    let terms = [
        (Some(DAY), shorter(week, DAY)),
        (Some(u32::MAX), SessionTerm::Agreed(Seconds(u32::MAX))),
        (None, SessionTerm::Agreed(Seconds(week))),
        (Some(0), shorter(week, 0)),
    ];
    for (generation, (answer, term)) in (1..).zip(terms) {
        let (mut peer, connect) = broker.accept().await;
        assert_eq!(connect.session_expiry_interval_secs, week);
        peer.grant(generation > 1, answer).await;
        let status = subscriber.until("accepted", |status| status.generation == generation).await;
        assert_eq!((status.session_term, status.sessions_lost), (Some(term), 0));
    }
}

#[tokio::test]
async fn a_probe_asks_for_the_same_session_and_leaves_none() {
    let broker = Played::new().await;
    let probing = async { probe(settings(&broker.url(), VERSIONS[0])).await.unwrap() };
    let answering = async {
        let (mut peer, connect) = broker.accept().await;
        assert!(connect.client_id.starts_with("millstream-probe-"), "{}", connect.client_id);
        assert_eq!(connect.session_expiry_interval_secs, 7 * DAY);
        peer.grant(false, Some(DAY)).await;
        let Some(Packet::Disconnect(goodbye)) = peer.packet().await else { panic!("no goodbye") };
        assert_eq!(goodbye.session_expiry_interval_secs, Some(0));
    };
    assert_eq!(tokio::join!(probing, answering).0, shorter(7 * DAY, DAY));
}

#[tokio::test]
async fn a_real_broker_takes_a_probe_in_either_version() {
    for version in VERSIONS {
        let Some(broker) = Mosquitto::start() else { return };
        let term = match version {
            MqttVersion::V5 => SessionTerm::Agreed(Seconds(7 * DAY)),
            MqttVersion::V311 => SessionTerm::Unsaid,
        };
        assert_eq!(probe(settings(&broker.url(), version)).await.unwrap(), term);
    }
}

#[tokio::test]
async fn a_session_that_was_lost_while_nobody_ran_is_counted_and_a_first_one_is_not() {
    for version in VERSIONS {
        let Some(mut broker) = Mosquitto::start() else { return };
        let settings = SubscriberSettings {
            session_mark: Some(broker.dir.path().join("data/subscribers/test")),
            ..settings(&broker.url(), version)
        };
        let lost = async |expected: u64| {
            let mut subscriber = Running::start(settings.clone());
            let status = subscriber.connected().await;
            assert_eq!(status.sessions_lost, expected, "{version}");
            subscriber
        };
        lost(0).await.stop().await;
        lost(0).await.stop().await;
        broker.kill();
        std::fs::remove_file(broker.dir.path().join("mosquitto.db")).unwrap();
        broker.restart();
        let subscriber = lost(1).await;
        broker.publish_lines("devices/d1/telemetry", ["new".to_owned()]).await;
        assert_eq!(payloads(&subscriber.records(1).await), ["new"]);
        subscriber.stop().await;
        lost(0).await.stop().await;
        // Another broker, or another client there, is another session.
        let other = SubscriberSettings { client_id: "other".to_owned(), ..settings.clone() };
        let mut other = Running::start(other);
        assert_eq!(other.connected().await.sessions_lost, 0, "{version}");
        other.stop().await;
    }
}

#[tokio::test]
async fn a_session_that_ends_with_its_connection_is_not_missed() {
    let broker = Played::new().await;
    let session_expiry = Duration::ZERO;
    let mut subscriber =
        Running::start(SubscriberSettings { session_expiry, ..settings(&broker.url(), VERSIONS[0]) });
    for generation in 1..=2 {
        drop(broker.subscribed(false).await);
        let status = subscriber.until("accepted", |status| status.generation == generation).await;
        assert_eq!(status.sessions_lost, 0);
    }
}
