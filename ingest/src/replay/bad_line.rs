//! Lines that cannot be published: why, where, how many.

use millstream_model::topic::BadTopic;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use thiserror::Error;

/// How many are named; the rest is only counted, since they are mostly the same.
const NAMED_MAX: usize = 5;

/// Why a line cannot be published.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BadLine {
    /// Not UTF-8.
    #[error("it is not UTF-8")]
    NotUtf8,
    /// A CSV row with another number of cells than the header.
    #[error("it has {found} cells, the header has {expected}")]
    Cells {
        /// Cells of the row.
        found: usize,
        /// Cells of the header.
        expected: usize,
    },
    /// Not JSON.
    #[error("it is not JSON: {0}")]
    NotJson(String),
    /// Longer than a line may be.
    #[error("it is longer than {0} bytes")]
    TooLong(usize),
    /// A field of the topic is absent, missing, null, an object or an array.
    #[error("it has no value for the field {0:?} of the topic")]
    NoTopicField(String),
    /// The field's value cannot stand in a topic.
    #[error("its fields make no topic: {0}")]
    BadTopic(BadTopic),
    /// The time field is absent, missing, null, an object or an array.
    #[error("it has no event time in the field {0:?}")]
    NoTime(String),
    /// The time field holds something else.
    #[error("{0:?} is not an event time")]
    NotATime(String),
    /// Greater than the broker's maximum packet size.
    #[error("its packet of {size} bytes is greater than the broker's maximum of {max}")]
    PacketTooLarge {
        /// Bytes of the packet.
        size: usize,
        /// The broker's maximum.
        max: usize,
    },
}

impl BadLine {
    /// A fixed word for counting.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotUtf8 => "not_utf8",
            Self::Cells { .. } => "cells",
            Self::NotJson(_) => "not_json",
            Self::TooLong(_) => "too_long",
            Self::NoTopicField(_) => "no_topic_field",
            Self::BadTopic(_) => "bad_topic",
            Self::NoTime(_) => "no_time",
            Self::NotATime(_) => "not_a_time",
            Self::PacketTooLarge { .. } => "packet_too_large",
        }
    }
}

/// A line of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The file.
    pub file: Arc<PathBuf>,
    /// The line, beginning at 1; of a CSV row over several lines the first.
    pub line: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

/// All lines that were not published, and the first of them by name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct BadLines {
    /// How many.
    pub count: u64,
    /// How many for each reason, by [`BadLine::code`].
    pub reasons: BTreeMap<&'static str, u64>,
    /// The first few.
    pub first: Vec<NamedLine>,
}

/// One line that was not published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NamedLine {
    /// Where it stands.
    pub place: Place,
    /// What is wrong with it.
    pub reason: String,
}

impl BadLines {
    /// Counts one.
    pub(crate) fn add(&mut self, place: &Place, reason: &BadLine) {
        self.count += 1;
        *self.reasons.entry(reason.code()).or_default() += 1;
        if self.first.len() < NAMED_MAX {
            self.first.push(NamedLine { place: place.clone(), reason: reason.to_string() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_counted_and_the_first_are_named() {
        let mut lines = BadLines::default();
        let file = Arc::new(PathBuf::from("a.csv"));
        for line in 1..=7 {
            lines.add(&Place { file: Arc::clone(&file), line }, &BadLine::NotUtf8);
        }
        lines.add(&Place { file, line: 8 }, &BadLine::Cells { found: 2, expected: 3 });
        assert_eq!(lines.count, 8);
        assert_eq!(lines.reasons, BTreeMap::from([("cells", 1), ("not_utf8", 7)]));
        assert_eq!(lines.first.len(), NAMED_MAX);
        assert_eq!(lines.first.last().unwrap().place.to_string(), "a.csv:5");
    }
}
