//! Functions whose result can be far larger than what they are given, with a limit to it.
//!
//! The engine counts the memory of sorting, grouping and joining, not that of a function: `repeat('x', 2000000000)` would simply be made, and made again for
//! each of the 8,192 rows of a batch. So the size is reckoned before the function is called.
//!
//! What this cannot bound: values that are large already (a device's own text, what `string_agg` has gathered) and that a join copies for every row of its other
//! side.

mod concatenation;

pub(crate) use concatenation::BoundedConcatenation;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use arrow::compute::{cast, kernels::length::length};
use arrow::datatypes::{
    DataType, FieldRef, Int64Type, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit, TimeUnit,
};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::FunctionRegistry;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature,
};
use std::sync::Arc;

/// Bytes of one value that a function makes: 16,384 numbers, or a text that nobody reads. A batch has 8,192 rows, and one literal may be copied into each of them.
const VALUE_BYTES_MAX: i64 = 128 << 10;

/// Bytes of one value that is put together of others in a row: those of the largest message, with room for much around it.
const SUM_BYTES_MAX: i64 = 4 << 20;

/// Bytes that one call makes for all rows of a batch.
const CALL_BYTES_MAX: i64 = 128 << 20;

/// A number, an instant or a place in a list.
const ELEMENT_BYTES: i64 = 8;

/// Bytes of a character at most.
const CHARACTER_BYTES: i64 = 4;

const DAY_NANOS: i64 = 86_400 * 1_000_000_000;

/// Each function with how its results grow.
const GROWING: [(&str, Growth); 12] = [
    ("array_concat", Growth::Sums),
    ("array_repeat", Growth::Repeats),
    ("array_resize", Growth::Elements),
    ("concat", Growth::Sums),
    ("concat_ws", Growth::Sums),
    ("generate_series", Growth::Range),
    ("lpad", Growth::Characters),
    ("range", Growth::Range),
    ("regexp_replace", Growth::Rewrites),
    ("repeat", Growth::Repeats),
    ("replace", Growth::Replaces),
    ("rpad", Growth::Characters),
];

/// How the size of a result follows from the arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Growth {
    /// The first argument, as often as the second says.
    Repeats,
    /// As many elements as the second argument says.
    Elements,
    /// As many characters as the second argument says.
    Characters,
    /// From the first argument to the second by the third.
    Range,
    /// The third argument for each of the second that is in the first.
    Replaces,
    /// The third argument for each byte of the first: a pattern may match everywhere.
    Rewrites,
    /// All arguments.
    Sums,
}

/// Puts the limit on each of them.
pub(crate) fn bound(state: &mut SessionState) -> Result<()> {
    for (name, growth) in GROWING {
        let inner = state.udf(name)?;
        state.register_udf(Arc::new(ScalarUDF::new_from_impl(Bounded { inner, growth })))?;
    }
    Ok(())
}

/// A function that is asked how much it would make. It is not simplified as the engine's own is: that could bring back the engine's own.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Bounded {
    inner: Arc<ScalarUDF>,
    growth: Growth,
}

impl ScalarUDFImpl for Bounded {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        self.inner.schema_name(args)
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.inner.inner().return_type(arg_types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        self.inner.inner().return_field_from_args(args)
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.inner().coerce_types(arg_types)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        self.growth.check(self.name(), &args)?;
        self.inner.invoke_with_args(args)
    }
}

/// Whether all arguments together are not too large.
fn check_sum(name: &str, args: &ScalarFunctionArgs) -> Result<()> {
    Growth::Sums.check(name, args)
}

impl Growth {
    fn check(self, name: &str, args: &ScalarFunctionArgs) -> Result<()> {
        let constant = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if constant { 1 } else { args.number_rows };
        let composed = matches!(self, Self::Sums | Self::Rewrites);
        let most = if composed && !constant { SUM_BYTES_MAX } else { VALUE_BYTES_MAX };
        let sizes = self.sizes(&args.args)?;
        let mut all = 0_i64;
        for row in 0..rows {
            let size = sizes.of(row).unwrap_or(0).max(0);
            all = all.saturating_add(size);
            if size > most || all > CALL_BYTES_MAX {
                let (what, most) = if size > most {
                    ("a value", most)
                } else {
                    ("values for a batch of rows", CALL_BYTES_MAX)
                };
                return Err(DataFusionError::Execution(format!(
                    "{name} would make {what} of more than {most} bytes"
                )));
            }
        }
        Ok(())
    }

