//! What came of a run of messages.

use crate::quarantine::Quarantined;
use crate::schema::InputSchema;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use millstream_model::name::{Offset, Partition};
use std::collections::BTreeMap;

/// Everything that became of the messages pushed since the last time, each exactly once: reading, quarantine or dropped on purpose.
#[derive(Debug, Clone)]
pub struct Decoded {
    /// What is known of the fields now; grown where new ones were seen.
    pub schema: InputSchema,
    /// Schema of the stream's table for it. It must be committed before the readings are.
    pub table_schema: SchemaRef,
    /// The readings, in `table_schema`, in the order of the messages; may have no rows.
    pub readings: RecordBatch,
    /// The messages that could not become readings.
    pub quarantined: Vec<Quarantined>,
    /// What was decided, by partition.
    pub ranges: BTreeMap<Partition, Range>,
    /// How many values did not fit, by column and [reason code](millstream_model::quarantine::Reason::as_str); `ts` and `bad_time` for event times.
    pub mismatches: BTreeMap<(String, &'static str), u64>,
}

/// A run of one partition's messages, each of which had one outcome. The messages that gave readings are `messages - quarantined - dropped`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// Offset of the first message.
    pub first: Offset,
    /// Offset of the last message.
    pub last: Offset,
    /// Messages.
    pub messages: u64,
    /// Readings: rows of the table.
    pub readings: u64,
    /// Messages that went to quarantine.
    pub quarantined: u64,
    /// Messages that gave no reading on purpose: an empty array, or the transform's `where` kept none of their readings.
    pub dropped: u64,
}

impl Range {
    /// A run of no messages that begins here.
    pub(crate) fn starting(at: Offset) -> Self {
        Self { first: at, last: at, messages: 0, readings: 0, quarantined: 0, dropped: 0 }
    }
}
