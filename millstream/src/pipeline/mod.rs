//! All wiring of the stages, and the one place where the order of shutting down is written.
//!
//! [`Stages`] says which of them run in this process: all of them in `up`, one of them in `collect`, `firehose`, `process` and `serve`. What crosses from one
//! stage to the next is in the log or in a bucket, never in this process, so it makes no difference to a stage where its neighbours are.
//!
//! Draining goes with the river: the gateway and the subscribers first (nothing new is acknowledged, what was is in the log), then the firehose (what is in the
//! log is in the lake), then the processor (reports have seen it, as far as that fits into a bounded time), then the answers over HTTP, the log last.

mod buckets;
mod collect;
mod firehose;
mod janitor;
mod log;
mod observed;
mod processor;
mod reach;
mod stages;
mod threads;

pub(crate) use log::{LogHandle, open_kafka};
pub(crate) use observed::Observed;
pub(crate) use processor::report_limits;
pub(crate) use reach::Reach;
pub(crate) use stages::{Role, Stages};

use crate::config::Settings;
use crate::directory::{Beacon, Directory, Spill};
use crate::http;
use crate::http::Questions;
use crate::supervisor::Stage;
use crate::telemetry::chain;
use anyhow::Context;
use buckets::Buckets;
use millstream_ingest::gateway::Observer;
use millstream_model::secret::Secret;
use millstream_transform::processor::Report;
use processor::Processing;
use std::net::SocketAddr;
use std::sync::Arc;
use threads::Threads;
use tokio::net::TcpListener;

/// The stages of this process.
#[derive(Debug)]
pub(crate) struct Pipeline {
    addresses: Addresses,
    log: Option<LogHandle>,
    collect: Stage,
    firehose: Stage,
    processor: Stage,
    http: Stage,
    buckets: Option<Buckets>,
    reports: Vec<Report>,
    observed: Observed,
    /// Says where SQL is answered, as long as it is.
    beacon: Option<Beacon>,
    /// Where queries spill, until the end.
    spill: Option<Spill>,
    /// Where queries are worked on.
    query_threads: Option<Threads>,
    /// By what reports are kept, where they are.
    processing: Option<Processing>,
}

/// Where the program can be reached.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Addresses {
    /// Devices, plain text.
    pub(crate) gateway: Option<SocketAddr>,
    /// Devices, TLS.
    pub(crate) gateway_tls: Option<SocketAddr>,
    /// SQL, health and metrics.
    pub(crate) http: Option<SocketAddr>,
}

impl Pipeline {
    /// Takes the ports, opens what the stages need, and starts them.
    ///
    /// # Errors
    /// If the stages cannot run so, the data directory is in use, a port is taken, the log cannot be reached, or the store cannot do what tables need.
    pub(crate) async fn start(
        settings: &Settings,
        directory: &Directory,
        stages: &Stages,
        observer: Arc<dyn Observer>,
    ) -> anyhow::Result<Self> {
        stages.check(settings)?;
        let log = if stages.need_log(settings) { Some(log::open(settings, directory).await?) } else { None };
        let http = match settings.http.listen {
            Some(address) => Some(listen(address, "MILLSTREAM__HTTP__LISTEN").await?),
            None => None,
        };
        let buckets = if stages.need_buckets() {
            Some(Buckets::open(settings, directory, stages).await?)
        } else {
            None
        };
        let mut pipeline = Self {
            addresses: Addresses::default(),
            observed: Observed::new(log.as_ref(), buckets.as_ref(), settings),
            log,
            collect: Stage::new("collect"),
            firehose: Stage::new("firehose"),
            processor: Stage::new("processor"),
            http: Stage::new("http"),
            buckets,
            reports: settings.reports.clone(),
            beacon: None,
            spill: None,
            query_threads: None,
            processing: None,
        };
        if stages.has(Role::Process) {
            pipeline.start_processor(settings, directory)?;
            pipeline.start_reporting_janitor(settings)?;
        }
        if stages.has(Role::Firehose) {
            pipeline.start_firehose(settings, directory, stages)?;
            pipeline.start_ingestion_janitor(settings)?;
        }
        if stages.has(Role::Collect) {
            pipeline.start_collect(settings, directory, observer).await?;
        }
        if let Some(listener) = http {
            pipeline.start_http(settings, directory, stages, listener).await?;
        }
        Ok(pipeline)
    }

