//! Log to ingestion bucket, each offset exactly once.
//!
//! One worker per log topic in each process; together they share its partitions out. How they keep their promise, in the words of the code:
//!
//! - The **ledger** is the table whose commits say what became of each offset: the stream's own, or quarantine for messages that no stream claims.
//!   For every partition it holds a transaction `millstream/{table}/{log topic}/{epoch}/{partition}` whose version is the last offset with an outcome.
//! - [`seat`] is a worker's place among those who share the topic out. It only avoids double work.
//! - [`claim`] finds out where the [`ledger`] stands, finishes what a predecessor left half done, and checks that the log is the one it was filled from.
//! - [`gap`] writes down what is missing of the log, where a person accepted that; [`renew`] goes on with another log in a new epoch.
//! - [`worker`] reads from there, decodes into the [`buffer`], and decides when the files close.
//! - [`commit`] writes a flush: files first, invisible; then one commit with all of them, every partition's transaction, and the [`decision`]; then the
//!   quarantine's commit, which only repeats what was decided. The commit demands the transactions as they were when the offsets were read, so of two
//!   workers over the same offsets one is fenced: it drops its buffer and claims again. Nothing is lost by that, the log has it all.
//!
//! What it never does: trim the log before both commits, decide twice about an offset, skip a damaged or missing record.

mod buffer;
mod claim;
mod commit;
mod decision;
mod error;
mod gap;
pub(crate) mod intake;
mod ledger;
pub(crate) mod notice;
mod passed;
mod renew;
mod seat;
mod status;
#[cfg(test)]
mod tests;
mod work;
mod worker;

pub use error::FirehoseError;
pub use gap::{GAPS, GAPS_OMITTED, Gap, GapReason, gaps, gaps_omitted};
pub use millstream_lake::ledger::{Closed, EPOCH, INPUT_SCHEMA, committed};
pub use status::{Committed, InFlight, Incidents, PartitionTotals, Phase, Progress, Status, Totals};

use crate::backoff::{Backoff, chain};
use millstream_lake::Bucket;
use millstream_log::{Log, ReadLimit};
use millstream_model::fault::Fault;
use millstream_model::stream::Stream;
use seat::Seat;
use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use work::{Duty, Fence, Step, Work};
use worker::{Turn, Worker};

/// How a firehose works, whatever its stream.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What happens to records of the log once they are committed.
    pub trim: TrimRule,
    /// What becomes of messages that no stream claims.
    pub unclaimed: UnclaimedRule,
    /// Who tells the processor of commits.
    pub notices: NoticeRule,
    /// Files close when the buffer takes this much memory, in bytes, even where the stream allows larger ones.
    pub buffer_max: usize,
    /// How much one read of the log returns: the buffer may exceed what a file should be by what that becomes, and `buffer_max` by what its last message becomes.
    pub read: ReadLimit,
    /// The name under which workers in several processes share out a topic's partitions.
    pub group: String,
    /// Whether a log that lacks what the table does not have, or that is another one, is accepted where a partition is first claimed in this run, in its first two
    /// minutes. What is missing is written into the table ([`gaps`]); another log raises the table's [`EPOCH`]. What goes missing later in the run is refused all the
    /// same, and so is what a rebalance brings later: it is for one run, by a person.
    pub accept_gap: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            trim: TrimRule::Keep,
            unclaimed: UnclaimedRule::Quarantine,
            notices: NoticeRule::Firehose,
            // A file of the default size takes about as much memory again while it is encoded; several streams fill at once.
            buffer_max: 256 * 1024 * 1024,
            read: ReadLimit { records: 4096, bytes: 1024 * 1024 },
            group: "millstream".to_owned(),
            accept_gap: false,
        }
    }
}

/// What happens to records of the log once they are committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrimRule {
    /// They stay.
    Keep,
    /// The log may forget them, except the last one of each partition, by which it is recognised.
    AfterCommit,
}

/// What becomes of messages that no stream claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnclaimedRule {
    /// They are rows of the quarantine table.
    Quarantine,
    /// They are dropped, and counted in the commits that say so.
    Drop,
}

