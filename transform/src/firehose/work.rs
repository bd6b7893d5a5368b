//! What a worker was given, and how it bears with failures.

use super::Settings;
use super::error::FirehoseError;
use super::status::{Phase, Status};
use crate::backoff::{Backoff, chain};
use crate::patience::patiently;
use chrono::Utc;
use millstream_lake::ledger::committed;
use millstream_lake::{Bucket, Table};
use millstream_log::{Bounds, Log};
use millstream_model::fault::Fault;
use millstream_model::name::{LogTopic, Offset, Partition, QUARANTINE, TopicPartition};
use millstream_model::stream::Stream;
use millstream_model::time::Micros;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How often a failing step is tried after the program was told to stop: about 15 seconds. What is not committed then stays in the log.
pub(crate) const DRAIN_ATTEMPTS: u32 = 8;

/// How often the log's end is looked up: often enough for whoever watches the lag, and a request a partition.
const ENDS_EVERY: Duration = Duration::from_secs(5);

/// A step that takes longer is told as a failure, though it goes on: many times what a slow store takes for a large file.
const PATIENCE: Duration = Duration::from_secs(15);

/// Everything a worker was given.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) settings: Settings,
    pub(crate) duty: Duty,
    pub(crate) log: Arc<dyn Log>,
    pub(crate) ingestion: Bucket,
    pub(crate) shutdown: CancellationToken,
    pub(crate) status: watch::Sender<Status>,
    pub(crate) fence: Fence,
}

/// Whose messages they are.
#[derive(Debug, Clone)]
pub(crate) enum Duty {
    Stream(Arc<Stream>),
    Unrouted,
}

/// Whether commits demand that the transactions are as they were when the offsets were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fence {
    Checked,
    /// The negative control: without it the simulation must find a violation.
    #[cfg(test)]
    Off,
}

/// What came of a step that somebody else may have overtaken.
#[derive(Debug)]
pub(crate) enum Step<T> {
    Done(T),
    /// The ledger is not as it was when the offsets were read, and why. The buffer is void; claim again.
    Lost(String),
}

impl Duty {
    pub(crate) fn topic(&self) -> LogTopic {
        match self {
            Self::Stream(stream) => stream.name.log_topic(),
            Self::Unrouted => LogTopic::unrouted(),
        }
    }

    /// The ledger's name.
    pub(crate) fn table(&self) -> &str {
        match self {
            Self::Stream(stream) => stream.name.as_str(),
            Self::Unrouted => QUARANTINE,
        }
    }
}

impl Work {
    pub(crate) fn report(&self, change: impl FnOnce(&mut Status)) {
        self.status.send_modify(change);
    }

    /// Looks, for as long as it is polled, where the log ends, so that what waits is seen also while nothing can be committed.
    pub(crate) async fn watch_ends(&self) -> Infallible {
        let topic = self.duty.topic();
        loop {
            tokio::time::sleep(ENDS_EVERY).await;
            let owned: Vec<(Partition, Option<Offset>)> = {
                let status = self.status.borrow();
                status
                    .partitions
                    .iter()
                    .map(|(partition, progress)| (*partition, progress.committed))
                    .collect()
            };
            for (partition, committed) in owned {
                let owned = TopicPartition { topic: topic.clone(), partition };
                match self.log.bounds(&owned).await {
                    Ok(bounds) => self.saw_end(partition, committed, bounds.next),
                    Err(error) => {
                        tracing::debug!(partition = %owned, error = chain(&error), "the log's end could not be looked up");
                        self.report(|status| status.failed_at(partition));
                    }
                }
            }
        }
    }

    /// Whether all that the log holds has its outcome in the table, or a decision about it there that the next owner finishes, whoever has committed it. What cannot be looked
    /// up may wait.
    pub(crate) async fn nothing_waits(&self) -> bool {
        let found = self.waits().await;
        if let Err(error) = &found {
            tracing::debug!(
                table = self.duty.table(),
                error = chain(error),
                "what waits could not be looked up"
            );
        }
        found.is_ok_and(|waits| !waits)
    }

