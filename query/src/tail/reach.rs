//! The log as a tail reads it: with a bound on every wait, and the table's name in every error.

use super::error::TailError;
use futures::future::try_join_all;
use millstream_log::{Bounds, Log, LogError, LogReader, ReadLimit};
use millstream_model::name::{LogTopic, Offset, TopicPartition};
use millstream_model::record::Stored;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// How long the log may take for one answer, or to give the next records that it has: many times what a slow broker takes, and shorter than a person waits. A log that
/// counts offsets without a record (a producer's transactions) ends here, too.
const WITHIN: Duration = Duration::from_secs(10);

/// One read: little enough that making rows of it keeps nobody waiting for long, for it is done between two waits.
const READ: ReadLimit = ReadLimit { records: 1024, bytes: 256 << 10 };

/// So many partitions are asked about at the same time: on Kafka each question keeps a thread.
const AT_ONCE: usize = 16;

/// The log of one table.
#[derive(Debug)]
pub(super) struct Reach {
    log: Arc<dyn Log>,
    pub(super) table: String,
    pub(super) topic: LogTopic,
    /// Never closed.
    asking: Semaphore,
}

impl Reach {
    pub(super) fn new(log: &Arc<dyn Log>, table: String, topic: LogTopic) -> Self {
        Self { log: Arc::clone(log), table, topic, asking: Semaphore::new(AT_ONCE) }
    }

    /// The topic's partitions; none if there is no such topic. It is not made.
    pub(super) async fn partitions(&self) -> Result<Vec<TopicPartition>, TailError> {
        let asked =
            self.within(|| format!("which partitions {} has", self.topic), self.log.existing(&self.topic));
        Ok(asked.await?.unwrap_or_default())
    }

    /// First and next offset of each.
    pub(super) async fn bounds(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, Bounds>, TailError> {
        let bounds = partitions.iter().map(|partition| async move {
            let _turn = self.asking.acquire().await;
            let asked = self.within(|| format!("where {partition} ends"), self.log.bounds(partition)).await;
            asked.map(|bounds| (partition.clone(), bounds))
        });
        Ok(try_join_all(bounds).await?.into_iter().collect())
    }

    /// A reader of the partition from an offset on.
    pub(super) async fn reader(
        &self,
        partition: &TopicPartition,
        from: Offset,
    ) -> Result<Box<dyn LogReader>, TailError> {
        let _turn = self.asking.acquire().await;
        self.within(|| format!("to read {partition}"), self.log.reader(partition, from)).await
    }

    /// The next records, of which the log has some.
    pub(super) async fn read(
        &self,
        partition: &TopicPartition,
        from: Offset,
        reader: &mut dyn LogReader,
    ) -> Result<Vec<Stored>, TailError> {
        self.within(|| format!("{partition} from offset {from} on"), reader.next(READ)).await
    }

    /// The next record alone.
    pub(super) async fn first(
        &self,
        partition: &TopicPartition,
        from: Offset,
        reader: &mut dyn LogReader,
    ) -> Result<Option<Stored>, TailError> {
        let one = ReadLimit { records: 1, bytes: 1 };
        let read = self.within(|| format!("{partition} at offset {from}"), reader.next(one)).await;
        Ok(read?.into_iter().next().filter(|stored| stored.offset == from))
    }

    async fn within<T>(
        &self,
        what: impl FnOnce() -> String,
        asked: impl Future<Output = Result<T, LogError>>,
    ) -> Result<T, TailError> {
        let table = || self.table.clone();
        match timeout(WITHIN, asked).await {
            Ok(answer) => answer.map_err(|source| TailError::Log { table: table(), source }),
            Err(_elapsed) => Err(TailError::Silent { table: table(), what: what(), waited: WITHIN }),
        }
    }
}
