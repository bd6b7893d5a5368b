//! Whole replays against a broker that acknowledges, cuts and refuses as it is told to.

mod broker;
mod lossy;

use super::*;
use broker::{Cut, Script, TestBroker, seen, serve, share};
use rmqtt_codec::{v3, v5};
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;
use tempfile::TempDir;

/// Files and settings of one replay.
struct Case {
    directory: TempDir,
    settings: ReplaySettings,
}

impl Case {
    /// Messages `{"d":0,"n":0}` and so on for three devices in turn, each with its own topic.
    fn new(messages: usize, version: MqttVersion, qos: Qos) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.ndjson");
        let lines: String = (0..messages).map(|n| format!("{{\"d\":{},\"n\":{n}}}\n", n % 3)).collect();
        std::fs::write(&path, lines).unwrap();
        let nowhere = Broker { host: "127.0.0.1".to_owned(), port: 1 };
        let mut settings = ReplaySettings::new(vec![path], "d/{d}".parse().unwrap(), nowhere);
        settings.connection.version = version;
        settings.connection.qos = qos;
        settings.connection.reconnect = Reconnect {
            first: Duration::from_millis(1),
            longest: Duration::from_millis(2),
            ..Reconnect::default()
        };
        Self { directory, settings }
    }

    fn write(&mut self, name: &str, content: &str) -> &mut Self {
        let path: PathBuf = self.directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        self.settings.input.files = vec![path];
        self
    }

    /// Runs against the broker. Which messages the hook was told of comes along.
    async fn run(&self, broker: &TestBroker) -> (Result<Summary, ReplayError>, Vec<String>) {
        let mut settings = self.settings.clone();
        settings.connection.broker = broker.address.clone();
        let dial = Arc::new(Tcp(broker.address.clone()));
        Self { settings, directory: tempfile::tempdir().unwrap() }.run_over(dial).await
    }

    async fn run_over(&self, dial: Arc<dyn Dial>) -> (Result<Summary, ReplayError>, Vec<String>) {
        let told = Arc::new(Mutex::new(Vec::new()));
        let hook = Arc::clone(&told);
        let acknowledged: Acknowledged =
            Arc::new(move |message| hook.lock().unwrap().push(text(&message.payload)));
        let observers = Observers { acknowledged: Some(acknowledged), ..Observers::default() };
        let ended = run_over(dial, self.settings.clone(), observers, CancellationToken::new()).await;
        let told = std::mem::take(&mut *told.lock().unwrap());
        (ended, told)
    }
}

fn text(payload: &[u8]) -> String {
    String::from_utf8(payload.to_vec()).unwrap()
}

fn count(number: u16) -> NonZeroU16 {
    NonZeroU16::new(number).unwrap()
}

fn payloads(messages: usize) -> Vec<String> {
    (0..messages).map(|n| format!("{{\"d\":{},\"n\":{n}}}", n % 3)).collect()
}

const BOTH: [MqttVersion; 2] = [MqttVersion::V311, MqttVersion::V5];

#[tokio::test]
async fn everything_arrives_in_order_and_is_acknowledged() {
    for version in BOTH {
        for qos in [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce] {
            let broker = TestBroker::start(Script::new(version)).await;
            let (ended, told) = Case::new(1000, version, qos).run(&broker).await;
            let (summary, seen) = (ended.unwrap(), broker.seen());
            let delivered: Vec<_> = seen.delivered.iter().map(|d| text(&d.payload)).collect();
            assert_eq!(delivered, payloads(1000), "{version:?} {qos:?}");
            let acknowledged = if qos == Qos::AtMostOnce { 0 } else { 1000 };
            assert_eq!((summary.read, summary.published, summary.acknowledged), (1000, 1000, acknowledged));
            // In 3.1.1 a connection of its own ends the session.
            let goodbyes = if version == MqttVersion::V5 { 1 } else { 2 };
            assert_eq!(
                (summary.resent, summary.reconnects, summary.clients, seen.goodbyes),
                (0, 0, 1, goodbyes)
            );
            assert_eq!(told, payloads(usize::try_from(acknowledged).unwrap()));
            assert_eq!(summary.latency.is_some(), qos != Qos::AtMostOnce);
            assert!(summary.is_complete());
        }
    }
}

