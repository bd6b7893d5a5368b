//! `millstream report`: how far the reports are, and keeping them by hand.

mod told;

use super::{STOPPED, note, quoted, say};
use crate::cli::{Place, ReportList, ReportRun};
use crate::config::Settings;
use crate::config::log::LogChoice;
use crate::directory::Directory;
use crate::pipeline::{LogHandle, open_kafka, report_limits};
use crate::shutdown::Signals;
use anyhow::{Context, bail, ensure};
use millstream_log::Log;
use millstream_log::embedded::Onlooker;
use millstream_model::name::StreamName;
use millstream_query::{Ask, Format, Layout, Session, TailUse, print};
use millstream_transform::processor::{self, Once};
use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// What is shown of each report to people; JSON has all of `system.reports`.
const SHOWN: &str = "select report, \
        case state when 'behind' then 'behind by ' || behind_versions else state end as state, \
        coalesce(sources, '') as reads, \
        coalesce(cast(rows as varchar), '') as rows, \
        coalesce(to_char(last_commit, '%Y-%m-%d %H:%M:%S'), '') as changed, \
        coalesce(to_char(mark, '%Y-%m-%d %H:%M'), '') as complete_to, \
        concat(recompute, ': ' || whole_reason, '; kept as it was before ' || cast(retired_before as varchar)) as recomputed \
    from system.reports order by report";

/// What is wrong with some of them, in lines of their own: it is too long for a table.
const WRONG: &str = "select report, case when last_error is not null then since end as since, coalesce(last_error, problem) as error from system.reports \
    where last_error is not null or problem is not null order by report";

const ALL: &str = "select * from system.reports order by report";

/// How long one report may take: a person waits for it, or ends it. Well below the age at which its first files would be taken for forgotten.
const COMPUTE_MAX: Duration = Duration::from_secs(6 * 60 * 60);

const NONE: &str = "no report is configured; a [[report]] in the configuration file makes one";

/// Lists the reports.
pub(super) async fn list(options: ReportList) -> anyhow::Result<ExitCode> {
    let (directory, settings) = open(options.place)?;
    let lakehouse = directory.lakehouse(&settings)?;
    let (limits, _spill) = report_limits(&directory, &settings);
    let session = Session::open(&lakehouse, limits).await?;
    if options.json {
        say(&printed(&session, ALL, Format::Json).await?)?;
        return Ok(ExitCode::SUCCESS);
    }
    if settings.reports.is_empty() {
        note(NONE)?;
    }
    say(&printed(&session, SHOWN, Format::Box).await?)?;
    for line in printed(&session, WRONG, Format::Ndjson).await?.lines() {
        say(&told::wrong(serde_json::from_str(line)?))?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn printed(session: &Session, sql: &str, format: Format) -> anyhow::Result<String> {
    let answer = session.ask(sql, Ask { tail: TailUse::Off }).await?;
    let mut out = Vec::new();
    print(answer, format, Layout::default(), &mut out).await?;
    Ok(String::from_utf8_lossy(&out).into_owned())
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
    let (handle, log) = match &settings.log {
        LogChoice::Kafka(kafka) => {
            let log = LogHandle::Kafka(open_kafka(kafka).await?);
            let shared = log.shared();
            (Some(log), Some(shared))
        }
        // Another process may have it open, and only its ends are looked at.
        LogChoice::Embedded(_) if directory.log().is_dir() => {
            (None, Some(Arc::new(Onlooker::open(&directory.log())?) as Arc<dyn Log>))
        }
        LogChoice::Embedded(_) => (None, None),
    };
    let (limits, _spill) = report_limits(directory, settings);
    let rules = processor::Settings { limits, compute_max: COMPUTE_MAX, ..processor::Settings::default() };
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
    processor::once(rules, &settings.reports, log, ingestion, reporting, what, said).await?;
    if let Some(handle) = handle {
        handle.close().await.context("failed to close the log")?;
    }
    unsaid?;
    if !failed.is_empty() {
        bail!("failed to bring {} up to date; the others are done", failed.join(", "));
    }
    Ok(ExitCode::SUCCESS)
}
