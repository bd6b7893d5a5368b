//! A log of another process, as a log that can only be read: for a question where nobody serves it.
//!
//! It sees what [`Peek`] sees: also a batch that was written and whose sync is still under way. It takes no lock and changes nothing.

use crate::api::{Bounds, Log, LogReader, Membership, Pending, ReadLimit};
use crate::embedded::layout::io_error;
use crate::embedded::peek::Peek;
use crate::error::LogError;
use async_trait::async_trait;
use millstream_model::name::{LogTopic, Offset, TopicPartition};
use millstream_model::record::{Record, Stored};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How often a reader at the end looks whether there is more: nobody tells it.
const LOOK: Duration = Duration::from_millis(50);

/// A log that can only be read: for whoever would change it, it is closed. Clones are the same look.
#[derive(Debug, Clone)]
pub struct Onlooker {
    dir: PathBuf,
    peek: Arc<Peek>,
}

impl Onlooker {
    /// Looks at the log in a directory. There need not be one in it yet: then it has no topics.
    ///
    /// # Errors
    /// If the directory does not exist or what is in it cannot be read.
    pub fn open(dir: &Path) -> Result<Self, LogError> {
        Ok(Self { dir: dir.to_owned(), peek: Arc::new(Peek::open(dir)?) })
    }

    /// Does what reads files on a thread that may wait for them.
    async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Peek) -> Result<T, LogError> + Send + 'static,
    ) -> Result<T, LogError> {
        let peek = Arc::clone(&self.peek);
        let looked = tokio::task::spawn_blocking(move || look(&peek)).await;
        looked.map_err(|error| io_error("look into the log in", &self.dir)(io::Error::other(error)))?
    }
}

#[async_trait]
impl Log for Onlooker {
    /// A topic that does not exist cannot be made here: it has none.
    async fn partitions(&self, topic: &LogTopic) -> Result<Vec<TopicPartition>, LogError> {
        Ok(self.existing(topic).await?.unwrap_or_default())
    }

    async fn existing(&self, topic: &LogTopic) -> Result<Option<Vec<TopicPartition>>, LogError> {
        let mut found = self.look(Peek::topics).await?;
        found.retain(|partition| partition.topic == *topic);
        found.sort_by_key(|partition| partition.partition);
        Ok(Some(found).filter(|found| !found.is_empty()))
    }

    async fn append(&self, _topic: &LogTopic, _records: Vec<Record>) -> Result<Pending, LogError> {
        Err(LogError::Closed)
    }

    async fn reader(&self, partition: &TopicPartition, from: Offset) -> Result<Box<dyn LogReader>, LogError> {
        self.bounds(partition).await?.check(partition, from)?;
        let (log, partition) = (self.clone(), partition.clone());
        Ok(Box::new(Reader { log, partition, next: from }))
    }

    async fn bounds(&self, partition: &TopicPartition) -> Result<Bounds, LogError> {
        let partition = partition.clone();
        self.look(move |peek| peek.bounds(&partition)).await
    }

    async fn trim(&self, _partition: &TopicPartition, _before: Offset) -> Result<(), LogError> {
        Err(LogError::Closed)
    }

    async fn join(&self, _topic: &LogTopic, _group: &str) -> Result<Box<dyn Membership>, LogError> {
        Err(LogError::Closed)
    }
}

#[derive(Debug)]
struct Reader {
    log: Onlooker,
    partition: TopicPartition,
    next: Offset,
}

#[async_trait]
impl LogReader for Reader {
    async fn next(&mut self, limit: ReadLimit) -> Result<Vec<Stored>, LogError> {
        loop {
            let (partition, next) = (self.partition.clone(), self.next);
            let records = self.log.look(move |peek| peek.read(&partition, next, limit)).await?;
            if let Some(last) = records.last() {
                self.next = last.offset.next();
                return Ok(records);
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}
