//! Partitions that are fetched, and the watch over those whose readers wait.
//!
//! Librdkafka has many ways to stop fetching a partition, and no sign by which all of them would be known. So where nothing comes for a while, the log is asked, by
//! another client, whether it has what is waited for. A partition that is owed a record twice in a row, with time between, is to be fetched by another client.
//!
//! The thread of a fetcher does this, one question at a time: it never waits for a reader, and no reader ever waits for an answer.

use crate::api::Bounds;
use millstream_model::name::{Offset, TopicPartition};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// So long nothing comes before the log is asked. Twice this is less than what the most impatient reader waits, a query's.
pub(crate) const PATIENCE: Duration = Duration::from_secs(3);

/// It grows to this with each client that was changed in vain: a record may be large, and the way long.
pub(crate) const PATIENCE_MAX: Duration = Duration::from_secs(300);

/// And to this with each time that nothing is owed.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// Of a lane whose reader does not wait.
const NOTHING: i64 = -1;

/// One partition that is fetched, as its reader and the fetcher's thread see it.
#[derive(Debug)]
pub(crate) struct Lane {
    /// Notified when something came into the empty queue, or nothing ever will.
    pub(crate) changed: Notify,
    /// The offset that the reader waits for. Written by the reader, and taken back when something comes.
    wanted: AtomicI64,
    over: AtomicBool,
    patience: Duration,
}

impl Lane {
    pub(crate) fn new(patience: Duration) -> Self {
        Self {
            changed: Notify::new(),
            wanted: AtomicI64::new(NOTHING),
            over: AtomicBool::new(false),
            patience,
        }
    }

    /// The queue is empty, and this is what should come next. Who says so has to look into the queue once more: what came just before is not told.
    pub(crate) fn waits_for(&self, next: Offset) {
        self.wanted.store(next.0, Ordering::SeqCst);
    }

    /// There is something to be read.
    pub(crate) fn has_some(&self) {
        self.wanted.store(NOTHING, Ordering::SeqCst);
    }

    /// Something came into the empty queue.
    pub(crate) fn filled(&self) {
        self.has_some();
        self.changed.notify_one();
    }

    /// Nothing will come any more.
    pub(crate) fn end(&self) {
        if !self.over.swap(true, Ordering::SeqCst) {
            self.changed.notify_one();
        }
    }

    /// Whether the reader has to go on with another client, once the queue is empty.
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    fn wanted(&self) -> Option<Offset> {
        let wanted = self.wanted.load(Ordering::SeqCst);
        (wanted != NOTHING && !self.is_over()).then_some(Offset(wanted))
    }
}

/// What one client fetches.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    pub(crate) busy: BTreeMap<TopicPartition, Arc<Lane>>,
    /// What it does not fetch though it should.
    pub(crate) deaf: BTreeSet<TopicPartition>,
}

/// What a fetcher's thread knows of those who wait.
#[derive(Debug, Default)]
pub(crate) struct Watch(BTreeMap<TopicPartition, Wait>);

#[derive(Debug)]
struct Wait {
    lane: Arc<Lane>,
    wanted: Offset,
    /// Since when, or since the log was asked last.
    since: Instant,
    patience: Duration,
    /// Whether the log had it even then.
    owed: bool,
}

impl Watch {
    /// Whom to ask about: the one who is furthest beyond its patience.
    pub(crate) fn due(&mut self, lanes: &Lanes, now: Instant) -> Option<TopicPartition> {
        self.0.retain(|partition, wait| {
            let lane = lanes.busy.get(partition);
            lane.is_some_and(|lane| Arc::ptr_eq(lane, &wait.lane) && lane.wanted() == Some(wait.wanted))
        });
        for (partition, lane) in &lanes.busy {
            if let Some(wanted) = lane.wanted() {
                let begin = || Wait {
                    lane: Arc::clone(lane),
                    wanted,
                    since: now,
                    patience: lane.patience,
                    owed: false,
                };
                self.0.entry(partition.clone()).or_insert_with(begin);
            }
        }
        let late = |wait: &Wait| now.saturating_duration_since(wait.since).checked_sub(wait.patience);
        let due = self.0.iter().filter_map(|(partition, wait)| Some((late(wait)?, partition)));
        due.max().map(|(_, partition)| partition.clone())
    }

