//! Who looks after the tables: of each bucket, beside the stage that writes there.

use super::Pipeline;
use crate::config::Settings;
use millstream_lake::Bucket;
use millstream_transform::janitor;
use std::sync::Arc;
use tokio::sync::watch;

impl Pipeline {
    /// Starts the one of the ingestion bucket, beside the firehoses.
    pub(super) fn start_ingestion_janitor(&mut self, settings: &Settings) -> anyhow::Result<()> {
        let bucket = self.buckets()?.ingestion.clone();
        let (upkeep, streams) = (settings.upkeep, settings.streams.clone());
        let rules = move |table: &str| upkeep.ingestion(table, &streams);
        if let Some(run) = self.janitor("ingestion", settings, bucket, Arc::new(rules)) {
            self.firehose.spawn("janitor", run);
        }
        Ok(())
    }

    /// Starts the one of the reporting bucket, beside the processor.
    pub(super) fn start_reporting_janitor(&mut self, settings: &Settings) -> anyhow::Result<()> {
        let bucket = self.buckets()?.reporting.clone();
        let rules = settings.upkeep.reporting();
        if let Some(run) = self.janitor("reporting", settings, bucket, Arc::new(move |_: &str| rules)) {
            self.processor.spawn("janitor", run);
        }
        Ok(())
    }

    /// `None` if nobody is to do it on schedule.
    fn janitor(
        &mut self,
        name: &'static str,
        settings: &Settings,
        bucket: Bucket,
        rules: Arc<janitor::RulesOf>,
    ) -> Option<impl Future<Output = anyhow::Result<()>> + Send + use<>> {
        let every = settings.upkeep.every?;
        let token = match name {
            "ingestion" => self.firehose.token(),
            _ => self.processor.token(),
        };
        let status = watch::Sender::default();
        self.observed.janitors.insert(name, status.subscribe());
        Some(async move {
            janitor::run(janitor::Settings { every }, bucket, rules, token, status).await;
            Ok(())
        })
    }
}
