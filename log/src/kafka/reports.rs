//! What librdkafka tells of a producer's records.

use crate::error::LogError;
use crate::kafka::append::{Order, Ticket};
use crate::kafka::context::Voice;
use crate::kafka::gate::{Gate, Queue};
use millstream_model::name::{LogTopic, Offset, Partition};
use millstream_model::record::Position;
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::producer::{DeliveryResult, ProducerContext};
use rdkafka::types::RDKafkaErrorCode;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Where the outcome of each record is told. Each client's own.
#[derive(Debug)]
pub(crate) struct Reports {
    pub(crate) voice: Voice,
    order: Arc<Order>,
    stale: Arc<Stale>,
    gate: Arc<Gate>,
    /// The client is not to be used any longer.
    retired: AtomicBool,
}

/// Topics that were not what they were taken for when records were sent there: somebody deleted them, or has them take less. Emptied by who looks them up again.
#[derive(Debug, Default)]
pub(crate) struct Stale(Mutex<BTreeSet<LogTopic>>);

impl Stale {
    /// Takes why a record did not get to its topic.
    pub(crate) fn heard(&self, topic: &LogTopic, why: Option<RDKafkaErrorCode>) {
        if let Some(
            RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::UnknownPartition
            | RDKafkaErrorCode::MessageSizeTooLarge,
        ) = why
        {
            self.topics().insert(topic.clone());
        }
    }

    /// Whether a topic is one of them. Says so once.
    pub(crate) fn take(&self, topic: &LogTopic) -> bool {
        self.topics().remove(topic)
    }

    fn topics(&self) -> MutexGuard<'_, BTreeSet<LogTopic>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reports {
    pub(crate) fn new(voice: Voice, order: &Arc<Order>, stale: &Arc<Stale>, gate: &Arc<Gate>) -> Self {
        let (order, stale, gate) = (Arc::clone(order), Arc::clone(stale), Arc::clone(gate));
        Self { voice, order, stale, gate, retired: AtomicBool::new(false) }
    }

    /// Has nothing more be given to the client, and leaves in doubt what it has. Once: when it has a successor, the gate is not its own any more.
    pub(crate) fn retire(&self) {
        if !self.retired.swap(true, Ordering::SeqCst) {
            let turn = self.gate.turn();
            if turn.queue() == Queue::Open {
                turn.set(Queue::Shut);
            }
            self.order.doubt_all();
        }
    }

    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::SeqCst)
    }
}

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.voice.log(level, facility, line);
    }

    fn stats_raw(&self, statistics: &[u8]) {
        self.voice.stats_raw(statistics);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.voice.error(error, reason);
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = Box<Ticket>;

    fn delivery(&self, result: &DeliveryResult<'_>, ticket: Box<Ticket>) {
        let unknown = |detail: String| LogError::Unknown { detail };
        let code = result.as_ref().err().and_then(|(error, _)| error.rdkafka_error_code());
        self.stale.heard(&ticket.append.topic, code);
        if result.is_err() && !code.is_some_and(is_answer) {
            self.retire();
        }
        let outcome = match result {
            Ok(message) if message.offset() >= 0 => {
                Ok(Position { partition: Partition(message.partition()), offset: Offset(message.offset()) })
            }
            Ok(_) => Err(unknown("Kafka confirmed it without saying where it stands".to_owned())),
            Err((error, _)) => Err(match code {
                Some(RDKafkaErrorCode::MessageTimedOut) => {
                    unknown("Kafka did not confirm it in time".to_owned())
                }
                Some(code) => unknown(code.to_string()),
                None => unknown(error.to_string()),
            }),
        };
        self.order.settle(&ticket, outcome);
    }
}

/// Whether a record failed by a broker's word, and not by librdkafka's own decision.
fn is_answer(code: RDKafkaErrorCode) -> bool {
    // Librdkafka's own codes are below zero.
    code as i32 > 0
}
