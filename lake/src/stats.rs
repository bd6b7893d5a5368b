//! What a commit says about the values in a file, so that files can be left unread.

use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use chrono::{DateTime, NaiveDate};
use datafusion::common::ScalarValue;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::{Arc, OnceLock};

/// Between what the values of a file lie. Parsed when it is first asked for, and then shared by every clone.
///
/// The values are bounds: they need not occur in the file (long texts are cut, foreign writers round instants), but nothing lies outside of them.
/// A column without a bound may hold anything.
#[derive(Clone)]
pub struct FileStats(Arc<Inner>);

struct Inner {
    text: String,
    rows: Option<u64>,
    /// The table's schema when the file was committed: types of columns never change.
    schema: SchemaRef,
    columns: OnceLock<BTreeMap<String, Column>>,
}

#[derive(Default)]
struct Column {
    min: Option<ScalarValue>,
    max: Option<ScalarValue>,
    nulls: Option<u64>,
    /// Both bounds are instants, said to the microsecond.
    is_to_the_microsecond: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rows {
    num_records: Option<u64>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Text {
    min_values: Map<String, Value>,
    max_values: Map<String, Value>,
    null_count: Map<String, Value>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Bound {
    Min,
    Max,
}

impl FileStats {
    pub(crate) fn new(text: String, schema: SchemaRef) -> Self {
        let rows = serde_json::from_str::<Rows>(&text).ok().and_then(|rows| rows.num_records);
        Self(Arc::new(Inner { text, rows, schema, columns: OnceLock::new() }))
    }

    /// How many rows the file has.
    #[must_use]
    pub fn rows(&self) -> Option<u64> {
        self.0.rows
    }

    /// No value of the column is less than this.
    #[must_use]
    pub fn min(&self, column: &str) -> Option<&ScalarValue> {
        self.columns().get(column)?.min.as_ref()
    }

    /// No value of the column is greater than this.
    #[must_use]
    pub fn max(&self, column: &str) -> Option<&ScalarValue> {
        self.columns().get(column)?.max.as_ref()
    }

    /// Between which instants the values of a column lie, in microseconds since 1970; `None` where that is not known of both ends.
    #[must_use]
    pub fn instants(&self, column: &str) -> Option<RangeInclusive<i64>> {
        match (self.min(column)?, self.max(column)?) {
            (
                ScalarValue::TimestampMicrosecond(Some(min), _),
                ScalarValue::TimestampMicrosecond(Some(max), _),
            ) => Some(*min..=*max),
            _ => None,
        }
    }

    /// Whether both bounds of a column are instants that are said to the microsecond: where the writer is one that rounds none, they occur in the file.
    #[must_use]
    pub fn is_to_the_microsecond(&self, column: &str) -> bool {
        self.columns().get(column).is_some_and(|column| column.is_to_the_microsecond)
    }

    /// How many rows are null in the column.
    #[must_use]
    pub fn nulls(&self, column: &str) -> Option<u64> {
        self.columns().get(column)?.nulls
    }

    /// The statistics as they stand in the commit: JSON.
    #[must_use]
    pub fn as_json(&self) -> &str {
        &self.0.text
    }

    fn columns(&self) -> &BTreeMap<String, Column> {
        self.0.columns.get_or_init(|| {
            // Statistics that cannot be read say nothing, which is always true.
            let text: Text = serde_json::from_str(&self.0.text).unwrap_or_default();
            let column = |name: &String, kind: &DataType| {
                let (least, greatest) = (text.min_values.get(name), text.max_values.get(name));
                Column {
                    min: least.and_then(|value| bound(value, kind, Bound::Min)),
                    max: greatest.and_then(|value| bound(value, kind, Bound::Max)),
                    nulls: text.null_count.get(name).and_then(Value::as_u64),
                    is_to_the_microsecond: matches!(kind, DataType::Timestamp(TimeUnit::Microsecond, _))
                        && [least, greatest]
                            .iter()
                            .all(|value| value.and_then(Value::as_str).is_some_and(|text| digits(text) == 6)),
                }
            };
            let fields = self.0.schema.fields();
            fields
                .iter()
                .map(|field| (field.name().clone(), column(field.name(), field.data_type())))
                .collect()
        })
    }
}

impl PartialEq for FileStats {
    fn eq(&self, other: &Self) -> bool {
        self.0.text == other.0.text
    }
}

impl fmt::Debug for FileStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text)
    }
}