    async fn waits(&self) -> Result<bool, FirehoseError> {
        // A topic that is gone, or that a broker does not know yet: what waited in it cannot be told.
        let Some(partitions) = self.log.existing(&self.duty.topic()).await? else { return Ok(true) };
        let snapshot = match Table::open(&self.ingestion, self.duty.table()).await? {
            Some(table) => Some(table.snapshot().await?),
            None => None,
        };
        for partition in &partitions {
            let Bounds { first, next } = self.log.bounds(partition).await?;
            let committed = snapshot.as_deref().and_then(|snapshot| committed(snapshot, partition));
            // A log that ends before what is committed is another one, of which nothing is known.
            if committed.map_or(first, Offset::next) != next {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Returns when the log of an owned partition ends before what is committed of it. Cancel-safe.
    pub(crate) async fn shrunk(&self) {
        if self.status.subscribe().wait_for(Status::has_shrunk).await.is_err() {
            // Its sender is gone, which is ours: nobody will say it any more.
            std::future::pending().await
        }
    }

    /// The log was seen to end here by a look that began when this was committed: it says nothing against what was committed since.
    pub(crate) fn saw_end(&self, partition: Partition, committed: Option<Offset>, next: Offset) {
        self.status.send_if_modified(|status| {
            let Some(progress) = status.partitions.get_mut(&partition) else { return false };
            let next = if progress.committed == committed { next } else { next.max(progress.next) };
            let before = (progress.next, progress.waiting_since);
            progress.next = next;
            progress.waits_since(Micros::from(Utc::now()));
            (progress.next, progress.waiting_since) != before
        });
    }

    /// Repeats a step until it succeeds or fails for good. After shutdown, a bounded number of times.
    pub(crate) async fn keep_trying<T, F, Fut, E>(
        &self,
        step: &'static str,
        mut attempt: F,
    ) -> Result<T, FirehoseError>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, E>>,
        E: Into<FirehoseError>,
    {
        let mut backoff = Backoff::new();
        let mut last_tries = 0;
        loop {
            let error: FirehoseError = match self.patiently(step, attempt()).await {
                Ok(done) => return Ok(done),
                Err(error) => error.into(),
            };
            if error.fault() != Fault::Retry {
                return Err(error);
            }
            if self.shutdown.is_cancelled() {
                last_tries += 1;
                if last_tries == DRAIN_ATTEMPTS {
                    return Err(FirehoseError::Undrained {
                        attempts: backoff.attempts() + 1,
                        source: Box::new(error),
                    });
                }
            }
            self.wait(step, &error, &mut backoff).await;
        }
    }

    /// Waits for a step, and says so whenever it has had no answer for a while: a store that hangs fails only after minutes.
    async fn patiently<T>(&self, step: &'static str, attempt: impl Future<Output = T>) -> T {
        let say = |waited: Duration| {
            let text = format!("{step}: no answer for {} s", waited.as_secs());
            tracing::warn!(
                table = self.duty.table(),
                step,
                waited_s = waited.as_secs(),
                "firehose waits for an answer"
            );
            self.report(|status| {
                status.incidents.errors += 1;
                (status.phase, status.last_error) = (Phase::Retrying, Some(text));
            });
        };
        patiently(PATIENCE, attempt, say).await
    }

    /// Says what failed and waits before the next attempt; shutdown ends a wait that began before it.
    pub(crate) async fn wait(&self, step: &'static str, error: &FirehoseError, backoff: &mut Backoff) {
        let pause = backoff.next();
        let text = chain(error);
        tracing::warn!(
            table = self.duty.table(),
            step,
            attempts = backoff.attempts(),
            wait_ms = pause.as_millis(),
            error = text,
            "firehose tries again"
        );
        self.report(|status| {
            status.incidents.retries += 1;
            match error {
                FirehoseError::Lost { .. } => status.incidents.lost += 1,
                _ => status.incidents.errors += 1,
            }
            if let Some(partition) = error.partition() {
                status.failed_at(partition);
            }
            (status.phase, status.last_error) = (Phase::Retrying, Some(text));
        });
        if self.shutdown.is_cancelled() {
            tokio::time::sleep(pause).await;
        } else {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.shutdown.cancelled() => {}
            }
        }
    }
}
