//! What does not work at the moment, so that a person is told once when it stops working and once when it works again.
//!
//! Decides only what is worth saying; the writer says it.

use millstream_model::name::{LogTopic, Partition};
use std::collections::BTreeSet;
use std::fmt;

/// Something that can fail by itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    /// Room on the disk.
    Room,
    /// Making a topic.
    Topic(LogTopic),
    /// Writing to a partition.
    Partition(LogTopic, Partition),
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Room => f.write_str("room on the disk"),
            Self::Topic(topic) => write!(f, "making topic {topic}"),
            Self::Partition(topic, partition) => write!(f, "partition {partition} of {topic}"),
        }
    }
}

/// A change that is to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Fails,
    WorksAgain,
}

/// The parts that fail: at most one for each topic and each partition, and the room.
#[derive(Debug, Default)]
pub(crate) struct Health {
    failing: BTreeSet<Part>,
}

impl Health {
    /// Something was tried and went well or not: whether that is news.
    pub(crate) fn note(&mut self, part: Part, well: bool) -> Option<Change> {
        if well {
            self.failing.remove(&part).then_some(Change::WorksAgain)
        } else {
            self.failing.insert(part).then_some(Change::Fails)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_changes_are_news_and_every_part_has_its_own() {
        let mut health = Health::default();
        let mut check = |part: Part, well, expected| assert_eq!(health.note(part, well), expected);
        check(Part::Room, true, None);
        check(Part::Room, false, Some(Change::Fails));
        check(Part::Room, false, None);
        let other = Part::Partition(LogTopic::unrouted(), Partition(0));
        check(other.clone(), true, None);
        check(other.clone(), false, Some(Change::Fails));
        check(Part::Room, true, Some(Change::WorksAgain));
        check(Part::Room, true, None);
        check(other, true, Some(Change::WorksAgain));
    }
}
