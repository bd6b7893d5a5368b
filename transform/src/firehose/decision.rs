//! What a commit says of the offsets it decides about. Written once, with the data; read again by whoever owns the partitions next.
//!
//! It stands in the commit's metadata under [`INFO`]. What an audit needs for longer than a commit's metadata lives stands in the tags of its files, too.

use super::fingerprint::fingerprint;
use super::status::{Closed, Totals};
use millstream_lake::NewFile;
use millstream_model::arrival::ArrivalView;
use millstream_model::name::{LogTopic, Offset, Partition};
use millstream_model::record::Stored;
use millstream_model::time::Micros;
use millstream_readings::Range;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The key of a decision in a commit's metadata.
pub(crate) const INFO: &str = "millstream";

/// So many columns are named in a line of the log; the commit has them all.
const TOLD_MAX: usize = 16;

/// Where a partition stands: the last offset with an outcome, and what the record there looked like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mark {
    pub(crate) offset: Offset,
    pub(crate) fingerprint: String,
    /// When the record was received, where the record itself is at hand.
    #[serde(skip)]
    pub(crate) received_at: Option<Micros>,
}

impl Mark {
    pub(crate) fn of(stored: &Stored) -> Self {
        Self {
            offset: stored.offset,
            fingerprint: fingerprint(&stored.record),
            received_at: ArrivalView(&stored.record).received_at(),
        }
    }
}

/// What became of the offsets `first..=last` of one partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Decided {
    pub(crate) partition: Partition,
    pub(crate) first: Offset,
    pub(crate) last: Offset,
    pub(crate) messages: u64,
    pub(crate) readings: u64,
    pub(crate) quarantined: u64,
    pub(crate) dropped: u64,
}

/// Values that did not fit their column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mismatch {
    pub(crate) column: String,
    pub(crate) why: String,
    pub(crate) count: u64,
}

/// One flush's decision.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Decision {
    /// Names this flush and no other: so that a worker knows its own commit from another's over the same offsets.
    pub(crate) flush: String,
    pub(crate) log_topic: String,
    pub(crate) epoch: i64,
    pub(crate) closed: Closed,
    pub(crate) ranges: Vec<Decided>,
    /// Every partition that the worker owned and that has an outcome, whether or not this flush had messages of it.
    pub(crate) marks: BTreeMap<Partition, Mark>,
    /// Files of the quarantine table that belong to this decision and become visible by the commit there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) quarantine: Vec<NewFile>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) mismatches: Vec<Mismatch>,
}

impl Decision {
    /// As a commit's metadata.
    pub(crate) fn to_info(&self) -> Result<Map<String, Value>, serde_json::Error> {
        let mut info = Map::new();
        info.insert(INFO.to_owned(), serde_json::to_value(self)?);
        Ok(info)
    }

    /// From a commit's metadata; `None` where it has no decision.
    pub(crate) fn from_info(info: &Map<String, Value>) -> Result<Option<Self>, serde_json::Error> {
        info.get(INFO).cloned().map(serde_json::from_value).transpose()
    }

    /// As it stands in the quarantine's own commit, which has the files as files.
    pub(crate) fn without_files(&self) -> Self {
        Self { quarantine: Vec::new(), ..self.clone() }
    }

    /// Whether it is about this log topic in this epoch.
    pub(crate) fn is_about(&self, topic: &LogTopic, epoch: i64) -> bool {
        self.log_topic == topic.as_str() && self.epoch == epoch
    }

    /// The counts of all partitions together.
    pub(crate) fn totals(&self) -> Totals {
        let mut totals = Totals { commits: 1, ..Totals::default() };
        for range in &self.ranges {
            totals.messages += range.messages;
            totals.readings += range.readings;
            totals.quarantined += range.quarantined;
            totals.dropped += range.dropped;
        }
        totals
    }

    /// Which columns had values that did not fit them, the worst first, for the log's reader; `None` if all fitted.
    pub(crate) fn mismatches_in_words(&self) -> Option<String> {
        let mut worst: Vec<&Mismatch> = self.mismatches.iter().collect();
        worst.sort_by_key(|mismatch| std::cmp::Reverse(mismatch.count));
        let told = worst.iter().take(TOLD_MAX);
        let mut words: Vec<String> =
            told.map(|Mismatch { column, why, count }| format!("{column} {why} {count}")).collect();
        if worst.len() > TOLD_MAX {
            words.push(format!("{} more columns", worst.len() - TOLD_MAX));
        }
        (!words.is_empty()).then(|| words.join(", "))
    }

    /// What stands in the tags of each of its files. The counts are the flush's, not the file's: whoever adds them up counts each flush once.
    pub(crate) fn tags(&self) -> BTreeMap<String, String> {
        let totals = self.totals();
        let ranges: Vec<String> = self
            .ranges
            .iter()
            .map(|range| format!("{}:{}-{}", range.partition, range.first, range.last))
            .collect();
        let tags = [
            ("flush", self.flush.clone()),
            ("log_topic", self.log_topic.clone()),
            ("closed", self.closed.as_str().to_owned()),
            ("ranges", ranges.join(",")),
            ("messages", totals.messages.to_string()),
            ("readings", totals.readings.to_string()),
            ("quarantined", totals.quarantined.to_string()),
            ("dropped", totals.dropped.to_string()),
        ];
        tags.into_iter().map(|(name, value)| (format!("millstream.{name}"), value)).collect()
    }
}

/// The ranges that were decoded, as they are written down.
pub(crate) fn decided(ranges: &BTreeMap<Partition, Range>) -> Vec<Decided> {
    let all = ranges.iter().map(|(partition, range)| Decided {
        partition: *partition,
        first: range.first,
        last: range.last,
        messages: range.messages,
        readings: range.readings,
        quarantined: range.quarantined,
        dropped: range.dropped,
    });
    all.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(read.tags()["millstream.ranges"], "1:3-9");
        assert_eq!(read.mismatches_in_words().as_deref(), Some("temp type_mismatch 4"));
    }

    #[test]
    fn a_commit_of_somebody_else_has_no_decision_and_a_garbled_one_is_an_error() {
        assert!(Decision::from_info(&Map::new()).unwrap().is_none());
        assert!(Decision::from_info(&Map::from_iter([(INFO.to_owned(), Value::Null)])).is_err());
    }
}
