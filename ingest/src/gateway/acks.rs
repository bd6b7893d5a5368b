//! What a connection waits for before it may acknowledge, in order.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

/// Futures that are awaited in the order in which they were pushed, each with what is to be done when it resolves.
///
/// MQTT wants acknowledgements in the order of the messages (MQTT-4.6.0), so only the head is ever looked at; those behind it resolve by themselves meanwhile.
#[derive(Debug)]
pub(crate) struct InOrder<F, T> {
    queue: VecDeque<(F, T)>,
}

impl<F: Future + Unpin, T> InOrder<F, T> {
    /// Nothing to wait for.
    pub(crate) fn new() -> Self {
        Self { queue: VecDeque::new() }
    }

    /// Waits for this one, too, behind the others. The caller bounds how many there are.
    pub(crate) fn push(&mut self, future: F, then: T) {
        self.queue.push_back((future, then));
    }

    /// How many are waited for.
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    /// What was to be done for those that did not resolve.
    pub(crate) fn into_rest(self) -> impl Iterator<Item = T> {
        self.queue.into_iter().map(|(_, then)| then)
    }

    /// Takes the head once it has resolved; waits for ever if there is none. Cancel-safe.
    pub(crate) async fn next(&mut self) -> (F::Output, T) {
        poll_fn(|context| {
            let Some((head, _)) = self.queue.front_mut() else {
                return Poll::Pending;
            };
            let Poll::Ready(output) = Pin::new(head).poll(context) else {
                return Poll::Pending;
            };
            match self.queue.pop_front() {
                Some((_, then)) => Poll::Ready((output, then)),
                None => Poll::Pending,
            }
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn what_resolves_early_waits_for_those_before_it() {
        let mut waiting = InOrder::new();
        let (first, receiver) = oneshot::channel();
        waiting.push(receiver, 1);
        let (second, receiver) = oneshot::channel();
        waiting.push(receiver, 2);
        second.send("b").unwrap();
        assert!(futures::poll!(Box::pin(waiting.next())).is_pending());
        first.send("a").unwrap();
        assert_eq!(waiting.next().await, (Ok("a"), 1));
        assert_eq!(waiting.next().await, (Ok("b"), 2));
        assert!(futures::poll!(Box::pin(waiting.next())).is_pending());
        assert_eq!(waiting.len(), 0);
    }
}
