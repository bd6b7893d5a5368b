//! Starts subscribers.

use crate::clock::SystemClock;
use crate::gateway::tests::fake_log::FakeLog;
use crate::route::Router;
use crate::route::tests::stream;
use crate::subscriber::link::Link;
use crate::subscriber::wire::Session;
use crate::subscriber::{MqttVersion, Status, SubscriberError, SubscriberSettings, run};
use millstream_log::Log;
use millstream_model::record::Record;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Log topic of the only stream.
pub(super) const TELEMETRY: &str = "millstream.telemetry";

/// A test that hangs has failed: far more than any of them takes.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

pub(super) const VERSIONS: [MqttVersion; 2] = [MqttVersion::V5, MqttVersion::V311];

/// A subscriber of everything that comes back soon.
pub(super) fn settings(broker: &str, version: MqttVersion) -> SubscriberSettings {
    SubscriberSettings {
        version,
        retry_min: Duration::from_millis(20),
        retry_max: Duration::from_millis(200),
        drain_timeout: Duration::from_millis(200),
        ..SubscriberSettings::new("test", broker.parse().unwrap(), vec!["devices/#".to_owned()])
    }
}

/// A running subscriber.
pub(super) struct Running {
    pub(super) log: Arc<FakeLog>,
    pub(super) shutdown: CancellationToken,
    status: watch::Receiver<Status>,
    task: JoinSet<Result<(), SubscriberError>>,
}

impl Running {
    pub(super) fn start(settings: SubscriberSettings) -> Self {
        Self::over(settings, Arc::default())
    }

    /// Into a log that others use, too.
    pub(super) fn over(settings: SubscriberSettings, log: Arc<FakeLog>) -> Self {
        Self { log: Arc::clone(&log), ..Self::into(settings, log) }
    }

    /// Into any log.
    pub(super) fn into(settings: SubscriberSettings, log: Arc<dyn Log>) -> Self {
        let shutdown = CancellationToken::new();
        let (told, status) = watch::channel(Status::default());
        let mut task = JoinSet::new();
        let router = Router::new(&[stream("telemetry", &["devices/{device_id}/telemetry", "devices/#"])]);
        task.spawn(run(
            settings,
            log,
            Arc::new(router),
            Arc::new(SystemClock),
            Arc::new(()),
            shutdown.clone(),
            told,
        ));
        Self { log: Arc::default(), shutdown, status, task }
    }

    /// Waits until the status is so.
    pub(super) async fn until(&mut self, what: &str, reached: impl Fn(&Status) -> bool) -> Status {
        let waiting = tokio::time::timeout(PATIENCE, self.status.wait_for(reached)).await;
        let waited = waiting.map(|status| status.map(|status| status.clone()));
        match waited {
            Ok(Ok(status)) => status,
            Ok(Err(_)) => panic!("not {what}, and it has ended: {:?}", self.task.join_next().await),
            Err(_) => panic!("not {what}: {:?}", *self.status.borrow()),
        }
    }

    pub(super) async fn connected(&mut self) -> Status {
        self.until("connected", |status| status.connected).await
    }

    /// Waits until it has said why it has no connection, or not every subscription.
    pub(super) async fn complaint(&mut self, about: &str) {
        let said = |status: &Status| status.last_error.as_ref().is_some_and(|error| error.contains(about));
        self.until(about, said).await;
    }

    /// Waits until so many records are in the log, and returns them.
    pub(super) async fn records(&self, count: usize) -> Vec<Record> {
        let records = tokio::time::timeout(PATIENCE, self.log.records(TELEMETRY, count)).await;
        records.unwrap_or_else(|_| panic!("{} records instead of {count}", self.log.count(TELEMETRY)))
    }

    /// Waits until so many of the log's answers are held back.
    pub(super) async fn held(&self, count: usize) {
        tokio::time::timeout(PATIENCE, self.log.held(count)).await.expect("the log has them");
    }

    /// Waits until it has stopped.
    pub(super) async fn stopped(&mut self) -> Result<(), SubscriberError> {
        let stopped = tokio::time::timeout(PATIENCE, self.task.join_next()).await;
        stopped.expect("the subscriber stops").unwrap().unwrap()
    }

    /// Stops it.
    pub(super) async fn stop(mut self) -> Status {
        self.shutdown.cancel();
        self.stopped().await.unwrap();
        self.status.borrow().clone()
    }
}

/// Ends the connection of whoever has this session, and leaves it to them again.
pub(super) async fn take_session_over(settings: &SubscriberSettings) {
    Link::open(settings).await.unwrap().leave(Session::Stays).await;
}

/// The payloads, as text.
pub(super) fn payloads(records: &[Record]) -> Vec<String> {
    records.iter().map(|record| String::from_utf8_lossy(&record.value).into_owned()).collect()
}
