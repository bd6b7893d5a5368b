//! How large the results of a function become, reckoned from its arguments alone.

use super::Growth;
use crate::generators::stride;
use arrow::array::{Array, ArrayRef, AsArray, Int64Array, StringArray};
use arrow::compute::{cast, kernels::length::length};
use arrow::datatypes::{DataType, Int64Type, IntervalMonthDayNanoType, IntervalUnit, TimeUnit};
use datafusion::error::Result;
use datafusion::logical_expr::ColumnarValue;
use std::sync::Arc;

/// A number, an instant or a place in a list.
const ELEMENT_BYTES: i64 = 8;

/// Bytes of a character at most.
const CHARACTER_BYTES: i64 = 4;

/// Bytes of what a text takes in a list, beside its own.
const STRING_BYTES: i128 = 16;

/// Bytes of a number or an instant as text at most.
const WORD_BYTES: i128 = 40;

/// How many bytes become of one byte of an instant's format at most: `%+` is a whole instant.
const FORMATTED: i128 = 18;

const DAY_NANOS: i128 = 86_400 * 1_000_000_000;

/// What stands for a number that is too large to be told.
const UNTOLD: i128 = i64::MAX as i128;

/// The arguments as numbers; a column of a single row holds for all.
pub(super) struct Sizes {
    growth: Growth,
    columns: Vec<Vec<Option<i128>>>,
}

impl Sizes {
    pub(super) fn of(growth: Growth, args: &[ColumnarValue]) -> Result<Self> {
        let columns = match (growth, args) {
            (Growth::Repeats | Growth::RepeatsElements, [value, count, ..]) => {
                vec![bytes(value)?, numbers(count)?]
            }
            (Growth::Replaces, [text, from, to, ..]) => vec![bytes(text)?, bytes(from)?, bytes(to)?],
            (Growth::ReplacesFound, [text, from, to, ..]) => {
                vec![bytes(text)?, bytes(from)?, bytes(to)?, matches(text, from)?]
            }
            (Growth::Captures, [text, pattern, ..]) => vec![bytes(text)?, brackets(pattern)?],
            (Growth::Rewrites, [text, _, to, ..]) => vec![bytes(text)?, bytes(to)?],
            (Growth::Elements, [_, count, fill, ..]) => vec![numbers(count)?, bytes(fill)?],
            (Growth::Elements | Growth::Characters, [_, count, ..]) => vec![numbers(count)?],
            (Growth::Encodes, [value, ..]) => vec![bytes(value)?],
            (Growth::Formats, [_, format, ..]) => vec![bytes(format)?],
            (Growth::Splits, [text, between, ..]) => vec![bytes(text)?, bytes(between)?],
            (Growth::Words, [list, texts @ ..]) => {
                let mut columns = vec![bytes(list)?, elements(list)?];
                columns.extend(texts.iter().map(bytes).collect::<Result<Vec<_>>>()?);
                columns
            }
            (Growth::ReplacesElements, [list, _, to, ..]) => vec![bytes(list)?, elements(list)?, bytes(to)?],
            (Growth::Compares, [one, other, ..]) => vec![bytes(one)?, bytes(other)?],
            (Growth::ComparesElements, [one, other, ..]) => vec![elements(one)?, elements(other)?],
            (Growth::Range, args) => args.iter().map(numbers).collect::<Result<_>>()?,
            (Growth::Sums | Growth::Joins, args) => args.iter().map(bytes).collect::<Result<_>>()?,
            _ => Vec::new(),
        };
        Ok(Self { growth, columns })
    }

    /// The size of each of so many rows in bytes.
    pub(super) fn rows(&self, rows: usize) -> impl Iterator<Item = i64> {
        (0..rows).map(|row| {
            let size = self.at(row).unwrap_or(0).max(0);
            i64::try_from(size).unwrap_or(i64::MAX)
        })
    }