    /// Takes the log's answer, if it gave one. True: the lane is over, because the log had twice what did not come.
    pub(crate) fn heard(&mut self, partition: &TopicPartition, bounds: Option<Bounds>, now: Instant) -> bool {
        let Some(wait) = self.0.get_mut(partition) else { return false };
        // It may have come while the log was asked.
        let waits = wait.lane.wanted() == Some(wait.wanted);
        let owed = bounds.map(|bounds| waits && (bounds.first..bounds.next).contains(&wait.wanted));
        if owed == Some(true) && wait.owed {
            wait.lane.end();
            return true;
        }
        wait.since = now;
        match owed {
            Some(true) => (wait.owed, wait.patience) = (true, wait.lane.patience),
            Some(false) => (wait.owed, wait.patience) = (false, (wait.patience * 2).min(IDLE_MAX)),
            None => {}
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::tests::first;

    fn bounds(first: i64, next: i64) -> Option<Bounds> {
        Some(Bounds { first: Offset(first), next: Offset(next) })
    }

    #[test]
    fn only_who_waits_twice_for_what_the_log_has_goes_to_another_client() {
        let partition = first(&"millstream.t".parse().unwrap());
        let lane = Arc::new(Lane::new(PATIENCE));
        let lanes = Lanes { busy: [(partition.clone(), Arc::clone(&lane))].into(), ..Lanes::default() };
        let mut watch = Watch::default();
        let mut now = Instant::now();
        let mut later = |watch: &mut Watch, by: Duration| {
            now += by;
            (watch.due(&lanes, now), now)
        };
        assert_eq!(later(&mut watch, PATIENCE * 9).0, None, "nobody waits");
        lane.waits_for(Offset(7));
        assert_eq!(later(&mut watch, Duration::ZERO).0, None, "only just");
        let (due, at) = later(&mut watch, PATIENCE);
        assert_eq!(due.as_ref(), Some(&partition));
        assert!(!watch.heard(&partition, bounds(0, 7), at), "there is nothing to come");
        assert_eq!(later(&mut watch, PATIENCE).0, None, "who is owed nothing is asked for less often");
        let (due, at) = later(&mut watch, PATIENCE);
        assert!(due.is_some() && !watch.heard(&partition, bounds(0, 8), at), "it may be on its way");
        let (due, at) = later(&mut watch, PATIENCE);
        assert!(due.is_some() && !watch.heard(&partition, None, at), "no answer is none");
        lane.filled();
        assert_eq!(later(&mut watch, PATIENCE).0, None, "it came");
        lane.waits_for(Offset(8));
        later(&mut watch, Duration::ZERO);
        let (due, at) = later(&mut watch, PATIENCE);
        assert!(due.is_some() && !watch.heard(&partition, bounds(0, 9), at));
        let (due, at) = later(&mut watch, PATIENCE);
        assert!(due.is_some() && watch.heard(&partition, bounds(0, 9), at) && lane.is_over());
        assert_eq!(later(&mut watch, PATIENCE).0, None);
    }

    #[test]
    fn what_comes_while_the_log_is_asked_is_not_owed() {
        let partition = first(&"millstream.t".parse().unwrap());
        let lane = Arc::new(Lane::new(PATIENCE));
        let lanes = Lanes { busy: [(partition.clone(), Arc::clone(&lane))].into(), ..Lanes::default() };
        let mut watch = Watch::default();
        let now = Instant::now();
        lane.waits_for(Offset(0));
        watch.due(&lanes, now);
        assert!(!watch.heard(&partition, bounds(0, 1), now));
        lane.filled();
        assert!(!watch.heard(&partition, bounds(0, 1), now + PATIENCE) && !lane.is_over());
    }
}
