//! The record of the log. It has no envelope of ours: any Kafka consumer can read it.

use crate::arrival::ArrivalView;
use crate::name::{Offset, Partition};
use crate::time::Micros;
use bytes::Bytes;

/// What is appended to the log: the key decides the partition, so one device's records keep their order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record {
    /// The device id.
    pub key: Bytes,
    /// The payload as it was published.
    pub value: Bytes,
    /// Name and value pairs, in order, names may repeat; see [`crate::arrival::Arrival`] for those of a message.
    pub headers: Vec<(String, Bytes)>,
}

impl Record {
    /// About how much memory and log this record takes, in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + value.len() + 8).sum();
        self.key.len() + self.value.len() + headers + 16
    }
}

/// Where a record stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The partition.
    pub partition: Partition,
    /// The place in it.
    pub offset: Offset,
}

/// A record as read back from the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its place in the partition that was read.
    pub offset: Offset,
    /// What the log itself says of when it came, where it says something.
    pub appended_at: Option<Micros>,
    /// The record, as it was appended.
    pub record: Record,
}

impl Stored {
    /// When the message reached us, by its own word; what somebody else appended without one, by the log's. The same whoever reads it, and whenever.
    #[must_use]
    pub fn received_at(&self) -> Option<Micros> {
        ArrivalView(&self.record).received_at().or(self.appended_at)
    }
}
