//! Starts real gateways on loopback.

use super::device::Device;
use super::fake_log::FakeLog;
use crate::clock::Clock;
use crate::gateway::{GatewayError, GatewaySettings, Listeners, Observer, run};
use crate::identity::Access;
use crate::route::tests::stream;
use crate::route::{Route, Router};
use crate::session::Sessions;
use millstream_model::time::Micros;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Log topic of the only stream, which claims everything.
pub(super) const TELEMETRY: &str = "millstream.telemetry";
pub(super) const LIFECYCLE: &str = "millstream.lifecycle";

/// A test that hangs has failed: far more than any of them takes.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// A running gateway.
pub(super) struct Running {
    pub(super) log: Arc<FakeLog>,
    pub(super) clock: Arc<ManualClock>,
    pub(super) seen: Arc<Seen>,
    pub(super) shutdown: CancellationToken,
    address: SocketAddr,
    secure: SocketAddr,
    task: JoinSet<Result<(), GatewayError>>,
}

#[derive(Debug)]
pub(super) struct ManualClock(AtomicI64);

impl ManualClock {
    pub(super) fn advance(&self, by: Duration) {
        self.0.fetch_add(i64::try_from(by.as_micros()).unwrap(), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Micros {
        Micros(self.0.load(Ordering::SeqCst))
    }
}

#[derive(Debug, Default)]
pub(super) struct Seen(pub(super) Mutex<Vec<(String, Route)>>);

impl Observer for Seen {
    fn first_seen(&self, topic: &str, route: &Route) {
        self.0.lock().unwrap().push((topic.to_owned(), route.clone()));
    }
}

/// Patient with a slow machine, but not with devices that a test leaves open when it stops the gateway.
pub(super) fn settings() -> GatewaySettings {
    GatewaySettings {
        drain_timeout: Duration::from_secs(20),
        linger_timeout: Duration::from_millis(10),
        ..GatewaySettings::default()
    }
}

impl Running {
    /// A gateway with default limits and sessions in memory.
    pub(super) async fn start() -> Self {
        Self::with(settings()).await
    }

    pub(super) async fn with(settings: GatewaySettings) -> Self {
        Self::over(settings, Sessions::in_memory().unwrap(), Arc::default()).await
    }

    pub(super) async fn on_file(path: &Path, log: Arc<FakeLog>) -> Self {
        Self::over(settings(), Sessions::open(path).unwrap(), log).await
    }

    pub(super) async fn over(settings: GatewaySettings, sessions: Sessions, log: Arc<FakeLog>) -> Self {
        Self::knowing(settings, sessions, log, Access::anonymous().unwrap()).await
    }

    /// A gateway that knows its devices.
    pub(super) async fn knowing(
        settings: GatewaySettings,
        sessions: Sessions,
        log: Arc<FakeLog>,
        access: Access,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let tls = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let secure = tls.local_addr().unwrap();
        let tls = access.server().map(|_| tls);
        let clock = Arc::new(ManualClock(AtomicI64::new(1_700_000_000_000_000)));
        let seen = Arc::new(Seen::default());
        let shutdown = CancellationToken::new();
        let router = Router::new(&[stream("telemetry", &["devices/{device_id}/telemetry", "#"])]);
        let mut task = JoinSet::new();
        task.spawn(run(
            settings,
            Listeners { plain: Some(listener), tls },
            Arc::new(access),
            Arc::clone(&log) as _,
            Arc::new(router),
            sessions,
            Arc::clone(&clock) as _,
            Arc::clone(&seen) as _,
            shutdown.clone(),
        ));
        Self { log, clock, seen, shutdown, address, secure, task }
    }

    /// A new network connection.
    pub(super) async fn device(&self) -> Device {
        Device::connect(self.address).await
    }

    /// Where devices connect over TLS.
    pub(super) fn secure(&self) -> SocketAddr {
        self.secure
    }

    /// Where they connect in plain text.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until it has stopped.
    pub(super) async fn stopped(&mut self) {
        let stopped = tokio::time::timeout(PATIENCE, self.task.join_next()).await;
        stopped.expect("the gateway stops").unwrap().unwrap().unwrap();
    }

    /// Stops it.
    pub(super) async fn stop(mut self) -> Arc<FakeLog> {
        self.shutdown.cancel();
        self.stopped().await;
        self.log
    }

    /// The lifecycle events so far, at least so many: event, client id, reason.
    pub(super) async fn lifecycle(&self, count: usize) -> Vec<(String, String, String)> {
        let records = self.log.records(LIFECYCLE, count).await;
        let text = |event: &serde_json::Value, key: &str| event[key].as_str().unwrap().to_owned();
        let events = records.iter().map(|record| serde_json::from_slice(&record.value).unwrap());
        events
            .map(|event: serde_json::Value| {
                (text(&event, "event"), text(&event, "client_id"), text(&event, "reason"))
            })
            .collect()
    }
}
