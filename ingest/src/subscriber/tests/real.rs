//! Delivery, sharing, retained messages and limits, with a real mosquitto.

use super::harness::{Running, TELEMETRY, VERSIONS, payloads, settings, take_session_over};
use super::mosquitto::Mosquitto;
use crate::subscriber::{Status, SubscriberSettings};
use millstream_model::arrival::{ArrivalView, QOS, RETAIN};
use millstream_model::record::Record;
use std::collections::BTreeSet;
use std::num::NonZeroU16;

fn header<'r>(record: &'r Record, name: &str) -> Option<&'r str> {
    let value = record.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value);
    value.map(|value| std::str::from_utf8(value).unwrap())
}

#[tokio::test]
async fn messages_of_every_qos_reach_the_log_with_all_that_is_known_of_them() {
    for version in VERSIONS {
        let Some(broker) = Mosquitto::start() else { return };
        let mut subscriber = Running::start(settings(&broker.url(), version));
        subscriber.connected().await;
        for (qos, payload) in [("0", "zero"), ("1", "one"), ("2", "two")] {
            let topic = ["-q", qos, "-t", "devices/d1/telemetry", "-m", payload];
            broker.publish(&topic, b"").await;
        }
        let properties = ["-D", "publish", "user-property", "traceparent", "00-1"];
        let described = ["-V", "5", "-q", "1", "-t", "devices/hall/x", "-m", "three"];
        broker
            .publish(
                &[&described[..], &properties, &["-D", "publish", "content-type", "text/plain"]].concat(),
                b"",
            )
            .await;
        let records = subscriber.records(4).await;
        assert_eq!(payloads(&records), ["zero", "one", "two", "three"], "{version}");
        let qos: Vec<_> = records.iter().map(|record| header(record, QOS).unwrap()).collect();
        assert_eq!(qos, ["0", "1", "1", "1"], "{version}");
        let devices: Vec<_> = records.iter().map(|record| &record.key[..]).collect();
        assert_eq!(devices, [b"d1".as_slice(), b"d1", b"d1", b"devices_hall_x"], "{version}");
        assert_eq!(ArrivalView(&records[3]).topic(), "devices/hall/x");
        // 3.1.1 has no properties.
        let known = (header(&records[3], "traceparent"), ArrivalView(&records[3]).content_type());
        let expected = (version == VERSIONS[0]).then_some(("00-1", "text/plain"));
        assert_eq!(known, (expected.map(|e| e.0), expected.map(|e| e.1)), "{version}");
        let status = subscriber.until("acknowledged", |status| status.acknowledged == 3).await;
        assert_eq!((status.received, status.in_flight, status.generation), (4, 0, 1));
        subscriber.stop().await;
    }
}

#[tokio::test]
async fn two_that_take_the_session_from_each_other_say_that_they_need_a_group() {
    for version in VERSIONS {
        let Some(broker) = Mosquitto::start() else { return };
        let mut first = Running::start(settings(&broker.url(), version));
        first.connected().await;
        let second = Running::start(settings(&broker.url(), version));
        first.complaint("each needs one of its own, as those that share a `group` have").await;
        second.stop().await;
        first.connected().await;
        first.stop().await;
    }
}

#[tokio::test]
async fn two_of_a_group_share_the_messages_without_doubles() {
    for version in VERSIONS {
        let Some(broker) = Mosquitto::start() else { return };
        let member = |client_id: &str| SubscriberSettings {
            group: Some("millstream".to_owned()),
            client_id: client_id.to_owned(),
            ..settings(&broker.url(), version)
        };
        let mut first = Running::start(member("first"));
        let mut second = Running::over(member("second"), first.log.clone());
        first.connected().await;
        second.connected().await;
        broker.publish_lines("devices/d1/telemetry", (0..300).map(|n| n.to_string())).await;
        let records = first.records(300).await;
        let distinct: BTreeSet<_> = payloads(&records).into_iter().collect();
        assert_eq!((records.len(), distinct.len()), (300, 300), "{version}");
        let (first, second) = (first.stop().await, second.stop().await);
        assert_eq!(first.acknowledged + second.acknowledged, 300, "{version}");
        assert!(first.acknowledged > 50 && second.acknowledged > 50, "{version}: {first:?} {second:?}");
    }
}

