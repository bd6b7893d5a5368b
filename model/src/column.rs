//! The columns of a stream's table.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The columns that every stream's table begins with, and `_extra`, in their order.
pub mod reserved {
    /// Event time, UTC, microseconds.
    pub const TS: &str = "ts";
    /// The device.
    pub const DEVICE_ID: &str = "device_id";
    /// Partition of the log.
    pub const PARTITION: &str = "_partition";
    /// Place in that partition.
    pub const OFFSET: &str = "_offset";
    /// Which reading of its message, from 0.
    pub const INDEX: &str = "_index";
    /// When the message reached us.
    pub const RECEIVED_AT: &str = "_received_at";
    /// MQTT topic.
    pub const TOPIC: &str = "_topic";
    /// Day (or first day of the month) of `ts`, UTC: the partition column.
    pub const DATE: &str = "date";
    /// JSON object of what fits no column, as it came.
    pub const EXTRA: &str = "_extra";

    /// In the order of the table: the columns by which files are skipped come first. `EXTRA` stands after the reading's own fields.
    pub const LEADING: [&str; 8] = [TS, DEVICE_ID, PARTITION, OFFSET, INDEX, RECEIVED_AT, TOPIC, DATE];

    /// Whether a field of a reading may not have this name: the reserved ones, whatever their case, and all that begin with `_`.
    #[must_use]
    pub fn is_reserved(name: &str) -> bool {
        name.starts_with('_') || LEADING.iter().any(|reserved| reserved.eq_ignore_ascii_case(name))
    }
}

/// The type of a reading's own column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ColumnType {
    /// 64-bit float: what a number is, unless declared otherwise.
    Double,
    /// `true` or `false`.
    Boolean,
    /// Text.
    String,
    /// 64-bit integer; only when declared.
    Long,
    /// Instant, UTC, microseconds; only when declared.
    Timestamp,
}

impl ColumnType {
    /// The name it has in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Double => "double",
            Self::Boolean => "boolean",
            Self::String => "string",
            Self::Long => "long",
            Self::Timestamp => "timestamp",
        }
    }
}

impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A column of a stream's own: declared in the configuration, or learned from the first value that was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// The name in the table; nested fields are joined by `_`.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: ColumnType,
    /// A message without a fitting value for it is quarantined.
    #[serde(default)]
    pub required: bool,
}
