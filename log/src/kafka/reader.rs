//! Reading a partition forwards: what its queue has, checked to be without a gap.

use crate::api::{Bounds, LogReader, ReadLimit};
use crate::error::LogError;
use crate::kafka::KafkaLog;
use crate::kafka::fetcher::Fetched;
use crate::kafka::lane::{PATIENCE, PATIENCE_MAX};
use async_trait::async_trait;
use bytes::Bytes;
use millstream_model::name::{Offset, TopicPartition};
use millstream_model::record::{Record, Stored};
use millstream_model::time::Micros;
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::types::RDKafkaErrorCode as Code;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;
use tokio::task::JoinHandle;

/// One call returns so many records at most, so that it never keeps a thread of the runtime for long.
const READ_RECORDS: usize = 10_000;

/// And so many bytes, unless the first record has more by itself.
const READ_BYTES: usize = 4 * 1024 * 1024;

/// So many more clients are asked for an offset that one was told is not there, and that the log says it has.
const DOUBTS_MAX: u32 = 3;

/// A reader of one partition.
pub(crate) struct Reader {
    log: KafkaLog,
    partition: TopicPartition,
    /// The offset that the next record must have.
    next: Offset,
    fetched: Fetched,
    /// A record that was taken from the queue and did not fit the limit.
    held: Option<Stored>,
    /// How long it waits for what the log has before it goes on with another client.
    patience: Duration,
    /// The other client's, which is on its way. Kept between calls: whoever drops one has begun nothing in vain.
    moving: Option<JoinHandle<Result<Fetched, LogError>>>,
    /// Why nothing will follow. Told once what came before it is read, and again if asked again.
    end: Option<End>,
    /// How many clients in a row were told that the next offset is not there, though it is.
    doubts: u32,
}

/// Why a reader cannot go on.
#[derive(Debug, Clone)]
enum End {
    /// The broker said that it does not have the offset: trimmed, or another log.
    OutOfRange,
    Failed(LogError),
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("partition", &self.partition)
            .field("next", &self.next)
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}

impl Reader {
    pub(crate) fn new(log: KafkaLog, partition: TopicPartition, from: Offset, fetched: Fetched) -> Self {
        Self {
            log,
            partition,
            next: from,
            fetched,
            held: None,
            patience: PATIENCE,
            moving: None,
            end: None,
            doubts: 0,
        }
    }

    /// What is there now, within the limit.
    fn take(&mut self, limit: ReadLimit) -> Vec<Stored> {
        let records_max = limit.records.clamp(1, READ_RECORDS);
        let bytes_max = limit.bytes.min(READ_BYTES);
        let mut records = Vec::new();
        let mut bytes = 0;
        while records.len() < records_max
            && let Some(stored) = self.held.take().or_else(|| self.poll())
        {
            bytes += stored.record.size();
            if bytes > bytes_max && !records.is_empty() {
                self.held = Some(stored);
                break;
            }
            records.push(stored);
        }
        records
    }

    /// The next record of the queue, if there is one.
    fn poll(&mut self) -> Option<Stored> {
        while self.end.is_none() {
            let stored = match self.fetched.queue.poll(Duration::ZERO)? {
                Ok(message) => stored(&message),
                Err(error) => {
                    self.end = self.end_of(&error);
                    continue;
                }
            };
            if stored.offset > self.next {
                let (partition, wanted) = (self.partition.clone(), self.next);
                self.end = Some(End::Failed(LogError::Missing { partition, wanted, found: stored.offset }));
            } else if stored.offset == self.next {
                self.next = stored.offset.next();
                return Some(stored);
            }
        }
        None
    }

    fn end_of(&self, error: &KafkaError) -> Option<End> {
        match error.rdkafka_error_code() {
            Some(Code::AutoOffsetReset | Code::OffsetOutOfRange) => Some(End::OutOfRange),
            // It goes on by itself.
            Some(
                Code::BrokerTransportFailure | Code::AllBrokersDown | Code::OperationTimedOut | Code::Resolve,
            ) => None,
            _ => Some(End::Failed(self.log.attempt(format!("read {}", self.partition)).failed(error))),
        }
    }

