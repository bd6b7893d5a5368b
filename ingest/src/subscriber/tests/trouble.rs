//! Brokers that die and logs that fail, with a real mosquitto.

use super::harness::{Running, TELEMETRY, VERSIONS, payloads, settings, take_session_over};
use super::mosquitto::Mosquitto;
use crate::subscriber::SubscriberSettings;
use millstream_log::embedded::{EmbeddedLog, EmbeddedSettings};
use millstream_log::{Log, LogError, ReadLimit};
use millstream_model::arrival::{ArrivalView, DUP};
use millstream_model::name::{Offset, StreamName};
use millstream_model::record::Record;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

#[tokio::test]
async fn a_broker_that_is_killed_and_comes_back_has_lost_nothing_of_what_it_acknowledged() {
    for version in VERSIONS {
        let Some(mut broker) = Mosquitto::start() else { return };
        let mut subscriber = Running::start(settings(&broker.url(), version));
        subscriber.connected().await;
        subscriber.log.hold();
        let retained = ["-q", "1", "-r", "-t", "devices/d0/telemetry", "-m", "kept"];
        broker.publish(&retained, b"").await;
        broker.publish_lines("devices/d1/telemetry", (0..150).map(|n| n.to_string())).await;
        // Mosquitto saves once a round: when this one is acknowledged, what came before is on disk.
        broker.publish_lines("devices/d1/telemetry", ["sentinel".to_owned()]).await;
        subscriber.held(20).await;
        broker.kill();
        subscriber.until("disconnected", |status| !status.connected && status.reconnects > 0).await;
        // The subscriber goes on trying meanwhile; what the log says now confirms nothing to anybody.
        subscriber.log.release();
        broker.restart();
        let status = subscriber.connected().await;
        assert_eq!(status.generation, 2, "{version}");
        broker.publish_lines("devices/d1/telemetry", ["last".to_owned()]).await;
        let mut count = 152;
        let distinct = loop {
            let records = subscriber.records(count).await;
            let distinct: BTreeSet<_> = payloads(&records).into_iter().collect();
            if distinct.contains("last") {
                break distinct;
            }
            count = records.len() + 1;
        };
        let missing: Vec<_> =
            (0..150).map(|n| n.to_string()).filter(|payload| !distinct.contains(payload)).collect();
        assert!(missing.is_empty() && distinct.contains("kept"), "{version}: {missing:?}");
        let log = subscriber.log.clone();
        subscriber.until("all is acknowledged", |status| status.in_flight == 0).await;
        subscriber.stop().await;
        // All of it was acknowledged: nothing comes again.
        let before = log.count(TELEMETRY);
        let mut again = Running::over(settings(&broker.url(), version), log);
        again.connected().await;
        broker.publish_lines("devices/d1/telemetry", ["after".to_owned()]).await;
        // Of a 3.1.1 broker a new process cannot know that it has had the retained message.
        let again_retained = usize::from(version == VERSIONS[1]);
        let records = again.records(before + again_retained + 1).await;
        let expected = ["kept", "after"];
        assert_eq!(payloads(&records)[before..], expected[1 - again_retained..], "{version}");
        again.stop().await;
    }
}

#[tokio::test]
async fn a_retained_message_that_was_not_acknowledged_comes_again_and_is_taken() {
    for version in VERSIONS {
        let Some(broker) = Mosquitto::start() else { return };
        broker.publish(&["-q", "1", "-r", "-t", "devices/d1/telemetry", "-m", "kept"], b"").await;
        let settings = settings(&broker.url(), version);
        let mut subscriber = Running::start(settings.clone());
        subscriber.log.hold();
        subscriber.held(1).await;
        take_session_over(&settings).await;
        subscriber.until("disconnected", |status| status.reconnects > 0).await;
        subscriber.log.release();
        subscriber.until("acknowledged", |status| status.acknowledged > 0).await;
        // Nothing was dropped, so the log has what was acknowledged.
        let is_repeated = |record: &Record| record.headers.iter().any(|(name, on)| name == DUP && on == "1");
        assert!(subscriber.records(2).await.iter().any(is_repeated), "{version}");
        assert_eq!(subscriber.stop().await.retained_dropped, 0, "{version}");
    }
}