    /// None where an argument is null, and so the result.
    fn at(&self, row: usize) -> Option<i128> {
        let values = self.columns.iter().map(|column| at(column, row));
        let cell = |column: usize| at(self.columns.get(column)?, row);
        let element = i128::from(ELEMENT_BYTES);
        // Some of these pass over null.
        match self.growth {
            Growth::Sums => return Some(values.flatten().sum()),
            Growth::Joins => {
                let between = at(self.columns.first()?, row)? * self.columns.len() as i128;
                return Some(values.flatten().sum::<i128>() + between);
            }
            Growth::RepeatsElements => return Some(cell(0).unwrap_or(0).max(element) * cell(1)?),
            Growth::Elements => return Some(cell(0)? * cell(1).unwrap_or(0).max(element)),
            Growth::Splits => {
                return Some(cell(0)? + (cell(0)? / cell(1).unwrap_or(1).max(1) + 1) * STRING_BYTES);
            }
            Growth::Words => {
                let widest = cell(2).max(cell(3)).unwrap_or(0);
                return Some(cell(0)? + cell(1)? * (widest + WORD_BYTES));
            }
            Growth::ReplacesElements => return Some(cell(0)? + cell(1)? * cell(2).unwrap_or(0)),
            _ => {}
        }
        let values: Vec<i128> = values.collect::<Option<_>>()?;
        Some(match (self.growth, values.as_slice()) {
            (Growth::Repeats, [size, count]) => size * count,
            (Growth::Characters, [count]) => count * i128::from(CHARACTER_BYTES),
            (Growth::Encodes, [size]) => size * 2,
            (Growth::Formats, [format]) => format * FORMATTED,
            (Growth::Compares | Growth::ComparesElements, [one, other]) => one * other,
            (Growth::Replaces, [text, from, to]) => text + (text / from.max(&1) + 1) * to,
            (Growth::ReplacesFound, [text, from, to, matches]) => text + matches * (to - from),
            (Growth::Captures, [text, brackets]) => (text + STRING_BYTES) * (brackets + 1),
            (Growth::Rewrites, [text, to]) => (text + 1) * to + text,
            (Growth::Range, [end]) => range(0, *end, 1),
            (Growth::Range, [start, end]) => range(*start, *end, 1),
            (Growth::Range, [start, end, step]) => range(*start, *end, *step),
            _ => 0,
        })
    }
}

/// A step of zero the function itself refuses.
fn range(start: i128, end: i128, step: i128) -> i128 {
    match step {
        UNTOLD => UNTOLD,
        step => ((end - start).checked_div(step).unwrap_or(-1).max(-1) + 1) * i128::from(ELEMENT_BYTES),
    }
}

fn at(column: &[Option<i128>], row: usize) -> Option<i128> {
    let row = if column.len() == 1 { 0 } else { row };
    column.get(row).copied().flatten()
}

fn array(value: &ColumnarValue) -> Result<ArrayRef> {
    match value {
        ColumnarValue::Array(array) => Ok(Arc::clone(array)),
        ColumnarValue::Scalar(scalar) => scalar.to_array_of_size(1),
    }
}

/// The sizes of values in bytes.
fn bytes(value: &ColumnarValue) -> Result<Vec<Option<i128>>> {
    let values = array(value)?;
    match values.data_type() {
        DataType::Utf8
        | DataType::LargeUtf8
        | DataType::Utf8View
        | DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView => integers(&length(&values)?),
        DataType::Null => Ok(vec![None; values.len()]),
        kind if kind.primitive_width().is_some() => Ok(vec![Some(i128::from(ELEMENT_BYTES)); values.len()]),
        // All share what the array has: an average, and no value is made of less than an element.
        _ => {
            let average = values.get_array_memory_size() / values.len().max(1);
            let average = i64::try_from(average).unwrap_or(i64::MAX).max(ELEMENT_BYTES);
            Ok(vec![Some(i128::from(average)); values.len()])
        }
    }
}

