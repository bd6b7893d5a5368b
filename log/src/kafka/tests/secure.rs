//! TLS and SASL against a broker of its own that demands them.

use super::{first, within};
use crate::api::Log;
use crate::contract::{append, record};
use crate::error::LogError;
use crate::kafka::{KafkaLog, KafkaSettings, Mechanism, Sasl, Tls};
use millstream_model::fault::Fault;
use millstream_model::name::{LogTopic, Offset};
use millstream_model::secret::Secret;
use millstream_services::{free_port, services};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long Java may take on a busy machine.
const STARTED_WITHIN: Duration = Duration::from_secs(300);

/// A broker with TLS on two ports: one wants a user, the other a certificate.
struct Broker {
    process: Child,
    directory: tempfile::TempDir,
    users: String,
    certificates: String,
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// Where `deploy/local/up` keeps what it fetched.
fn class_path() -> String {
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache"), PathBuf::from);
    let fetched = fs::read_dir(cache.join("millstream/services")).unwrap();
    let mut jars: Vec<_> = fetched
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir() && path.file_name().unwrap().to_string_lossy().starts_with("kafka-"))
        .collect();
    jars.sort_by_key(|path| fs::metadata(path).unwrap().modified().unwrap());
    format!("{}/*", jars.pop().unwrap().display())
}

/// Certificates of the broker and of a client, both signed by one authority, and another authority that signed neither.
fn certificates(directory: &Path) {
    // Names that differ: a certificate of the same name as its issuer passes for signed by itself.
    let named = |name: &str, addresses: Vec<String>| {
        let mut params = CertificateParams::new(addresses).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params
    };
    let authority = |name: &str| {
        let mut params = named(name, Vec::new());
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        (certificate.pem(), Issuer::new(params, key))
    };
    let (pem, issuer) = authority("authority");
    fs::write(directory.join("ca.pem"), pem).unwrap();
    fs::write(directory.join("other.pem"), authority("other").0).unwrap();
    for name in ["broker", "client"] {
        let key = KeyPair::generate().unwrap();
        let addresses = vec!["127.0.0.1".to_owned()];
        let certificate = named(name, addresses).signed_by(&key, &issuer).unwrap();
        fs::write(directory.join(format!("{name}.pem")), certificate.pem()).unwrap();
        fs::write(directory.join(format!("{name}.key")), key.serialize_pem()).unwrap();
        let store = format!("{}{}", key.serialize_pem(), certificate.pem());
        fs::write(directory.join(format!("{name}.store.pem")), store).unwrap();
    }
}

