//! Real Kafka, MinIO and mosquitto for the tests of the other packages, by way of `deploy/local/up`.
//!
//! Without Java, Go or mosquitto a test that needs them says so and is left out; where `CI` is set, that is a failure.
//! Never part of a program: only test code depends on it, so what goes wrong here panics.

mod script;
#[cfg(test)]
mod tests;

use rustix::process::{Pid, Signal, kill_process};
use script::Outcome;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long a killed process may take to disappear.
const GONE_WITHIN: Duration = Duration::from_secs(20);

/// A set of services, which runs as long as this process.
#[derive(Debug)]
pub struct Services {
    /// The broker of Kafka, `host:port`; empty if there is none in this set, and so for the others.
    pub kafka: String,
    /// MinIO, `http://host:port`.
    pub s3_endpoint: String,
    pub s3_access_key: String,
    pub s3_secret_key: String,
    pub s3_region: String,
    /// The MQTT broker, mosquitto, `host:port`.
    pub mqtt: String,
    /// Where data, logs, and process ids are: `deploy/local/up` says what is in it.
    pub directory: PathBuf,
    environment: BTreeMap<String, String>,
    only: Vec<Service>,
    /// Whether it ends with this value and not with the process.
    own: bool,
}

/// One of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    Kafka,
    Minio,
    Mosquitto,
}

const ALL: [Service; 3] = [Service::Kafka, Service::Minio, Service::Mosquitto];

/// The services that all tests share: those of the directory that `MILLSTREAM_SERVICES` names, else a set that is started once for this process and stopped with it.
/// Others use them at the same time: take names from [`Services::unique`], and kill only what is your [own](Services::own).
///
/// `None` where something is not installed and `CI` is not set: then standard error says which test did not run, and why.
///
/// # Panics
/// Where they cannot be started, and in CI also where something is not installed.
#[must_use]
pub fn services(test: &str) -> Option<&'static Services> {
    static SHARED: OnceLock<Outcome<Services>> = OnceLock::new();
    let outcome = SHARED.get_or_init(|| match std::env::var_os("MILLSTREAM_SERVICES") {
        Some(directory) => Services::start(Path::new(&directory), &ALL, false),
        None => Services::start(&temporary("shared"), &ALL, false),
    });
    outcome.as_ref().available(test)
}

/// A port of this machine that is free now, and that hardly anybody takes meanwhile: each is given once by a process, and they lie below those that the system gives,
/// and that `deploy/local/up` takes.
///
/// # Panics
/// If all of them are taken.
#[must_use]
pub fn free_port() -> u16 {
    const FIRST: u32 = 12_000;
    const COUNT: u32 = 6_000;
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    // Processes that run side by side begin at different ones.
    let begin = std::process::id().wrapping_mul(97);
    let ports =
        std::iter::repeat_with(|| begin.wrapping_add(GIVEN.fetch_add(1, Ordering::Relaxed)) % COUNT + FIRST);
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    let mut free = ports.take(COUNT as usize).filter_map(|port| u16::try_from(port).ok()).filter(is_free);
    free.next().expect("one of thousands of ports is free")
}

impl Services {
    /// A set of one's own, in a directory of its own, for a test that kills or stops: it ends when the value is dropped.
    ///
    /// # Panics
    /// As [`services`]; `None` as there.
    #[must_use]
    pub fn own(test: &str, only: &[Service]) -> Option<Self> {
        Self::start(&temporary("own"), only, true).available(test)
    }

    fn start(directory: &Path, only: &[Service], own: bool) -> Outcome<Self> {
        script::up(directory, only).map(|environment| {
            let value = |key: &str| environment.get(key).cloned().unwrap_or_default();
            Self {
                kafka: value("MILLSTREAM__KAFKA__BROKERS"),
                s3_endpoint: value("AWS_ENDPOINT_URL"),
                s3_access_key: value("AWS_ACCESS_KEY_ID"),
                s3_secret_key: value("AWS_SECRET_ACCESS_KEY"),
                s3_region: value("AWS_REGION"),
                mqtt: value("MQTT_BROKER").trim_start_matches("mqtt://").to_owned(),
                directory: directory.to_owned(),
                environment,
                only: only.to_vec(),
                own,
            }
        })
    }

