//! `millstream doctor`: looks at everything that a Millstream needs, one after the other, and says of each whether it is there and, if not, what to do.
//!
//! It changes nothing that matters: of a bucket it tries every right on keys of its own, which it deletes again; of Kafka it makes the topics that `up` would make, and
//! writes one notice of nothing. What is secret is never part of what it prints.

mod brokers;
mod buckets;
mod files;
mod finding;
mod log;
mod machine;
mod notices;

use super::say;
use crate::cli::Doctor;
use crate::config::Settings;
use crate::config::raw::Notices;
use crate::directory::Directory;
use finding::{Finding, Findings, numbered};
use std::process::ExitCode;

/// Checks everything; the exit code is 1 if something has to be done.
pub(super) async fn run(options: Doctor) -> anyhow::Result<ExitCode> {
    let directory = Directory::new(options.place.data);
    let mut findings = Findings::new(say);
    let settings = match directory.settings(options.place.config.as_deref()) {
        Ok(settings) => settings,
        Err(error) => {
            findings.add(Finding::failed("configuration", format!("{error:#}")))?;
            return Ok(ExitCode::FAILURE);
        }
    };
    findings.add(configuration(&settings))?;
    for finding in machine::check(&settings, &directory) {
        findings.add(finding)?;
    }
    for finding in files::check(&settings, &directory) {
        findings.add(finding)?;
    }
    for subscriber in &settings.subscribers {
        findings.add(brokers::check(subscriber).await)?;
    }
    let (log, found) = log::check(&settings, &directory).await;
    for finding in found {
        findings.add(finding)?;
    }
    let (ingestion, found) = buckets::check(&settings, &directory).await;
    for finding in found {
        findings.add(finding)?;
    }
    if settings.lake.notices == Notices::Store {
        let finding = match (&log, &ingestion) {
            (Some(log), Some(bucket)) => {
                notices::check(log, bucket, options.notice_wait, settings.sweep).await
            }
            _ => Finding::warning("notices", "not tried: they need the log and the ingestion bucket"),
        };
        findings.add(finding)?;
    }
    if let Some(log) = log {
        log.close().await?;
    }
    findings.conclude()
}

fn configuration(settings: &Settings) -> Finding {
    let (streams, reports) =
        (numbered(settings.streams.len(), "stream"), numbered(settings.reports.len(), "report"));
    let said = format!("right: {streams}, {reports}");
    match settings.warnings.len() {
        0 => Finding::ok("configuration", said),
        count => Finding::warning("configuration", format!("{said}, {}", numbered(count, "warning")))
            .advice("`millstream check FILE` shows them"),
    }
}