    /// Goes on with another client.
    async fn moved(&mut self) -> Result<(), LogError> {
        let moving = self.moving.get_or_insert_with(|| {
            self.patience = (self.patience * 2).min(PATIENCE_MAX);
            self.log.fetch(&self.partition, self.next, self.patience)
        });
        let fetched = moving.await;
        self.moving = None;
        let fetched = fetched.map_err(|error| LogError::Unknown { detail: error.to_string() })??;
        let old = std::mem::replace(&mut self.fetched, fetched);
        // Librdkafka may take its time to let go.
        drop(tokio::task::spawn_blocking(move || drop(old)));
        Ok(())
    }

    /// Goes on with another client if the log has the offset that one was told is not there.
    ///
    /// The answer may be older than this reader: librdkafka discards what comes late for a partition that was assigned anew, but not this error
    /// (`rd_kafka_offset_reset` hands it to its main thread without the assignment's version).
    async fn doubt(&mut self) -> Result<(), LogError> {
        let bounds = self.log.bounds_of(&self.partition).await?;
        bounds.check(&self.partition, self.next)?;
        if self.doubts == DOUBTS_MAX {
            let action = format!("read {} from offset {}", self.partition, self.next);
            let Bounds { first, next } = bounds;
            let detail = format!(
                "again and again that it does not have this offset, and that it has {first} to {next}"
            );
            return Err(LogError::Broker { action, detail });
        }
        tracing::debug!(partition = %self.partition, next = %self.next, "asks again for what is said not to be there");
        self.moved().await?;
        self.doubts += 1;
        self.end = None;
        Ok(())
    }
}

#[async_trait]
impl LogReader for Reader {
    async fn next(&mut self, limit: ReadLimit) -> Result<Vec<Stored>, LogError> {
        loop {
            let mut records = self.take(limit);
            if records.is_empty() && self.end.is_none() {
                self.fetched.lane.waits_for(self.next);
                records = self.take(limit);
            }
            if !records.is_empty() {
                self.fetched.lane.has_some();
                (self.patience, self.doubts) = (PATIENCE, 0);
                return Ok(records);
            }
            if let Some(end) = self.end.clone() {
                self.fetched.lane.has_some();
                match end {
                    End::OutOfRange => self.doubt().await?,
                    End::Failed(error) => return Err(error),
                }
            } else if self.fetched.lane.is_over() {
                self.moved().await?;
            } else {
                self.fetched.lane.changed.notified().await;
            }
        }
    }
}

fn stored(message: &BorrowedMessage<'_>) -> Stored {
    let bytes = |part: Option<&[u8]>| part.map(Bytes::copy_from_slice).unwrap_or_default();
    let record =
        Record { key: bytes(message.key()), value: bytes(message.payload()), headers: headers(message) };
    Stored { offset: Offset(message.offset()), appended_at: appended_at(message), record }
}

/// The record's timestamp: the producer's or the broker's, as the topic is configured. One that is no time of a device's life counts as none.
fn appended_at(message: &BorrowedMessage<'_>) -> Option<Micros> {
    let earliest = Micros::from_rfc3339("2000-01-01T00:00:00Z")?;
    let latest = Micros::from_rfc3339("9999-01-01T00:00:00Z")?;
    let at = Micros(message.timestamp().to_millis()?.checked_mul(1000)?);
    (earliest..latest).contains(&at).then_some(at)
}

fn headers(message: &BorrowedMessage<'_>) -> Vec<(String, Bytes)> {
    let Some(headers) = message.headers() else { return Vec::new() };
    let one = |index| {
        // The library panics at a name that is not UTF-8, which Kafka's protocol forbids and somebody else's producer may send.
        let header = catch_unwind(AssertUnwindSafe(|| headers.try_get(index)));
        if header.is_err() {
            let (topic, partition, offset) = (message.topic(), message.partition(), message.offset());
            tracing::warn!(topic, partition, offset, "a header whose name is not UTF-8 is left out");
        }
        let header = header.ok().flatten()?;
        Some((header.key.to_owned(), header.value.map(Bytes::copy_from_slice).unwrap_or_default()))
    };
    (0..headers.count()).filter_map(one).collect()
}

#[cfg(test)]
mod tests;
