//! All clients of a replay, and which of them publishes a message.

use crate::replay::client::{Client, Shared};
use crate::replay::error::ReplayError;
use crate::replay::message::Message;
use crate::replay::settings::Clients;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Messages that wait for one client, so that a slow one does not hold up the others at once.
const QUEUE_MESSAGES: usize = 256;

/// The clients. Each begins with its first message.
#[derive(Debug)]
pub(crate) struct Crowd {
    shared: Arc<Shared>,
    run_id: String,
    assignment: Assignment,
    queues: HashMap<usize, mpsc::Sender<Message>>,
    tasks: JoinSet<Result<bool, ReplayError>>,
    /// Ends every client at once, whatever is on its way.
    abort: CancellationToken,
}

impl Crowd {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let run_id = shared.settings.run_id.clone().unwrap_or_else(random_id);
        let assignment = Assignment::new(shared.settings.clients);
        Self {
            shared,
            run_id,
            assignment,
            queues: HashMap::new(),
            tasks: JoinSet::new(),
            abort: CancellationToken::new(),
        }
    }

    /// Gives the message to its client; waits for room. False if the client has ended, which only a failure makes it do.
    pub(crate) async fn publish(&mut self, message: Message) -> bool {
        let index = self.assignment.client(&message.topic);
        let queue = match self.queues.get(&index) {
            Some(queue) => queue.clone(),
            None => self.begin(index),
        };
        queue.send(message).await.is_ok()
    }

    fn begin(&mut self, index: usize) -> mpsc::Sender<Message> {
        let (queue, messages) = mpsc::channel(QUEUE_MESSAGES);
        let id = format!("{}-{}-{index}", self.shared.settings.client_id_prefix, self.run_id);
        let client = Client::new(id, Arc::clone(&self.shared), messages);
        let (stop, abort) = (self.shared.stop.clone(), self.abort.clone());
        self.tasks.spawn(async move {
            let ended = tokio::select! {
                ended = client.run() => ended,
                () = abort.cancelled() => Ok(false),
            };
            // The first failure ends the replay.
            if ended.is_err() {
                stop.cancel();
            }
            ended
        });
        self.queues.insert(index, queue.clone());
        queue
    }

    /// No more messages come: waits until all are acknowledged; after a stop only for the drain timeout. Whether all clients came to their end; or the
    /// first failure.
    pub(crate) async fn finish(mut self) -> Result<bool, ReplayError> {
        self.queues.clear();
        let mut first = Ok(true);
        let (stop, limit) = (self.shared.stop.clone(), self.shared.settings.drain_timeout);
        let out_of_time = async {
            stop.cancelled().await;
            tokio::time::sleep(limit).await;
        };
        tokio::pin!(out_of_time);
        loop {
            let joined = tokio::select! {
                joined = self.tasks.join_next() => joined,
                () = &mut out_of_time, if !self.abort.is_cancelled() => {
                    self.abort.cancel();
                    continue;
                }
            };
            match joined {
                None => return first,
                Some(ended) => {
                    let ended = ended.map_err(ReplayError::from).and_then(|ended| ended);
                    first = first.and_then(|all| ended.map(|this| all && this));
                }
            }
        }
    }
}

/// Eight hexadecimal digits: with prefix and index within the 23 characters that every 3.1.1 broker takes.
fn random_id() -> String {
    format!("{:08x}", fastrand::u32(..))
}

/// Which client publishes a topic: always the same one.
#[derive(Debug)]
enum Assignment {
    Hashed { count: usize },
    PerTopic { max: usize, known: HashMap<Arc<str>, usize> },
}

impl Assignment {
    fn new(clients: Clients) -> Self {
        match clients {
            Clients::Count(count) => Self::Hashed { count: count.get().into() },
            Clients::PerTopic { max } => Self::PerTopic { max: max.get().into(), known: HashMap::new() },
        }
    }

    fn client(&mut self, topic: &Arc<str>) -> usize {
        match self {
            Self::Hashed { count } => hashed(topic, *count),
            Self::PerTopic { max, known } => match known.get(topic) {
                Some(index) => *index,
                None if known.len() < *max => {
                    let index = known.len();
                    known.insert(Arc::clone(topic), index);
                    index
                }
                // From here on no topic becomes known, so this one always comes here.
                None => hashed(topic, *max),
            },
        }
    }
}

/// The hasher's keys are fixed, so a topic goes to the same client in every run.
fn hashed(topic: &str, count: usize) -> usize {
    let mut hasher = DefaultHasher::new();
    topic.hash(&mut hasher);
    usize::try_from(hasher.finish() % count as u64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroU16;

    #[test]
    fn a_topic_always_has_the_same_client() {
        let count = |number| NonZeroU16::new(number).unwrap();
        for clients in [
            Clients::Count(count(3)),
            Clients::PerTopic { max: count(3) },
            Clients::PerTopic { max: count(100) },
        ] {
            let mut assignment = Assignment::new(clients);
            let mut seen = HashMap::new();
            for round in 0..3 {
                for topic in 0..20 {
                    let topic: Arc<str> = format!("devices/{topic}").into();
                    let client = assignment.client(&topic);
                    assert_eq!(*seen.entry(topic).or_insert(client), client, "{clients:?} round {round}");
                }
            }
            let used: std::collections::HashSet<_> = seen.values().collect();
            assert_eq!(used.len(), if clients == (Clients::PerTopic { max: count(100) }) { 20 } else { 3 });
        }
    }
}
