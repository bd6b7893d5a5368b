//! Reads all partitions of a log topic as they come.

use futures::FutureExt;
use futures::future::select_all;
use millstream_log::{Log, LogError, LogReader, ReadLimit};
use millstream_model::name::{Offset, Partition, TopicPartition};
use millstream_model::record::Stored;
use std::collections::BTreeMap;

/// The readers of all owned partitions.
#[derive(Debug)]
pub(crate) struct Intake {
    lanes: Vec<Lane>,
}

#[derive(Debug)]
struct Lane {
    partition: TopicPartition,
    reader: Box<dyn LogReader>,
    next: Offset,
    /// Where reading ends; `None`: it does not.
    end: Option<Offset>,
}

impl Lane {
    fn is_open(&self) -> bool {
        self.end.is_none_or(|end| self.next < end)
    }
}

impl Intake {
    /// Begins to read every partition at its offset.
    pub(crate) async fn open(
        log: &dyn Log,
        from: &BTreeMap<Partition, (TopicPartition, Offset)>,
    ) -> Result<Self, LogError> {
        let mut lanes = Vec::with_capacity(from.len());
        for (partition, next) in from.values() {
            let reader = log.reader(partition, *next).await?;
            lanes.push(Lane { partition: partition.clone(), reader, next: *next, end: None });
        }
        Ok(Self { lanes })
    }

    /// The next records of any partition. Waits until there are some; for ever once [`Self::is_drained`]. Cancel-safe, as the readers are.
    pub(crate) async fn next(&mut self, limit: ReadLimit) -> (Partition, Result<Vec<Stored>, LogError>) {
        // Those asked first win when several are ready, so everyone gets to be first.
        if !self.lanes.is_empty() {
            self.lanes.rotate_left(1);
        }
        let open = self.lanes.iter_mut().filter(|lane| lane.is_open());
        let reads: Vec<_> = open
            .map(|lane| {
                async move { (lane.reader.next(limit).await, &mut lane.next, lane.partition.partition) }
                    .boxed()
            })
            .collect();
        if reads.is_empty() {
            return futures::future::pending().await;
        }
        let ((read, next, partition), ..) = select_all(reads).await;
        if let Ok(records) = &read
            && let Some(last) = records.last()
        {
            *next = last.offset.next();
        }
        (partition, read)
    }

    /// From now on reads only what the log holds now.
    pub(crate) async fn end_here(&mut self, log: &dyn Log) -> Result<(), LogError> {
        for lane in &mut self.lanes {
            lane.end = Some(log.bounds(&lane.partition).await?.next);
        }
        Ok(())
    }

    /// Where reading stands in the partitions of which the log has more than was read, as far as these ends say.
    pub(crate) fn behind(&self, end: impl Fn(Partition) -> Option<Offset>) -> BTreeMap<Partition, Offset> {
        let open = self.lanes.iter().filter(|lane| lane.is_open());
        let behind = open.filter(|lane| end(lane.partition.partition).is_some_and(|end| lane.next < end));
        behind.map(|lane| (lane.partition.partition, lane.next)).collect()
    }

    /// Whether everything up to the end was read.
    pub(crate) fn is_drained(&self) -> bool {
        self.lanes.iter().all(|lane| !lane.is_open())
    }
}
