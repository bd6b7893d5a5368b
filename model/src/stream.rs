//! The definition of a stream, already checked: it cannot be invalid.

use crate::column::Column;
use crate::name::StreamName;
use crate::time::Micros;
use crate::topic::TopicPattern;
use std::time::Duration;

/// Everything that is configured of one stream.
#[derive(Debug, Clone, PartialEq)]
pub struct Stream {
    /// Its name.
    pub name: StreamName,
    /// The MQTT topics it claims; the first pattern that matches a topic names its levels.
    pub topics: Vec<TopicPattern>,
    /// Name of the field that holds the event time (a dotted path for a nested one); `None`: arrival time.
    pub time: Option<TimeField>,
    /// Name of the field that holds the device id instead of topic or client id.
    pub device_field: Option<String>,
    /// Declared columns, in their order.
    pub columns: Vec<Column>,
    /// SQL over `input`, row by row.
    pub transform: Option<String>,
    /// What happens to a value that does not fit its column, if that is a declared one. What fits no learned column goes to `_extra`: which message it was learned from
    /// is chance, and must not decide what another one becomes.
    pub on_mismatch: Misfit,
    /// What happens to an event time that cannot be one.
    pub on_bad_time: Misfit,
    /// Most columns of its own the table may have; further fields go to `_extra`.
    pub column_limit: usize,
    /// Whether `date` is the day or the month's first day.
    pub date: DatePartition,
    /// When a file closes.
    pub files: CloseRule,
    /// What happens where the log's beginning is gone before anything of it was committed.
    pub start: Start,
    /// The numeric column in which each device counts its readings, so that missing ones show; `None`: it does not count them.
    pub sequence: Option<String>,
    /// For how long readings are kept, from the end of their `date` on; `None`: for ever.
    pub keep: Option<Duration>,
}

/// What happens where the log's beginning is gone before anything of it was committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Start {
    /// The stream is refused until a person has accepted the gap.
    #[default]
    Refuse,
    /// The stream begins at the oldest record that there is; what is missing before it is written down as a gap.
    Earliest,
}

/// The field with the event time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeField {
    /// Name of the field.
    pub field: String,
    /// How a number in it counts.
    pub unit: TimeUnit,
    /// Event times before this are not believed.
    pub earliest: Micros,
    /// Event times further ahead of arrival than this are not believed.
    pub ahead_max: Duration,
}

/// Unit of a numeric event time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeUnit {
    /// By magnitude. Between the years 2000 and 5138 seconds, milliseconds and microseconds since 1970 do not overlap:
    /// below 1e11 it is seconds, below 1e14 milliseconds, else microseconds.
    Auto,
    /// Seconds since 1970, fractions allowed.
    Seconds,
    /// Milliseconds since 1970.
    Millis,
    /// Microseconds since 1970.
    Micros,
}

/// What to do with something that does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misfit {
    /// Keep the reading; what does not fit goes to `_extra` as it came, and is counted.
    Extra,
    /// Quarantine the message.
    Quarantine,
}

/// How coarse the partition column `date` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatePartition {
    /// The day of `ts`.
    Day,
    /// The first day of the month of `ts`.
    Month,
}

/// When a file closes: whichever comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CloseRule {
    /// This long after its first record.
    pub after: Duration,
    /// When about this many bytes of readings are buffered.
    pub size: u64,
    /// When nothing came for this long.
    pub idle: Duration,
}
