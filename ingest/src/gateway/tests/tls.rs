//! The listener for TLS.

use super::device::{Device, PING, PONG, Speaks};
use super::harness::{LIFECYCLE, Running, settings};
use crate::gateway::{GatewayError, GatewaySettings, Listeners, run};
use crate::identity::authority::{Authority, Issued};
use crate::identity::tests::{Fleet, NOW, device_name};
use crate::identity::{Access, AccessSettings, Certificate, ClientCertificates, TlsSettings};
use crate::replay::{Broker, Dial, Tls, TlsFiles};
use crate::route::Router;
use crate::session::Sessions;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

async fn start(settings: GatewaySettings, access: AccessSettings, tls: TlsSettings) -> Running {
    let access = Access::open(access, Some(tls)).unwrap();
    Running::knowing(settings, Sessions::in_memory().unwrap(), Arc::default(), access).await
}

/// A device that trusts the fleet's authority and has the certificate of this name, if it has one.
async fn dial(fleet: &Fleet, address: SocketAddr, certificate: Option<&str>) -> std::io::Result<Device> {
    let files = TlsFiles {
        ca: Some(fleet.path("ca.pem")),
        certificate: certificate.map(|name| fleet.path(&format!("{name}.pem"))),
        key: certificate.map(|name| fleet.path(&format!("{name}.key"))),
    };
    let broker = Broker { host: "localhost".to_owned(), port: address.port() };
    Ok(Device::over(Tls::new(broker, &files).unwrap().dial().await?))
}

async fn answer(fleet: &Fleet, gateway: &Running, certificate: &str, client_id: &str) -> (Device, u8) {
    let mut device = dial(fleet, gateway.secure(), Some(certificate)).await.unwrap();
    let answer = device.greet(&Speaks::V5.connect(client_id, true)).await;
    (device, answer[3])
}

#[tokio::test]
async fn certificates_count_by_authority_or_fingerprint_and_two_of_one_name_are_two_devices() {
    let fleet = Fleet::new();
    let (stranger, _) = Authority::create(NOW).unwrap();
    let foreign = |name: &str| stranger.device(&device_name(name), 365, NOW).unwrap();
    let (aws1, aws2): (Issued, Issued) = (foreign("AWS"), foreign("AWS"));
    let long_ago = millstream_model::time::Micros(NOW.0 - 400 * crate::identity::tests::DAY);
    fleet.write("own", &fleet.issue("d1"));
    fleet.write("namesake", &fleet.issue("d1"));
    fleet.write("expired", &fleet.authority.device(&device_name("d1"), 365, long_ago).unwrap());
    fleet.write("foreign", &foreign("d1"));
    fleet.write("aws1", &aws1);
    fleet.write("aws2", &aws2);
    let entry = |name: &str, issued: &Issued, more: &str| {
        format!("[[device.{name}.certificate]]\nfingerprint = '{}'\n{more}\n", issued.fingerprint)
    };
    fleet.know(&[entry("a1", &aws1, ""), entry("a2", &aws2, "revoked = true")].concat());
    let gateway = start(settings(), fleet.settings(), fleet.tls()).await;

    let (mut own, code) = answer(&fleet, &gateway, "own", "d1").await;
    assert_eq!(code, 0);
    own.send(&Speaks::V5.publish("devices/d1/telemetry", 1, 1, b"x")).await;
    own.expect(&[&Speaks::V5.ack(0x40, 1)]).await;
    for (certificate, client_id, expected) in [
        ("namesake", "d1", 0x85),
        ("expired", "d1", 0x87),
        ("foreign", "d1", 0x87),
        ("aws1", "a1", 0),
        ("aws1", "a2", 0x85),
        ("aws2", "a2", 0x8A),
        ("own", "d2", 0x85),
    ] {
        let (_, code) = answer(&fleet, &gateway, certificate, client_id).await;
        assert_eq!(code, expected, "{certificate} as {client_id}");
    }
    own.expect_nothing().await;
    let mut anonymous = dial(&fleet, gateway.secure(), None).await.unwrap();
    assert_eq!(anonymous.greet(&Speaks::V5.connect("d1", true)).await[3], 0x87);
    gateway.stop().await;
}