#[tokio::test]
async fn ten_reconnects_with_retained_messages_add_no_rows() {
    for version in VERSIONS {
        let Some(broker) = Mosquitto::start() else { return };
        for device in ["d1", "d2", "d3"] {
            let topic = format!("devices/{device}/telemetry");
            broker.publish(&["-q", "1", "-r", "-t", &topic, "-m", "retained"], b"").await;
        }
        // The subscription is new: what was retained is news.
        let settings = settings(&broker.url(), version);
        let mut subscriber = Running::start(settings.clone());
        for reconnect in 0..=10 {
            let again = |status: &Status| status.connected && status.generation > reconnect as u64;
            subscriber.until("connected again", again).await;
            // What comes live is a row, also if it is to be retained; and it comes behind what the subscription brought.
            let live = ["-q", "1", "-r", "-t", "devices/d1/telemetry", "-m", "live"];
            broker.publish(&live, b"").await;
            let records = subscriber.records(4 + reconnect).await;
            assert_eq!(records.len(), 4 + reconnect, "{version}: {:?}", payloads(&records));
            let retained = records.iter().filter(|record| header(record, RETAIN) == Some("1")).count();
            assert_eq!(retained, 3, "{version}");
            let acknowledged = 4 + reconnect as u64;
            let status = subscriber
                .until("acknowledged", |status| status.acknowledged - status.retained_dropped == acknowledged)
                .await;
            let dropped = if version == VERSIONS[0] { 0 } else { 3 * reconnect as u64 };
            assert_eq!((status.retained_dropped, status.in_flight), (dropped, 0), "{version}");
            // When this one is through, the broker has read the acknowledgements.
            broker.publish_lines("elsewhere", ["1".to_owned()]).await;
            if reconnect < 10 {
                take_session_over(&settings).await;
            }
        }
        subscriber.stop().await;
    }
}

#[tokio::test]
async fn what_the_session_has_from_filters_that_are_gone_is_no_row() {
    for version in VERSIONS {
        let Some(broker) = Mosquitto::start() else { return };
        let filters = |filters: &[&str]| SubscriberSettings {
            filters: filters.iter().map(|filter| (*filter).to_owned()).collect(),
            ..settings(&broker.url(), version)
        };
        let mut before = Running::start(filters(&["devices/#", "old/#"]));
        before.connected().await;
        before.stop().await;
        let mut subscriber = Running::start(filters(&["devices/#"]));
        subscriber.connected().await;
        broker.publish_lines("old/x", (0..3).map(|n| n.to_string())).await;
        broker.publish_lines("devices/d1/telemetry", ["wanted".to_owned()]).await;
        let status = subscriber.until("acknowledged", |status| status.acknowledged == 4).await;
        assert_eq!((status.unwanted_dropped, status.received), (3, 4), "{version}");
        assert_eq!(payloads(&subscriber.records(1).await), ["wanted"], "{version}");
        assert_eq!(subscriber.log.count("millstream.unrouted"), 0, "{version}");
        subscriber.stop().await;
    }
}

#[tokio::test]
async fn a_session_that_gets_a_group_has_no_doubles() {
    for version in VERSIONS {
        let Some(broker) = Mosquitto::start() else { return };
        let mut alone = Running::start(settings(&broker.url(), version));
        alone.connected().await;
        alone.stop().await;
        let group = Some("g".to_owned());
        let mut member = Running::start(SubscriberSettings { group, ..settings(&broker.url(), version) });
        member.connected().await;
        broker.publish_lines("devices/d1/telemetry", (0..20).map(|n| n.to_string())).await;
        broker.publish_lines("devices/d1/telemetry", ["last".to_owned()]).await;
        member.until("all", |status| status.acknowledged >= 21).await;
        let texts = payloads(&member.records(21).await);
        let expected: Vec<_> = (0..20).map(|n| n.to_string()).chain(["last".to_owned()]).collect();
        assert_eq!(texts, expected, "{version}");
        assert_eq!(member.stop().await.received, 21, "{version}");
    }
}

