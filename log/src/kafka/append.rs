//! One append on its way: its records are confirmed one by one, and answered together.

use crate::error::LogError;
use millstream_model::name::LogTopic;
use millstream_model::record::Position;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// What resolves a pending append.
pub(crate) type Answer = oneshot::Sender<Result<Vec<Position>, LogError>>;

/// One call of `append`, held by the tickets of its records.
#[derive(Debug)]
pub(crate) struct Append {
    pub(crate) topic: LogTopic,
    /// Its place among all calls.
    number: u64,
    outcome: Mutex<Outcome>,
}

#[derive(Debug)]
struct Outcome {
    positions: Vec<Option<Position>>,
    /// Records that are neither confirmed nor refused.
    left: usize,
    failure: Option<LogError>,
    answer: Option<Answer>,
    /// The room it takes in the queue, given back with the answer.
    room: Option<OwnedSemaphorePermit>,
}

/// One record of an append on its way. Librdkafka gives it back exactly once.
#[derive(Debug)]
pub(crate) struct Ticket {
    pub(crate) append: Arc<Append>,
    /// Which of the append's records.
    pub(crate) place: usize,
    pub(crate) partition: i32,
}

impl Append {
    pub(crate) fn new(
        topic: LogTopic,
        number: u64,
        records: usize,
        answer: Answer,
        room: OwnedSemaphorePermit,
    ) -> Arc<Self> {
        let positions = vec![None; records];
        let (answer, room) = (Some(answer), Some(room));
        let outcome = Mutex::new(Outcome { positions, left: records, failure: None, answer, room });
        Arc::new(Self { topic, number, outcome })
    }

    /// Takes the outcome of one record, and answers the append if it was the last.
    fn settle(&self, place: usize, outcome: Result<Position, LogError>) {
        let mut all = self.outcome();
        match outcome {
            Ok(position) => all.positions[place] = Some(position),
            Err(failure) => all.failure = all.failure.take().or(Some(failure)),
        }
        all.left -= 1;
        if all.left == 0 {
            all.answer();
        }
    }

    /// The records from a place on were never given to librdkafka. Its room is given back once those before it are settled.
    pub(crate) fn give_up(&self, place: usize) {
        let mut all = self.outcome();
        all.left -= all.positions.len() - place;
        if all.left == 0 {
            all.answer();
        }
    }

    fn outcome(&self) -> MutexGuard<'_, Outcome> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Outcome {
    fn answer(&mut self) {
        let positions: Option<Vec<_>> = std::mem::take(&mut self.positions).into_iter().collect();
        let unknown = || LogError::Unknown { detail: "Kafka confirmed only a part of it".to_owned() };
        let outcome = match self.failure.take() {
            Some(failure) => Err(failure),
            None => positions.ok_or_else(unknown),
        };
        drop(self.room.take());
        if let Some(answer) = self.answer.take() {
            // Nobody may be waiting for it any more.
            drop(answer.send(outcome));
        }
    }
}

/// Sees to it that nothing is confirmed that overtook what failed: who hears of a failure sends it all again, in its order.
///
/// Librdkafka keeps the order of what it delivers, but where it gives a record up, it goes on with the next one.
#[derive(Debug, Default)]
pub(crate) struct Order {
    submitted: AtomicU64,
    failed: Mutex<Failed>,
}

/// For each partition on which an append failed, the number that the next append was to have then. Forgotten once an append is confirmed that was submitted later:
/// the partition's records are settled in their order, so that nothing from before the failure is left.
type Failed = BTreeMap<LogTopic, BTreeMap<i32, u64>>;

impl Order {
    /// The number of the next append.
    pub(crate) fn next(&self) -> u64 {
        self.submitted.fetch_add(1, Ordering::SeqCst)
    }

