//! Ingestion bucket to reports: each report equals its SQL over some version of its source, and soon over the latest.
//!
//! A commit that replaces rows of a report carries the source's version in a transaction of the report's table, so how far a report has come is known from
//! the report alone. Notices only say when to look: lost, doubled or reordered they change nothing but the delay, because a sweep looks anyway.
//!
//! - [`refresh`] brings one report to its source's latest version, once: the dates that changed where the report allows it, else all of it.
//! - [`attempt`] bounds that: in time, and by a task of its own.
//! - [`keeper`] does it for one report whenever something may have changed, and bears with its failures, so that no report holds up another.
//! - [`listen`] reads notices and wakes the keepers.
//!
//! What it never does: write into the ingestion bucket, or show a report between two versions.

mod attempt;
mod error;
mod keeper;
mod listen;
mod refresh;
mod scope;
mod status;
mod tables;
#[cfg(test)]
mod tests;

pub use error::{ProcessorError, ReportError};
pub use status::{ReportPhase, ReportStatus, Status};

use crate::firehose::TrimRule;
use attempt::Attempts;
use keeper::Keeper;
use millstream_lake::Bucket;
use millstream_log::Log;
use millstream_model::name::StreamName;
use millstream_query::{Lakehouse, Limits, ReportPlan, Session};
use refresh::{Refreshed, refresh};
use std::sync::Arc;
use std::time::Duration;
use tables::Tables;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// A report: a question, and the table that keeps its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Its name: its table's folder in the reporting bucket and its name in SQL, where it shares one set of names with the streams.
    pub name: StreamName,
    /// The question, over the tables of streams.
    pub sql: String,
    /// A column of the answer by which the table is split; it must be a date. Where it is the source's own `date`, only the dates that changed are recomputed.
    pub partition_by: Option<String>,
}

/// How the processor works, whatever its reports.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Without a notice, a report is looked after this often.
    pub sweep: Duration,
    /// How many reports are computed at a time; the others wait.
    pub concurrent: usize,
    /// Memory and disk that all computations share. The time is `compute_max`.
    pub limits: Limits,
    /// How long one look at a report may take, computing and writing included; then it is given up, and others have their turn.
    pub compute_max: Duration,
    /// Rows of a report are written out whenever about this many bytes of them are in memory.
    pub chunk_bytes: usize,
    /// Whether the log may forget notices that were read.
    pub trim: TrimRule,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            sweep: Duration::from_secs(60),
            // A computation uses all cores by itself.
            concurrent: 1,
            limits: Limits::default(),
            // Long enough to compute a year of a busy stream anew; and if all reports but one never end, that one still has its turn within an hour.
            compute_max: Duration::from_secs(10 * 60),
            // A file of a usual size; with its encoding, about twice that in memory.
            chunk_bytes: 64 * 1024 * 1024,
            // Where the listener stands is kept nowhere; another process that reads them, too, looks at everything instead. A log that cleans itself keeps them.
            trim: TrimRule::AfterCommit,
        }
    }
}

/// What every report is computed with.
#[derive(Debug)]
pub(crate) struct Works {
    settings: Settings,
    lakehouse: Lakehouse,
    session: Session,
    turns: Semaphore,
    status: watch::Sender<Status>,
}

impl Works {
    async fn open(
        settings: Settings,
        ingestion: Bucket,
        reporting: Bucket,
        status: watch::Sender<Status>,
    ) -> Result<Self, ProcessorError> {
        let lakehouse = Lakehouse { ingestion, reporting };
        let limits = Limits { time: settings.compute_max, ..settings.limits.clone() };
        let session = Session::open(&lakehouse, limits).await.map_err(ProcessorError::Session)?;
        let turns = Semaphore::new(settings.concurrent.max(1));
        Ok(Self { settings, lakehouse, session, turns, status })
    }

    /// Changes what is said of one report.
    fn say(&self, name: &StreamName, change: impl FnOnce(&mut ReportStatus)) {
        self.status.send_modify(|status| change(status.reports.entry(name.clone()).or_default()));
    }
}

/// Keeps all reports until `shutdown` is cancelled. A computation that runs then is given up; nothing of it is seen, and [`catch_up`] or the next start does it.
///
/// # Errors
/// If the session cannot be opened. A report that fails says so in `status`, is tried again, and holds up nobody.
pub async fn run(
    settings: Settings,
    reports: Vec<Report>,
    log: Arc<dyn Log>,
    ingestion: Bucket,
    reporting: Bucket,
    shutdown: CancellationToken,
    status: watch::Sender<Status>,
) -> Result<(), ProcessorError> {
    let works = Arc::new(Works::open(settings, ingestion, reporting, status).await?);
    let mut tasks = JoinSet::new();
    let mut bells = Vec::new();
    for report in reports {
        let bell = Arc::new(Notify::new());
        // What it reads cannot be told of a broken report; the keeper says so, and no notice is for it.
        bells.push(listen::Bell {
            sources: ReportPlan::sources(&report.sql).unwrap_or_default(),
            rings: Arc::clone(&bell),
        });
        tasks.spawn(Keeper::new(report, Arc::clone(&works), bell, shutdown.clone()).run());
    }
    tasks.spawn(listen::run(log, bells, works.settings.trim, shutdown));
    while let Some(ended) = tasks.join_next().await {
        ended.map_err(ProcessorError::Panicked)?;
    }
    Ok(())
}

/// Brings every report to its source's latest version, one after another, and returns. Reports whose source does not exist yet are passed over.
///
/// Safe beside a running processor, here or elsewhere: of two that replace the same rows one is refused and looks again.
///
/// # Errors
/// The first report that failed; those after it were tried nevertheless.
pub async fn catch_up(
    settings: Settings,
    reports: &[Report],
    ingestion: Bucket,
    reporting: Bucket,
    status: watch::Sender<Status>,
) -> Result<(), ProcessorError> {
    let works = Arc::new(Works::open(settings, ingestion, reporting, status).await?);
    let attempts = Attempts::new();
    let mut failed = None;
    for report in reports {
        let once = refresh_once(Arc::clone(&works), report.clone(), Tables::default());
        match attempts.run(works.settings.compute_max, once).await {
            Ok((Refreshed::Waiting { .. } | Refreshed::Current | Refreshed::Replaced { .. }, _)) => {}
            Err(source) => {
                _ = failed.get_or_insert(ProcessorError::Report {
                    report: report.name.to_string(),
                    source: Box::new(source),
                })
            }
        }
    }
    attempts.settled().await;
    failed.map_or(Ok(()), Err)
}

/// [`refresh`] for a task: it owns what it needs, and gives back the tables that it has opened.
async fn refresh_once(
    works: Arc<Works>,
    report: Report,
    mut tables: Tables,
) -> Result<(Refreshed, Tables), ReportError> {
    let refreshed = refresh(&works, &report, &mut tables).await?;
    Ok((refreshed, tables))
}
