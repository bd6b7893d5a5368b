//! What a commit says of the offsets it decides about. Written once, with the data; read again by whoever owns the partitions next, and by whoever asks for
//! what waits.
//!
//! It stands in the commit's metadata under [`INFO`]. What an audit needs for longer than a commit's metadata lives stands in the tags of its files, too.

use super::{Closed, fingerprint};
use crate::NewFile;
use millstream_model::name::{LogTopic, Offset, Partition};
use millstream_model::record::Stored;
use millstream_model::time::Micros;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The key of a decision in a commit's metadata.
pub const INFO: &str = "millstream";

/// Where a partition stands: the last offset with an outcome, and what the record there looked like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The offset.
    pub offset: Offset,
    /// A short digest of the record there, by which the log is recognised.
    pub fingerprint: String,
    /// When the record was received, where the record itself is at hand.
    #[serde(skip)]
    pub received_at: Option<Micros>,
}

impl Mark {
    /// Where a partition stands whose last record with an outcome is this one.
    #[must_use]
    pub fn of(stored: &Stored) -> Self {
        Self {
            offset: stored.offset,
            fingerprint: fingerprint(&stored.record),
            received_at: stored.received_at(),
        }
    }
}

/// What became of the offsets `first..=last` of one partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decided {
    /// The partition.
    pub partition: Partition,
    /// The first offset.
    pub first: Offset,
    /// The last offset.
    pub last: Offset,
    /// Messages that were there; fewer than offsets where the log has offsets without one.
    pub messages: u64,
    /// Readings that they became.
    pub readings: u64,
    /// Messages that went to quarantine.
    pub quarantined: u64,
    /// Messages that gave no reading on purpose.
    pub dropped: u64,
}

/// Values that did not fit their column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mismatch {
    /// The column.
    pub column: String,
    /// The reason's code.
    pub why: String,
    /// How many.
    pub count: u64,
}

/// One flush's decision.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Decision {
    /// Names this flush and no other: so that a worker knows its own commit from another's over the same offsets.
    pub flush: String,
    /// The log topic whose offsets it is about.
    pub log_topic: String,
    /// The epoch of the table in which it was made.
    pub epoch: i64,
    /// Why the files closed.
    pub closed: Closed,
    /// What became of which offsets.
    pub ranges: Vec<Decided>,
    /// Every partition that the worker owned and that has an outcome, whether or not this flush had messages of it.
    pub marks: BTreeMap<Partition, Mark>,
    /// Files of the quarantine table that belong to this decision and become visible by the commit there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub quarantine: Vec<NewFile>,
    /// Values that did not fit their column, by column and reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mismatches: Vec<Mismatch>,
}

impl Decision {
    /// As a commit's metadata.
    ///
    /// # Errors
    /// If it cannot be written as JSON, which does not happen with what a decision holds.
    pub fn to_info(&self) -> Result<Map<String, Value>, serde_json::Error> {
        let mut info = Map::new();
        info.insert(INFO.to_owned(), serde_json::to_value(self)?);
        Ok(info)
    }

    /// From a commit's metadata; `None` where it says nothing of offsets: somebody else's commit, or one of ours that decided nothing.
    ///
    /// # Errors
    /// If what stands there was meant as a decision and is none.
    pub fn from_info(info: &Map<String, Value>) -> Result<Option<Self>, serde_json::Error> {
        match info.get(INFO) {
            // What other commits of ours say of themselves names no flush.
            Some(Value::Object(said)) if !said.contains_key("flush") => Ok(None),
            said => said.cloned().map(serde_json::from_value).transpose(),
        }
    }

    /// As it stands in the quarantine's own commit, which has the files as files.
    #[must_use]
    pub fn without_files(&self) -> Self {
        Self { quarantine: Vec::new(), ..self.clone() }
    }

    /// Whether it is about this log topic in this epoch.
    #[must_use]
    pub fn is_about(&self, topic: &LogTopic, epoch: i64) -> bool {
        self.log_topic == topic.as_str() && self.epoch == epoch
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_decision_reads_back_from_a_commit() {
        let range = Decided {
            partition: Partition(1),
            first: Offset(3),
            last: Offset(9),
            messages: 7,
            readings: 5,
            quarantined: 1,
            dropped: 1,
        };
        let decision = Decision {
            flush: "f".to_owned(),
            log_topic: "millstream.t".to_owned(),
            epoch: 2,
            closed: Closed::Idle,
            ranges: vec![range],
            marks: BTreeMap::from([(
                Partition(1),
                Mark { offset: Offset(9), fingerprint: "0a".to_owned(), received_at: None },
            )]),
            quarantine: Vec::new(),
            mismatches: vec![Mismatch {
                column: "temp".to_owned(),
                why: "type_mismatch".to_owned(),
                count: 4,
            }],
        };
        let text = serde_json::to_string(&decision.to_info().unwrap()).unwrap();
        let read = Decision::from_info(&serde_json::from_str(&text).unwrap()).unwrap().unwrap();
        assert_eq!(format!("{read:?}"), format!("{decision:?}"));
        assert!(
            read.is_about(&"millstream.t".parse().unwrap(), 2)
                && !read.is_about(&"millstream.t".parse().unwrap(), 1)
        );
    }

    #[test]
    fn a_commit_of_somebody_else_has_no_decision_and_a_garbled_one_is_an_error() {
        let check = |said: Value| Decision::from_info(&Map::from_iter([(INFO.to_owned(), said)]));
        assert!(Decision::from_info(&Map::new()).unwrap().is_none());
        assert!(check(json!({"retired_before": "2025-01-01"})).unwrap().is_none());
        assert!(check(Value::Null).is_err());
        assert!(check(json!({"flush": "f"})).is_err());
    }
}
