//! What a file's commit says about its values, in Delta's form.

use arrow::array::{Array, AsArray, PrimitiveArray, RecordBatch};
use arrow::compute;
use arrow::datatypes::{
    ArrowNumericType, DataType, Date32Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, TimeUnit, TimestampMicrosecondType,
};
use chrono::{DateTime, Datelike, NaiveDate};
use serde_json::{Map, Number, Value, json};
use std::cmp::Ordering;

/// How many columns are measured, from the first on: Delta's own default. A commit would otherwise grow with every column that was ever learned.
const COLUMNS_MAX: usize = 32;

/// How many characters of a text are kept.
const TEXT_MAX: usize = 32;

/// Delta's statistics of these rows.
pub(super) fn measure(rows: &RecordBatch) -> Value {
    let mut measured = Measured::default();
    measured.add(rows);
    measured.to_stats()
}

/// The statistics of rows that come batch by batch, all of the same columns.
#[derive(Debug, Default)]
pub(super) struct Measured {
    rows: u64,
    /// In the order of the columns.
    columns: Vec<(String, Column)>,
}

#[derive(Debug, Default)]
struct Column {
    nulls: u64,
    min: Bound,
    max: Bound,
}

/// The bound of a column so far.
#[derive(Debug, Default)]
enum Bound {
    /// It had no value yet.
    #[default]
    Unset,
    Known(Value),
    /// It had a value that Delta cannot say.
    Unknown,
}

impl Measured {
    /// How many rows there were.
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// Takes more rows into account.
    pub(super) fn add(&mut self, rows: &RecordBatch) {
        let columns = rows.schema_ref().fields().iter().zip(rows.columns()).take(COLUMNS_MAX);
        for (place, (field, values)) in columns.enumerate() {
            if self.columns.len() == place {
                self.columns.push((field.name().clone(), Column::default()));
            }
            self.columns[place].1.add(values.as_ref());
        }
        self.rows += rows.num_rows() as u64;
    }

    /// Delta's statistics of all of them.
    pub(super) fn to_stats(&self) -> Value {
        let (mut min_values, mut max_values, mut null_count) = (Map::new(), Map::new(), Map::new());
        for (name, column) in &self.columns {
            null_count.insert(name.clone(), column.nulls.into());
            if let Bound::Known(min) = &column.min {
                min_values.insert(name.clone(), min.clone());
            }
            if let Bound::Known(max) = &column.max {
                max_values.insert(name.clone(), max.clone());
            }
        }
        json!({ "numRecords": self.rows, "minValues": min_values, "maxValues": max_values, "nullCount": null_count })
    }
}

impl Column {
    fn add(&mut self, values: &dyn Array) {
        let nulls = values.null_count();
        self.nulls += nulls as u64;
        if nulls < values.len() {
            let (min, max) = bounds(values);
            self.min.add(min, Ordering::is_lt);
            self.max.add(max, Ordering::is_gt);
        }
    }
}

impl Bound {
    /// Takes the bound of further values into account; `wins` says how it must compare to what was before to take its place.
    fn add(&mut self, other: Option<Value>, wins: impl Fn(Ordering) -> bool) {
        let Some(other) = other else {
            *self = Self::Unknown;
            return;
        };
        match self {
            Self::Unset => *self = Self::Known(other),
            Self::Known(known) if wins(compare(&other, known)) => *known = other,
            Self::Known(_) | Self::Unknown => {}
        }
    }
}

/// Bounds of one column have one form: integers, other numbers, or texts that are ordered as what they stand for.
fn compare(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::String(a), Value::String(b)) => a.cmp(b),
        _ => match (a.as_i64(), b.as_i64()) {
            (Some(a), Some(b)) => a.cmp(&b),
            _ => a.as_f64().unwrap_or(f64::NAN).total_cmp(&b.as_f64().unwrap_or(f64::NAN)),
        },
    }
}

