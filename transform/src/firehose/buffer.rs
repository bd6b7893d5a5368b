//! What was read and is not committed yet.

use super::UnclaimedRule;
use super::decision::decided;
use super::status::InFlight;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use millstream_lake::ledger::{Decided, Mark, Mismatch};
use millstream_model::name::Partition;
use millstream_model::record::Stored;
use millstream_model::time::Micros;
use millstream_readings::{Decoder, Quarantined, Range, quarantine_batch, unrouted};
use std::collections::BTreeMap;

/// Collects messages and what they become. Everything in it can be read again from the log.
#[derive(Debug)]
pub(crate) struct Buffer {
    maker: Maker,
    heads: BTreeMap<Partition, Mark>,
    marks: BTreeMap<Partition, Mark>,
    held: BTreeMap<Partition, InFlight>,
}

#[derive(Debug)]
enum Maker {
    /// A stream's readings.
    Readings(Box<Decoder>),
    /// Messages that no stream claims.
    Unclaimed(Unclaimed),
}

#[derive(Debug)]
struct Unclaimed {
    rule: UnclaimedRule,
    rows: Vec<Quarantined>,
    ranges: BTreeMap<Partition, Range>,
    bytes: usize,
}

/// All of a flush.
#[derive(Debug)]
pub(crate) struct Batch {
    /// Rows of the table in which the decision is written down. May be empty.
    pub(crate) rows: RecordBatch,
    /// What the stream's columns are known to be, where that is kept.
    pub(crate) schema: Option<Learned>,
    /// Rows of the quarantine table, where that is another one.
    pub(crate) quarantined: RecordBatch,
    pub(crate) ranges: Vec<Decided>,
    pub(crate) mismatches: Vec<Mismatch>,
    /// The first record of each partition.
    pub(crate) heads: BTreeMap<Partition, Mark>,
    /// The last record of each partition.
    pub(crate) marks: BTreeMap<Partition, Mark>,
    /// How much of each partition it is.
    pub(crate) held: BTreeMap<Partition, InFlight>,
}

/// What a stream's columns are known to be.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Learned {
    /// As it is kept in the table's properties.
    pub(crate) json: String,
    /// The table that follows from it.
    pub(crate) table: SchemaRef,
}

impl Buffer {
    pub(crate) fn readings(decoder: Decoder) -> Self {
        Self::new(Maker::Readings(Box::new(decoder)))
    }

    pub(crate) fn unclaimed(rule: UnclaimedRule) -> Self {
        Self::new(Maker::Unclaimed(Unclaimed::new(rule)))
    }

    fn new(maker: Maker) -> Self {
        Self { maker, heads: BTreeMap::new(), marks: BTreeMap::new(), held: BTreeMap::new() }
    }

    /// Takes records of one partition, in their order, until it takes so much memory, and says how many it took: at least one. A few small messages can become so many
    /// readings that a batch could not hold all of a read, and what there is no room for must wait, not go to quarantine.
    /// `now` is used only where a record does not say when it was received.
    pub(crate) fn push(
        &mut self,
        partition: Partition,
        records: &[Stored],
        now: Micros,
        most: usize,
    ) -> usize {
        let mut taken = 0;
        for stored in records {
            if taken > 0 && self.bytes() >= most {
                break;
            }
            taken += 1;
            match &mut self.maker {
                Maker::Readings(decoder) => decoder.push(partition, stored, now),
                Maker::Unclaimed(unclaimed) => unclaimed.push(partition, stored, now),
            }
        }
        let records = &records[..taken];
        if let (Some(first), Some(last)) = (records.first(), records.last()) {
            self.heads.entry(partition).or_insert_with(|| Mark::of(first));
            self.marks.insert(partition, Mark::of(last));
            self.held.entry(partition).or_default().add(records);
        }
        taken
    }

    /// How much of each partition is in it.
    pub(crate) fn held(&self) -> &BTreeMap<Partition, InFlight> {
        &self.held
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.marks.is_empty()
    }

    /// About how much memory it holds.
    pub(crate) fn bytes(&self) -> usize {
        match &self.maker {
            Maker::Readings(decoder) => decoder.bytes(),
            Maker::Unclaimed(unclaimed) => unclaimed.bytes,
        }
    }

    /// Everything in it, and the buffer without it; what was learned of the columns stays. It evaluates the stream's transform: not for an async thread.
    pub(crate) fn finish(mut self) -> (Self, Batch) {
        let batch = self.take();
        (self, batch)
    }

    fn take(&mut self) -> Batch {
        let (heads, marks) = (std::mem::take(&mut self.heads), std::mem::take(&mut self.marks));
        let held = std::mem::take(&mut self.held);
        match &mut self.maker {
            Maker::Readings(decoder) => {
                let decoded = decoder.finish();
                let mismatches = decoded.mismatches.into_iter();
                Batch {
                    rows: decoded.readings,
                    schema: Some(Learned { json: decoded.schema.to_json(), table: decoded.table_schema }),
                    quarantined: quarantine_batch(&decoded.quarantined),
                    ranges: decided(&decoded.ranges),
                    mismatches: mismatches
                        .map(|((column, why), count)| Mismatch { column, why: why.to_owned(), count })
                        .collect(),
                    heads,
                    marks,
                    held,
                }
            }
            Maker::Unclaimed(unclaimed) => {
                let rule = unclaimed.rule;
                let unclaimed = std::mem::replace(unclaimed, Unclaimed::new(rule));
                Batch {
                    rows: quarantine_batch(&unclaimed.rows),
                    schema: None,
                    quarantined: quarantine_batch(&[]),
                    ranges: decided(&unclaimed.ranges),
                    mismatches: Vec::new(),
                    heads,
                    marks,
                    held,
                }
            }
        }
    }
}

impl Unclaimed {
    fn new(rule: UnclaimedRule) -> Self {
        Self { rule, rows: Vec::new(), ranges: BTreeMap::new(), bytes: 0 }
    }

    fn push(&mut self, partition: Partition, stored: &Stored, now: Micros) {
        let fresh = Range {
            first: stored.offset,
            last: stored.offset,
            messages: 0,
            readings: 0,
            quarantined: 0,
            dropped: 0,
        };
        let range = self.ranges.entry(partition).or_insert(fresh);
        range.last = stored.offset;
        range.messages += 1;
        match self.rule {
            UnclaimedRule::Quarantine => {
                self.rows.push(unrouted(partition, stored, now));
                self.bytes += stored.record.size();
                range.quarantined += 1;
            }
            UnclaimedRule::Drop => range.dropped += 1,
        }
    }
}
