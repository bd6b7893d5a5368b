//! One append on its way: its records are confirmed one by one, and answered together.

use crate::error::LogError;
use millstream_model::name::LogTopic;
use millstream_model::record::Position;
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

/// Sees to it that nothing is confirmed that stands twice, or overtook what failed: who hears of a failure sends it again, in its order.
///
/// Where a record failed for good, librdkafka begins a new epoch, and sends what may be on a broker already once more in it: the brokers cannot know that for a double,
/// because they compare sequence numbers within an epoch (KIP-98). It does so on all partitions. So a failure leaves every append in doubt, of any topic, that was
/// submitted before the failure was heard of.
#[derive(Debug, Default)]
pub(crate) struct Order {
    submitted: AtomicU64,
    /// The first append that no failure leaves in doubt.
    sure: AtomicU64,
}

impl Order {
    /// The number of the next append.
    pub(crate) fn next(&self) -> u64 {
        self.submitted.fetch_add(1, Ordering::SeqCst)
    }

    /// Leaves all in doubt that was submitted up to now and is not answered.
    pub(crate) fn doubt_all(&self) {
        self.sure.fetch_max(self.submitted.load(Ordering::SeqCst), Ordering::SeqCst);
    }

    /// Takes the outcome of one record. Failures are heard before anything is that was sent in the epoch after them: librdkafka tells of a record that was late before
    /// it begins the epoch, and of one that was refused before it takes the refused request for done, for which the epoch waits.
    pub(crate) fn settle(&self, ticket: &Ticket, outcome: Result<Position, LogError>) {
        let Ticket { append, place } = ticket;
        if outcome.is_err() {
            self.doubt_all();
        }
        let is_sure = append.number >= self.sure.load(Ordering::SeqCst);
        let doubt = || LogError::Unknown {
            detail: "an append beside it failed; both are to be sent again, in their order".to_owned(),
        };
        append.settle(*place, outcome.and_then(|position| is_sure.then_some(position).ok_or_else(doubt)));
    }
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

    async fn submit(order: &Order, records: usize) -> (Vec<Ticket>, Pending) {
        let (answer, pending) = Pending::new();
        let room = Arc::new(Semaphore::new(1)).acquire_owned().await.unwrap();
        let topic: LogTopic = "millstream.t".parse().unwrap();
        let append = Append::new(topic, order.next(), records, answer, room);
        ((0..records).map(|place| Ticket { append: Arc::clone(&append), place }).collect(), pending)
    }

    #[tokio::test]
    async fn records_that_are_confirmed_in_any_order_are_answered_in_theirs() {
        let order = Order::default();
        let (tickets, pending) = submit(&order, 3).await;
        for (place, partition, offset) in [(2, 1, 8), (0, 1, 7), (1, 0, 0)] {
            order.settle(&tickets[place], Ok(position(partition, offset)));
        }
        assert_eq!(pending.await.unwrap(), [position(1, 7), position(0, 0), position(1, 8)]);
    }

    #[tokio::test]
    async fn what_was_on_its_way_when_another_append_failed_is_not_confirmed() {
        let order = Order::default();
        let (before, confirmed) = submit(&order, 1).await;
        let (first, failed) = submit(&order, 1).await;
        let (second, behind) = submit(&order, 1).await;
        let (third, elsewhere) = submit(&order, 1).await;
        order.settle(&before[0], Ok(position(1, 0)));
        order.settle(&first[0], Err(LogError::Closed));
        let (fourth, later) = submit(&order, 1).await;
        order.settle(&second[0], Ok(position(0, 0)));
        order.settle(&third[0], Ok(position(1, 1)));
        order.settle(&fourth[0], Ok(position(0, 1)));
        assert_eq!(confirmed.await.unwrap(), [position(1, 0)]);
        assert!(matches!(failed.await, Err(LogError::Closed)));
        assert!(matches!(behind.await, Err(LogError::Unknown { .. })));
        assert!(matches!(elsewhere.await, Err(LogError::Unknown { .. })), "it may stand there twice");
        assert_eq!(later.await.unwrap(), [position(0, 1)]);
    }

    #[tokio::test]
    async fn an_append_that_was_given_up_half_way_is_answered_when_its_first_half_is() {
        let order = Order::default();
        let (tickets, mut pending) = submit(&order, 3).await;
        tickets[0].append.give_up(1);
        assert!(poll_once(&mut pending).is_none());
        order.settle(&tickets[0], Ok(position(0, 0)));
        assert!(matches!(pending.await, Err(LogError::Unknown { .. })));
    }

    fn poll_once(pending: &mut Pending) -> Option<Result<Vec<Position>, LogError>> {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match std::pin::Pin::new(pending).poll(&mut context) {
            std::task::Poll::Ready(outcome) => Some(outcome),
            std::task::Poll::Pending => None,
        }
    }
}
