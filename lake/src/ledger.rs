//! The ledger: what a table's commits say of the offsets of a log topic.
//!
//! For every partition a transaction of the table holds the last offset that has an outcome; the commit that moved it carries the [`Decision`]. `transform`
//! writes both and goes on from them; `query` reads them to know where the tail of the log begins. Nothing here reads a log or writes a table.

mod closed;
mod decision;
mod fingerprint;

pub use closed::Closed;
pub use decision::{Decided, Decision, INFO, Mark, Mismatch};
pub use fingerprint::fingerprint;

use crate::Snapshot;
use millstream_model::name::{LogTopic, Offset, Partition, TopicPartition};

/// Table property: what the stream's columns are known to be.
pub const INPUT_SCHEMA: &str = "millstream.input_schema";

/// Table property: a number in the names of the table's transactions. A table that begins anew, or goes on with another log, has another one than before, so
/// that what is known of the former offsets does not count. Absent is 0.
pub const EPOCH: &str = "millstream.epoch";

/// The transaction that holds the last offset of a partition with an outcome in a table.
#[must_use]
pub fn app(table: &str, topic: &LogTopic, epoch: i64, partition: Partition) -> String {
    format!("millstream/{table}/{topic}/{epoch}/{partition}")
}

/// The transaction that holds the greatest event time, in microseconds since 1970, of the readings of a partition that are committed; or when the last message of a
/// commit arrived that made no reading of the partition, if that is later.
#[must_use]
pub fn passed_app(table: &str, topic: &LogTopic, epoch: i64, partition: Partition) -> String {
    format!("{}/time", app(table, topic, epoch, partition))
}

/// The transaction of a log topic's partition in a table, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct App<'s> {
    /// The epoch of the table in which it was moved.
    pub epoch: i64,
    /// The partition of the log topic.
    pub partition: Partition,
    /// The whole name.
    pub name: &'s str,
}

/// The transactions of a log topic's partitions in a table, of all epochs: those that [`app`] names.
pub fn apps<'s>(snapshot: &'s Snapshot, topic: &LogTopic) -> impl Iterator<Item = App<'s>> {
    let prefix = format!("millstream/{}/{topic}/", snapshot.table());
    snapshot.txns().filter_map(move |(name, _)| parse(&prefix, name))
}

fn parse<'s>(prefix: &str, name: &'s str) -> Option<App<'s>> {
    let (epoch, partition) = name.strip_prefix(prefix)?.split_once('/')?;
    Some(App { epoch: epoch.parse().ok()?, partition: Partition(partition.parse().ok()?), name })
}

/// The epoch of a table; `None` where the property is there and is no number that can be one.
#[must_use]
pub fn epoch(snapshot: &Snapshot) -> Option<i64> {
    snapshot.property(EPOCH).map_or(Some(0), |text| text.parse().ok()).filter(|epoch| *epoch >= 0)
}

/// The last offset of a partition that has an outcome in this version of its stream's table; `None` if none has. What comes after it waits in the log.
#[must_use]
pub fn committed(snapshot: &Snapshot, partition: &TopicPartition) -> Option<Offset> {
    let app = app(snapshot.table(), &partition.topic, epoch(snapshot)?, partition.partition);
    snapshot.txn(&app).map(Offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_transactions_of_offsets_are_found_by_name() {
        let topic: LogTopic = "millstream.telemetry".parse().unwrap();
        let check = |name: &str, expected: Option<(i64, i32)>| {
            let found = parse("millstream/telemetry/millstream.telemetry/", name);
            assert_eq!(found.map(|app| (app.epoch, app.partition.0)), expected, "{name}");
        };
        check(&app("telemetry", &topic, 2, Partition(7)), Some((2, 7)));
        check(&passed_app("telemetry", &topic, 2, Partition(7)), None);
        check("millstream/telemetry/maint", None);
        check("millstream/telemetry/schema", None);
        check("millstream/other/millstream.telemetry/0/0", None);
        check("millstream/telemetry/millstream.telemetry/0", None);
    }
}