/// The least and the greatest value, as Delta writes them; none where there is none, or Delta cannot say it.
fn bounds(column: &dyn Array) -> (Option<Value>, Option<Value>) {
    match column.data_type() {
        DataType::Int8 => of_numbers(column.as_primitive::<Int8Type>(), |value| Some(value.into())),
        DataType::Int16 => of_numbers(column.as_primitive::<Int16Type>(), |value| Some(value.into())),
        DataType::Int32 => of_numbers(column.as_primitive::<Int32Type>(), |value| Some(value.into())),
        DataType::Int64 => of_numbers(column.as_primitive::<Int64Type>(), |value| Some(value.into())),
        DataType::Float32 => of_floats(column.as_primitive::<Float32Type>(), f64::from),
        DataType::Float64 => of_floats(column.as_primitive::<Float64Type>(), |value| value),
        DataType::Date32 => of_numbers(column.as_primitive::<Date32Type>(), day),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            of_numbers(column.as_primitive::<TimestampMicrosecondType>(), instant)
        }
        DataType::Utf8 => {
            let texts = column.as_string::<i32>();
            let min = compute::min_string(texts).map(|text| prefix(text).into());
            (min, compute::max_string(texts).and_then(upper_bound).map(Value::String))
        }
        _ => (None, None),
    }
}

fn of_numbers<T: ArrowNumericType>(
    column: &PrimitiveArray<T>,
    say: impl Fn(T::Native) -> Option<Value>,
) -> (Option<Value>, Option<Value>) {
    (compute::min(column).and_then(&say), compute::max(column).and_then(&say))
}

/// A NaN is neither greater nor less than anything: where there is one, there are no bounds. Infinity is a number that JSON cannot say.
fn of_floats<T: ArrowNumericType>(
    column: &PrimitiveArray<T>,
    wide: impl Fn(T::Native) -> f64,
) -> (Option<Value>, Option<Value>) {
    if column.iter().flatten().any(|value| wide(value).is_nan()) {
        return (None, None);
    }
    of_numbers(column, |value| Number::from_f64(wide(value)).map(Value::Number))
}

/// Years of four digits are what every reader reads.
fn day(days: i32) -> Option<Value> {
    let day = NaiveDate::from_epoch_days(days)?;
    (0..=9999).contains(&day.year()).then(|| day.format("%Y-%m-%d").to_string().into())
}

fn instant(micros: i64) -> Option<Value> {
    let time = DateTime::from_timestamp_micros(micros)?;
    (0..=9999).contains(&time.year()).then(|| time.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string().into())
}

/// A prefix is never greater than the whole.
fn prefix(text: &str) -> &str {
    text.char_indices().nth(TEXT_MAX).map_or(text, |(end, _)| &text[..end])
}

