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
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// How long a worker that was told to stop before its group has dealt it a share waits for that, in all. Longer than a group takes that has to wait for a silent member (10 s by
/// default); not than one that waits for another member to let go of its partitions, which is about to commit what it has.
const SHARE_PATIENCE: Duration = Duration::from_secs(30);

/// How often it looks meanwhile whether there is anything to drain at all.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long after its start a worker may accept what is missing of the log: longer than a group takes to deal its partitions out. Whatever is found later has
/// happened since, and nobody has seen it who could have accepted it.
const ACCEPT_WITHIN: Duration = Duration::from_secs(120);

/// The membership, and the share that it gave last.
#[derive(Debug)]
pub(crate) struct Seat {
    membership: Option<Box<dyn Membership>>,
    hand: Hand,
    /// The next share, while the worker still commits what it read of the former one.
    held: Option<Share>,
    /// What was claimed before, in this run.
    claimed: BTreeSet<Partition>,
    /// When this run began.
    began: Instant,
    /// Until when it waits for a share that it may have to drain, once it was told to stop.
    patience_ends: Arc<OnceLock<Instant>>,
}

/// What is known of a worker's share.
#[derive(Debug)]
enum Hand {
    /// The group has not dealt yet.
    New,
    /// The group has ceased to count it in, and has not dealt again.
    Lost,
    Dealt(Vec<TopicPartition>),
}

impl Seat {
    pub(crate) fn new() -> Self {
        Self {
            membership: None,
            hand: Hand::New,
            held: None,
            claimed: BTreeSet::new(),
            began: Instant::now(),
            patience_ends: Arc::default(),
        }
    }

    /// The partitions to claim. Joins if need be, and waits while the share is empty; `None`: it was told to stop, and has nothing to drain.
    ///
    /// Nothing of a former share may be in use any more: its buffer is committed or dropped.
    pub(crate) async fn partitions(
        &mut self,
        work: &Work,
    ) -> Result<Option<Vec<TopicPartition>>, FirehoseError> {
        if self.membership.is_none() {
            let topic = work.duty.topic();
            let joined = work.keep_trying("join", || work.log.join(&topic, &work.settings.group)).await?;
            (self.membership, self.hand) = (Some(joined), Hand::New);
        }
        // What has changed meanwhile is better known before a claim than after it.
        while let Some(share) = self.next().now_or_never() {
            self.take(work, share?);
        }
        let mut in_vain = std::pin::pin!(in_vain(work, Arc::clone(&self.patience_ends)));
        let mut relieved = std::pin::pin!(relieved(work));
        loop {
            let phase = match &self.hand {
                Hand::Dealt(partitions) if !partitions.is_empty() => return Ok(Some(partitions.clone())),
                Hand::Dealt(_) => Some(Phase::Standby),
                Hand::Lost => Some(Phase::Starting),
                // What was said before is still true.
                Hand::New => None,
            };
            if let Some(phase) = phase {
                work.report(|status| {
                    (status.phase, status.last_error) = (phase, None);
                    status.partitions.clear();
                });
            }
            let is_dealt = matches!(self.hand, Hand::Dealt(_));
            // Of who has claimed nothing yet, nobody has looked whether it is the log that the table was filled from.
            let knows_log = !self.claimed.is_empty();
            tokio::select! {
                biased;
                share = self.next() => self.take(work, share?),
                // Whoever has the partitions drains them; who is about to give some up commits first what it has read of them.
                () = work.shutdown.cancelled(), if is_dealt => return Ok(None),
                () = &mut relieved, if !is_dealt && knows_log => return Ok(None),
                error = &mut in_vain, if !is_dealt => return Err(error),
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
        let hand = if share.is_dealt { Hand::Dealt(share.partitions.clone()) } else { Hand::Lost };
        let numbers: Vec<i32> = share.partitions.iter().map(|partition| partition.partition.0).collect();
        drop(share);
        if !matches!(self.hand, Hand::New) {
            tracing::info!(table = work.duty.table(), partitions = ?numbers, "its share of the log topic changed");
            work.report(|status| status.incidents.rebalances += 1);
        }
        self.hand = hand;
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

/// Resolves some time after it was told to stop, when no share is to be expected any more.
async fn in_vain(work: &Work, patience_ends: Arc<OnceLock<Instant>>) -> FirehoseError {
    work.shutdown.cancelled().await;
    let ends = *patience_ends.get_or_init(|| Instant::now() + SHARE_PATIENCE);
    // Long enough for a look that finds nothing to wait for.
    tokio::time::sleep(LOOK_EVERY).await;
    let at_most_s = ends.saturating_duration_since(Instant::now()).as_secs();
    tracing::info!(
        table = work.duty.table(),
        at_most_s,
        "told to stop, waits for its share of what the log holds"
    );
    sleep_until(ends).await;
    FirehoseError::NoShare { topic: work.duty.topic(), waited: SHARE_PATIENCE }
}

/// Resolves after it was told to stop as soon as nothing waits in the log that could be its own to drain.
async fn relieved(work: &Work) {
    work.shutdown.cancelled().await;
    while !work.nothing_waits().await {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
