//! Why a message could not become readings.

use std::fmt;

/// The fixed codes of the quarantine table's column `reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// Not JSON: a syntax error, invalid UTF-8, a lone surrogate, `NaN` or `Infinity`.
    NotJson,
    /// No payload at all.
    Empty,
    /// JSON, but `null` or an array of something else than objects.
    NotAReading,
    /// Nested deeper than the limit.
    TooDeep,
    /// More fields than the limit.
    TooWide,
    /// Larger than the message limit; only the head of the payload was kept.
    TooLarge,
    /// An object has the same key twice.
    DuplicateKey,
    /// A value of another type than its column, where the stream is strict or the column required.
    TypeMismatch,
    /// A number beyond what a double can hold, where the stream is strict.
    NotFinite,
    /// An integer that a double would change, where the stream is strict.
    NotExact,
    /// A required field is missing.
    MissingField,
    /// An unreadable or impossible event time, where the stream is strict about it.
    BadTime,
    /// A device id that cannot be one.
    BadDeviceId,
    /// The stream's transform failed on the reading.
    TransformFailed,
    /// No stream claims the topic.
    NoStream,
}

impl Reason {
    /// Every reason there is.
    pub const ALL: [Self; 15] = [
        Self::NotJson,
        Self::Empty,
        Self::NotAReading,
        Self::TooDeep,
        Self::TooWide,
        Self::TooLarge,
        Self::DuplicateKey,
        Self::TypeMismatch,
        Self::NotFinite,
        Self::NotExact,
        Self::MissingField,
        Self::BadTime,
        Self::BadDeviceId,
        Self::TransformFailed,
        Self::NoStream,
    ];

    /// The code as it stands in the table. Codes are never renamed: they are in years of files.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotJson => "not_json",
            Self::Empty => "empty",
            Self::NotAReading => "not_a_reading",
            Self::TooDeep => "too_deep",
            Self::TooWide => "too_wide",
            Self::TooLarge => "too_large",
            Self::DuplicateKey => "duplicate_key",
            Self::TypeMismatch => "type_mismatch",
            Self::NotFinite => "not_finite",
            Self::NotExact => "not_exact",
            Self::MissingField => "missing_field",
            Self::BadTime => "bad_time",
            Self::BadDeviceId => "bad_device_id",
            Self::TransformFailed => "transform_failed",
            Self::NoStream => "no_stream",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