/// Who writes notices of commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoticeRule {
    /// The firehose, after each commit.
    Firehose,
    /// The object store, by its own notifications.
    Store,
}

/// Carries a stream from its log topic to its table, until `shutdown` is cancelled and everything that was in the log by then is committed. Where several processes
/// do so under one group's name, each carries its share of the partitions.
///
/// Whatever may pass by itself is tried again, however long it takes, and `status` says so; meanwhile the messages wait in the log.
///
/// # Errors
/// If a person must act; or if the storage fails while it drains, and then the messages are in the log for the next start.
pub async fn run(
    settings: Settings,
    stream: Arc<Stream>,
    log: Arc<dyn Log>,
    ingestion: Bucket,
    shutdown: CancellationToken,
    status: watch::Sender<Status>,
) -> Result<(), FirehoseError> {
    Work { settings, duty: Duty::Stream(stream), log, ingestion, shutdown, status, fence: Fence::Checked }
        .run()
        .await
}

/// Carries the messages that no stream claims to quarantine, with the promises of [`run`].
///
/// # Errors
/// As [`run`].
pub async fn run_unrouted(
    settings: Settings,
    log: Arc<dyn Log>,
    ingestion: Bucket,
    shutdown: CancellationToken,
    status: watch::Sender<Status>,
) -> Result<(), FirehoseError> {
    Work { settings, duty: Duty::Unrouted, log, ingestion, shutdown, status, fence: Fence::Checked }
        .run()
        .await
}

impl Work {
    async fn run(self) -> Result<(), FirehoseError> {
        let ended = tokio::select! {
            ended = self.until_drained() => ended,
            never = self.watch_ends() => match never {},
        };
        self.report(|status| match &ended {
            Ok(()) => (status.phase, status.last_error) = (Phase::Drained, None),
            Err(error) => {
                status.incidents.errors += 1;
                if let Some(partition) = error.partition() {
                    status.failed_at(partition);
                }
                (status.phase, status.last_error) = (Phase::Failed, Some(chain(error)));
            }
        });
        ended
    }

    async fn until_drained(&self) -> Result<(), FirehoseError> {
        let mut seat = Seat::new();
        let mut backoff = Backoff::new();
        let mut last_tries = 0;
        loop {
            let commits_before = self.status.borrow().totals.commits;
            let ended = self.turn(&mut seat).await;
            seat.settle(self);
            let error = match ended {
                Ok(Turn::Drained) => return Ok(()),
                Ok(Turn::Reassigned) => continue,
                Ok(Turn::Lost(detail)) => FirehoseError::Lost { table: self.duty.table().to_owned(), detail },
                Err(error) if error.fault() == Fault::Stop => return Err(error),
                Err(error) => error,
            };
            if self.shutdown.is_cancelled() {
                last_tries += 1;
                if last_tries == work::DRAIN_ATTEMPTS {
                    return Err(FirehoseError::Undrained { attempts: last_tries, source: Box::new(error) });
                }
            }
            if self.status.borrow().totals.commits > commits_before {
                backoff = Backoff::new();
            }
            self.wait("own", &error, &mut backoff).await;
        }
    }

    /// Owns a share of the partitions once, until it has drained them, or lost them, or gets another share.
    async fn turn(&self, seat: &mut Seat) -> Result<Turn, FirehoseError> {
        let Some(partitions) = seat.partitions(self).await? else { return Ok(Turn::Drained) };
        let fresh = seat.fresh(&partitions);
        let mut looked = None;
        if gap::accepts(self, &fresh) {
            match self.keep_trying("accept", || gap::accept(self, &partitions, &fresh)).await? {
                Step::Done(found) => looked = found,
                Step::Lost(why) => return Ok(Turn::Lost(why)),
            }
        }
        match self.keep_trying("own", || claim::own(self, &partitions, looked.take())).await? {
            Step::Done(owned) => {
                seat.claimed(&partitions);
                Worker::new(self, seat, owned).run().await
            }
            Step::Lost(why) => Ok(Turn::Lost(why)),
        }
    }
}