#[tokio::test]
async fn clients_share_the_topics_or_have_one_each() {
    for (clients, expected) in [
        (Clients::Count(count(2)), 2),
        (Clients::PerTopic { max: count(10) }, 3),
        (Clients::PerTopic { max: count(2) }, 2),
    ] {
        let broker = TestBroker::start(Script::new(MqttVersion::V5)).await;
        let mut case = Case::new(300, MqttVersion::V5, Qos::AtLeastOnce);
        case.settings.connection.clients = clients;
        case.settings.connection.run_id = Some("x".to_owned());
        let (ended, _) = case.run(&broker).await;
        let seen = broker.seen();
        assert!(ended.unwrap().is_complete());
        assert!(seen.connects.len() <= expected, "{clients:?}");
        for device in 0..3 {
            let own: Vec<_> = seen.delivered.iter().filter(|d| d.topic == format!("d/{device}")).collect();
            assert!(
                own.iter().all(|d| d.client == own[0].client && d.client.starts_with("replay-x-")),
                "{clients:?}"
            );
            let expected: Vec<_> = payloads(300).into_iter().skip(device).step_by(3).collect();
            assert_eq!(own.iter().map(|d| text(&d.payload)).collect::<Vec<_>>(), expected);
        }
    }
}

#[tokio::test]
async fn unacknowledged_messages_are_sent_again_on_the_next_connection() {
    for version in BOTH {
        for keeps_session in [true, false] {
            let mut script = Script::new(version);
            script.cuts = [Cut { packets: 5, answered: 2, keeps_session }].into();
            let broker = TestBroker::start(script).await;
            let mut case = Case::new(50, version, Qos::AtLeastOnce);
            case.settings.connection.in_flight = count(10);
            let (ended, mut told) = case.run(&broker).await;
            let (summary, seen) = (ended.unwrap(), broker.seen());
            assert!(summary.is_complete(), "{summary}");
            assert_eq!((summary.acknowledged, summary.reconnects), (50, 1));
            assert!(summary.resent >= 3, "{summary}");
            told.sort_unstable();
            let mut expected = payloads(50);
            expected.sort_unstable();
            assert_eq!(told, expected);
            let again: Vec<_> = seen.publishes.iter().filter(|d| d.connection == 2 && d.dup).collect();
            assert_eq!(
                u64::try_from(again.len()).unwrap(),
                if keeps_session { summary.resent } else { 0 },
                "{version:?}"
            );
            for duplicate in again {
                let before =
                    seen.publishes.iter().find(|d| d.connection == 1 && d.payload == duplicate.payload);
                assert!(before.is_none_or(|before| before.id == duplicate.id));
            }
        }
    }
}

#[tokio::test]
async fn a_cut_between_pubrec_and_pubrel_delivers_once_if_the_session_is_kept() {
    for version in BOTH {
        for (keeps_session, deliveries) in [(true, 1), (false, 2)] {
            let mut script = Script::new(version);
            // The one PUBLISH is answered by PUBREC, then the connection is gone.
            script.cuts = [Cut { packets: 2, answered: 1, keeps_session }].into();
            let broker = TestBroker::start(script).await;
            let (ended, told) = Case::new(1, version, Qos::ExactlyOnce).run(&broker).await;
            let (summary, seen) = (ended.unwrap(), broker.seen());
            assert_eq!((summary.acknowledged, told), (1, payloads(1)));
            assert_eq!(summary.resent, deliveries - 1);
            assert_eq!(
                u64::try_from(seen.delivered.len()).unwrap(),
                deliveries,
                "{version:?} {keeps_session}"
            );
        }
    }
}

#[tokio::test]
async fn the_brokers_receive_maximum_is_respected_also_on_resending() {
    for qos in [Qos::AtLeastOnce, Qos::ExactlyOnce] {
        let mut script = Script::new(MqttVersion::V5);
        script.connack.receive_max = count(1);
        script.cuts = [
            Cut { packets: 7, answered: 6, keeps_session: true },
            Cut { packets: 1, answered: 0, keeps_session: false },
        ]
        .into();
        let broker = TestBroker::start(script).await;
        let (ended, _) = Case::new(30, MqttVersion::V5, qos).run(&broker).await;
        let seen = broker.seen();
        assert!(ended.unwrap().is_complete());
        assert_eq!(seen.open_max, 1, "{qos:?}");
    }
}

