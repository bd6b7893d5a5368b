//! What the group wants of a member, written down by librdkafka's callbacks.

use crate::kafka::context::Voice;
use millstream_model::name::LogTopic;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, Offset as Start, TopicPartitionList};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;

/// What the group wants of this member.
#[derive(Debug)]
pub(super) enum Wish {
    Took(Vec<i32>),
    GiveUp(Vec<i32>),
    Lost(Vec<i32>),
}

/// Writes down what the group wants.
pub(super) struct Wishes {
    pub(super) voice: Voice,
    pub(super) wishes: Sender<Wish>,
    pub(super) ending: Arc<AtomicBool>,
}

impl ClientContext for Wishes {
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

impl ConsumerContext for Wishes {
    /// Called by the thread's own `poll`, and while the consumer closes.
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        error: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        let numbers: Vec<i32> = partitions.elements().iter().map(|element| element.partition()).collect();
        let (wish, done) = if error == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            (Wish::Took(numbers), take(consumer, partitions))
        } else if self.ending.load(Ordering::SeqCst) || consumer.assignment_lost() {
            (Wish::Lost(numbers), consumer.incremental_unassign(partitions))
        } else {
            (Wish::GiveUp(numbers), Ok(()))
        };
        if let Err(error) = done {
            tracing::warn!(?wish, %error, "the group's wish could not be granted");
        }
        // Nobody takes wishes when the consumer closes.
        drop(self.wishes.send(wish));
    }

    fn commit_callback(&self, result: KafkaResult<()>, _offsets: &TopicPartitionList) {
        if let Err(error) = result {
            tracing::debug!(%error, "offsets for displays of lag were not committed");
        }
    }
}

/// Takes partitions as the group wants it, and fetches none of them.
pub(super) fn take(consumer: &BaseConsumer<Wishes>, partitions: &mut TopicPartitionList) -> KafkaResult<()> {
    // An offset that has to be looked up first: paused before the answer is there.
    partitions.set_all_offsets(Start::End)?;
    consumer.incremental_assign(partitions)?;
    consumer.pause(partitions)
}

pub(super) fn list(topic: &LogTopic, partitions: &[i32]) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for partition in partitions {
        list.add_partition(topic.as_str(), *partition);
    }
    list
}
