//! The columns of a stream's table.

use serde::{Deserialize, Serialize};
use std::fmt;
use thiserror::Error;

/// Longest name of a column, in bytes: what every catalog and file system along the way takes.
pub const COLUMN_NAME_MAX: usize = 255;

/// Characters that Delta without column mapping refuses in a column's name, beside control characters.
const REFUSED_IN_NAMES: [char; 8] = [' ', ',', ';', '{', '}', '(', ')', '='];

/// Why a table cannot have a column of this name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BadColumnName {
    /// It has no characters.
    #[error("the name of a column cannot be empty")]
    Empty,
    /// It is longer than [`COLUMN_NAME_MAX`].
    #[error("the name of a column has at most {COLUMN_NAME_MAX} bytes")]
    TooLong,
    /// It has a character that Delta refuses.
    #[error("the name of a column cannot have {0:?} in it")]
    Character(char),
}

/// Whether a table may have a column of this name, reserved or not. A dot is fine (`PM2.5`).
///
/// # Errors
/// What is wrong with it.
pub fn check_column_name(name: &str) -> Result<(), BadColumnName> {
    if name.is_empty() {
        return Err(BadColumnName::Empty);
    }
    if name.len() > COLUMN_NAME_MAX {
        return Err(BadColumnName::TooLong);
    }
    match name.chars().find(|c| c.is_control() || REFUSED_IN_NAMES.contains(c)) {
        Some(character) => Err(BadColumnName::Character(character)),
        None => Ok(()),
    }
}

/// The form in which names of columns are compared: readers of a table take two that differ only by case for the same.
#[must_use]
pub fn fold_column_name(name: &str) -> String {
    name.to_lowercase()
}

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
    /// Every type there is.
    pub const ALL: [Self; 5] = [Self::Double, Self::Boolean, Self::String, Self::Long, Self::Timestamp];

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_can_be_a_columns_or_says_why_not() {
        for (name, expected) in [
            ("temp", Ok(())),
            ("PM2.5", Ok(())),
            ("Ähre", Ok(())),
            ("", Err(BadColumnName::Empty)),
            ("a b", Err(BadColumnName::Character(' '))),
            ("a\n", Err(BadColumnName::Character('\n'))),
            ("a=b", Err(BadColumnName::Character('='))),
            (&"x".repeat(255), Ok(())),
            (&"x".repeat(256), Err(BadColumnName::TooLong)),
        ] {
            assert_eq!(check_column_name(name), expected, "{name:?}");
        }
        assert_eq!(fold_column_name("Temp_F"), fold_column_name("temp_f"));
    }
}
