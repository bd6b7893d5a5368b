//! Messages that could not become readings, as the quarantine table has them.

use crate::buffer::instants;
use crate::event_time::date;
use crate::flaw::Flaw;
use crate::schema::instant;
use arrow::array::{ArrayRef, BinaryArray, Date32Array, Int32Array, Int64Array, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use millstream_model::arrival::ArrivalView;
use millstream_model::name::{Offset, Partition, StreamName};
use millstream_model::quarantine::Reason;
use millstream_model::record::Stored;
use millstream_model::stream::DatePartition;
use millstream_model::time::Micros;
use std::sync::Arc;

/// One message in quarantine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantined {
    /// When it reached us.
    pub received_at: Micros,
    /// Whose it was; `None` where no stream claims its topic.
    pub stream: Option<StreamName>,
    /// The fixed code.
    pub reason: Reason,
    /// For a person: what was wrong, and where.
    pub detail: String,
    /// MQTT topic.
    pub topic: String,
    /// The record's key, as far as it is text.
    pub device_id: String,
    /// The original bytes (their head, where the message was too large).
    pub payload: Bytes,
    /// Partition of the log topic.
    pub partition: Partition,
    /// Place in it.
    pub offset: Offset,
}

impl Quarantined {
    pub(crate) fn new(
        stream: Option<StreamName>,
        partition: Partition,
        stored: &Stored,
        received_at: Micros,
        reason: Reason,
        detail: String,
    ) -> Self {
        Self {
            received_at,
            stream,
            reason,
            detail,
            topic: ArrivalView(&stored.record).topic().to_owned(),
            device_id: String::from_utf8_lossy(&stored.record.key).into_owned(),
            // A copy: the record's own bytes keep all that was read of the log with them.
            payload: Bytes::copy_from_slice(&stored.record.value),
            partition,
            offset: stored.offset,
        }
    }

    /// About how much memory it holds, in bytes.
    pub(crate) fn size(&self) -> usize {
        size_of::<Self>() + self.detail.len() + self.topic.len() + self.device_id.len() + self.payload.len()
    }
}

/// The outcome of a message of the log topic `millstream.unrouted`: `no_stream`, unless nothing is left of it. `fallback_received_at` counts only where the record does not say when it came.
#[must_use]
pub fn unrouted(partition: Partition, stored: &Stored, fallback_received_at: Micros) -> Quarantined {
    let received_at = stored.received_at().unwrap_or(fallback_received_at);
    let Flaw { reason, detail } = if ArrivalView(&stored.record).is_lost() {
        Flaw::lost()
    } else {
        Flaw::new(Reason::NoStream, "no stream claims the topic")
    };
    Quarantined::new(None, partition, stored, received_at, reason, detail)
}

/// The schema of the quarantine table. Its partition column is `date`, the day of `received_at`.
#[must_use]
pub fn quarantine_schema() -> SchemaRef {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    Arc::new(Schema::new(vec![
        Field::new("received_at", instant(), true),
        text("stream"),
        text("reason"),
        text("detail"),
        text("topic"),
        text("device_id"),
        Field::new("payload", DataType::Binary, true),
        Field::new("_partition", DataType::Int32, true),
        Field::new("_offset", DataType::Int64, true),
        text("millstream_version"),
        Field::new("date", DataType::Date32, true),
    ]))
}

/// The messages as rows of the quarantine table, in their order.
#[must_use]
pub fn quarantine_batch(messages: &[Quarantined]) -> RecordBatch {
    let text = |of: fn(&Quarantined) -> &str| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(messages.iter().map(of)))
    };
    let streams = messages.iter().map(|message| message.stream.as_ref().map(StreamName::as_str));
    let version = env!("CARGO_PKG_VERSION");
    let columns: Vec<ArrayRef> = vec![
        instants(messages.iter().map(|message| message.received_at.0).collect(), None),
        Arc::new(streams.collect::<StringArray>()),
        text(|message| message.reason.as_str()),
        text(|message| &message.detail),
        text(|message| &message.topic),
        text(|message| &message.device_id),
        Arc::new(BinaryArray::from_iter_values(messages.iter().map(|message| &message.payload))),
        Arc::new(Int32Array::from_iter_values(messages.iter().map(|message| message.partition.0))),
        Arc::new(Int64Array::from_iter_values(messages.iter().map(|message| message.offset.0))),
        Arc::new(StringArray::from_iter_values(messages.iter().map(|_| version))),
        Arc::new(Date32Array::from_iter_values(
            messages.iter().map(|message| date(message.received_at, DatePartition::Day)),
        )),
    ];
    RecordBatch::try_new(quarantine_schema(), columns).expect("every column has a row for every message")
}