    /// Last of all, when everyone is there of whom it tells.
    async fn start_http(
        &mut self,
        settings: &Settings,
        directory: &Directory,
        stages: &Stages,
        listener: TcpListener,
    ) -> anyhow::Result<()> {
        let address = listener.local_addr()?;
        self.addresses.http = Some(address);
        self.observed.serves = stages.has(Role::Serve);
        for (number, reach) in self.observed.reaches().cloned().enumerate() {
            let token = self.http.token();
            self.http.spawn(format!("probe {number}"), reach.keep_asking(token));
        }
        let token = settings.http.token.as_ref().map(|token| token.read()).transpose()?;
        let id = Beacon::id();
        let questions = match stages.has(Role::Serve) {
            true => Some(self.questions(settings, directory, token.clone(), id.clone())?),
            false => None,
        };
        let router = http::router(self.observed.clone(), questions, token).await?;
        let token = self.http.token();
        self.http.spawn("server", async move {
            http::serve(listener, router, token).await;
            Ok(())
        });
        if stages.has(Role::Serve) {
            // Without it answers are given all the same, to who knows where.
            self.beacon = directory.announce(settings, address, id).unwrap_or_else(|error| {
                tracing::warn!(
                    error = chain(&error),
                    "`millstream sql` will not find this server by its data directory"
                );
                None
            });
        }
        Ok(())
    }

    /// What questions are answered from.
    fn questions(
        &mut self,
        settings: &Settings,
        directory: &Directory,
        token: Option<Secret>,
        id: String,
    ) -> anyhow::Result<Questions> {
        let (spill, spill_bytes) = directory.spill(settings);
        let limits = settings.sql.limits(spill.as_ref().map(|spill| spill.path().to_owned()), spill_bytes);
        self.spill = spill;
        let lakehouse = Buckets::again(settings, directory)?.lakehouse(settings);
        let lakehouse = match &self.log {
            Some(log) => lakehouse.with_log(log.shared()),
            None => lakehouse,
        };
        let threads = self.query_threads.insert(Threads::start("queries")?);
        let server = settings.sql.server(token, threads.handle().clone());
        Ok(Questions { lakehouse, limits, server, id })
    }

    /// Where the program can be reached.
    pub(crate) fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Returns when a stage has failed. Cancel-safe.
    pub(crate) async fn failed(&mut self) -> anyhow::Error {
        tokio::select! {
            error = self.collect.failed() => error,
            error = self.firehose.failed() => error,
            error = self.processor.failed() => error,
            error = self.http.failed() => error,
        }
    }

    /// Ends all stages in the order of the river, so that nothing acknowledged is left behind.
    ///
    /// # Errors
    /// The first failure of a stage; the others are drained all the same.
    pub(crate) async fn drain(mut self) -> anyhow::Result<()> {
        self.observed.begin_to_drain();
        let collect = self.collect.drain().await;
        let firehose = self.firehose.drain().await;
        let processor = self.drain_processor().await;
        // Who comes now is to look for himself.
        drop(self.beacon.take());
        let http = self.http.drain().await;
        let log = match self.log {
            Some(log) => log.close().await.context("failed to close the log"),
            None => Ok(()),
        };
        collect.and(firehose).and(processor).and(http).and(log)
    }

    /// The log, for the stages that need it.
    fn log(&self) -> anyhow::Result<&LogHandle> {
        self.log.as_ref().context("the log was not opened")
    }

    /// The buckets, for the stages that need them.
    fn buckets(&self) -> anyhow::Result<&Buckets> {
        self.buckets.as_ref().context("the buckets were not opened")
    }
}

/// Takes a port.
async fn listen(address: SocketAddr, variable: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        let hint = match error.kind() {
            std::io::ErrorKind::AddrInUse => format!(
                "port {} is taken, perhaps by another program of its kind; stop that, or take another port with {variable}={}:0",
                address.port(),
                address.ip()
            ),
            std::io::ErrorKind::PermissionDenied => format!("port {} needs more rights; take one above 1023", address.port()),
            _ => format!("is {} an address of this machine?", address.ip()),
        };
        anyhow::Error::new(error).context(hint).context(format!("failed to listen on {address}"))
    })
}
