//! All wiring of the stages, and the one place where the order of shutting down is written.
//!
//! Draining goes with the river: the gateway first (nothing new is acknowledged, what was is in the log), then the firehose (what is in the log is in the
//! lake), then the processor (reports have seen it, as far as that fits into a bounded time), the log last.

use crate::command::quoted;
use crate::config::Settings;
use crate::config::raw::{Keep, Unclaimed};
use crate::config::stream;
use crate::descriptors;
use crate::directory::Directory;
use crate::supervisor::Stage;
use crate::telemetry::chain;
use anyhow::Context;
use millstream_ingest::clock::SystemClock;
use millstream_ingest::gateway::{self, Observer};
use millstream_ingest::route::Router;
use millstream_ingest::session::Sessions;
use millstream_lake::Bucket;
use millstream_log::embedded::{EmbeddedLog, Peek};
use millstream_log::{Bounds, Log, LogError};
use millstream_model::name::{RESERVED_STREAMS, UNROUTED};
use millstream_model::stream::Stream;
use millstream_transform::firehose::{self, TrimRule, UnclaimedRule};
use millstream_transform::processor::{self, Report};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// How long draining waits for the reports: a service manager kills what takes much longer than this.
const REPORTS_DRAIN_MAX: Duration = Duration::from_secs(30);

/// All stages in one process.
#[derive(Debug)]
pub(crate) struct Pipeline {
    address: SocketAddr,
    log: EmbeddedLog,
    gateway: Stage,
    firehose: Stage,
    processor: Stage,
    buckets: Buckets,
    reports: Vec<Report>,
}

#[derive(Debug, Clone)]
struct Buckets {
    ingestion: Bucket,
    reporting: Bucket,
}

impl Pipeline {
    /// Opens the data directory, takes its lock, and starts every stage.
    ///
    /// # Errors
    /// If the directory is in use, the port is taken, or the store cannot do what tables need.
    pub(crate) async fn start(
        settings: &Settings,
        directory: &Directory,
        observer: Arc<dyn Observer>,
    ) -> anyhow::Result<Self> {
        let log = open_log(settings, directory).await?;
        let listener = listen(settings.listen).await?;
        let address = listener.local_addr()?;
        let buckets =
            Buckets { ingestion: directory.ingestion(settings)?, reporting: directory.reporting(settings)? };
        for bucket in [&buckets.ingestion, &buckets.reporting] {
            bucket.probe().await.with_context(|| format!("failed to probe the bucket {}", bucket.url()))?;
        }
        warn_of_orphans(settings, directory)?;
        let mut pipeline = Self {
            address,
            log,
            gateway: Stage::new("gateway"),
            firehose: Stage::new("firehose"),
            processor: Stage::new("processor"),
            buckets,
            reports: settings.reports.clone(),
        };
        pipeline.start_processor(settings);
        pipeline.start_firehose(settings);
        pipeline.start_gateway(settings, directory, listener, observer)?;
        Ok(pipeline)
    }

    fn start_gateway(
        &mut self,
        settings: &Settings,
        directory: &Directory,
        listener: TcpListener,
        observer: Arc<dyn Observer>,
    ) -> anyhow::Result<()> {
        let sessions = Sessions::open(&directory.sessions()).context("failed to open the sessions")?;
        let router = Arc::new(Router::new(&settings.streams));
        let (log, mut limits, token) = (self.log(), settings.gateway.clone(), self.gateway.token());
        limits.connections_max = descriptors::room_for(limits.connections_max);
        self.gateway.spawn("mqtt", async move {
            gateway::run(limits, listener, log, router, sessions, Arc::new(SystemClock), observer, token)
                .await
                .map_err(Into::into)
        });
        Ok(())
    }

    fn start_firehose(&mut self, settings: &Settings) {
        let trim = match settings.keep {
            Keep::All => TrimRule::Keep,
            Keep::Uncommitted => TrimRule::AfterCommit,
        };
        let unclaimed = match settings.unclaimed {
            Unclaimed::Quarantine => UnclaimedRule::Quarantine,
            Unclaimed::Drop => UnclaimedRule::Drop,
        };
        let rules = firehose::Settings { trim, unclaimed, ..firehose::Settings::default() };
        let mut streams: Vec<Arc<Stream>> = settings.streams.clone();
        streams.push(Arc::new(stream::lifecycle()));
        for stream in streams {
            let (rules, log, bucket, token) =
                (rules.clone(), self.log(), self.buckets.ingestion.clone(), self.firehose.token());
            self.firehose.spawn(stream.name.to_string(), async move {
                firehose::run(rules, stream, log, bucket, token, watch::Sender::default())
                    .await
                    .map_err(Into::into)
            });
        }
        let (log, bucket, token) = (self.log(), self.buckets.ingestion.clone(), self.firehose.token());
        self.firehose.spawn(UNROUTED, async move {
            firehose::run_unrouted(rules, log, bucket, token, watch::Sender::default())
                .await
                .map_err(Into::into)
        });
    }

