//! How far event time has come in each partition. It is committed with the readings, for reports that wait until hours are complete.

use arrow::array::AsArray;
use arrow::datatypes::{Int32Type, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;
use millstream_model::column::reserved;
use millstream_model::name::Partition;
use std::collections::BTreeMap;

/// The greatest event time of the rows, in microseconds since 1970, by the partition that they came from. Rows of a table without event times have none.
pub(crate) fn passed(rows: &RecordBatch) -> BTreeMap<Partition, i64> {
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
    passed
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Int32Array, TimestampMicrosecondArray};
    use std::sync::Arc;

    #[test]
    fn the_greatest_event_time_of_each_partition_counts() {
        let times: ArrayRef =
            Arc::new(TimestampMicrosecondArray::from(vec![5, 9, -3, 7]).with_timezone("UTC"));
        let partitions: ArrayRef = Arc::new(Int32Array::from(vec![0, 1, 2, 0]));
        let rows =
            RecordBatch::try_from_iter([("ts", times), ("_partition", Arc::clone(&partitions))]).unwrap();
        let expected = [(0, 7), (1, 9), (2, -3)].map(|(partition, time)| (Partition(partition), time));
        assert_eq!(passed(&rows), BTreeMap::from(expected));
        assert_eq!(
            passed(&RecordBatch::try_from_iter([("_partition", partitions)]).unwrap()),
            BTreeMap::new()
        );
    }
}
