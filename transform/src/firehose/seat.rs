//! A worker's seat among those who share out a topic's partitions.
//!
//! The group only avoids that two do the same work. Whoever commits, and whether, is decided by the ledger's transactions alone.

use super::error::FirehoseError;
use super::status::Phase;
use super::work::Work;
use futures::FutureExt;
use millstream_log::{LogError, Membership, Share};
use millstream_model::name::{Offset, Partition, TopicPartition};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::Instant;

/// How long a worker that was told to stop while its group had not agreed on the shares waits for its own. Longer than a group takes for it, also where it has to wait until a
/// member is taken for dead (10 s by default).
const SHARE_PATIENCE: Duration = Duration::from_secs(30);

/// How long after its start a worker may accept what is missing of the log: longer than a group takes to deal its partitions out. Whatever is found later has
/// happened since, and nobody has seen it who could have accepted it.
const ACCEPT_WITHIN: Duration = Duration::from_secs(120);

/// The membership, and the share that it gave last.
#[derive(Debug)]
pub(crate) struct Seat {
    membership: Option<Box<dyn Membership>>,
    /// `None`: no share was given yet.
    partitions: Option<Vec<TopicPartition>>,
    /// Whether the group has agreed that these are its partitions, and no others.
    is_agreed: bool,
    /// The next share, while the worker still commits what it read of the former one.
    held: Option<Share>,
    /// What was claimed before, in this run.
    claimed: BTreeSet<Partition>,
    /// When this run began.
    began: Instant,
}

impl Seat {
    pub(crate) fn new() -> Self {
        Self {
            membership: None,
            partitions: None,
            is_agreed: false,
            held: None,
            claimed: BTreeSet::new(),
            began: Instant::now(),
        }
    }

    /// The partitions to claim. Joins if need be, and waits while the share is empty; `None`: it was told to stop, and all partitions are others'.
    ///
    /// Nothing of a former share may be in use any more: its buffer is committed or dropped.
    pub(crate) async fn partitions(
        &mut self,
        work: &Work,
    ) -> Result<Option<Vec<TopicPartition>>, FirehoseError> {
        if self.membership.is_none() {
            let topic = work.duty.topic();
            let joined = work.keep_trying("join", || work.log.join(&topic, &work.settings.group)).await?;
            (self.membership, self.partitions, self.is_agreed) = (Some(joined), None, false);
        }
        // What has changed meanwhile is better known before a claim than after it.
        while let Some(share) = self.next().now_or_never() {
            self.take(work, share?);
        }
        let waited_in_vain = async {
            work.shutdown.cancelled().await;
            // What the log holds may be its own to drain.
            tokio::time::sleep(SHARE_PATIENCE).await;
        };
        let mut waited_in_vain = std::pin::pin!(waited_in_vain);
        loop {
            match &self.partitions {
                Some(partitions) if !partitions.is_empty() => return Ok(Some(partitions.clone())),
                Some(_) => work.report(|status| {
                    (status.phase, status.last_error) = (Phase::Standby, None);
                    status.partitions.clear();
                }),
                None => {}
            }
            let is_agreed = self.is_agreed;
            tokio::select! {
                biased;
                share = self.next() => self.take(work, share?),
                () = work.shutdown.cancelled(), if is_agreed => return Ok(None),
                () = &mut waited_in_vain => {
                    return Err(FirehoseError::NoShare { topic: work.duty.topic(), waited: SHARE_PATIENCE });
                }
            }
        }
    }

    /// The next share. Cancel-safe. After a failure the membership is void, and joined anew with the next claim.
    pub(crate) async fn next(&mut self) -> Result<Share, LogError> {
        let Some(membership) = &mut self.membership else { return std::future::pending().await };
        let share = membership.next().await;
        if share.is_err() {
            self.membership = None;
        }
        share
    }

    /// Keeps a share, and with it others from what was given up, until [`Self::settle`].
    pub(crate) fn hold(&mut self, share: Share) {
        self.held = Some(share);
    }

    /// Takes the share over that was held. Nothing of the former one is in use any more.
    pub(crate) fn settle(&mut self, work: &Work) {
        if let Some(share) = self.held.take() {
            self.take(work, share);
        }
    }

    /// Takes a share over; what was given up is free for others from now on.
    fn take(&mut self, work: &Work, share: Share) {
        let partitions = share.partitions.clone();
        self.is_agreed = share.is_agreed;
        drop(share);
        if self.partitions.is_some() {
            let numbers: Vec<i32> = partitions.iter().map(|partition| partition.partition.0).collect();
            tracing::info!(table = work.duty.table(), partitions = ?numbers, "its share of the log topic changed");
            work.report(|status| status.incidents.rebalances += 1);
        }
        self.partitions = Some(partitions);
    }

    /// Those of the partitions that were not claimed before in this run, while it is young: what a rebalance brings later is not.
    pub(crate) fn fresh(&self, partitions: &[TopicPartition]) -> BTreeSet<Partition> {
        if self.began.elapsed() > ACCEPT_WITHIN {
            return BTreeSet::new();
        }
        let numbers = partitions.iter().map(|partition| partition.partition);
        numbers.filter(|number| !self.claimed.contains(number)).collect()
    }

    /// They are claimed now.
    pub(crate) fn claimed(&mut self, partitions: &[TopicPartition]) {
        self.claimed.extend(partitions.iter().map(|partition| partition.partition));
    }

    /// For displays of lag.
    pub(crate) fn committed(&mut self, partition: &TopicPartition, next: Offset) {
        if let Some(membership) = &mut self.membership {
            membership.committed(partition, next);
        }
    }
}