#[tokio::test]
async fn what_is_in_flight_stays_within_the_setting() {
    let mut script = Script::new(MqttVersion::V311);
    script.cuts = [Cut { packets: 20, answered: 3, keeps_session: true }].into();
    script.is_mute = true;
    let broker = TestBroker::start(script).await;
    let mut case = Case::new(100, MqttVersion::V311, Qos::AtLeastOnce);
    case.settings.connection.in_flight = count(4);
    case.settings.connection.broker = broker.address.clone();
    case.settings.connection.drain_timeout = Duration::from_millis(20);
    let shutdown = CancellationToken::new();
    let mut runs = JoinSet::new();
    runs.spawn(run(case.settings.clone(), Observers::default(), shutdown.clone()));
    while broker.publishes() < 4 {
        tokio::task::yield_now().await;
    }
    shutdown.cancel();
    let summary = runs.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!((summary.published, summary.acknowledged, summary.unacknowledged), (4, 0, 4));
    assert!(
        summary.cancelled && !summary.is_complete() && summary.read == summary.unpublished + 4,
        "{summary}"
    );
    assert_eq!(broker.seen().open_max, 4);
}

#[tokio::test]
async fn messages_beyond_the_brokers_packet_size_are_skipped_and_named() {
    let mut script = Script::new(MqttVersion::V5);
    script.connack.max_packet_size = Some(60);
    let broker = TestBroker::start(script).await;
    let mut case = Case::new(0, MqttVersion::V5, Qos::AtLeastOnce);
    let long = "x".repeat(60);
    case.write("b.ndjson", &format!("{{\"d\":1}}\n{{\"d\":2,\"x\":\"{long}\"}}\n{{\"d\":3}}\n"));
    let summary = case.run(&broker).await.0.unwrap();
    assert_eq!((summary.read, summary.acknowledged, summary.bad_lines.count), (2, 2, 1));
    assert_eq!(summary.bad_lines.first[0].place.line, 2);
    case.settings.input.on_bad_line = OnBadLine::Fail;
    let error = case.run(&broker).await.0.unwrap_err();
    assert!(
        matches!(&error, ReplayError::Ended { source, .. } if matches!(**source, ReplayError::BadLine { .. })),
        "{error:?}"
    );
}

#[tokio::test]
async fn messages_that_the_broker_refuses_are_counted_and_not_repeated() {
    for qos in [Qos::AtLeastOnce, Qos::ExactlyOnce] {
        let mut script = Script::new(MqttVersion::V5);
        script.refused_topic = Some("d/1");
        let broker = TestBroker::start(script).await;
        let (ended, told) = Case::new(30, MqttVersion::V5, qos).run(&broker).await;
        let summary = ended.unwrap();
        assert_eq!(
            (summary.published, summary.acknowledged, summary.refused.count, told.len()),
            (30, 20, 10, 20)
        );
        assert_eq!((summary.unacknowledged, summary.is_complete()), (0, false));
        assert_eq!(summary.refused.first[0].reason, "NotAuthorized (0x87)");
    }
}

/// The innermost message of an error that ended a replay.
fn cause(error: &ReplayError) -> String {
    match error {
        ReplayError::Ended { source, .. } => source.to_string(),
        other => other.to_string(),
    }
}

