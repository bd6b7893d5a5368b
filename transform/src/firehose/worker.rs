//! The worker of a share of a log topic's partitions: reads, buffers, and decides when the files close.

use super::buffer::Buffer;
use super::claim::{Claim, Owned};
use super::commit::flush;
use super::error::FirehoseError;
use super::intake::Intake;
use super::seat::Seat;
use super::status::Phase;
use super::work::{Duty, Step, Work};
use chrono::Utc;
use millstream_lake::ledger::Closed;
use millstream_log::{LogError, Share};
use millstream_model::name::{Offset, Partition, TopicPartition};
use millstream_model::record::Stored;
use millstream_model::stream::CloseRule;
use millstream_model::time::Micros;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// When files of quarantine close that hold messages no stream claims: they are few, and who looks for one looks soon.
const UNCLAIMED_FILES: CloseRule =
    CloseRule { after: Duration::from_secs(60), size: 16 * 1024 * 1024, idle: Duration::from_secs(2) };

/// How long reading may stand still where the log has more, and how often that is looked for: much longer than a log takes to give what it has.
const STUCK_AFTER: Duration = Duration::from_secs(15);

/// Owns a share of a log topic's partitions, from a claim until it has drained them, or lost them, or gets another share.
#[derive(Debug)]
pub(crate) struct Worker<'w> {
    work: &'w Work,
    seat: &'w mut Seat,
    claim: Claim,
    buffer: Buffer,
    intake: Intake,
    rule: CloseRule,
    /// When the buffer's first and last records came; `None`: it is empty.
    filled: Option<Filled>,
    draining: bool,
    look: Look,
}

/// The last look whether reading goes on.
#[derive(Debug)]
struct Look {
    next: Instant,
    /// Where it stood in the partitions of which the log had more.
    behind: BTreeMap<Partition, Offset>,
}

impl Look {
    fn new() -> Self {
        Self { next: Instant::now() + STUCK_AFTER, behind: BTreeMap::new() }
    }
}

#[derive(Debug, Clone, Copy)]
struct Filled {
    first: Instant,
    last: Instant,
}

/// How a worker's time with its partitions ended.
#[derive(Debug)]
pub(crate) enum Turn {
    /// Everything that was in the log when it was told to stop is committed.
    Drained,
    /// It has another share now, and nothing of the former one in its hands.
    Reassigned,
    /// The ledger is not as it was when the offsets were read, and why. Claim again.
    Lost(String),
}

/// All that can happen to a worker.
#[derive(Debug)]
enum Event {
    Records(Partition, Vec<Stored>),
    /// Its share of the partitions changed.
    Share(Share),
    /// The files must close.
    Due(Closed),
    /// The log ends before what is committed of it.
    Shrunk,
    /// It is time to look whether reading goes on.
    Look,
    /// The program wants to stop.
    Shutdown,
    /// All that was in the log at shutdown was read.
    Drained,
    /// The log does not say any more which partitions are its share.
    ShareFailed(LogError),
    /// A partition could not be read.
    ReadFailed(Partition, LogError),
}

impl<'w> Worker<'w> {
    pub(crate) fn new(work: &'w Work, seat: &'w mut Seat, owned: Owned) -> Self {
        let mut rule = match &work.duty {
            Duty::Stream(stream) => stream.files,
            Duty::Unrouted => UNCLAIMED_FILES,
        };
        rule.size = rule.size.min(u64::try_from(work.settings.buffer_max).unwrap_or(u64::MAX));
        let Owned { claim, buffer, intake } = owned;
        Self { work, seat, claim, buffer, intake, rule, filled: None, draining: false, look: Look::new() }
    }

    pub(crate) async fn run(mut self) -> Result<Turn, FirehoseError> {
        loop {
            let close = match self.event().await {
                Event::Records(partition, records) => {
                    self = match self.take_all(partition, &records).await? {
                        Step::Done(worker) => worker,
                        Step::Lost(why) => return Ok(Turn::Lost(why)),
                    };
                    None
                }
                Event::Due(closed) => Some(closed),
                Event::Share(share) if share.partitions == self.claim.partitions => None,
                Event::Share(share) => return self.hand_over(share).await,
                Event::Shutdown => {
                    self.begin_to_drain().await?;
                    None
                }
                Event::Shrunk => {
                    return Ok(Turn::Lost("the log ends before what is committed of it".to_owned()));
                }
                Event::Look if self.is_stuck() => {
                    return Ok(Turn::Lost("the log has more of it and does not give it".to_owned()));
                }
                Event::Look => None,
                Event::Drained => return self.last_flush().await,
                Event::ShareFailed(error) => return Err(error.into()),
                Event::ReadFailed(partition, error) => {
                    let error = FirehoseError::from(error);
                    // One that names its partition is counted with whatever else fails.
                    if error.partition().is_none() {
                        self.work.report(|status| status.failed_at(partition));
                    }
                    return Err(error);
                }
            };
            if let Some(closed) = close {
                self = match self.flush(closed).await? {
                    Step::Done(worker) => worker,
                    Step::Lost(why) => return Ok(Turn::Lost(why)),
                };
            }
        }
    }

