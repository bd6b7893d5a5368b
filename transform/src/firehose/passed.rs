//! How far event time has come in each partition. It is committed with the readings, for reports that wait until hours are complete.
//!
//! A partition whose messages become no readings, because they are all quarantined or dropped, comes as far as its last message arrived: it has nothing to wait for, and
//! would otherwise hold those reports for ever.

use arrow::array::AsArray;
use arrow::datatypes::{Int32Type, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;
use millstream_lake::ledger::Mark;
use millstream_model::column::reserved;
use millstream_model::name::Partition;
use std::collections::BTreeMap;

/// The greatest event time of the rows, in microseconds since 1970, by the partition that they came from; of a partition without rows, the arrival of its last message,
/// which is marked. A table without event times has none.
pub(crate) fn passed(rows: &RecordBatch, marks: &BTreeMap<Partition, Mark>) -> BTreeMap<Partition, i64> {
    let mut passed = BTreeMap::new();
    let times = rows
        .column_by_name(reserved::TS)
        .and_then(|column| column.as_primitive_opt::<TimestampMicrosecondType>());
    let partitions =
        rows.column_by_name(reserved::PARTITION).and_then(|column| column.as_primitive_opt::<Int32Type>());
    let (Some(times), Some(partitions)) = (times, partitions) else { return passed };
    for (time, partition) in times.iter().zip(partitions) {
        let (Some(time), Some(partition)) = (time, partition) else { continue };
        passed
            .entry(Partition(partition))
            .and_modify(|known: &mut i64| *known = time.max(*known))
            .or_insert(time);
    }
    for (partition, mark) in marks {
        if let Some(received_at) = mark.received_at {
            passed.entry(*partition).or_insert(received_at.0);
        }
    }
    passed
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Int32Array, TimestampMicrosecondArray};
    use millstream_model::name::Offset;
    use millstream_model::time::Micros;
    use std::sync::Arc;

    fn mark(received_at: Option<i64>) -> Mark {
        Mark { offset: Offset(1), fingerprint: String::new(), received_at: received_at.map(Micros) }
    }

    #[test]
    fn the_greatest_event_time_of_each_partition_counts_or_else_the_last_arrival() {
        let times: ArrayRef =
            Arc::new(TimestampMicrosecondArray::from(vec![5, 9, -3, 7]).with_timezone("UTC"));
        let partitions: ArrayRef = Arc::new(Int32Array::from(vec![0, 1, 2, 0]));
        let rows =
            RecordBatch::try_from_iter([("ts", times), ("_partition", Arc::clone(&partitions))]).unwrap();
        let marks = [(0, Some(100)), (3, Some(200)), (4, None)];
        let marks = marks.map(|(partition, received_at)| (Partition(partition), mark(received_at))).into();
        let expected =
            [(0, 7), (1, 9), (2, -3), (3, 200)].map(|(partition, time)| (Partition(partition), time));
        assert_eq!(passed(&rows, &marks), BTreeMap::from(expected));
        let timeless = RecordBatch::try_from_iter([("_partition", partitions)]).unwrap();
        assert_eq!(passed(&timeless, &marks), BTreeMap::new());
    }
}