#[tokio::test]
async fn a_broker_that_does_not_want_us_is_not_asked_again() {
    let check = async |script: Script, version, qos, expected: &str| {
        let broker = TestBroker::start(script).await;
        let mut case = Case::new(3, version, qos);
        case.settings.connection.run_id = Some("x".to_owned());
        let error = case.run(&broker).await.0.unwrap_err();
        assert_eq!(
            cause(&error),
            format!("the broker {} refused the client replay-x-0: {expected}", broker.address)
        );
        assert_eq!(error.summary().map(|summary| summary.acknowledged), Some(0));
        assert!(broker.seen().connects.len() <= 1);
    };
    let (v3_qos, v5_qos) = (Qos::AtLeastOnce, Qos::ExactlyOnce);
    let refusing =
        Script { return_code: v3::ConnectAckReason::BadUserNameOrPassword, ..Script::new(MqttVersion::V311) };
    check(refusing, MqttVersion::V311, v3_qos, "BadUserNameOrPassword (return code 4)").await;
    let connack =
        v5::ConnectAck { reason_code: v5::ConnectAckReason::NotAuthorized, ..v5::ConnectAck::default() };
    check(
        Script { connack, ..Script::new(MqttVersion::V5) },
        MqttVersion::V5,
        v5_qos,
        "NotAuthorized (0x87)",
    )
    .await;
    let connack = v5::ConnectAck { max_qos: v5::QoS::AtLeastOnce, ..v5::ConnectAck::default() };
    check(
        Script { connack, ..Script::new(MqttVersion::V5) },
        MqttVersion::V5,
        v5_qos,
        "it allows AtLeastOnce at most, ExactlyOnce is asked for",
    )
    .await;
    let taken = Script {
        disconnect: Some(v5::DisconnectReasonCode::SessionTakenOver),
        ..Script::new(MqttVersion::V5)
    };
    check(taken, MqttVersion::V5, v5_qos, "SessionTakenOver (0x8e)").await;
    check(Script::new(MqttVersion::V311), MqttVersion::V5, v5_qos, "it speaks MQTT 3.1.1 and not 5").await;
}

#[tokio::test]
async fn a_broker_that_is_not_there_is_given_up_soon() {
    let mut case = Case::new(3, MqttVersion::V5, Qos::AtLeastOnce);
    case.settings.connection.reconnect.first_attempts = 3;
    let error = run(case.settings.clone(), Observers::default(), CancellationToken::new()).await.unwrap_err();
    let ReplayError::Ended { summary, source } = error else { panic!("{error}") };
    assert!(matches!(*source, ReplayError::GaveUp { attempts: 3, .. }), "{source}");
    assert_eq!((summary.acknowledged, summary.published), (0, 0));
}

#[tokio::test]
async fn a_broker_that_never_gets_on_is_given_up() {
    let mut script = Script::new(MqttVersion::V5);
    script.cuts = std::iter::repeat_n(Cut { packets: 1, answered: 0, keeps_session: true }, 100).collect();
    let broker = TestBroker::start(script).await;
    let mut case = Case::new(3, MqttVersion::V5, Qos::AtLeastOnce);
    case.settings.connection.reconnect.attempts = 7;
    let error = case.run(&broker).await.0.unwrap_err();
    assert!(
        matches!(&error, ReplayError::Ended { source, .. } if matches!(**source, ReplayError::GaveUp { attempts: 7, .. })),
        "{error:?}"
    );
    assert_eq!(broker.seen().connects.len(), 7);
}

#[tokio::test]
async fn user_and_password_are_given_and_the_first_session_is_our_own() {
    for version in BOTH {
        let broker = TestBroker::start(Script::new(version)).await;
        broker.remember("replay-x-0");
        let mut case = Case::new(3, version, Qos::ExactlyOnce);
        case.settings.connection.run_id = Some("x".to_owned());
        case.settings.connection.credentials =
            Some(Credentials { user: "ann".to_owned(), password: Some("secret".to_owned()) });
        assert!(case.run(&broker).await.0.unwrap().is_complete());
        let connects = broker.seen().connects;
        let clean: Vec<_> = connects.iter().map(|connect| connect.clean).collect();
        // 3.1.1: sees that there is one, clears it, begins its own, and clears that at last.
        assert_eq!(
            clean,
            if version == MqttVersion::V5 { vec![true] } else { vec![false, true, false, true] }
        );
        assert!(version == MqttVersion::V5 || broker.seen().sessions.is_empty());
        assert_eq!(
            (connects[0].user.as_deref(), connects[0].password.as_deref()),
            (Some("ann"), Some(b"secret".as_slice()))
        );
    }
}