    /// What `deploy/local/up` printed: addresses and credentials, for the environment of a program under test.
    #[must_use]
    pub fn environment(&self) -> &BTreeMap<String, String> {
        &self.environment
    }

    /// A name that no other test has, and that can be a topic's, a bucket's, a group's: lower case, at most 63 characters if the prefix has at most 30.
    #[must_use]
    pub fn unique(&self, prefix: &str) -> String {
        unique(prefix)
    }

    /// Makes a bucket, if it is not there, and returns its name.
    ///
    /// # Panics
    /// Where the store refuses.
    #[must_use]
    pub fn bucket(&self, name: &str) -> String {
        script::s3(&self.environment, &["bucket", name]);
        name.to_owned()
    }

    /// The keys of what was begun to be written to the bucket in parts, and neither completed nor given up.
    ///
    /// # Panics
    /// Where the store refuses.
    #[must_use]
    pub fn uploads(&self, bucket: &str) -> Vec<String> {
        script::s3(&self.environment, &["uploads", bucket]).lines().map(str::to_owned).collect()
    }

    /// Lets the store tell the topic `millstream.notices` of this set's Kafka about every object of the bucket that ends with `.json`.
    ///
    /// # Panics
    /// Where the store refuses.
    pub fn notify(&self, bucket: &str) {
        script::s3(&self.environment, &["notify", bucket, "arn:minio:sqs::PRIMARY:kafka"]);
    }

    /// The process id of a service.
    ///
    /// # Panics
    /// Where it was not started.
    #[must_use]
    pub fn pid(&self, service: Service) -> u32 {
        let file = self.directory.join(service.name()).join("pid");
        let text = std::fs::read_to_string(&file)
            .expect("a service that was started has a file with its process id");
        let first = text.split(' ').next().unwrap_or_default();
        first.trim().parse().expect("the file begins with the process id")
    }

    /// Kills a service as a power cut does, and waits until it is gone.
    ///
    /// # Panics
    /// Where this set is shared, or the process does not go.
    pub fn kill_9(&self, service: Service) {
        let pid = self.pid(service);
        self.signal(service, Signal::KILL);
        let begin = Instant::now();
        while alive(pid) {
            assert!(
                begin.elapsed() < GONE_WITHIN,
                "{service:?}, process {pid}, is still there after SIGKILL"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Stops a service where it stands (SIGSTOP): connections stay open, and nothing answers.
    ///
    /// # Panics
    /// Where this set is shared.
    pub fn stop(&self, service: Service) {
        self.signal(service, Signal::STOP);
    }

    /// Lets a stopped service go on.
    ///
    /// # Panics
    /// Where this set is shared.
    pub fn cont(&self, service: Service) {
        self.signal(service, Signal::CONT);
    }

    /// Starts what was killed, on the same data and the same ports, and returns when it is ready.
    ///
    /// # Panics
    /// Where it does not start.
    pub fn start_again(&self) {
        if let Outcome::Missing(why) | Outcome::Broken(why) = script::up(&self.directory, &self.only) {
            assert!(why.is_empty(), "the services do not start again: {why}");
        }
    }

    fn signal(&self, service: Service, signal: Signal) {
        assert!(self.own, "these services are shared: a test that disturbs them takes Services::own");
        let pid = i32::try_from(self.pid(service)).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(pid, signal).expect("a service of one's own can be signalled");
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        if self.own {
            script::down(&self.directory);
        }
    }
}

impl Service {
    fn name(self) -> &'static str {
        match self {
            Self::Kafka => "kafka",
            Self::Minio => "minio",
            Self::Mosquitto => "mosquitto",
        }
    }
}

fn temporary(kind: &str) -> PathBuf {
    std::env::temp_dir().join(unique(&format!("millstream-{kind}")))
}

fn unique(prefix: &str) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{prefix}-{time:x}-{:x}-{count:x}", std::process::id())
}

/// Whether a process is there and has not ended: a zombie has, and its parent has not looked yet.
fn alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}
