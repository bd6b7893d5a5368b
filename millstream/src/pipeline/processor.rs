//! Ingestion bucket to reporting bucket.

use super::Pipeline;
use super::buckets::Buckets;
use super::threads::Threads;
use crate::config::Settings;
use crate::config::lake::Location;
use crate::config::log::LogChoice;
use crate::config::raw::Notices;
use crate::directory::{Directory, Spill};
use crate::telemetry::chain;
use millstream_query::Limits;
use millstream_transform::firehose::{NoticeRule, TrimRule};
use millstream_transform::processor;
use std::time::Duration;
use tokio::sync::watch;

/// How long draining waits for the reports: a service manager kills what takes much longer than this.
const REPORTS_DRAIN_MAX: Duration = Duration::from_secs(30);

/// By what the reports are kept, also while the processor drains.
#[derive(Debug)]
pub(super) struct Processing {
    rules: processor::Settings,
    /// Where they are computed.
    _threads: Threads,
    /// Where computations spill, until the end.
    _spill: Option<Spill>,
}

/// The bounds of the computations of reports, and where they spill as long as that is held. As much memory as queries may take, beside them; and half of their disk, so
/// that both together leave a quarter of what was free to the log and the tables.
pub(crate) fn report_limits(directory: &Directory, settings: &Settings) -> (Limits, Option<Spill>) {
    let (spill, bytes) = directory.spill(settings);
    (settings.sql.limits(spill.as_ref().map(|spill| spill.path().to_owned()), bytes / 2), spill)
}

impl Pipeline {
    /// Starts the processor of all reports.
    pub(super) fn start_processor(
        &mut self,
        settings: &Settings,
        directory: &Directory,
    ) -> anyhow::Result<()> {
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
        let (limits, spill) = report_limits(directory, settings);
        let rules = processor::Settings { sweep, trim, notices, limits, ..processor::Settings::default() };
        let (threads, computed_by) = (Threads::start("reports")?, rules.clone());
        let (log, reports) = (self.log()?.shared(), self.reports.clone());
        let buckets = Buckets::again(settings, directory)?;
        let (token, status) = (self.processor.token(), watch::Sender::default());
        self.observed.processor = Some(status.subscribe());
        self.processor.spawn_on(threads.handle(), "reports", async move {
            processor::run(computed_by, reports, log, buckets.ingestion, buckets.reporting, token, status)
                .await
                .map_err(Into::into)
        });
        self.processing = Some(Processing { rules, _threads: threads, _spill: spill });
        Ok(())
    }

    /// Ends the processor, and brings its reports up to date: what the firehose committed while it drained belongs into them, too.
    /// What does not fit into the time, or fails, the next start does.
    pub(super) async fn drain_processor(&mut self) -> anyhow::Result<()> {
        let Some(Processing { rules, _threads, _spill }) = self.processing.take() else { return Ok(()) };
        let drained = self.processor.drain().await;
        let (log, buckets) = (self.log()?.shared(), self.buckets()?.clone());
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

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    #[test]
    fn reports_heed_the_bounds_of_queries_and_spill_into_the_data_directory() {
        let data = TempDir::new().unwrap();
        let toml = "[sql]\nmemory = \"100MiB\"\nspill = \"4KiB\"\n";
        std::fs::write(data.path().join("millstream.toml"), toml).unwrap();
        let directory = Directory::new(data.path().to_owned());
        let (limits, spill) = report_limits(&directory, &directory.settings(None).unwrap());
        assert_eq!((limits.memory_bytes, limits.spill_bytes), (100 << 20, 2 << 10));
        let into = limits.spill_dir.unwrap();
        assert!(into.starts_with(data.path()) && into.is_dir());
        drop(spill);
        assert!(!into.exists());
    }
}
