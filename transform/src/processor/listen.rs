//! Reads notices and wakes whoever keeps a report of the table. Where it stands is kept nowhere: it begins at the end, and the sweep covers the rest.
//!
//! Several processes may read the same notices: each reads all of them, and what one has trimmed costs the others a look.

use super::Works;
use crate::backoff::{Backoff, chain};
use crate::firehose::TrimRule;
use crate::firehose::intake::Intake;
use millstream_log::{Log, LogError, ReadLimit};
use millstream_model::name::{LogTopic, TopicPartition};
use millstream_model::notice::Notice;
use millstream_model::record::Stored;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// How many notices are read at once. They are about 300 bytes each.
const READ: ReadLimit = ReadLimit { records: 256, bytes: 256 * 1024 };

/// How to wake the keeper of a report.
#[derive(Debug)]
pub(crate) struct Bell {
    /// The tables that the report reads.
    pub(crate) sources: Vec<String>,
    /// What its keeper waits for.
    pub(crate) rings: Arc<Notify>,
}

impl Bell {
    /// Whether the report reads this table. Streams and reports share one set of names.
    pub(crate) fn hears(&self, table: &str) -> bool {
        self.sources.iter().any(|source| source == table)
    }
}

/// Listens until shutdown. If the log fails, it begins again at the end, after a while.
pub(crate) async fn run(log: Arc<dyn Log>, works: Arc<Works>, shutdown: CancellationToken) {
    let (bells, trim) = (&works.wake.bells, works.settings.trim);
    let mut backoff = Backoff::new();
    loop {
        let failed = tokio::select! {
            () = shutdown.cancelled() => return,
            Err(failed) = listen(log.as_ref(), bells, trim, &mut backoff) => failed,
        };
        tracing::warn!(
            error = chain(&failed),
            attempts = backoff.attempts(),
            "notices cannot be read; the sweep goes on"
        );
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(backoff.next()) => {}
        }
    }
}

async fn listen(
    log: &dyn Log,
    bells: &[Bell],
    trim: TrimRule,
    backoff: &mut Backoff,
) -> Result<Infallible, LogError> {
    let mut intake = begin(log, bells).await?;
    let mut trims = trim == TrimRule::AfterCommit;
    loop {
        let (partition, read) = intake.next(READ).await;
        let records = match read {
            // Whoever else reads them was faster, or they were too old.
            Err(LogError::Trimmed { .. }) => {
                intake = begin(log, bells).await?;
                continue;
            }
            read => read?,
        };
        *backoff = Backoff::new();
        records.iter().for_each(|stored| ring(bells, stored));
        let Some(last) = records.last().filter(|_| trims) else { continue };
        let read = TopicPartition { topic: LogTopic::notices(), partition };
        if let Err(error) = log.trim(&read, last.offset.next()).await {
            tracing::warn!(partition = %read, error = chain(&error), "notices that were read cannot be trimmed; they stay from now on");
            trims = false;
        }
    }
}

/// Begins to read at the end. What was noticed before is covered by one look at everything.
async fn begin(log: &dyn Log, bells: &[Bell]) -> Result<Intake, LogError> {
    let mut from = BTreeMap::new();
    for partition in log.partitions(&LogTopic::notices()).await? {
        let next = log.bounds(&partition).await?.next;
        from.insert(partition.partition, (partition, next));
    }
    let intake = Intake::open(log, &from).await?;
    bells.iter().for_each(|bell| bell.rings.notify_one());
    Ok(intake)
}

/// The bucket of a notice is not looked at: stores have their own names for it, and to wake a keeper once too often costs one look.
fn ring(bells: &[Bell], stored: &Stored) {
    let notices = match Notice::parse(&stored.record.value) {
        Ok(notices) => notices,
        Err(error) => {
            return tracing::warn!(
                offset = stored.offset.0,
                error = chain(&error),
                "a notice could not be read"
            );
        }
    };
    for notice in notices {
        let Some((table, _)) = notice.commit() else { continue };
        let concerned = bells.iter().filter(|bell| bell.hears(table));
        concerned.for_each(|bell| bell.rings.notify_one());
    }
}