impl Broker {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path();
        certificates(place);
        let [users, certificates, inside, controller] =
            [(); 4].map(|()| format!("127.0.0.1:{}", free_port()));
        let listed = format!("USERS://{users},CERTIFICATES://{certificates},INSIDE://{inside}");
        let security = "org.apache.kafka.common.security";
        let properties = format!(
            "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.bootstrap.servers={controller}\n\
             listeners={listed},CONTROLLER://{controller}\nadvertised.listeners={listed}\n\
             listener.security.protocol.map=USERS:SASL_SSL,CERTIFICATES:SSL,INSIDE:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
             inter.broker.listener.name=INSIDE\ncontroller.listener.names=CONTROLLER\nlog.dirs={place}/data\n\
             sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512\n\
             listener.name.users.plain.sasl.jaas.config={security}.plain.PlainLoginModule required user_device=\"hunter2\";\n\
             listener.name.users.scram-sha-256.sasl.jaas.config={security}.scram.ScramLoginModule required;\n\
             listener.name.users.scram-sha-512.sasl.jaas.config={security}.scram.ScramLoginModule required;\n\
             ssl.keystore.type=PEM\nssl.keystore.location={place}/broker.store.pem\n\
             ssl.truststore.type=PEM\nssl.truststore.location={place}/ca.pem\n\
             listener.name.certificates.ssl.client.auth=required\n\
             offsets.topic.replication.factor=1\noffsets.topic.num.partitions=1\ngroup.initial.rebalance.delay.ms=0\n\
             transaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\n\
             share.coordinator.state.topic.replication.factor=1\nshare.coordinator.state.topic.min.isr=1\n\
             auto.create.topics.enable=false\n",
            place = place.display()
        );
        let file = place.join("server.properties");
        fs::write(&file, properties).unwrap();
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let logging = repository.join("deploy/local/kafka/log4j2.properties");
        let java = || {
            let mut java = Command::new("java");
            java.env("CLASSPATH", class_path()).current_dir(place).stdin(Stdio::null());
            java.args(["-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]);
            java.arg(format!("-Dlog4j2.configurationFile={}", logging.display()));
            java
        };
        let formatted = java()
            .args(["kafka.tools.StorageTool", "format", "--standalone", "-t", "MkU3OEVBNTcwNTJENDM2Qg"])
            .args(["--add-scram", "SCRAM-SHA-256=[name=device,password=hunter2]"])
            .args(["--add-scram", "SCRAM-SHA-512=[name=device,password=hunter3]"])
            .arg("-c")
            .arg(&file)
            .output()
            .unwrap();
        assert!(formatted.status.success(), "{formatted:?}");
        let log = File::create(place.join("log")).unwrap();
        let process =
            java().arg("kafka.Kafka").arg(&file).stdout(log.try_clone().unwrap()).stderr(log).spawn();
        let mut broker = Self { process: process.unwrap(), directory, users, certificates };
        let begin = Instant::now();
        while begin.elapsed() < STARTED_WITHIN && broker.process.try_wait().unwrap().is_none() {
            if fs::read_to_string(broker.path("log")).unwrap().contains("Kafka Server started") {
                return broker;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("the broker does not start: {}", fs::read_to_string(broker.path("log")).unwrap());
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn settings(&self, brokers: &str) -> KafkaSettings {
        let tls = Tls { ca: Some(self.path("ca.pem")), ..Tls::default() };
        KafkaSettings {
            partitions: 1,
            tls: Some(tls),
            request_timeout: Duration::from_secs(20),
            ..KafkaSettings::new(brokers)
        }
    }

    fn as_user(&self, mechanism: Mechanism, password: &str) -> KafkaSettings {
        let password = Secret::new(password.to_owned());
        let sasl = Some(Sasl { mechanism, user: "device".to_owned(), password });
        KafkaSettings { sasl, ..self.settings(&self.users) }
    }

    fn with_certificate(&self) -> KafkaSettings {
        let tls = Tls {
            ca: Some(self.path("ca.pem")),
            certificate: Some(self.path("client.pem")),
            key: Some(self.path("client.key")),
            key_password: None,
        };
        KafkaSettings { tls: Some(tls), ..self.settings(&self.certificates) }
    }
}

/// Appends, reads, and shares out: each client of the log gets through.
async fn works(settings: KafkaSettings, topic: &LogTopic, offset: i64) {
    let log = KafkaLog::open(settings).await.unwrap();
    let position = append(&log, topic, vec![record("device", &offset.to_string())]).await[0];
    assert_eq!(position.offset, Offset(offset));
    assert_eq!(super::read(&log, &first(topic), offset, 1).await, [offset.to_string()]);
    let mut member = log.join(topic, "t").await.unwrap();
    // The one before may be leaving still.
    within(async { while member.next().await.unwrap().partitions != [first(topic)] {} }).await;
}

async fn refused(settings: KafkaSettings, expected: &str) {
    let error = KafkaLog::open(settings).await.unwrap_err();
    assert!(matches!(error, LogError::Refused { .. }), "{error:?}");
    assert_eq!(error.fault(), Fault::Stop);
    let shown = error.to_string();
    assert!(shown.contains(expected), "{shown}");
    assert!(!shown.contains("hunter"), "{shown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn brokers_that_demand_tls_users_and_certificates_get_them() {
    if services("brokers_that_demand_tls_users_and_certificates_get_them").is_none() {
        return;
    }
    let broker = Broker::start();
    let topic: LogTopic = "millstream.secure".parse().unwrap();
    let works_as = [
        broker.as_user(Mechanism::Plain, "hunter2"),
        broker.as_user(Mechanism::ScramSha256, "hunter2"),
        broker.as_user(Mechanism::ScramSha512, "hunter3"),
        broker.with_certificate(),
    ];
    for (offset, settings) in (0..).zip(works_as) {
        works(settings, &topic, offset).await;
    }

    refused(broker.as_user(Mechanism::Plain, "hunter1"), "check user, password and mechanism").await;
    refused(broker.as_user(Mechanism::ScramSha512, "hunter2"), "check user, password and mechanism").await;
    let stranger = Tls { ca: Some(broker.path("other.pem")), ..Tls::default() };
    let settings = broker.as_user(Mechanism::Plain, "hunter2");
    refused(KafkaSettings { tls: Some(stranger), ..settings }, "check the authority's certificate").await;
    refused(broker.settings(&broker.certificates), "certificate").await;
    // Plain text to a port that speaks TLS.
    let plain = KafkaSettings {
        tls: None,
        request_timeout: Duration::from_secs(3),
        ..broker.settings(&broker.certificates)
    };
    let error = KafkaLog::open(plain).await.unwrap_err();
    assert!(matches!(error, LogError::Unreachable { .. } | LogError::Refused { .. }), "{error:?}");
}
