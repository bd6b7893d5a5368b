//! Ingestion bucket to reports: each report equals its SQL over some version of its source, and soon over the latest.
//!
//! A commit that replaces rows of a report carries the source's version in a transaction of the report's table, so how far a report has come is known from
//! the report alone. Notices only say when to look: lost, doubled or reordered they change nothing but the delay, because a sweep looks anyway.
//!
//! - [`refresh`] brings one report to its source's latest version, once: it takes a [`look`], finds out what is to be computed ([`scope`]), and
//!   [`replace`]s that: the dates that changed where the report allows it, else all of it.
//! - [`mark`] says up to which hour a stream is complete, for reports that wait for it; [`order`] which reports build on which.
//! - [`attempt`] bounds that: in time, and by a task of its own.
//! - [`keeper`] does it for one report whenever something may have changed, and bears with its failures, so that no report holds up another.
//! - [`listen`] reads notices and wakes the keepers, [`wake`] does so for those who read a report; [`noted`] says in the bucket how a report fares.
//! - [`once`] does without keepers, for those who want it done now.
//!
//! What it never does: write into the ingestion bucket, or show a report between two versions.

mod attempt;
mod error;
mod keeper;
mod listen;
mod look;
mod mark;
mod noted;
mod once;
mod order;
mod refresh;
mod replace;
mod scope;
mod status;
mod tables;
#[cfg(test)]
mod tests;
mod wake;

pub use error::{ProcessorError, ReportError};
pub use millstream_query::ReportDefinition as Report;
pub use once::{Once, catch_up, once};
pub use order::{Cycle, order, sources};
pub use refresh::{Refreshed, Thoroughness};
pub use status::{ReportPhase, ReportStatus, Status};

use crate::firehose::{NoticeRule, TrimRule};
use keeper::Keeper;
use millstream_lake::Bucket;
use millstream_log::Log;
use millstream_model::name::StreamName;
use millstream_query::{Lakehouse, Limits, Session};
use refresh::refresh;
use std::sync::Arc;
use std::time::Duration;
use tables::Tables;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use wake::Wake;

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
    /// Who writes notices of the reports' commits, for those who read them in other processes.
    pub notices: NoticeRule,
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
            notices: NoticeRule::Firehose,
        }
    }
}

/// What every report is computed with.
#[derive(Debug)]
pub(crate) struct Works {
    settings: Settings,
    lakehouse: Lakehouse,
    session: Session,
    /// Asked how far streams have come; `None` where it cannot be: then no completeness mark moves.
    log: Option<Arc<dyn Log>>,
    /// All reports that there are, each after those that it reads.
    reports: Vec<Report>,
    wake: Wake,
    turns: Semaphore,
    status: watch::Sender<Status>,
    rigor: Rigor,
}

/// Whether a replacement is fenced as it must be. Tests show that they would notice if it were not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rigor {
    /// On the version that was looked at, with the table's fence, saying the versions that were computed from.
    Full,
    /// On whatever version is the latest by now, without any fence.
    #[cfg(test)]
    Unfenced,
    /// Each time after somebody else has changed the report's table.
    #[cfg(test)]
    Overtaken,
    /// Saying the versions that are the latest by now, whatever was computed from.
    #[cfg(test)]
    NewestVersions,
}

impl Works {
    async fn open(
        settings: Settings,
        reports: &[Report],
        log: Option<Arc<dyn Log>>,
        ingestion: Bucket,
        reporting: Bucket,
        status: watch::Sender<Status>,
    ) -> Result<Self, ProcessorError> {
        let reports = order(reports)?.into_iter().map(|place| reports[place].clone()).collect();
        let lakehouse = Lakehouse::new(ingestion, reporting);
        let limits = Limits { time: settings.compute_max, ..settings.limits.clone() };
        let session = Session::open(&lakehouse, limits).await.map_err(ProcessorError::Session)?;
        let turns = Semaphore::new(settings.concurrent.max(1));
        Ok(Self {
            settings,
            lakehouse,
            session,
            log,
            reports,
            wake: Wake::default(),
            turns,
            status,
            rigor: Rigor::Full,
        })
    }

    /// Changes what is said of one report.
    fn say(&self, name: &StreamName, change: impl FnOnce(&mut ReportStatus)) {
        self.status.send_modify(|status| change(status.reports.entry(name.clone()).or_default()));
    }
}

/// Keeps all reports until `shutdown` is cancelled. A computation that runs then is given up; nothing of it is seen, and [`catch_up`] or the next start does it.
///
/// # Errors
/// If the session cannot be opened, or reports read each other in a circle. A report that fails says so in `status`, is tried again, and holds up nobody.
pub async fn run(
    settings: Settings,
    reports: Vec<Report>,
    log: Arc<dyn Log>,
    ingestion: Bucket,
    reporting: Bucket,
    shutdown: CancellationToken,
    status: watch::Sender<Status>,
) -> Result<(), ProcessorError> {
    let works = Works::open(settings, &reports, Some(Arc::clone(&log)), ingestion, reporting, status).await?;
    keep(works, log, shutdown).await
}

async fn keep(
    mut works: Works,
    log: Arc<dyn Log>,
    shutdown: CancellationToken,
) -> Result<(), ProcessorError> {
    let bells = works.reports.iter().map(|report| {
        // What it reads cannot be told of a broken report; the keeper says so, and no notice is for it.
        let read = sources(report, &works.reports).unwrap_or_default();
        let names = read.into_iter().map(|source| source.name).collect();
        listen::Bell { sources: names, rings: Arc::new(Notify::new()) }
    });
    works.wake = Wake::new(bells.collect(), works.settings.notices, &log);
    let works = Arc::new(works);
    let mut tasks = JoinSet::new();
    for (report, bell) in works.reports.iter().zip(&works.wake.bells) {
        let (report, bell) = (report.clone(), Arc::clone(&bell.rings));
        tasks.spawn(Keeper::new(report, Arc::clone(&works), bell, shutdown.clone()).run());
    }
    tasks.spawn(listen::run(log, Arc::clone(&works), shutdown));
    while let Some(ended) = tasks.join_next().await {
        ended.map_err(ProcessorError::Panicked)?;
    }
    Ok(())
}

/// [`refresh`] for a task: it owns what it needs, and gives back the tables that it has opened.
async fn refresh_once(
    works: Arc<Works>,
    report: Report,
    mut tables: Tables,
    thoroughness: Thoroughness,
) -> Result<(Refreshed, Tables), ReportError> {
    let refreshed = refresh(&works, &report, &mut tables, thoroughness).await?;
    Ok((refreshed, tables))
}
