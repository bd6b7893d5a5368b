//! The two buckets, opened and probed.

use super::{Role, Stages};
use crate::config::Settings;
use crate::directory::Directory;
use anyhow::Context;
use millstream_lake::Bucket;
use millstream_query::Lakehouse;

/// The two buckets.
#[derive(Debug, Clone)]
pub(super) struct Buckets {
    pub(super) ingestion: Bucket,
    pub(super) reporting: Bucket,
}

impl Buckets {
    /// Opens both, and probes those to which these stages write: a store on which commits are not safe is refused.
    pub(super) async fn open(
        settings: &Settings,
        directory: &Directory,
        stages: &Stages,
    ) -> anyhow::Result<Self> {
        let buckets =
            Self { ingestion: directory.ingestion(settings)?, reporting: directory.reporting(settings)? };
        let written = [
            (&buckets.ingestion, stages.has(Role::Firehose)),
            (&buckets.reporting, stages.has(Role::Process)),
        ];
        for (bucket, _) in written.iter().filter(|(_, is_written)| *is_written) {
            bucket.probe().await.with_context(|| format!("failed to probe the bucket {}", bucket.url()))?;
        }
        Ok(buckets)
    }

    /// Both once more, with connections of their own: what SQL does to its threads holds up no commit.
    pub(super) fn again(settings: &Settings, directory: &Directory) -> anyhow::Result<Self> {
        Ok(Self { ingestion: directory.ingestion(settings)?, reporting: directory.reporting(settings)? })
    }

    /// As a question needs them, with what is configured, but without the log.
    pub(super) fn lakehouse(&self, settings: &Settings) -> Lakehouse {
        let lakehouse = Lakehouse::new(self.ingestion.clone(), self.reporting.clone());
        lakehouse.with_definitions(settings.definitions())
    }
}
