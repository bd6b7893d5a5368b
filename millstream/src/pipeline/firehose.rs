//! Log to ingestion bucket: a worker for each stream, and one for what no stream claims.

use super::log::warn_of_orphans;
use super::{Pipeline, Stages};
use crate::config::Settings;
use crate::config::log::LogChoice;
use crate::config::raw::{Keep, Notices, Unclaimed};
use crate::config::stream;
use crate::directory::Directory;
use millstream_model::name::UNROUTED;
use millstream_model::stream::Stream;
use millstream_transform::firehose::{self, NoticeRule, TrimRule, UnclaimedRule};
use std::sync::Arc;
use tokio::sync::watch;

impl Pipeline {
    /// Starts the workers.
    pub(super) fn start_firehose(
        &mut self,
        settings: &Settings,
        directory: &Directory,
        stages: &Stages,
    ) -> anyhow::Result<()> {
        warn_of_orphans(settings, directory)?;
        let rules = rules(settings);
        let rules_of =
            |name: &str| firehose::Settings { accept_gap: stages.accepts_gap(name), ..rules.clone() };
        let (log, bucket) = (self.log()?.shared(), self.buckets()?.ingestion.clone());
        let mut streams: Vec<Arc<Stream>> = settings.streams.clone();
        streams.push(Arc::new(stream::lifecycle()));
        for stream in streams {
            let name = stream.name.to_string();
            let (rules, log, bucket) = (rules_of(&name), Arc::clone(&log), bucket.clone());
            let (token, status) = (self.firehose.token(), watch::Sender::default());
            self.observed.firehoses.insert(name.clone(), status.subscribe());
            self.firehose.spawn(name, async move {
                firehose::run(rules, stream, log, bucket, token, status).await.map_err(Into::into)
            });
        }
        let (rules, token, status) = (rules_of(UNROUTED), self.firehose.token(), watch::Sender::default());
        self.observed.firehoses.insert(UNROUTED.to_owned(), status.subscribe());
        self.firehose.spawn(UNROUTED, async move {
            firehose::run_unrouted(rules, log, bucket, token, status).await.map_err(Into::into)
        });
        Ok(())
    }
}

fn rules(settings: &Settings) -> firehose::Settings {
    let rules = firehose::Settings {
        unclaimed: match settings.gateway.unclaimed {
            Unclaimed::Quarantine => UnclaimedRule::Quarantine,
            Unclaimed::Drop => UnclaimedRule::Drop,
        },
        notices: match settings.lake.notices {
            Notices::Firehose => NoticeRule::Firehose,
            Notices::Store => NoticeRule::Store,
        },
        ..firehose::Settings::default()
    };
    match &settings.log {
        LogChoice::Embedded(embedded) => firehose::Settings { trim: trim(embedded.keep), ..rules },
        LogChoice::Kafka(kafka) => {
            firehose::Settings { trim: trim(kafka.keep), group: kafka.group.clone(), ..rules }
        }
    }
}

/// A topic that Millstream makes has no retention of its own, so what nobody trims stays for ever.
fn trim(keep: Keep) -> TrimRule {
    match keep {
        Keep::Uncommitted => TrimRule::AfterCommit,
        Keep::All => TrimRule::Keep,
    }
}
