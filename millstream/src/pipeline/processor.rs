//! Ingestion bucket to reporting bucket.

use super::Pipeline;
use crate::config::Settings;
use crate::config::lake::Location;
use crate::config::log::LogChoice;
use crate::config::raw::Notices;
use crate::telemetry::chain;
use millstream_transform::firehose::{NoticeRule, TrimRule};
use millstream_transform::processor;
use std::time::Duration;
use tokio::sync::watch;

/// How long draining waits for the reports: a service manager kills what takes much longer than this.
const REPORTS_DRAIN_MAX: Duration = Duration::from_secs(30);

impl Pipeline {
    /// Starts the processor of all reports.
    pub(super) fn start_processor(&mut self, settings: &Settings) -> anyhow::Result<()> {
        let trim = match settings.log {
            LogChoice::Embedded(_) => TrimRule::AfterCommit,
            // Another processor may not have read them yet; their topic has a retention of its own.
            LogChoice::Kafka(_) => TrimRule::Keep,
        };
        let notices = match (settings.lake.notices, &settings.lake.reporting) {
            // Its rule must be there for the reporting bucket, too.
            (Notices::Store, Some(Location::Store(_))) => NoticeRule::Store,
            (Notices::Store | Notices::Firehose, _) => NoticeRule::Firehose,
        };
        let sweep = settings.sweep;
        let rules = processor::Settings { sweep, trim, notices, ..processor::Settings::default() };
        let (log, reports, buckets) = (self.log()?.shared(), self.reports.clone(), self.buckets()?.clone());
        let (token, status) = (self.processor.token(), watch::Sender::default());
        self.observed.processor = Some(status.subscribe());
        self.processor.spawn("reports", async move {
            processor::run(rules, reports, log, buckets.ingestion, buckets.reporting, token, status)
                .await
                .map_err(Into::into)
        });
        Ok(())
    }

    /// Ends the processor, and brings its reports up to date: what the firehose committed while it drained belongs into them, too.
    /// What does not fit into the time, or fails, the next start does.
    pub(super) async fn drain_processor(&mut self) -> anyhow::Result<()> {
        if self.observed.processor.is_none() {
            return Ok(());
        }
        let drained = self.processor.drain().await;
        let (log, buckets) = (self.log()?.shared(), self.buckets()?.clone());
        let rules = processor::Settings::default();
        let caught_up = processor::catch_up(
            rules,
            &self.reports,
            Some(log),
            buckets.ingestion,
            buckets.reporting,
            watch::Sender::default(),
        );
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
        drained
    }
}