    /// Waits for the next event. Only receives, so that nothing is lost when another arm is faster.
    async fn event(&mut self) -> Event {
        if self.draining && self.intake.is_drained() {
            return Event::Drained;
        }
        let due = self.due();
        let alarm = async {
            match due {
                Some((at, closed)) => {
                    sleep_until(at).await;
                    closed
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            share = self.seat.next() => match share {
                Ok(share) => Event::Share(share),
                Err(error) => Event::ShareFailed(error),
            },
            () = self.work.shutdown.cancelled(), if !self.draining => Event::Shutdown,
            closed = alarm => Event::Due(closed),
            () = self.work.shrunk() => Event::Shrunk,
            () = sleep_until(self.look.next) => Event::Look,
            read = self.intake.next(self.work.settings.read) => match read {
                (partition, Ok(records)) => Event::Records(partition, records),
                (partition, Err(error)) => Event::ReadFailed(partition, error),
            },
        }
    }

    /// When the files must close at the latest, and why.
    fn due(&self) -> Option<(Instant, Closed)> {
        let filled = self.filled?;
        // A rule may ask for longer than a clock can count: for ever.
        let age = filled.first.checked_add(self.rule.after).map(|at| (at, Closed::Age));
        let idle = filled.last.checked_add(self.rule.idle).map(|at| (at, Closed::Idle));
        age.into_iter().chain(idle).min_by_key(|(at, _)| *at)
    }

    /// Takes what was read, and commits whenever the files must close.
    async fn take_all(
        mut self,
        partition: Partition,
        records: &[Stored],
    ) -> Result<Step<Self>, FirehoseError> {
        let mut rest = records;
        while !rest.is_empty() {
            let (taken, close) = self.take(partition, rest);
            rest = &rest[taken..];
            if let Some(closed) = close {
                self = match self.flush(closed).await? {
                    Step::Done(worker) => worker,
                    Step::Lost(why) => return Ok(Step::Lost(why)),
                };
            }
        }
        Ok(Step::Done(self))
    }

    /// Takes as much as there is room for, and says how many records that was and whether the files must close.
    fn take(&mut self, partition: Partition, records: &[Stored]) -> (usize, Option<Closed>) {
        let most = self.work.settings.buffer_max;
        let taken = self.buffer.push(partition, records, Micros::from(Utc::now()), most);
        self.say_what_waits(partition, &records[..taken]);
        let last = Instant::now();
        let first = self.filled.map_or(last, |filled| filled.first);
        self.filled = Some(Filled { first, last });
        let bytes = u64::try_from(self.buffer.bytes()).unwrap_or(u64::MAX);
        (taken, (bytes >= self.rule.size).then_some(Closed::Size))
    }

    /// Says how much it has read and not committed, and since when the oldest of these records waits, unless older ones do already.
    fn say_what_waits(&self, partition: Partition, records: &[Stored]) {
        let Some(first) = records.first() else { return };
        self.work.report(|status| {
            status.in_flight.clone_from(self.buffer.held());
            let Some(received_at) = first.received_at() else { return };
            let Some(progress) = status.partitions.get_mut(&partition) else { return };
            progress.next = progress.next.max(first.offset.next());
            progress.waits_since(received_at);
        });
    }

    /// Whether the log gave nothing more of a partition since the last look although it had more then: a reader may hang on a topic that is not there any more.
    fn is_stuck(&mut self) -> bool {
        let behind = {
            let status = self.work.status.borrow();
            self.intake.behind(|partition| status.partitions.get(&partition).map(|progress| progress.next))
        };
        let stuck = behind.iter().any(|(partition, offset)| self.look.behind.get(partition) == Some(offset));
        self.look = Look { behind, ..Look::new() };
        stuck
    }

    async fn begin_to_drain(&mut self) -> Result<(), FirehoseError> {
        self.draining = true;
        self.work.report(|status| status.phase = Phase::Draining);
        Ok(self.intake.end_here(self.work.log.as_ref()).await?)
    }

    async fn last_flush(self) -> Result<Turn, FirehoseError> {
        if self.buffer.is_empty() {
            return Ok(Turn::Drained);
        }
        Ok(match self.flush(Closed::Shutdown).await? {
            Step::Done(_) => Turn::Drained,
            Step::Lost(why) => Turn::Lost(why),
        })
    }

    /// Commits what it holds before others get what it gives up. Whatever comes of that, the new share counts: what was not committed is read again by its owner.
    async fn hand_over(self, share: Share) -> Result<Turn, FirehoseError> {
        self.seat.hold(share);
        if self.buffer.is_empty() {
            return Ok(Turn::Reassigned);
        }
        Ok(match self.flush(Closed::Rebalance).await? {
            Step::Done(_) => Turn::Reassigned,
            Step::Lost(why) => Turn::Lost(why),
        })
    }

    /// Commits what is buffered. A worker that has lost its partitions is gone, and its buffer with it.
    async fn flush(mut self, closed: Closed) -> Result<Step<Self>, FirehoseError> {
        self.filled = None;
        let buffer = self.buffer;
        let finished = tokio::task::spawn_blocking(move || buffer.finish()).await;
        let interrupted =
            |source| FirehoseError::Interrupted { table: self.work.duty.table().to_owned(), source };
        let (buffer, batch) = finished.map_err(interrupted)?;
        self.buffer = buffer;
        let decided: Vec<(Partition, Offset)> =
            batch.ranges.iter().map(|range| (range.partition, range.last.next())).collect();
        if let Step::Lost(why) = flush(self.work, &mut self.claim, batch, closed).await? {
            return Ok(Step::Lost(why));
        }
        for (partition, next) in decided {
            let owned = TopicPartition { topic: self.claim.topic.clone(), partition };
            self.seat.committed(&owned, next);
        }
        // While it was committed, nothing was read.
        self.look = Look::new();
        self.work.report(|status| {
            status.phase = if self.draining { Phase::Draining } else { Phase::Running };
            status.last_error = None;
        });
        Ok(Step::Done(self))
    }
}