    fn sizes(self, args: &[ColumnarValue]) -> Result<Sizes> {
        let columns = match (self, args) {
            (Self::Repeats, [value, count, ..]) => vec![bytes(value)?, numbers(count)?],
            (Self::Replaces, [text, from, to, ..]) => vec![bytes(text)?, bytes(from)?, bytes(to)?],
            (Self::Rewrites, [text, _, to, ..]) => vec![bytes(text)?, bytes(to)?],
            (Self::Elements | Self::Characters, [_, count, ..]) => vec![numbers(count)?],
            (Self::Range, args) => args.iter().map(numbers).collect::<Result<_>>()?,
            (Self::Sums, args) => args.iter().map(bytes).collect::<Result<_>>()?,
            _ => Vec::new(),
        };
        Ok(Sizes { growth: self, columns })
    }
}

/// The arguments as numbers; one of a single row holds for all.
struct Sizes {
    growth: Growth,
    columns: Vec<Int64Array>,
}

impl Sizes {
    /// None where an argument is null, and so the result.
    fn of(&self, row: usize) -> Option<i64> {
        if self.growth == Growth::Sums {
            // Some of these pass over null.
            return Some(
                self.columns.iter().filter_map(|column| at(column, row)).fold(0, i64::saturating_add),
            );
        }
        let values: Vec<i64> = self.columns.iter().map(|column| at(column, row)).collect::<Option<_>>()?;
        Some(match (self.growth, values.as_slice()) {
            (Growth::Repeats, [size, count]) => size.saturating_mul(*count),
            (Growth::Elements, [count]) => count.saturating_mul(ELEMENT_BYTES),
            (Growth::Characters, [count]) => count.saturating_mul(CHARACTER_BYTES),
            (Growth::Replaces, [text, from, to]) => {
                (text / from.max(&1) + 1).saturating_mul(*to).saturating_add(*text)
            }
            (Growth::Rewrites, [text, to]) => (text + 1).saturating_mul(*to).saturating_add(*text),
            (Growth::Range, [end]) => range(0, *end, 1),
            (Growth::Range, [start, end]) => range(*start, *end, 1),
            (Growth::Range, [start, end, step]) => range(*start, *end, *step),
            _ => 0,
        })
    }
}

fn range(start: i64, end: i64, step: i64) -> i64 {
    let count = (i128::from(end) - i128::from(start)).checked_div(i128::from(step)).unwrap_or(0);
    i64::try_from(count).unwrap_or(i64::MAX).max(-1).saturating_add(1).saturating_mul(ELEMENT_BYTES)
}

fn at(column: &Int64Array, row: usize) -> Option<i64> {
    let row = if column.len() == 1 { 0 } else { row };
    (row < column.len() && column.is_valid(row)).then(|| column.value(row))
}

fn array(value: &ColumnarValue) -> Result<ArrayRef> {
    match value {
        ColumnarValue::Array(array) => Ok(Arc::clone(array)),
        ColumnarValue::Scalar(scalar) => scalar.to_array_of_size(1),
    }
}

/// The sizes of values in bytes.
fn bytes(value: &ColumnarValue) -> Result<Int64Array> {
    let values = array(value)?;
    match values.data_type() {
        DataType::Utf8
        | DataType::LargeUtf8
        | DataType::Utf8View
        | DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView => integers(&length(&values)?),
        DataType::Null => Ok(Int64Array::new_null(values.len())),
        // All share what the array has: an average, and no value is made of less than an element.
        _ => {
            let average = values.get_array_memory_size() / values.len().max(1);
            let average = i64::try_from(average).unwrap_or(i64::MAX).max(ELEMENT_BYTES);
            Ok(Int64Array::from_value(average, values.len()))
        }
    }
}

/// Counts, and the ends and the step of a range; times in nanoseconds, a month as its shortest.
fn numbers(value: &ColumnarValue) -> Result<Int64Array> {
    let values = array(value)?;
    match values.data_type() {
        DataType::Date32 | DataType::Date64 | DataType::Timestamp(..) => {
            integers(&cast(&values, &DataType::Timestamp(TimeUnit::Nanosecond, None))?)
        }
        DataType::Interval(IntervalUnit::MonthDayNano) => {
            let nanos = |step: IntervalMonthDayNano| {
                let days = i64::from(step.months).saturating_mul(28).saturating_add(i64::from(step.days));
                days.saturating_mul(DAY_NANOS).saturating_add(step.nanoseconds)
            };
            Ok(values.as_primitive::<IntervalMonthDayNanoType>().unary(nanos))
        }
        _ => integers(&values),
    }
}

fn integers(values: &ArrayRef) -> Result<Int64Array> {
    Ok(cast(values, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
}
