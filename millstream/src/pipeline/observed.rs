//! What the stages of this process say of themselves, for everyone who asks over HTTP. Each stage writes its own part; here it is only held.

use super::buckets::Buckets;
use super::log::LogHandle;
use super::reach::{Reach, Target};
use crate::config::Settings;
use millstream_ingest::{gateway, subscriber};
use millstream_query::server::Counters;
use millstream_transform::{firehose, janitor, processor};
use std::collections::BTreeMap;
use std::time::SystemTime;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Views of all stages that run here. Clones see the same.
#[derive(Debug, Clone)]
pub(crate) struct Observed {
    /// What the gateway counts, if it runs here.
    pub(crate) gateway: Option<gateway::Counters>,
    /// By name.
    pub(crate) subscribers: BTreeMap<String, watch::Receiver<subscriber::Status>>,
    /// By stream.
    pub(crate) firehoses: BTreeMap<String, watch::Receiver<firehose::Status>>,
    /// The processor, if it runs here.
    pub(crate) processor: Option<watch::Receiver<processor::Status>>,
    /// Who looks after the tables here, by bucket.
    pub(crate) janitors: BTreeMap<&'static str, watch::Receiver<janitor::Status>>,
    /// Queries, if they are answered here.
    pub(crate) serves: bool,
    /// What became of queries.
    pub(crate) sql: Counters,
    /// The log, if a stage here needs it.
    pub(crate) log: Option<Reach>,
    /// The ingestion bucket, if a stage here needs it.
    pub(crate) ingestion: Option<Reach>,
    /// The reporting bucket, if a stage here needs it.
    pub(crate) reporting: Option<Reach>,
    /// When the process began.
    pub(crate) started: SystemTime,
    draining: CancellationToken,
}

impl Observed {
    pub(super) fn new(log: Option<&LogHandle>, buckets: Option<&Buckets>, settings: &Settings) -> Self {
        let topic = settings.streams.first().map(|stream| stream.name.log_topic());
        let bucket =
            |name, bucket: &millstream_lake::Bucket| Reach::new(Target::Bucket(name, bucket.clone()));
        Self {
            gateway: None,
            subscribers: BTreeMap::new(),
            firehoses: BTreeMap::new(),
            processor: None,
            janitors: BTreeMap::new(),
            serves: false,
            sql: Counters::default(),
            log: log.zip(topic).map(|(log, topic)| Reach::new(Target::Log(log.clone(), topic))),
            ingestion: buckets.map(|buckets| bucket("ingestion", &buckets.ingestion)),
            reporting: buckets.map(|buckets| bucket("reporting", &buckets.reporting)),
            started: SystemTime::now(),
            draining: CancellationToken::new(),
        }
    }

    /// Of a process in which nothing runs.
    #[cfg(test)]
    pub(crate) fn nothing() -> Self {
        Self {
            gateway: None,
            subscribers: BTreeMap::new(),
            firehoses: BTreeMap::new(),
            processor: None,
            janitors: BTreeMap::new(),
            serves: false,
            sql: Counters::default(),
            log: None,
            ingestion: None,
            reporting: None,
            started: SystemTime::UNIX_EPOCH,
            draining: CancellationToken::new(),
        }
    }

    /// Everything outside that is asked whether it is there.
    pub(super) fn reaches(&self) -> impl Iterator<Item = &Reach> {
        self.log.iter().chain(&self.ingestion).chain(&self.reporting)
    }

    pub(super) fn begin_to_drain(&self) {
        self.draining.cancel();
    }

    /// Whether the program is about to end.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }
}