#[tokio::test]
async fn a_message_that_the_log_refuses_is_sent_again() {
    for version in VERSIONS {
        let Some(broker) = Mosquitto::start() else { return };
        let mut subscriber = Running::start(settings(&broker.url(), version));
        subscriber.connected().await;
        subscriber.log.fail(Some(LogError::Unknown { detail: "the disk is gone".to_owned() }));
        broker.publish_lines("devices/d1/telemetry", ["1".to_owned(), "2".to_owned()]).await;
        subscriber.complaint("the disk is gone").await;
        broker.publish(&["-t", "devices/d1/telemetry", "-m", "of QoS 0"], b"").await;
        subscriber.log.fail(None);
        let mut count = 2;
        loop {
            let texts = payloads(&subscriber.records(count).await);
            if ["1", "2"].iter().all(|number| texts.iter().any(|text| text == number)) {
                break;
            }
            count = texts.len() + 1;
        }
        subscriber.until("acknowledged", |status| status.acknowledged >= 2).await;
        subscriber.stop().await;
    }
}

/// A real log that takes records up to so many bytes.
async fn embedded(broker: &Mosquitto, record_max: usize) -> Arc<dyn Log> {
    let settings = EmbeddedSettings { record_max, ..EmbeddedSettings::default() };
    Arc::new(EmbeddedLog::open(&broker.dir.path().join("records"), settings).await.unwrap())
}

async fn read(log: &dyn Log, count: usize) -> Vec<Record> {
    let topic = "telemetry".parse::<StreamName>().unwrap().log_topic();
    let partition = log.partitions(&topic).await.unwrap().remove(0);
    let mut reader = log.reader(&partition, Offset::ZERO).await.unwrap();
    let mut records = Vec::new();
    while records.len() < count {
        let some = reader.next(ReadLimit { records: 1000, bytes: 1 << 20 }).await.unwrap();
        records.extend(some.into_iter().map(|stored| stored.record));
    }
    records
}

#[tokio::test]
async fn what_the_log_finds_too_large_is_cut_when_it_comes_again() {
    let Some(broker) = Mosquitto::start() else { return };
    let log = embedded(&broker, 2000).await;
    let settings = SubscriberSettings { truncated_keep: 1000, ..settings(&broker.url(), VERSIONS[0]) };
    let mut subscriber = Running::into(settings, Arc::clone(&log));
    subscriber.connected().await;
    let lines = [3000, 1500].map(|length| "x".repeat(length));
    broker.publish_lines("devices/d1/telemetry", lines).await;
    subscriber.complaint("larger than the log's limit of 2000").await;
    subscriber.until("both", |status| status.acknowledged == 2).await;
    let records = read(log.as_ref(), 2).await;
    let lengths: Vec<_> =
        records.iter().map(|record| (record.value.len(), ArrivalView(record).truncated_from())).collect();
    assert_eq!(lengths, [(1000, Some(3000)), (1500, None)]);
    assert_eq!(subscriber.stop().await.reconnects, 1);
}

#[tokio::test]
async fn the_real_log_has_every_message_once_when_all_goes_well() {
    let Some(broker) = Mosquitto::start() else { return };
    let log = embedded(&broker, 1 << 20).await;
    let settings =
        SubscriberSettings { drain_timeout: Duration::from_secs(20), ..settings(&broker.url(), VERSIONS[0]) };
    let mut subscriber = Running::into(settings, Arc::clone(&log));
    subscriber.connected().await;
    broker.publish_lines("devices/d1/telemetry", (0..2000).map(|n| n.to_string())).await;
    subscriber.until("all", |status| status.acknowledged == 2000).await;
    subscriber.stop().await;
    let texts = payloads(&read(log.as_ref(), 2000).await);
    assert_eq!(texts, (0..2000).map(|n| n.to_string()).collect::<Vec<_>>());
}