#[tokio::test]
async fn a_device_without_a_certificate_fails_its_handshake_where_one_is_required() {
    let fleet = Fleet::new();
    fleet.write("own", &fleet.issue("d1"));
    let tls = TlsSettings { client_certificates: ClientCertificates::Required, ..fleet.tls() };
    let gateway = start(settings(), fleet.settings(), tls).await;
    // In TLS 1.3 the client has finished when the server finds that there is no certificate.
    if let Ok(mut device) = dial(&fleet, gateway.secure(), None).await {
        device.try_send(&Speaks::V5.connect("d1", true)).await;
        assert_eq!(device.packet().await, None);
    }
    assert_eq!(answer(&fleet, &gateway, "own", "d1").await.1, 0);
    assert_eq!(gateway.log.count(LIFECYCLE), 1);
    gateway.stop().await;
}

#[tokio::test]
async fn plain_text_to_tls_and_tls_to_plain_text_are_closed_and_nobody_else_is_disturbed() {
    let fleet = Fleet::new();
    fleet.write("own", &fleet.issue("d1"));
    let gateway = start(settings(), fleet.settings(), fleet.tls()).await;
    let (mut own, _) = answer(&fleet, &gateway, "own", "d1").await;
    let mut plain = TcpStream::connect(gateway.secure()).await.unwrap();
    plain.write_all(&Speaks::V5.connect("d1", true)).await.unwrap();
    let mut said = Vec::new();
    plain.read_to_end(&mut said).await.unwrap();
    // An alert of TLS, and no MQTT.
    assert_eq!(said.first(), Some(&0x15), "{said:x?}");
    assert!(dial(&fleet, gateway.address(), None).await.is_err());
    own.expect_nothing().await;
    gateway.stop().await;
}

#[tokio::test]
async fn slow_handshakes_hold_up_nobody_and_end_in_time() {
    let fleet = Fleet::new();
    fleet.write("own", &fleet.issue("d1"));
    let limits = GatewaySettings { connect_timeout: Duration::from_secs(5), ..settings() };
    let gateway = start(limits, fleet.settings(), fleet.tls()).await;
    let mut slow = Vec::new();
    for sent in [&[][..], &[0x16], &[0x16, 3, 1, 2, 0, 1]].iter().cycle().take(60) {
        let mut stream = TcpStream::connect(gateway.secure()).await.unwrap();
        stream.write_all(sent).await.unwrap();
        slow.push(stream);
    }
    let (mut own, code) = answer(&fleet, &gateway, "own", "d1").await;
    assert_eq!(code, 0);
    for mut stream in slow {
        let mut said = Vec::new();
        assert!(stream.read_to_end(&mut said).await.is_ok_and(|length| length == 0) || said.is_empty());
    }
    own.send(PING).await;
    own.expect(&[PONG]).await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_new_server_certificate_is_for_new_connections_and_the_old_ones_stay() {
    let fleet = Fleet::new();
    fleet.write("own", &fleet.issue("d1"));
    let gateway = start(settings(), fleet.settings(), fleet.tls()).await;
    let (mut own, _) = answer(&fleet, &gateway, "own", "d1").await;
    let old = Certificate::from_file(&fleet.path("server.pem")).unwrap().fingerprint();
    // Signed by an authority that the devices do not trust: a new handshake fails, and so it is the new one.
    let (other, _) = Authority::create(NOW).unwrap();
    fleet.write("server", &other.server(&["localhost".to_owned()], NOW).unwrap());
    assert_ne!(Certificate::from_file(&fleet.path("server.pem")).unwrap().fingerprint(), old);
    let renewed = async { while dial(&fleet, gateway.secure(), Some("own")).await.is_ok() {} };
    tokio::time::timeout(super::harness::PATIENCE, renewed).await.unwrap();
    own.expect_nothing().await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_listener_for_tls_without_a_certificate_is_refused() {
    let tls = Some(TcpListener::bind("127.0.0.1:0").await.unwrap());
    let ran = run(
        settings(),
        Listeners { plain: None, tls },
        Arc::new(Access::anonymous().unwrap()),
        Arc::new(super::fake_log::FakeLog::default()),
        Arc::new(Router::new(&[])),
        Sessions::in_memory().unwrap(),
        Arc::new(crate::clock::SystemClock),
        Arc::new(()),
        CancellationToken::new(),
    );
    assert!(matches!(ran.await, Err(GatewayError::NoCertificate)));
}