/// The least short text that is not less than this one: a cut prefix with its last character raised; none if all are the highest there is.
fn upper_bound(text: &str) -> Option<String> {
    let cut = prefix(text);
    if cut.len() == text.len() {
        return Some(cut.to_owned());
    }
    let mut chars: Vec<char> = cut.chars().collect();
    while let Some(last) = chars.pop() {
        // Between two characters lie the surrogates, which are none.
        if let Some(next) = (last..=char::MAX).nth(1) {
            chars.push(next);
            return Some(chars.into_iter().collect());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{
        ArrayRef, BinaryArray, BooleanArray, Date32Array, Float64Array, Int64Array, StringArray,
        TimestampMicrosecondArray,
    };
    use proptest::prelude::*;
    use std::sync::Arc;

    fn measured(column: ArrayRef) -> (Value, Value, Value) {
        let stats = measure(&RecordBatch::try_from_iter_with_nullable([("c", column, true)]).unwrap());
        (stats["minValues"]["c"].clone(), stats["maxValues"]["c"].clone(), stats["nullCount"]["c"].clone())
    }

    #[test]
    fn each_type_is_said_in_deltas_way() {
        let check = |column: ArrayRef, min: Value, max: Value, nulls: u64| {
            assert_eq!(measured(column), (min, max, json!(nulls)));
        };
        check(Arc::new(Int64Array::from(vec![Some(3), None, Some(i64::MIN)])), json!(i64::MIN), json!(3), 1);
        check(Arc::new(Float64Array::from(vec![-1.5, 2.0])), json!(-1.5), json!(2.0), 0);
        check(Arc::new(Float64Array::from(vec![1.0, f64::NAN])), Value::Null, Value::Null, 0);
        check(Arc::new(Float64Array::from(vec![1.0, f64::INFINITY])), json!(1.0), Value::Null, 0);
        check(Arc::new(Float64Array::from(vec![None, None])), Value::Null, Value::Null, 2);
        check(Arc::new(Date32Array::from(vec![20_778, 0])), json!("1970-01-01"), json!("2026-11-21"), 0);
        let instants = TimestampMicrosecondArray::from(vec![1_795_240_800_123_456]).with_timezone("UTC");
        let text = json!("2026-11-21T06:00:00.123456Z");
        check(Arc::new(instants), text.clone(), text, 0);
        check(Arc::new(TimestampMicrosecondArray::from(vec![i64::MAX])), Value::Null, Value::Null, 0);
        check(Arc::new(StringArray::from(vec!["b", "a"])), json!("a"), json!("b"), 0);
        check(Arc::new(BooleanArray::from(vec![true])), Value::Null, Value::Null, 0);
        check(Arc::new(BinaryArray::from(vec![&b"x"[..]])), Value::Null, Value::Null, 0);
    }

    #[test]
    fn long_texts_are_cut_to_bounds() {
        assert_eq!(upper_bound(&"a".repeat(33)), Some(format!("{}b", "a".repeat(31))));
        let before_surrogates = format!("{}\u{d7ff}x", "é".repeat(31));
        assert_eq!(upper_bound(&before_surrogates), Some(format!("{}\u{e000}", "é".repeat(31))));
        assert_eq!(upper_bound(&format!("a{}", "\u{10ffff}".repeat(40))), Some("b".to_owned()));
        assert_eq!(upper_bound(&"\u{10ffff}".repeat(40)), None);
    }

    #[test]
    fn only_the_first_columns_are_measured() {
        let column: ArrayRef = Arc::new(Int64Array::from(vec![1]));
        let batch =
            RecordBatch::try_from_iter((0..40).map(|number| (format!("c{number}"), column.clone()))).unwrap();
        assert_eq!(measure(&batch)["minValues"].as_object().unwrap().len(), COLUMNS_MAX);
    }

    proptest! {
        /// However rows are cut into batches, the counts are those of all of them at once, and so are the bounds; but where a batch has none that Delta can say, there may be none at all.
        #[test]
        fn batches_are_measured_as_their_whole(
            rows in prop::collection::vec((any::<Option<i64>>(), prop::option::of(prop::num::f64::ANY), prop::option::of("[a-d]{0,40}")), 1..60),
            step in 1_usize..20,
        ) {
            let is_finite = rows.iter().all(|row| row.1.is_none_or(f64::is_finite));
            let integers: ArrayRef = Arc::new(rows.iter().map(|row| row.0).collect::<Int64Array>());
            let floats: ArrayRef = Arc::new(rows.iter().map(|row| row.1).collect::<Float64Array>());
            let texts: ArrayRef = Arc::new(rows.iter().map(|row| row.2.clone()).collect::<StringArray>());
            let whole = RecordBatch::try_from_iter_with_nullable([("i", integers, true), ("f", floats, true), ("t", texts, true)]).unwrap();
            let mut measured = Measured::default();
            for first in (0..whole.num_rows()).step_by(step) {
                measured.add(&whole.slice(first, step.min(whole.num_rows() - first)));
            }
            let (stats, expected) = (measured.to_stats(), measure(&whole));
            prop_assert_eq!(measured.rows(), rows.len() as u64);
            prop_assert_eq!(&stats["nullCount"], &expected["nullCount"]);
            for bound in ["minValues", "maxValues"] {
                for column in ["i", "f", "t"] {
                    let (found, expected) = (&stats[bound][column], &expected[bound][column]);
                    let unsaid = column == "f" && !is_finite && found.is_null();
                    prop_assert!(found == expected || unsaid, "{} of {}: {} and {}", bound, column, found, expected);
                }
            }
        }

        #[test]
        fn a_text_lies_between_its_bounds(text in "\\PC{0,80}") {
            prop_assert!(prefix(&text) <= text.as_str());
            prop_assert!(upper_bound(&text).is_none_or(|bound| bound >= text));
        }
    }
}
