//! What a file's commit says about its values, in Delta's form.

use arrow::array::{Array, AsArray, PrimitiveArray, RecordBatch};
use arrow::compute;
use arrow::datatypes::{
    ArrowNumericType, DataType, Date32Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, TimeUnit, TimestampMicrosecondType,
};
use chrono::{DateTime, Datelike, NaiveDate};
use serde_json::{Map, Number, Value, json};

/// How many columns are measured, from the first on: Delta's own default. A commit would otherwise grow with every column that was ever learned.
const COLUMNS_MAX: usize = 32;

/// How many characters of a text are kept.
const TEXT_MAX: usize = 32;

/// Delta's statistics of these rows.
pub(super) fn measure(rows: &RecordBatch) -> Value {
    let (mut min_values, mut max_values, mut null_count) = (Map::new(), Map::new(), Map::new());
    let columns = rows.schema_ref().fields().iter().zip(rows.columns());
    for (field, column) in columns.take(COLUMNS_MAX) {
        null_count.insert(field.name().clone(), column.null_count().into());
        let (min, max) = bounds(column.as_ref());
        if let Some(min) = min {
            min_values.insert(field.name().clone(), min);
        }
        if let Some(max) = max {
            max_values.insert(field.name().clone(), max);
        }
    }
    json!({ "numRecords": rows.num_rows(), "minValues": min_values, "maxValues": max_values, "nullCount": null_count })
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
        #[test]
        fn a_text_lies_between_its_bounds(text in "\\PC{0,80}") {
            prop_assert!(prefix(&text) <= text.as_str());
            prop_assert!(upper_bound(&text).is_none_or(|bound| bound >= text));
        }
    }
}