fn bound(value: &Value, kind: &DataType, bound: Bound) -> Option<ScalarValue> {
    Some(match kind {
        DataType::Boolean => ScalarValue::Boolean(Some(value.as_bool()?)),
        DataType::Int8 => ScalarValue::Int8(Some(value.as_i64()?.try_into().ok()?)),
        DataType::Int16 => ScalarValue::Int16(Some(value.as_i64()?.try_into().ok()?)),
        DataType::Int32 => ScalarValue::Int32(Some(value.as_i64()?.try_into().ok()?)),
        DataType::Int64 => ScalarValue::Int64(Some(value.as_i64()?)),
        DataType::Float64 => ScalarValue::Float64(Some(widened(value, bound)?)),
        DataType::Float32 => ScalarValue::Float32(Some(match bound {
            Bound::Min => (widened(value, bound)? as f32).next_down(),
            Bound::Max => (widened(value, bound)? as f32).next_up(),
        })),
        DataType::Utf8 => ScalarValue::Utf8(Some(value.as_str()?.to_owned())),
        DataType::Date32 => {
            let days = NaiveDate::parse_from_str(value.as_str()?, "%Y-%m-%d").ok()? - NaiveDate::default();
            ScalarValue::Date32(Some(days.num_days().try_into().ok()?))
        }
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            ScalarValue::TimestampMicrosecond(Some(micros(value.as_str()?, bound)?), zone.clone())
        }
        _ => return None,
    })
}

/// A number that went through decimal text may have lost its last bit: the bound gives way by as much.
fn widened(value: &Value, bound: Bound) -> Option<f64> {
    let number = value.as_f64().filter(|number| number.is_finite())?;
    if value.is_i64() {
        return Some(number);
    }
    Some(match bound {
        Bound::Min => number.next_down(),
        Bound::Max => number.next_up(),
    })
}

/// Writers that keep only milliseconds cut the rest off, also of the greatest value.
fn micros(text: &str, bound: Bound) -> Option<i64> {
    let time = DateTime::parse_from_rfc3339(text).ok()?.timestamp_micros();
    Some(if bound == Bound::Max && digits(text) <= 3 { time.saturating_add(999) } else { time })
}

/// How many digits of a second are said.
fn digits(text: &str) -> usize {
    text.split_once('.').map_or(0, |(_, rest)| rest.bytes().take_while(u8::is_ascii_digit).count())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::{Field, Schema};

    fn schema() -> SchemaRef {
        let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        Arc::new(Schema::new(vec![
            Field::new("ts", utc, true),
            Field::new("device_id", DataType::Utf8, true),
            Field::new("n", DataType::Int64, true),
            Field::new("temp", DataType::Float64, true),
            Field::new("date", DataType::Date32, true),
        ]))
    }

    #[test]
    fn bounds_have_the_types_of_their_columns() {
        let text = r#"{"numRecords":3,"minValues":{"ts":"2026-11-21T06:00:00.123456Z","device_id":"a","n":-4,"temp":-1,"date":"1970-01-03"},
            "maxValues":{"ts":"2026-11-21T06:00:00.5Z","device_id":"b","n":9007199254740993,"temp":2.5},"nullCount":{"temp":1}}"#;
        let stats = FileStats::new(text.to_owned(), schema());
        let instant = |micros| ScalarValue::TimestampMicrosecond(Some(micros), Some("UTC".into()));
        assert_eq!(stats.rows(), Some(3));
        assert_eq!(stats.min("ts"), Some(&instant(1_795_240_800_123_456)));
        assert_eq!(stats.max("ts"), Some(&instant(1_795_240_800_500_999)));
        assert_eq!(stats.instants("ts"), Some(1_795_240_800_123_456..=1_795_240_800_500_999));
        assert_eq!((stats.instants("n"), stats.instants("date")), (None, None));
        assert_eq!(stats.min("device_id"), Some(&ScalarValue::from("a")));
        assert_eq!(stats.max("n"), Some(&ScalarValue::Int64(Some(9_007_199_254_740_993))));
        assert_eq!(stats.min("temp"), Some(&ScalarValue::Float64(Some(-1.0))));
        assert_eq!(stats.max("temp"), Some(&ScalarValue::Float64(Some(2.5_f64.next_up()))));
        assert_eq!(stats.min("date"), Some(&ScalarValue::Date32(Some(2))));
        assert_eq!((stats.max("date"), stats.nulls("temp"), stats.nulls("n")), (None, Some(1), None));
        assert!(!stats.is_to_the_microsecond("ts"), "the greatest is rounded");
        let text = r#"{"minValues":{"ts":"2026-11-21T06:00:00.123456Z"},"maxValues":{"ts":"2026-11-21T06:00:00.500000Z"}}"#;
        let stats = FileStats::new(text.to_owned(), schema());
        assert!(stats.is_to_the_microsecond("ts") && !stats.is_to_the_microsecond("n"));
    }

    #[test]
    fn statistics_that_make_no_sense_bound_nothing() {
        for text in ["", "[]", r#"{"minValues":{"n":"x","ts":3,"date":"soon","temp":"NaN"}}"#] {
            let stats = FileStats::new(text.to_owned(), schema());
            for column in ["n", "ts", "date", "temp", "unknown"] {
                assert_eq!((stats.min(column), stats.nulls(column)), (None, None), "{text}");
            }
        }
    }
}