    fn log(&self) -> Arc<dyn Log> {
        Arc::new(self.log.clone())
    }

    fn start_processor(&mut self, settings: &Settings) {
        let rules = processor::Settings { sweep: settings.sweep, ..processor::Settings::default() };
        let (log, reports, buckets, token) =
            (self.log(), self.reports.clone(), self.buckets.clone(), self.processor.token());
        self.processor.spawn("reports", async move {
            processor::run(
                rules,
                reports,
                log,
                buckets.ingestion,
                buckets.reporting,
                token,
                watch::Sender::default(),
            )
            .await
            .map_err(Into::into)
        });
    }

    /// Where devices connect.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns when a stage has failed. Cancel-safe.
    pub(crate) async fn failed(&mut self) -> anyhow::Error {
        tokio::select! {
            error = self.gateway.failed() => error,
            error = self.firehose.failed() => error,
            error = self.processor.failed() => error,
        }
    }

    /// Ends all stages in the order of the river, so that nothing acknowledged is left behind.
    ///
    /// # Errors
    /// The first failure of a stage; the others are drained all the same.
    pub(crate) async fn drain(mut self) -> anyhow::Result<()> {
        let gateway = self.gateway.drain().await;
        let firehose = self.firehose.drain().await;
        let processor = self.processor.drain().await;
        self.bring_reports_up_to_date().await;
        let log = self.log.close().await.context("failed to close the log");
        gateway.and(firehose).and(processor).and(log)
    }
}

impl Pipeline {
    /// What the firehose committed while it drained belongs in the reports, too. What does not fit into the time, or fails, the next start does.
    async fn bring_reports_up_to_date(&self) {
        let Buckets { ingestion, reporting } = self.buckets.clone();
        let rules = processor::Settings::default();
        let caught_up =
            processor::catch_up(rules, &self.reports, ingestion, reporting, watch::Sender::default());
        match tokio::time::timeout(REPORTS_DRAIN_MAX, caught_up).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                let error = chain(&error.into());
                tracing::warn!(error, "a report is not up to date; the next start tries again");
            }
            Err(_) => {
                tracing::warn!("the reports were not up to date in time; the next start goes on with them")
            }
        }
    }
}

async fn open_log(settings: &Settings, directory: &Directory) -> anyhow::Result<EmbeddedLog> {
    let opened = EmbeddedLog::open(&directory.log(), settings.log.clone()).await;
    opened.map_err(|error| {
        let is_damaged = matches!(error, LogError::Damaged { .. });
        let error = anyhow::Error::new(error).context("failed to open the log");
        let repair = format!("to repair it: millstream log repair --data {}", quoted(directory.path()));
        if is_damaged { error.context(repair) } else { error }
    })
}

/// Says which messages nobody carries to a table, because their stream is not configured any more.
fn warn_of_orphans(settings: &Settings, directory: &Directory) -> anyhow::Result<()> {
    let peek = Peek::open(&directory.log())?;
    for partition in peek.topics()? {
        let name = partition.topic.as_str().strip_prefix("millstream.").unwrap_or_default();
        let is_carried = RESERVED_STREAMS.contains(&name)
            || settings.streams.iter().any(|stream| stream.name.as_str() == name);
        let Bounds { first, next } = peek.bounds(&partition)?;
        if !is_carried && first < next {
            tracing::warn!(
                stream = name,
                partition = partition.partition.0,
                messages = next.0 - first.0,
                "the log has messages of a stream that is not configured; they wait until a stream has that name again"
            );
        }
    }
    Ok(())
}

async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        let hint = match error.kind() {
            std::io::ErrorKind::AddrInUse => format!(
                "port {} is taken, perhaps by another broker; stop it, or take another port with MILLSTREAM__GATEWAY__LISTEN={}:0",
                address.port(),
                address.ip()
            ),
            std::io::ErrorKind::PermissionDenied => format!("port {} needs more rights; take one above 1023", address.port()),
            _ => format!("is {} an address of this machine?", address.ip()),
        };
        anyhow::Error::new(error).context(hint).context(format!("failed to listen on {address}"))
    })
}
