//! Brings reports up to date once, one after another, each after those that it reads.

use super::attempt::Attempts;
use super::error::{ProcessorError, ReportError};
use super::noted::Noted;
use super::order::with_upstream;
use super::refresh::{Refreshed, Thoroughness};
use super::status::Status;
use super::tables::Tables;
use super::{Report, Settings, Works, refresh_once};
use crate::backoff::chain;
use millstream_lake::Bucket;
use millstream_log::Log;
use millstream_model::name::StreamName;
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::sync::watch;

/// What is to be done once.
#[derive(Debug, Clone, Default)]
pub struct Once {
    /// The reports that are meant; empty: all.
    pub names: BTreeSet<StreamName>,
    /// Whether everything of them is computed anew. Otherwise what they build on is brought up to date before them.
    pub everything: bool,
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
    log: Option<Arc<dyn Log>>,
    ingestion: Bucket,
    reporting: Bucket,
    status: watch::Sender<Status>,
) -> Result<(), ProcessorError> {
    let works = Works::open(settings, reports, log, ingestion, reporting, status).await?;
    let mut failed = None;
    run(works, &Once::default(), |name, outcome| {
        if let Err(source) = outcome {
            let report = name.to_string();
            _ = failed.get_or_insert(ProcessorError::Report { report, source: Box::new(source) });
        }
    })
    .await;
    failed.map_or(Ok(()), Err)
}

/// Does it, and says of each report, when it is done, what came of it. Safe as [`catch_up`] is. The log is only looked at; without one no completeness mark moves.
///
/// # Errors
/// If no report can be computed at all.
pub async fn once(
    settings: Settings,
    reports: &[Report],
    log: Option<Arc<dyn Log>>,
    ingestion: Bucket,
    reporting: Bucket,
    what: &Once,
    said: impl FnMut(&StreamName, Result<Refreshed, ReportError>),
) -> Result<(), ProcessorError> {
    let status = watch::Sender::default();
    run(Works::open(settings, reports, log, ingestion, reporting, status).await?, what, said).await;
    Ok(())
}

async fn run(works: Works, what: &Once, mut said: impl FnMut(&StreamName, Result<Refreshed, ReportError>)) {
    let works = Arc::new(works);
    let attempts = Attempts::new();
    let is_meant = |report: &Report| what.names.is_empty() || what.names.contains(&report.name);
    // They are in the order in which they build on each other.
    let chosen = with_upstream(&works.reports, is_meant);
    for report in chosen.into_iter().map(|place| &works.reports[place]) {
        let thoroughness = match (what.everything, is_meant(report)) {
            (true, false) => continue,
            (true, true) => Thoroughness::Everything,
            (false, _) => Thoroughness::Needed,
        };
        let once = refresh_once(Arc::clone(&works), report.clone(), Tables::default(), thoroughness);
        let outcome = attempts.run(works.settings.compute_max, once).await.map(|(refreshed, _)| refreshed);
        let mut noted = Noted::default();
        match &outcome {
            Ok(_) => noted.well(&works, &report.name).await,
            Err(error) => noted.failing(&works, &report.name, &chain(error)).await,
        }
        said(&report.name, outcome);
    }
    attempts.settled().await;
}
