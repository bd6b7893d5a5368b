//! What every log promises.

use crate::error::LogError;
use async_trait::async_trait;
use millstream_model::name::{LogTopic, Offset, TopicPartition};
use millstream_model::record::{Position, Record, Stored};
use std::convert::Infallible;
use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::oneshot;

/// An ordered, replayable log of topics and partitions.
///
/// Promises, checked by the contract suite:
/// - **Durable before answered.** When a [`Pending`] resolves to positions, the records survive kill -9 and power loss.
/// - **Order.** Records of one `append` and of successive `append` calls by one caller that go to the same partition stand in the order of the calls,
///   whether or not the answers were awaited in between. Records that were answered with positions stand exactly once, there; those of an append that failed with
///   [`LogError::Unknown`] may stand anywhere, and more than once. Records with the same key go to the same partition.
/// - **Offsets** of a partition begin at 0, rise by one, and are never used again, even after everything was trimmed.
/// - **All or nothing**: a record is never read back in part or altered. An append that failed leaves none of its records behind that could be
///   read later, unless the failure says [`LogError::Unknown`].
/// - **Bounded**: an append waits while too many bytes wait to be made durable.
#[async_trait]
pub trait Log: Send + Sync + Debug {
    /// The partitions of a topic, in order. A topic that was never written to has them, too.
    ///
    /// # Errors
    /// If the topic cannot be made or looked up.
    async fn partitions(&self, topic: &LogTopic) -> Result<Vec<TopicPartition>, LogError>;

    /// The partitions of a topic, in order; `None` if there is no such topic, which is not made then. For those who only look.
    ///
    /// # Errors
    /// If the topic cannot be looked up.
    async fn existing(&self, topic: &LogTopic) -> Result<Option<Vec<TopicPartition>>, LogError>;

    /// Gives the records their places in the order, behind all earlier calls, and returns at once with what will resolve when they are durable.
    /// Waits only for room. Cancel-safe: a call that was dropped before it returned has appended nothing.
    ///
    /// # Errors
    /// If the records cannot be taken: too large, or the log is closed.
    async fn append(&self, topic: &LogTopic, records: Vec<Record>) -> Result<Pending, LogError>;

    /// Begins to read a partition at an offset, which may be the next one that will be written.
    ///
    /// # Errors
    /// [`LogError::Trimmed`] if records from there on were trimmed, [`LogError::BeyondEnd`] if it lies behind the next offset.
    async fn reader(&self, partition: &TopicPartition, from: Offset) -> Result<Box<dyn LogReader>, LogError>;

    /// First and next offset of a partition. What lies below `next` is durable.
    ///
    /// # Errors
    /// If the partition cannot be looked up.
    async fn bounds(&self, partition: &TopicPartition) -> Result<Bounds, LogError>;

    /// Allows the log to forget the records before an offset. It may keep some of them; it never forgets the offset itself.
    ///
    /// # Errors
    /// If the storage fails.
    async fn trim(&self, partition: &TopicPartition, before: Offset) -> Result<(), LogError>;

    /// Joins those who share out a topic's partitions under a group's name. The group only avoids double work: that two never commit the same
    /// offsets is the table's fence, not the group's. Dropping the membership leaves the group.
    ///
    /// # Errors
    /// If the topic cannot be made or looked up.
    async fn join(&self, topic: &LogTopic, group: &str) -> Result<Box<dyn Membership>, LogError>;
}

/// Belonging to those who share out a topic's partitions. Once the members have settled, each partition is in exactly one member's share.
#[async_trait]
pub trait Membership: Send + Debug {
    /// This member's next share: all its partitions, sorted. The first call waits for the first assignment, each further call for a change. Cancel-safe.
    ///
    /// What left the share is withheld from the other members until the returned [`Share`] is dropped (its holder flushes first), or a bounded time
    /// is over.
    ///
    /// # Errors
    /// If the group cannot be reached, or this member was put out of it for good.
    async fn next(&mut self) -> Result<Share, LogError>;

    /// Says how far a partition is committed, for displays of lag only. Best effort, never waits.
    fn committed(&mut self, partition: &TopicPartition, next: Offset);
}