#[tokio::test]
async fn bad_lines_are_reported_with_their_place_and_the_rest_arrives_shifted() {
    let broker = TestBroker::start(Script::new(MqttVersion::V5)).await;
    let mut case = Case::new(0, MqttVersion::V5, Qos::AtLeastOnce);
    case.write("w.csv", "d,x,ts\nEWR,NA,2013-01-01T06:00:00Z\nJFK\nLGA,1.50,2013-12-31T23:00:00Z\n");
    case.settings.input.time_field = Some("ts".to_owned());
    let now = millstream_model::time::Micros::from_rfc3339("2014-01-01T02:59:59Z").unwrap();
    case.settings.input.rebase = Rebase::EndAt(now);
    let (ended, mut told) = case.run(&broker).await;
    let summary = ended.unwrap();
    told.sort_unstable();
    assert_eq!(
        told,
        [r#"{"d":"EWR","ts":"2013-01-01T09:00:00Z"}"#, r#"{"d":"LGA","x":1.50,"ts":"2014-01-01T02:00:00Z"}"#]
    );
    assert_eq!((summary.shift_hours, summary.bad_lines.count), (Some(3), 1));
    let first = &summary.bad_lines.first[0];
    assert!(first.place.to_string().ends_with("w.csv:3"), "{first:?}");

    case.settings.input.on_bad_line = OnBadLine::Fail;
    let error = case.run(&broker).await.0.unwrap_err();
    assert!(matches!(error, ReplayError::BadLine { .. }), "the first pass finds it: {error:?}");
    case.settings.input.rebase = Rebase::AsRecorded;
    let error = case.run(&broker).await.0.unwrap_err();
    let summary = error.summary().unwrap();
    assert_eq!(
        (summary.read, summary.acknowledged),
        (1, 1),
        "what was read before is acknowledged: {error:?}"
    );
}

#[derive(Debug)]
struct InMemory {
    shared: Arc<Mutex<broker::Shared>>,
    connections: Mutex<JoinSet<()>>,
}

#[async_trait::async_trait]
impl Dial for InMemory {
    async fn dial(&self) -> std::io::Result<Box<dyn Wire>> {
        let (ours, theirs) = tokio::io::duplex(4096);
        self.connections.lock().unwrap().spawn(serve(theirs, Arc::clone(&self.shared)));
        Ok(Box::new(ours))
    }
}

fn in_memory(script: Script) -> Arc<InMemory> {
    Arc::new(InMemory { shared: share(script), connections: Mutex::default() })
}

#[tokio::test(start_paused = true)]
async fn a_rate_is_kept_and_an_idle_connection_probed() {
    let mut case = Case::new(7, MqttVersion::V5, Qos::AtLeastOnce);
    case.settings.pace.rate = Some(0.1);
    let mut script = Script::new(MqttVersion::V5);
    script.connack.server_keepalive_sec = Some(4);
    let dial = in_memory(script);
    let summary =
        run_over(dial.clone(), case.settings.clone(), Observers::default(), CancellationToken::new())
            .await
            .unwrap();
    assert!(summary.is_complete() && summary.reconnects == 0, "{summary}");
    assert_eq!(summary.elapsed.as_secs(), 60);
    let pings = seen(&dial.shared).pings;
    assert!((28..=31).contains(&pings), "{pings}");
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_says_nothing_any_more_is_left_and_given_up() {
    for (keep_alive, ack_timeout, reason) in [
        (4, 1000, "nothing was heard from the broker for 6.0s"),
        (0, 20, "nothing was acknowledged for 20.0s"),
    ] {
        let mut case = Case::new(7, MqttVersion::V311, Qos::AtLeastOnce);
        case.settings.connection.keep_alive = Duration::from_secs(keep_alive);
        case.settings.connection.ack_timeout = Duration::from_secs(ack_timeout);
        case.settings.connection.reconnect.attempts = 3;
        let script = Script { is_mute: true, ..Script::new(MqttVersion::V311) };
        let error = run_over(
            in_memory(script),
            case.settings.clone(),
            Observers::default(),
            CancellationToken::new(),
        )
        .await
        .unwrap_err();
        assert!(cause(&error).ends_with(reason), "{}", cause(&error));
        assert_eq!(
            error.summary().map(|summary| (summary.unacknowledged, summary.resent, summary.reconnects)),
            Some((7, 14, 2))
        );
    }
}
