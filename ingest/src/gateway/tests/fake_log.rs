//! A log in memory whose answers a test can hold back, reorder and refuse.

use async_trait::async_trait;
use millstream_log::{Bounds, Log, LogError, LogReader, Membership, Pending};
use millstream_model::name::{LogTopic, Offset, Partition, TopicPartition};
use millstream_model::record::{Position, Record};
use std::sync::Mutex;
use tokio::sync::{Notify, oneshot};

type Answer = oneshot::Sender<Result<Vec<Position>, LogError>>;

/// The lifecycle topic is never held back.
#[derive(Debug, Default)]
pub(crate) struct FakeLog {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Everything appended, in order.
    records: Vec<(LogTopic, Record)>,
    holding: bool,
    held: Vec<Answer>,
    failure: Option<LogError>,
}

impl FakeLog {
    /// From now on answers are held back.
    pub(crate) fn hold(&self) {
        self.state.lock().unwrap().holding = true;
    }

    /// From now on appends fail with this, or succeed again.
    pub(crate) fn fail(&self, failure: Option<LogError>) {
        self.state.lock().unwrap().failure = failure;
    }

    /// Waits until so many answers are held back.
    pub(crate) async fn held(&self, count: usize) {
        self.until(|state| state.held.len() >= count).await;
    }

    /// Waits until so many records are in a topic, and returns them.
    pub(crate) async fn records(&self, topic: &str, count: usize) -> Vec<Record> {
        self.until(|state| state.of(topic).len() >= count).await;
        self.state.lock().unwrap().of(topic)
    }

    /// Records that are in a topic now.
    pub(crate) fn count(&self, topic: &str) -> usize {
        self.state.lock().unwrap().of(topic).len()
    }

    /// Gives the answer that has been held back at this place among those that are left.
    pub(crate) fn answer(&self, place: usize, failure: Option<LogError>) {
        let answer = self.state.lock().unwrap().held.remove(place);
        // The connection that waited may be gone.
        drop(answer.send(failure.map_or(Ok(Vec::new()), Err)));
    }

    /// Gives all answers, and holds none back any more.
    pub(crate) fn release(&self) {
        let mut state = self.state.lock().unwrap();
        state.holding = false;
        for answer in state.held.drain(..) {
            drop(answer.send(Ok(Vec::new())));
        }
    }

    async fn until(&self, reached: impl Fn(&State) -> bool) {
        loop {
            let changed = self.changed.notified();
            if reached(&self.state.lock().unwrap()) {
                return;
            }
            changed.await;
        }
    }
}

impl State {
    fn of(&self, topic: &str) -> Vec<Record> {
        self.records.iter().filter(|(of, _)| of.as_str() == topic).map(|(_, record)| record.clone()).collect()
    }
}

#[async_trait]
impl Log for FakeLog {
    async fn partitions(&self, topic: &LogTopic) -> Result<Vec<TopicPartition>, LogError> {
        Ok(vec![TopicPartition { topic: topic.clone(), partition: Partition(0) }])
    }

    async fn existing(&self, topic: &LogTopic) -> Result<Option<Vec<TopicPartition>>, LogError> {
        self.partitions(topic).await.map(Some)
    }

    async fn append(&self, topic: &LogTopic, records: Vec<Record>) -> Result<Pending, LogError> {
        let (answer, pending) = Pending::new();
        let mut state = self.state.lock().unwrap();
        let lifecycle = *topic == LogTopic::lifecycle();
        if let Some(failure) = state.failure.clone()
            && !lifecycle
        {
            drop(answer.send(Err(failure)));
            return Ok(pending);
        }
        state.records.extend(records.into_iter().map(|record| (topic.clone(), record)));
        if state.holding && !lifecycle {
            state.held.push(answer);
        } else {
            drop(answer.send(Ok(Vec::new())));
        }
        drop(state);
        self.changed.notify_waiters();
        Ok(pending)
    }

    async fn reader(&self, partition: &TopicPartition, from: Offset) -> Result<Box<dyn LogReader>, LogError> {
        Err(LogError::BeyondEnd { partition: partition.clone(), wanted: from, next: Offset::ZERO })
    }

    async fn bounds(&self, _partition: &TopicPartition) -> Result<Bounds, LogError> {
        Ok(Bounds { first: Offset::ZERO, next: Offset::ZERO })
    }

    async fn trim(&self, _partition: &TopicPartition, _before: Offset) -> Result<(), LogError> {
        Ok(())
    }

    async fn join(&self, topic: &LogTopic, _group: &str) -> Result<Box<dyn Membership>, LogError> {
        Err(LogError::Unknown { detail: format!("nobody reads {topic} here") })
    }
}