#[tokio::test]
async fn while_the_log_stalls_no_more_is_taken_than_the_receive_maximum() {
    for version in VERSIONS {
        let Some(broker) = Mosquitto::start() else { return };
        let receive_max = NonZeroU16::new(7).unwrap();
        let mut subscriber =
            Running::start(SubscriberSettings { receive_max, ..settings(&broker.url(), version) });
        subscriber.connected().await;
        subscriber.log.hold();
        broker.publish_lines("devices/d1/telemetry", (0..200).map(|n| n.to_string())).await;
        subscriber.held(7).await;
        let status = subscriber.until("full", |status| status.in_flight == 7).await;
        assert_eq!((status.received, status.acknowledged), (7, 0), "{version}");
        // A message of QoS 0 is under no such limit, and waits in the socket.
        broker.publish(&["-t", "devices/d1/telemetry", "-m", "last"], b"").await;
        assert_eq!(subscriber.log.count(TELEMETRY), 7, "{version}");
        subscriber.log.release();
        let records = subscriber.records(201).await;
        let numbers: Vec<_> = payloads(&records).into_iter().filter(|payload| payload != "last").collect();
        assert_eq!(numbers, (0..200).map(|n| n.to_string()).collect::<Vec<_>>(), "{version}");
        subscriber.stop().await;
    }
}

#[tokio::test]
async fn what_is_too_large_is_acknowledged_with_its_head_and_blocks_nothing() {
    const KIB: usize = 1024;
    for version in VERSIONS {
        let Some(broker) = Mosquitto::start() else { return };
        let subscriber = Running::start(settings(&broker.url(), version));
        let mut subscriber = subscriber;
        subscriber.connected().await;
        let sizes = [128 * KIB, 128 * KIB + 1, 900 * KIB, 3000 * KIB, 8000 * KIB, 10];
        for size in sizes {
            let payload: Vec<u8> = (0..size).map(|n| b'a' + (n % 23) as u8).collect();
            broker.publish(&["-q", "1", "-t", "devices/d1/telemetry", "-s"], &payload).await;
        }
        let records = subscriber.records(sizes.len()).await;
        for (record, size) in records.iter().zip(sizes) {
            let cut = size > 128 * KIB;
            let truncated_from = ArrivalView(record).truncated_from();
            assert_eq!(truncated_from, cut.then_some(size as u64), "{version} {size}");
            assert_eq!(record.value.len(), if cut { 64 * KIB } else { size }, "{version} {size}");
            assert!(record.value.iter().enumerate().all(|(n, byte)| *byte == b'a' + (n % 23) as u8));
        }
        subscriber.until("acknowledged", |status| status.acknowledged == sizes.len() as u64).await;
        // Nothing of it comes again.
        let log = subscriber.log.clone();
        subscriber.stop().await;
        let mut again = Running::over(settings(&broker.url(), version), log);
        again.connected().await;
        broker.publish_lines("devices/d1/telemetry", ["after".to_owned()]).await;
        assert_eq!(payloads(&again.records(sizes.len() + 1).await)[sizes.len()], "after", "{version}");
        assert_eq!(again.stop().await.reconnects, 0);
    }
}

#[tokio::test]
async fn the_longest_topic_of_a_packet_that_is_too_large_is_kept_and_blocks_nothing() {
    for version in VERSIONS {
        let Some(broker) = Mosquitto::start() else { return };
        let settings = SubscriberSettings { packet_max: 1024, ..settings(&broker.url(), version) };
        let mut subscriber = Running::start(settings);
        subscriber.connected().await;
        let topic = format!("devices/{}", "x".repeat(usize::from(u16::MAX) - "devices/".len()));
        broker.publish(&["-q", "1", "-t", &topic, "-s"], &[b'p'; 5000]).await;
        broker.publish_lines("devices/d1/telemetry", ["after".to_owned()]).await;
        let records = subscriber.records(2).await;
        let long = ArrivalView(&records[0]);
        assert!(long.topic() == topic, "{version}: {} bytes of it", long.topic().len());
        assert_eq!(long.truncated_from(), Some(5000), "{version}");
        assert!(b"ppppp".starts_with(&records[0].value), "{version}: {:?}", records[0].value);
        assert_eq!(payloads(&records)[1], "after", "{version}");
        subscriber.until("acknowledged", |status| status.acknowledged == 2).await;
        assert_eq!(subscriber.stop().await.reconnects, 0, "{version}");
    }
}