/// How many elements the lists have, those of lists within them counted each; of these an average.
fn elements(value: &ColumnarValue) -> Result<Vec<Option<i128>>> {
    let lists = array(value)?;
    match (lists.data_type(), inner(&lists)) {
        (DataType::Null, _) => Ok(vec![None; lists.len()]),
        (_, Some(within)) if inner(&within).is_some() => {
            let mut leaves = within;
            while let Some(within) = inner(&leaves) {
                leaves = within;
            }
            Ok(vec![Some((leaves.len() / lists.len().max(1) + 1) as i128); lists.len()])
        }
        (_, Some(_)) => integers(&length(&lists)?),
        _ => Ok(vec![Some(1); lists.len()]),
    }
}

/// What is in all the lists together.
fn inner(lists: &ArrayRef) -> Option<ArrayRef> {
    match lists.data_type() {
        DataType::List(_) => Some(Arc::clone(lists.as_list::<i32>().values())),
        DataType::LargeList(_) => Some(Arc::clone(lists.as_list::<i64>().values())),
        DataType::FixedSizeList(..) => Some(Arc::clone(lists.as_fixed_size_list().values())),
        _ => None,
    }
}

/// How often the second of two texts is in the first, counted as it is replaced: nowhere if it is empty.
fn matches(text: &ColumnarValue, sought: &ColumnarValue) -> Result<Vec<Option<i128>>> {
    let (texts, sought) = (strings(text)?, strings(sought)?);
    let rows = if texts.len() == 1 { sought.len() } else { texts.len() };
    let count = |row| {
        let (text, sought) = (text_at(&texts, row)?, text_at(&sought, row)?);
        Some(if sought.is_empty() { 0 } else { text.matches(sought).count() as i128 })
    };
    Ok((0..rows).map(count).collect())
}

/// How many groups a pattern may have.
fn brackets(pattern: &ColumnarValue) -> Result<Vec<Option<i128>>> {
    let patterns = strings(pattern)?;
    Ok(patterns.iter().map(|pattern| Some(pattern?.matches('(').count() as i128)).collect())
}

fn text_at(column: &StringArray, row: usize) -> Option<&str> {
    let row = if column.len() == 1 { 0 } else { row };
    (row < column.len() && column.is_valid(row)).then(|| column.value(row))
}

fn strings(value: &ColumnarValue) -> Result<StringArray> {
    Ok(cast(&array(value)?, &DataType::Utf8)?.as_string::<i32>().clone())
}

/// Counts, and the ends and the step of a range; times in nanoseconds, however far away.
fn numbers(value: &ColumnarValue) -> Result<Vec<Option<i128>>> {
    let values = array(value)?;
    let scaled = |scale: i128| -> Result<_> {
        Ok(integers(&values)?.into_iter().map(|number| Some(number? * scale)).collect())
    };
    match values.data_type() {
        DataType::Date32 => {
            let days = integers(&cast(&values, &DataType::Int32)?)?;
            Ok(days.into_iter().map(|day| Some(day? * DAY_NANOS)).collect())
        }
        DataType::Date64 | DataType::Timestamp(TimeUnit::Millisecond, _) => scaled(1_000_000),
        DataType::Timestamp(TimeUnit::Second, _) => scaled(1_000_000_000),
        DataType::Timestamp(TimeUnit::Microsecond, _) => scaled(1_000),
        DataType::Interval(IntervalUnit::MonthDayNano) => {
            let steps = values.as_primitive::<IntervalMonthDayNanoType>();
            Ok(steps.iter().map(|step| Some(stride(step?).unwrap_or(UNTOLD))).collect())
        }
        _ => integers(&values),
    }
}

/// What is not null and yet no such integer is larger than all of them.
fn integers(values: &ArrayRef) -> Result<Vec<Option<i128>>> {
    let cast = cast(values, &DataType::Int64)?;
    let numbers: &Int64Array = cast.as_primitive::<Int64Type>();
    let number = |row| match numbers.is_valid(row) {
        true => i128::from(numbers.value(row)),
        false => UNTOLD,
    };
    Ok((0..values.len()).map(|row| values.is_valid(row).then(|| number(row))).collect())
}
