//! `millstream report`: how far the reports are, and keeping them by hand.

mod told;

use super::{STOPPED, note, quoted, say};
use crate::cli::{Place, ReportList, ReportRun};
use crate::config::Settings;
use crate::config::log::LogChoice;
use crate::directory::Directory;
use crate::pipeline::{LogHandle, open_kafka};
use crate::shutdown::Signals;
use anyhow::{Context, bail, ensure};
use millstream_log::embedded::Peek;
use millstream_model::name::StreamName;
use millstream_query::{Ask, Format, Layout, Session, TailUse, print};
use millstream_transform::processor::{self, Once, Sight};
use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// What is shown of each report to people; JSON has all of `system.reports`.
const SHOWN: &str = "select report, state, sources, shown_versions as shown, latest_versions as latest, mark, retired_before, recompute, whole_reason as why, \
                     last_commit as recomputed, last_error as error from system.reports order by report";

const ALL: &str = "select * from system.reports order by report";

const NONE: &str = "no report is configured; a [[report]] in the configuration file makes one";

/// Lists the reports.
pub(super) async fn list(options: ReportList) -> anyhow::Result<ExitCode> {
    let (directory, settings) = open(options.place)?;
    let lakehouse = directory.lakehouse(&settings)?;
    let (_spill, spill_bytes) = directory.spill(&settings);
    let session = Session::open(&lakehouse, settings.sql.limits(None, spill_bytes)).await?;
    let (sql, format) = if options.json { (ALL, Format::Json) } else { (SHOWN, Format::Box) };
    if settings.reports.is_empty() && !options.json {
        note(NONE)?;
    }
    let answer = session.ask(sql, Ask { tail: TailUse::Off }).await?;
    let mut out = Vec::new();
    print(answer, format, Layout::default(), &mut out).await?;
    say(&String::from_utf8_lossy(&out))?;
    Ok(ExitCode::SUCCESS)
}

/// Brings reports up to date, or computes them anew; a first signal gives up what is being computed, of which nothing is seen then.
pub(super) async fn run(options: ReportRun, everything: bool) -> anyhow::Result<ExitCode> {
    let (directory, settings) = open(options.place)?;
    let names = chosen(&settings, &options.names)?;
    if settings.reports.is_empty() {
        note(NONE)?;
        return Ok(ExitCode::SUCCESS);
    }
    let signals = Signals::take().context("failed to take over signals")?;
    let stop = CancellationToken::new();
    let once = Once { names, everything };
    let work = async {
        tokio::select! {
            done = compute(&directory, &settings, &once) => done,
            () = stop.cancelled() => Ok(ExitCode::from(STOPPED)),
        }
    };
    tokio::select! {
        ended = work => ended,
        () = signals.watch(stop.clone()) => Ok(ExitCode::from(STOPPED)),
    }
}

/// The place, which must be there: what is not there has no reports.
fn open(place: Place) -> anyhow::Result<(Directory, Settings)> {
    let directory = Directory::new(place.data);
    let settings = directory.settings(place.config.as_deref())?;
    let path = directory.path();
    ensure!(
        path.is_dir() || !directory.holds_data(&settings),
        "there is no data directory {}; name it with --data, or make it with `millstream up --data {}`",
        path.display(),
        quoted(path)
    );
    Ok((directory, settings))
}

fn chosen(settings: &Settings, names: &[String]) -> anyhow::Result<BTreeSet<StreamName>> {
    let known = || settings.reports.iter().map(|report| report.name.as_str()).collect::<Vec<_>>().join(", ");
    let find = |name: &String| {
        let plain = name.strip_prefix("reporting.").unwrap_or(name);
        let found = settings.reports.iter().find(|report| report.name.as_str() == plain);
        found
            .map(|report| report.name.clone())
            .with_context(|| format!("there is no report {name}; there are {}", known()))
    };
    names.iter().map(find).collect()
}

async fn compute(directory: &Directory, settings: &Settings, what: &Once) -> anyhow::Result<ExitCode> {
    let (ingestion, reporting) = (directory.ingestion(settings)?, directory.reporting(settings)?);
    reporting.probe().await.with_context(|| format!("failed to probe the bucket {}", reporting.url()))?;
    let (log, sight) = match &settings.log {
        LogChoice::Kafka(kafka) => {
            let log = LogHandle::Kafka(open_kafka(kafka).await?);
            let sight = Sight::Open(log.shared());
            (Some(log), Some(sight))
        }
        // Another process may have it open, and only its ends are looked at.
        LogChoice::Embedded(_) if directory.log().is_dir() => {
            (None, Some(Sight::Outside(Arc::new(Peek::open(&directory.log())?))))
        }
        LogChoice::Embedded(_) => (None, None),
    };
    let rules = processor::Settings::default();
    let (mut failed, mut unsaid) = (Vec::new(), Ok(()));
    let said = |name: &StreamName, outcome: Result<processor::Refreshed, processor::ReportError>| {
        let outcome = outcome.map_err(anyhow::Error::from);
        if let Err(error) = say(&told::told(name, &outcome)) {
            unsaid = Err(error);
        }
        if outcome.is_err() {
            failed.push(name.to_string());
        }
    };
    processor::once(rules, &settings.reports, sight, ingestion, reporting, what, said).await?;
    if let Some(log) = log {
        log.close().await.context("failed to close the log")?;
    }
    unsaid?;
    if !failed.is_empty() {
        bail!("failed to bring {} up to date; the others are done", failed.join(", "));
    }
    Ok(ExitCode::SUCCESS)
}