    /// Takes the outcome of one record.
    pub(crate) fn settle(&self, ticket: &Ticket, outcome: Result<Position, LogError>) {
        let Ticket { append, place, partition } = ticket;
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = match outcome {
            Err(failure) => {
                let next = self.submitted.load(Ordering::SeqCst);
                failed.entry(append.topic.clone()).or_default().insert(*partition, next);
                Err(failure)
            }
            Ok(_) if has_overtaken(&mut failed, append, *partition) => {
                let detail =
                    "an append before it failed; both are to be sent again, in their order".to_owned();
                Err(LogError::Unknown { detail })
            }
            Ok(position) => Ok(position),
        };
        drop(failed);
        append.settle(*place, outcome);
    }
}

/// Whether an append that is confirmed was submitted before somebody could hear of a failure before it.
fn has_overtaken(failed: &mut Failed, append: &Append, partition: i32) -> bool {
    let Some(partitions) = failed.get_mut(&append.topic) else { return false };
    let Some(next) = partitions.get(&partition) else { return false };
    if append.number < *next {
        return true;
    }
    partitions.remove(&partition);
    if partitions.is_empty() {
        failed.remove(&append.topic);
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Pending;
    use millstream_model::name::{Offset, Partition};
    use tokio::sync::Semaphore;

    fn position(partition: i32, offset: i64) -> Position {
        Position { partition: Partition(partition), offset: Offset(offset) }
    }

    async fn submit(order: &Order, partitions: &[i32]) -> (Vec<Ticket>, Pending) {
        let (answer, pending) = Pending::new();
        let room = Arc::new(Semaphore::new(1)).acquire_owned().await.unwrap();
        let topic: LogTopic = "millstream.t".parse().unwrap();
        let append = Append::new(topic, order.next(), partitions.len(), answer, room);
        let ticket = |(place, partition): (usize, &i32)| Ticket {
            append: Arc::clone(&append),
            place,
            partition: *partition,
        };
        (partitions.iter().enumerate().map(ticket).collect(), pending)
    }

    #[tokio::test]
    async fn records_that_are_confirmed_in_any_order_are_answered_in_theirs() {
        let order = Order::default();
        let (tickets, pending) = submit(&order, &[1, 0, 1]).await;
        for (place, offset) in [(2, 8), (0, 7), (1, 0)] {
            order.settle(&tickets[place], Ok(position(tickets[place].partition, offset)));
        }
        assert_eq!(pending.await.unwrap(), [position(1, 7), position(0, 0), position(1, 8)]);
    }

    #[tokio::test]
    async fn what_overtook_a_failed_append_is_not_confirmed() {
        let order = Order::default();
        let (first, failed) = submit(&order, &[0]).await;
        let (second, behind) = submit(&order, &[0]).await;
        let (third, elsewhere) = submit(&order, &[1]).await;
        order.settle(&first[0], Err(LogError::Closed));
        let (fourth, later) = submit(&order, &[0]).await;
        order.settle(&second[0], Ok(position(0, 0)));
        order.settle(&third[0], Ok(position(1, 0)));
        assert_eq!(order.failed.lock().unwrap().len(), 1);
        order.settle(&fourth[0], Ok(position(0, 1)));
        assert!(matches!(failed.await, Err(LogError::Closed)));
        assert!(matches!(behind.await, Err(LogError::Unknown { .. })));
        assert_eq!(elsewhere.await.unwrap(), [position(1, 0)]);
        assert_eq!(later.await.unwrap(), [position(0, 1)]);
        assert_eq!(*order.failed.lock().unwrap(), Failed::new(), "a failure that is over costs nothing");
    }

    #[tokio::test]
    async fn an_append_that_was_given_up_half_way_is_answered_when_its_first_half_is() {
        let order = Order::default();
        let (tickets, mut pending) = submit(&order, &[0, 0, 0]).await;
        tickets[0].append.give_up(1);
        assert!(futures_like(&mut pending).is_none());
        order.settle(&tickets[0], Ok(position(0, 0)));
        assert!(matches!(pending.await, Err(LogError::Unknown { .. })));
    }

    fn futures_like(pending: &mut Pending) -> Option<Result<Vec<Position>, LogError>> {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match std::pin::Pin::new(pending).poll(&mut context) {
            std::task::Poll::Ready(outcome) => Some(outcome),
            std::task::Poll::Pending => None,
        }
    }
}
