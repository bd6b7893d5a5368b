//! Splitting rows by their partition, and sorting them inside of it.

use arrow::array::{Array, ArrayRef, AsArray, Date32Array, RecordBatch, UInt32Array};
use arrow::compute::{SortColumn, lexsort_to_indices, partition, take_record_batch};
use arrow::datatypes::{DataType, Date32Type, Int64Type, TimeUnit, TimestampMicrosecondType};
use arrow::error::ArrowError;
use chrono::NaiveDate;
use std::collections::{BTreeMap, HashMap};

/// What Hive, and after it everyone, calls the folder of null.
const NULL_FOLDER: &str = "__HIVE_DEFAULT_PARTITION__";

/// The rows of one partition, sorted, without the columns that say which partition it is.
pub(super) struct Slice {
    pub(super) partition_values: BTreeMap<String, Option<String>>,
    pub(super) rows: RecordBatch,
}

/// `date=2026-11-21/`, or nothing. Values are dates, so that no text from outside gets here.
pub(super) fn folder(partition_values: &BTreeMap<String, Option<String>>) -> String {
    let values = partition_values.iter();
    values.map(|(column, value)| format!("{column}={}/", value.as_deref().unwrap_or(NULL_FOLDER))).collect()
}

/// One slice for each partition, in their order.
pub(super) fn arrange(
    batch: &RecordBatch,
    partition_by: &[String],
    sort_by: &[String],
) -> Result<Vec<Slice>, ArrowError> {
    let keys: Vec<ArrayRef> = partition_by
        .iter()
        .chain(sort_by.iter().filter(|column| !partition_by.contains(column)))
        .filter_map(|column| batch.column_by_name(column).cloned())
        .collect();
    let sorted = match keys.is_empty() {
        true => batch.clone(),
        false => take_record_batch(batch, &order(keys)?)?,
    };
    let split: Vec<ArrayRef> =
        partition_by.iter().filter_map(|column| sorted.column_by_name(column).cloned()).collect();
    let ranges = match split.is_empty() {
        true => std::iter::once(0..sorted.num_rows()).collect(),
        false => partition(&split)?.ranges(),
    };
    let kept: Vec<usize> = (0..sorted.num_columns())
        .filter(|&column| !partition_by.contains(sorted.schema_ref().field(column).name()))
        .collect();
    let data = sorted.project(&kept)?;
    ranges
        .into_iter()
        .map(|range| {
            let values = partition_by
                .iter()
                .zip(&split)
                .map(|(column, dates)| date(dates, range.start).map(|value| (column.clone(), value)));
            let partition_values = values.collect::<Result<_, _>>()?;
            Ok(Slice { partition_values, rows: data.slice(range.start, range.len()) })
        })
        .collect()
}

fn date(column: &ArrayRef, row: usize) -> Result<Option<String>, ArrowError> {
    let dates: &Date32Array = column.as_primitive_opt::<Date32Type>().ok_or_else(|| {
        ArrowError::InvalidArgumentError(format!(
            "a partition column is {} and not a date",
            column.data_type()
        ))
    })?;
    if dates.is_null(row) {
        return Ok(None);
    }
    let day: Option<NaiveDate> = dates.value_as_date(row);
    let day = day
        .ok_or_else(|| ArrowError::InvalidArgumentError(format!("no day has number {}", dates.value(row))))?;
    Ok(Some(day.format("%Y-%m-%d").to_string()))
}

/// The order of the rows by the keys, nulls first.
fn order(keys: Vec<ArrayRef>) -> Result<UInt32Array, ArrowError> {
    if let Some(order) = order_of_readings(&keys) {
        return Ok(order);
    }
    let columns: Vec<SortColumn> =
        keys.into_iter().map(|values| SortColumn { values, options: None }).collect();
    lexsort_to_indices(&columns, None)
}

/// The shape that nearly every batch has: date, device, time, none of them null. Devices are numbered in their order first, so that what is sorted are
/// integers: a general sort is the slowest step of writing.
fn order_of_readings(keys: &[ArrayRef]) -> Option<UInt32Array> {
    let [days, devices, times] = keys else { return None };
    if keys.iter().any(|key| key.null_count() > 0) {
        return None;
    }
    let days = days.as_primitive_opt::<Date32Type>()?.values();
    let devices = devices.as_string_opt::<i32>()?;
    let times = match times.data_type() {
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            times.as_primitive_opt::<TimestampMicrosecondType>()?.values()
        }
        DataType::Int64 => times.as_primitive_opt::<Int64Type>()?.values(),
        _ => return None,
    };
    let mut ranks: HashMap<&str, u32> = HashMap::new();
    for device in devices.iter().flatten() {
        ranks.entry(device).or_insert(0);
    }
    let mut names: Vec<&str> = ranks.keys().copied().collect();
    names.sort_unstable();
    for (rank, name) in (0..).zip(&names) {
        ranks.insert(name, rank);
    }
    let mut rows = Vec::with_capacity(times.len());
    for (row, device) in (0..).zip(devices.iter().flatten()) {
        let at = row as usize;
        rows.push((days[at], ranks[device], times[at], row));
    }
    rows.sort_unstable();
    Some(rows.into_iter().map(|(_, _, _, row): (_, _, _, u32)| row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{StringArray, TimestampMicrosecondArray};
    use proptest::prelude::*;
    use std::sync::Arc;

    proptest! {
        /// The shortcut gives the order that the general sort gives.
        #[test]
        fn readings_are_sorted_as_anything_is(rows in prop::collection::vec((-3_i32..3, 0_u8..6, -5_i64..5), 0..80)) {
            let days: ArrayRef = Arc::new(rows.iter().map(|row| Some(row.0)).collect::<Date32Array>());
            let devices: ArrayRef = Arc::new(rows.iter().map(|row| Some(format!("d{}", row.1))).collect::<StringArray>());
            let times: ArrayRef = Arc::new(rows.iter().map(|row| Some(row.2)).collect::<TimestampMicrosecondArray>());
            let keys = vec![days, devices, times];
            let columns: Vec<_> = keys.iter().map(|values| SortColumn { values: values.clone(), options: None }).collect();
            let general = lexsort_to_indices(&columns, None).unwrap();
            let short = order_of_readings(&keys).unwrap();
            for key in &keys {
                let by = |order| arrow::compute::take(key, order, None).unwrap();
                prop_assert_eq!(&by(&general), &by(&short));
            }
        }
    }
}
