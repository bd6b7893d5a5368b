//! The worker of one log topic: reads, buffers, and decides when the files close.

use super::buffer::Buffer;
use super::claim::{Claim, Owned};
use super::commit::flush;
use super::error::FirehoseError;
use super::intake::Intake;
use super::status::{Closed, Phase};
use super::work::{Duty, Step, Work};
use chrono::Utc;
use millstream_log::LogError;
use millstream_model::name::Partition;
use millstream_model::record::Stored;
use millstream_model::stream::CloseRule;
use millstream_model::time::Micros;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// When files of quarantine close that hold messages no stream claims: they are few, and who looks for one looks soon.
const UNCLAIMED_FILES: CloseRule =
    CloseRule { after: Duration::from_secs(60), size: 16 * 1024 * 1024, idle: Duration::from_secs(2) };

/// Owns all partitions of a log topic, from a claim until it has drained them or lost them.
#[derive(Debug)]
pub(crate) struct Worker<'w> {
    work: &'w Work,
    claim: Claim,
    buffer: Buffer,
    intake: Intake,
    rule: CloseRule,
    /// When the buffer's first and last records came; `None`: it is empty.
    filled: Option<Filled>,
    draining: bool,
}

#[derive(Debug, Clone, Copy)]
struct Filled {
    first: Instant,
    last: Instant,
}

/// All that can happen to a worker.
#[derive(Debug)]
enum Event {
    Records(Partition, Vec<Stored>),
    /// The files must close.
    Due(Closed),
    /// The program wants to stop.
    Shutdown,
    /// All that was in the log at shutdown was read.
    Drained,
    LogFailed(LogError),
}

impl<'w> Worker<'w> {
    pub(crate) fn new(work: &'w Work, owned: Owned) -> Self {
        let mut rule = match &work.duty {
            Duty::Stream(stream) => stream.files,
            Duty::Unrouted => UNCLAIMED_FILES,
        };
        rule.size = rule.size.min(u64::try_from(work.settings.buffer_max).unwrap_or(u64::MAX));
        let Owned { claim, buffer, intake } = owned;
        Self { work, claim, buffer, intake, rule, filled: None, draining: false }
    }

    pub(crate) async fn run(mut self) -> Result<Step<()>, FirehoseError> {
        loop {
            let close = match self.event().await {
                Event::Records(partition, records) => self.take(partition, &records),
                Event::Due(closed) => Some(closed),
                Event::Shutdown => {
                    self.begin_to_drain().await?;
                    None
                }
                Event::Drained => return self.last_flush().await,
                Event::LogFailed(error) => return Err(error.into()),
            };
            if let Some(closed) = close {
                self = match self.flush(closed).await? {
                    Step::Done(worker) => worker,
                    Step::Lost(why) => return Ok(Step::Lost(why)),
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
            () = self.work.shutdown.cancelled(), if !self.draining => Event::Shutdown,
            closed = alarm => Event::Due(closed),
            read = self.intake.next(self.work.settings.read) => match read {
                Ok((partition, records)) => Event::Records(partition, records),
                Err(error) => Event::LogFailed(error),
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

    fn take(&mut self, partition: Partition, records: &[Stored]) -> Option<Closed> {
        self.buffer.push(partition, records, Micros::from(Utc::now()));
        let last = Instant::now();
        let first = self.filled.map_or(last, |filled| filled.first);
        self.filled = Some(Filled { first, last });
        let bytes = u64::try_from(self.buffer.bytes()).unwrap_or(u64::MAX);
        (bytes >= self.rule.size).then_some(Closed::Size)
    }

    async fn begin_to_drain(&mut self) -> Result<(), FirehoseError> {
        self.draining = true;
        self.work.report(|status| status.phase = Phase::Draining);
        Ok(self.intake.end_here(self.work.log.as_ref()).await?)
    }

    async fn last_flush(self) -> Result<Step<()>, FirehoseError> {
        if self.buffer.is_empty() {
            return Ok(Step::Done(()));
        }
        Ok(match self.flush(Closed::Shutdown).await? {
            Step::Done(_) => Step::Done(()),
            Step::Lost(why) => Step::Lost(why),
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
        if let Step::Lost(why) = flush(self.work, &mut self.claim, batch, closed).await? {
            return Ok(Step::Lost(why));
        }
        self.work.report(|status| {
            status.phase = if self.draining { Phase::Draining } else { Phase::Running };
            status.last_error = None;
        });
        Ok(Step::Done(self))
    }
}
