//! TLS, certificates and passwords, with a real mosquitto.

use super::harness::{Running, VERSIONS, payloads, settings};
use super::mosquitto::Mosquitto;
use crate::identity::PemError;
use crate::subscriber::{SubscriberError, SubscriberSettings, TlsError};
use millstream_model::secret::Secret;
use millstream_services::free_port;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Writes a certificate for a name, and its key.
    fn issue(&self, dir: &Path, file: &str, name: &str) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (
            write(dir, &format!("{file}.pem"), &certificate.pem()),
            write(dir, &format!("{file}.key"), &key.serialize_pem()),
        )
    }
}

fn write(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, text).unwrap();
    path
}

#[tokio::test]
async fn through_tls_both_ends_know_each_other_by_certificate() {
    let port = free_port();
    let (trusted, stranger) = (Authority::new("trusted"), Authority::new("stranger"));
    let broker = Mosquitto::with("allow_anonymous true\n", |dir| {
        let ca = write(dir, "ca.pem", &trusted.pem);
        write(dir, "stranger.pem", &stranger.pem);
        let (certificate, key) = trusted.issue(dir, "server", "localhost");
        trusted.issue(dir, "client", "millstream");
        stranger.issue(dir, "forged", "millstream");
        format!(
            "listener {port} 127.0.0.1\ncafile {}\ncertfile {}\nkeyfile {}\nrequire_certificate true\n",
            ca.display(),
            certificate.display(),
            key.display()
        )
    });
    let Some(broker) = broker else { return };
    let file = |name: &str| Some(broker.dir.path().join(name));
    for version in VERSIONS {
        let good = SubscriberSettings {
            ca: file("ca.pem"),
            certificate: file("client.pem"),
            key: file("client.key"),
            client_id: format!("tls-{version}"),
            ..settings(&format!("mqtts://localhost:{port}"), version)
        };
        let mut subscriber = Running::start(good.clone());
        subscriber.connected().await;
        broker.publish_lines("devices/d1/telemetry", ["21.5".to_owned()]).await;
        assert_eq!(payloads(&subscriber.records(1).await), ["21.5"]);
        subscriber.stop().await;

        let bad = [
            ("UnknownIssuer", SubscriberSettings { ca: file("stranger.pem"), ..good.clone() }),
            ("not valid for name", {
                SubscriberSettings {
                    broker: format!("mqtts://127.0.0.1:{port}").parse().unwrap(),
                    ..good.clone()
                }
            }),
            ("received fatal alert", SubscriberSettings { certificate: None, key: None, ..good.clone() }),
            (
                "received fatal alert",
                SubscriberSettings {
                    certificate: file("forged.pem"),
                    key: file("forged.key"),
                    ..good.clone()
                },
            ),
            ("begin TLS", {
                SubscriberSettings {
                    broker: format!("mqtts://localhost:{}", broker.port).parse().unwrap(),
                    ..good
                }
            }),
        ];
        for (reason, settings) in bad {
            let mut subscriber = Running::start(settings);
            subscriber.complaint(reason).await;
            assert_eq!(subscriber.stop().await.generation, 0, "{version} {reason}");
        }
    }
}

#[tokio::test]
async fn files_that_are_of_no_use_are_said_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let empty = write(dir.path(), "empty.pem", "");
    let base = settings("mqtts://localhost:1", VERSIONS[0]);
    let missing = dir.path().join("missing.pem");
    let refused =
        Running::start(SubscriberSettings { ca: Some(missing.clone()), ..base.clone() }).stopped().await;
    assert!(
        matches!(refused, Err(SubscriberError::Tls(TlsError::Pem(PemError::Read { path, .. }))) if path == missing)
    );
    let refused =
        Running::start(SubscriberSettings { ca: Some(empty.clone()), ..base.clone() }).stopped().await;
    assert!(
        matches!(refused, Err(SubscriberError::Tls(TlsError::Pem(PemError::Content { path, .. }))) if path == empty)
    );
    let authority = Authority::new("trusted");
    let ca = Some(write(dir.path(), "ca.pem", &authority.pem));
    let half = SubscriberSettings { ca: ca.clone(), key: ca, ..base };
    let refused = Running::start(half).stopped().await;
    assert!(matches!(refused, Err(SubscriberError::Tls(TlsError::Half))), "{refused:?}");
}

#[tokio::test]
async fn a_wrong_password_is_said_and_a_right_one_connects() {
    let broker = Mosquitto::with("allow_anonymous false\n", |dir| {
        let passwords = dir.join("passwords");
        let made = Command::new("mosquitto_passwd")
            .args(["-b", "-c"])
            .arg(&passwords)
            .args(["plant", "right"])
            .output();
        assert!(made.unwrap().status.success());
        format!("password_file {}\n", passwords.display())
    });
    let Some(broker) = broker else { return };
    for version in VERSIONS {
        let with = |password: &str| SubscriberSettings {
            user: Some("plant".to_owned()),
            password: Some(Secret::new(password.to_owned())),
            client_id: format!("user-{version}"),
            ..settings(&broker.url(), version)
        };
        let mut wrong = Running::start(with("wrong"));
        wrong.complaint("the broker refuses us: NotAuthorized").await;
        let status = wrong.stop().await;
        assert_eq!((status.generation, status.connected), (0, false), "{version}");
        assert!(!format!("{status:?} {:?}", with("wrong")).contains("wrong"), "{version}");
        let mut right = Running::start(with("right"));
        right.connected().await;
        right.stop().await;
    }
}
