//! Settings that cannot be, and brokers that are not there.

use super::{settings_of, unique};
use crate::api::Log;
use crate::contract::{append, record};
use crate::error::LogError;
use crate::kafka::{KafkaLog, KafkaSettings, Mechanism, Sasl, Tls};
use millstream_model::fault::Fault;
use millstream_model::name::Offset;
use millstream_model::secret::Secret;
use millstream_services::services;
use std::net::TcpListener;
use std::time::Duration;

fn with(name: &str, value: &str) -> KafkaSettings {
    let mut settings = KafkaSettings::new("127.0.0.1:1");
    settings.properties.insert(name.to_owned(), value.to_owned());
    settings
}

#[tokio::test]
async fn a_wrong_property_is_named() {
    let check = async |name: &str, value: &str, expected: &str| {
        let error = KafkaLog::open(with(name, value)).await.unwrap_err();
        assert!(matches!(error, LogError::Setting { .. }), "{error:?}");
        assert!(error.to_string().contains(expected), "{error}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
        assert_eq!(error.fault(), Fault::Stop);
    };
    check("acks", "1", "properties.\"acks\" cannot be set: what is acknowledged").await;
    check("delivery.report.only.error", "true", "cannot be set: an append is answered").await;
    check("max.in.flight", "5", "may be doubled").await;
    check("message.timeout.ms", "0", "properties.\"message.timeout.ms\" cannot be 0").await;
    check("delivery.timeout.ms", " 0x0", "properties.\"delivery.timeout.ms\" cannot be 0").await;
    check("no.such.property", "1", "No such configuration property").await;
    check("linger.ms", "soon", "linger.ms").await;
    check("sasl.oauthbearer.method", "hunter2", "sasl.oauthbearer.method").await;
}

#[test]
fn what_is_passed_through_wins_also_under_its_other_name() {
    let config = with("queue.buffering.max.ms", "50").client(&[("linger.ms", "5")]).unwrap();
    assert_eq!(config.get("linger.ms"), None);
    assert_eq!(config.get("queue.buffering.max.ms"), Some("50"));
}

#[test]
fn secrets_are_not_shown() {
    let mut settings = with("ssl.keystore.password", "hunter2");
    settings.sasl = Some(Sasl {
        mechanism: Mechanism::Plain,
        user: "me".to_owned(),
        password: Secret::new("hunter2".to_owned()),
    });
    settings.tls = Some(Tls { key_password: Some(Secret::new("hunter2".to_owned())), ..Tls::default() });
    let shown = format!("{settings:?} {settings:#?}");
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(shown.contains("ssl.keystore.password"), "{shown}");
}

#[tokio::test]
async fn a_broker_that_is_not_there_is_an_error_within_bounds() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    for brokers in [closed.to_string(), silent.local_addr().unwrap().to_string()] {
        let settings =
            KafkaSettings { request_timeout: Duration::from_secs(2), ..KafkaSettings::new(&brokers) };
        let error = KafkaLog::open(settings).await.unwrap_err();
        assert!(matches!(error, LogError::Unreachable { .. }), "{error:?}");
        assert!(error.to_string().contains(&brokers), "{error}");
        assert_eq!(error.fault(), Fault::Retry);
    }
}

#[tokio::test]
async fn a_property_that_is_passed_through_takes_effect() {
    let Some(services) = services("a_property_that_is_passed_through_takes_effect") else { return };
    let mut settings = KafkaSettings { partitions: 1, ..settings_of(services) };
    settings.properties.insert("message.max.bytes".to_owned(), "5000".to_owned());
    let log = KafkaLog::open(settings).await.unwrap();
    let topic = unique(services, "property");
    let refused = log.append(&topic, vec![record("device", &"x".repeat(6000))]).await;
    assert!(matches!(refused, Err(LogError::TooLarge { limit: 5000, .. })), "{refused:?}");
    assert_eq!(append(&log, &topic, vec![record("device", "x")]).await[0].offset, Offset::ZERO);
    let client = log.0.producer.client();
    // What librdkafka itself goes by.
    let larger = rdkafka::producer::BaseRecord::with_opaque_to(topic.as_str(), ticket())
        .key("device")
        .payload(&[b'x'; 6000][..]);
    let (error, _) = client.send(larger).unwrap_err();
    assert_eq!(error.rdkafka_error_code(), Some(rdkafka::types::RDKafkaErrorCode::MessageSizeTooLarge));
}

fn ticket() -> Box<crate::kafka::append::Ticket> {
    let (answer, _) = crate::api::Pending::new();
    let room = std::sync::Arc::new(tokio::sync::Semaphore::new(1)).try_acquire_owned().unwrap();
    let append = crate::kafka::append::Append::new(crate::contract::topic("t"), 0, 1, answer, room);
    Box::new(crate::kafka::append::Ticket { append, place: 0 })
}