/// The partitions of one member.
#[derive(Debug)]
pub struct Share {
    /// All partitions that the member has now, sorted.
    pub partitions: Vec<TopicPartition>,
    /// Whether the group has dealt it. If not, the group has ceased to count this member in, and it has no partition: whose those are that it lost, its own again perhaps, is
    /// known with the next share. Of a share that was dealt and is empty the partitions are others', or are about to be dealt once those have let go.
    pub is_dealt: bool,
    /// Dropped with the share: so the other side hears of it.
    _release: Option<oneshot::Sender<Infallible>>,
}

impl Share {
    /// A share whose holder has nothing to give up.
    #[must_use]
    pub fn new(partitions: Vec<TopicPartition>) -> Self {
        Self { partitions, is_dealt: true, _release: None }
    }

    /// Of a member that the group has ceased to count in.
    #[must_use]
    pub fn lost() -> Self {
        Self { is_dealt: false, ..Self::new(Vec::new()) }
    }

    /// A share whose holder has something to give up, and what ends when the share is dropped.
    #[must_use]
    pub fn releasing(partitions: Vec<TopicPartition>) -> (Self, Released) {
        let (release, released) = oneshot::channel();
        (Self { _release: Some(release), ..Self::new(partitions) }, Released(released))
    }
}

/// Resolves when the [`Share`] is dropped.
#[derive(Debug)]
pub struct Released(oneshot::Receiver<Infallible>);

impl Released {
    /// Whether the share is dropped already.
    #[must_use]
    pub fn is_done(&mut self) -> bool {
        matches!(self.0.try_recv(), Err(oneshot::error::TryRecvError::Closed))
    }
}

impl Future for Released {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.0).poll(context).map(|_| ())
    }
}

/// Reads one partition forwards.
#[async_trait]
pub trait LogReader: Send + Debug {
    /// The next records: at least one, in order, without a gap, at most the limit (but one record always, however large). Waits until there is one.
    /// Only durable records are read. Cancel-safe: what was not returned will be returned by the next call.
    ///
    /// # Errors
    /// [`LogError::Trimmed`] if it was overtaken by a trim, [`LogError::Damaged`] if the storage holds something else than was written.
    async fn next(&mut self, limit: ReadLimit) -> Result<Vec<Stored>, LogError>;
}

/// Which offsets a partition has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// The oldest offset that can still be read; equal to `next` if there is none.
    pub first: Offset,
    /// The offset that the next record will get.
    pub next: Offset,
}

impl Bounds {
    /// Whether a reader of the partition that has these bounds may begin at an offset.
    ///
    /// # Errors
    /// [`LogError::Trimmed`] before the first offset, [`LogError::BeyondEnd`] behind the next one.
    pub fn check(&self, partition: &TopicPartition, from: Offset) -> Result<(), LogError> {
        let Self { first, next } = *self;
        if from < first {
            return Err(LogError::Trimmed { partition: partition.clone(), wanted: from, first });
        }
        if from > next {
            return Err(LogError::BeyondEnd { partition: partition.clone(), wanted: from, next });
        }
        Ok(())
    }
}

/// How much one read may return.
#[derive(Debug, Clone, Copy)]
pub struct ReadLimit {
    /// Records, at least 1.
    pub records: usize,
    /// Bytes, as [`Record::size`] counts them.
    pub bytes: usize,
}

/// An append on its way: resolves to the records' positions, in their order, once they are durable.
#[derive(Debug)]
pub struct Pending(oneshot::Receiver<Result<Vec<Position>, LogError>>);

impl Pending {
    /// A pending append, and the end through which it is answered. If that end is dropped unanswered, the append fails with [`LogError::Unknown`].
    #[must_use]
    pub fn new() -> (oneshot::Sender<Result<Vec<Position>, LogError>>, Self) {
        let (answer, receiver) = oneshot::channel();
        (answer, Self(receiver))
    }
}

impl Future for Pending {
    type Output = Result<Vec<Position>, LogError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(|answer| {
            answer.unwrap_or(Err(LogError::Unknown { detail: "the log was closed".to_owned() }))
        })
    }
}
