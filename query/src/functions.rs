//! Functions whose result can be far larger than what they are given, with a limit to it.
//!
//! The engine counts the memory of sorting, grouping and joining, not that of a function: `repeat('x', 2000000000)` would simply be made, and made again for
//! each of the 8,192 rows of a batch. So the size is reckoned before the function is called. Where it can only be bounded and the bound is too large, rows are given to
//! the function few at a time, and what it really makes is judged. So is the work of those that compare everything in one value with everything in another, since
//! nothing ends a function while it works on a batch; and a value has only so many fields, because planning looks at each of them again and again.
//!
//! Neighbour: `pace`, which is asked for fewer rows to a batch before what is made of a whole one is refused, and which bounds what becomes of values that are large already.

mod concatenation;
mod digests;
mod literals;
mod patterns;
mod replacement;
mod sizes;

pub(crate) use digests::BoundedDigests;
pub(crate) use literals::BoundedLiterals;
pub(crate) use patterns::BoundedPatterns;
pub(crate) use replacement::BoundedFunctions;

use crate::carried::Carried;
use crate::pace::Pace;
use arrow::array::Array;
use arrow::compute::concat;
use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{ScalarValue, plan_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::FunctionRegistry;
use datafusion::execution::SessionStateDefaults;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature,
};
use sizes::Sizes;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

/// Bytes of one value that a function makes: 16,384 numbers, or a text that nobody reads. A batch has 8,192 rows, and one literal may be copied into each of them.
const VALUE_BYTES_MAX: i64 = 128 << 10;

/// Bytes of one value that is put together of others in a row: those of the largest message, with room for much around it.
const SUM_BYTES_MAX: i64 = 4 << 20;

/// Bytes that one call makes for all rows of a batch.
const CALL_BYTES_MAX: i64 = 128 << 20;

/// The same where the values are put together of others: a batch of a file's texts, of which there are seldom more than a file's input of 128 MiB, and as much again.
const SUM_CALL_BYTES_MAX: i64 = 256 << 20;

/// Rows that show what the others will become, where it is made to be seen.
const ROWS_FIRST: usize = 16;

/// Steps that one call may take to compare what is in the values with each other: some seconds.
const STEPS_MAX: i64 = 4_000_000_000;

/// Fields of one value, those within each other counted each: a struct of two structs of two is soon more than anyone can plan with.
const FIELDS_MAX: usize = 1_000;

/// Each function with how its results, or its work, grow.
const GROWING: [(&str, Growth); 35] = [
    ("array_append", Growth::Sums),
    ("array_concat", Growth::Sums),
    ("array_has_all", Growth::ComparesElements),
    ("array_has_any", Growth::ComparesElements),
    ("array_prepend", Growth::Sums),
    ("array_repeat", Growth::RepeatsElements),
    ("array_replace", Growth::Sums),
    ("array_replace_all", Growth::ReplacesElements),
    ("array_replace_n", Growth::ReplacesElements),
    ("array_resize", Growth::Elements),
    ("array_to_string", Growth::Words),
    ("array_union", Growth::Sums),
    ("arrays_zip", Growth::Sums),
    ("btrim", Growth::Compares),
    ("concat", Growth::Sums),
    ("concat_ws", Growth::Joins),
    ("encode", Growth::Encodes),
    ("generate_series", Growth::Range),
    ("levenshtein", Growth::Compares),
    ("lpad", Growth::Characters),
    ("ltrim", Growth::Compares),
    ("make_array", Growth::Sums),
    ("map", Growth::Sums),
    ("named_struct", Growth::Sums),
    ("overlay", Growth::Sums),
    ("range", Growth::Range),
    ("regexp_match", Growth::Captures),
    ("regexp_replace", Growth::Rewrites),
    ("repeat", Growth::Repeats),
    ("replace", Growth::Replaces),
    ("rpad", Growth::Characters),
    ("rtrim", Growth::Compares),
    ("string_to_array", Growth::Splits),
    ("struct", Growth::Sums),
    ("to_char", Growth::Formats),
];

/// All functions with limits, by the names of the engine's.
static BOUNDED: LazyLock<HashMap<String, Arc<ScalarUDF>>> = LazyLock::new(|| {
    let engines = SessionStateDefaults::default_scalar_functions();
    let bounded = engines.into_iter().filter_map(|engines| {
        let name = engines.name().to_owned();
        let inner = patterns::searching(Arc::clone(&engines));
        match GROWING.iter().find(|(growing, _)| *growing == name) {
            Some((_, growth)) => {
                let bounded = Bounded { inner, growth: *growth };
                Some((name, Arc::new(ScalarUDF::new_from_impl(bounded))))
            }
            None => (inner != engines).then_some((name, inner)),
        }
    });
    bounded.collect()
});

/// How the size of a result follows from the arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Growth {
    /// The first argument, as often as the second says.
    Repeats,
    /// The same as elements of a list: one that is null takes a place, too.
    RepeatsElements,
    /// As many elements as the second argument says, new ones like the third.
    Elements,
    /// As many characters as the second argument says, however few bytes those have.
    Characters,
    /// From the first argument to the second by the third.
    Range,
    /// The third argument for each of the second that could be in the first.
    Replaces,
    /// The third argument for each of the second that is in the first.
    ReplacesFound,
    /// The first argument for each bracket in the second: groups may stand within each other.
    Captures,
    /// The third argument for each byte of the first: a pattern may match everywhere.
    Rewrites,
    /// The third argument for each element of the first.
    ReplacesElements,
    /// An element for each place in the first argument at which the second may be.
    Splits,
    /// Each element of the first argument as text, and the second between them.
    Words,
    /// The second argument with each mark in it replaced by a part of an instant.
    Formats,
    /// Two characters for each byte of the first argument.
    Encodes,
    /// All arguments, the first between each two of the others.
    Joins,
    /// All arguments.
    Sums,
    /// Not the result but the work: each character of one argument with each of the other.
    Compares,
    /// Not the result but the work: each element of one argument with each of the other.
    ComparesElements,
}

/// Puts the limit on each of them.
pub(crate) fn bound(state: &mut SessionState) -> Result<()> {
    BOUNDED.values().try_for_each(|function| state.register_udf(Arc::clone(function)).map(drop))
}

/// The function of that name with its limit, where it has one.
fn bounded(name: &str) -> Option<&'static Arc<ScalarUDF>> {
    BOUNDED.get(name)
}

/// Whether it makes large values of small ones, with a limit.
pub(crate) fn grows(function: &ScalarUDF) -> bool {
    let inner: &dyn std::any::Any = function.inner().as_ref();
    inner.is::<Bounded>() || function.name() == concatenation::FUNCTION.name()
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
        let made = self.inner.inner().return_type(arg_types)?;
        self.check_fields(&made).map(|()| made)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let made = self.inner.inner().return_field_from_args(args)?;
        self.check_fields(made.data_type()).map(|()| made)
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.inner().coerce_types(arg_types)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let limit = Limit::of(self.name(), self.growth, &args);
        let sizes = Sizes::of(self.growth, &args.args)?;
        if limit.is_small(sizes.rows(limit.rows)) {
            return self.inner.invoke_with_args(args);
        }
        match self.growth {
            Growth::Replaces => {
                limit.check(Sizes::of(Growth::ReplacesFound, &args.args)?.rows(limit.rows))?;
                self.inner.invoke_with_args(args)
            }
            Growth::Captures
            | Growth::Characters
            | Growth::Formats
            | Growth::Rewrites
            | Growth::Splits
            | Growth::Words => self.invoke_sliced(&args, &limit, &sizes),
            _ => {
                limit.check(sizes.rows(limit.rows))?;
                self.inner.invoke_with_args(args)
            }
        }
    }
}

impl Bounded {
    fn check_fields(&self, made: &DataType) -> Result<()> {
        match fields_within(made, FIELDS_MAX) {
            Some(_left) => Ok(()),
            None => plan_err!("{} would make a value of more than {FIELDS_MAX} fields", self.name()),
        }
    }

    /// The function for a few rows at a time: as many as cannot become more than a call may make.
    fn invoke_sliced(
        &self,
        args: &ScalarFunctionArgs,
        limit: &Limit<'_>,
        sizes: &Sizes,
    ) -> Result<ColumnarValue> {
        let mut made = Vec::new();
        let mut lengths = Vec::with_capacity(limit.rows);
        let mut from = 0;
        while from < limit.rows {
            let most = if from == 0 { ROWS_FIRST } else { limit.rows };
            let rows = limit.rows_that_fit(sizes.rows(limit.rows).skip(from).take(most))?;
            let part = self.inner.invoke_with_args(sliced(args, from, rows))?.into_array(rows)?;
            lengths.extend(Sizes::of(Growth::Sums, &[ColumnarValue::Array(Arc::clone(&part))])?.rows(rows));
            limit.check(lengths.iter().copied())?;
            made.push(part);
            from += rows;
        }
        let made: Vec<&dyn Array> = made.iter().map(AsRef::as_ref).collect();
        let whole = concat(&made)?;
        match limit.constant {
            true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&whole, 0)?)),
            false => Ok(ColumnarValue::Array(whole)),
        }
    }
}

/// How many fields a value of this type could have beside its own; `None` where that are too many already, without looking at the rest.
fn fields_within(kind: &DataType, left: usize) -> Option<usize> {
    let left = left.checked_sub(1)?;
    match kind {
        DataType::Struct(fields) => {
            fields.iter().try_fold(left, |left, field| fields_within(field.data_type(), left))
        }
        DataType::List(field)
        | DataType::LargeList(field)
        | DataType::ListView(field)
        | DataType::LargeListView(field)
        | DataType::FixedSizeList(field, _)
        | DataType::Map(field, _) => fields_within(field.data_type(), left),
        _ => Some(left),
    }
}

fn sliced(args: &ScalarFunctionArgs, from: usize, rows: usize) -> ScalarFunctionArgs {
    let mut part = args.clone();
    part.number_rows = rows;
    for arg in &mut part.args {
        if let ColumnarValue::Array(array) = arg {
            *arg = ColumnarValue::Array(array.slice(from, rows));
        }
    }
    part
}

/// Whether all arguments together are not too large.
fn check_sum(name: &str, args: &ScalarFunctionArgs) -> Result<()> {
    let limit = Limit::of(name, Growth::Sums, args);
    limit.check(Sizes::of(Growth::Sums, &args.args)?.rows(limit.rows))
}

impl Growth {
    /// Whether values become parts of the result.
    fn composes(self) -> bool {
        matches!(
            self,
            Self::Captures
                | Self::Encodes
                | Self::Joins
                | Self::Replaces
                | Self::ReplacesElements
                | Self::Rewrites
                | Self::Splits
                | Self::Sums
                | Self::Words
        )
    }

    /// Whether it is the work that grows, and not the result.
    fn works(self) -> bool {
        matches!(self, Self::Compares | Self::ComparesElements)
    }
}

fn as_bytes(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// What one call may make.
struct Limit<'a> {
    name: &'a str,
    rows: usize,
    /// Whether one value is made for all rows: then it may be copied into each of them.
    constant: bool,
    value_bytes: i64,
    call_bytes: i64,
    /// The query that is asked to go on with fewer rows at a time, where that is of use.
    pace: Option<&'a Pace>,
    /// Whether these are steps of work instead.
    steps: bool,
}

impl<'a> Limit<'a> {
    fn of(name: &'a str, growth: Growth, args: &'a ScalarFunctionArgs) -> Self {
        let constant = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let (value_bytes, call_bytes) = match (growth.works(), growth.composes() && !constant) {
            (true, _) => (STEPS_MAX, STEPS_MAX),
            (false, true) => (SUM_BYTES_MAX, SUM_CALL_BYTES_MAX),
            (false, false) => (VALUE_BYTES_MAX, CALL_BYTES_MAX),
        };
        let rows = if constant { 1 } else { args.number_rows };
        let pace = Pace::of(&args.config_options).filter(|_| !constant && !growth.works());
        Self {
            name,
            rows,
            constant,
            value_bytes,
            call_bytes,
            pace: pace.map(AsRef::as_ref),
            steps: growth.works(),
        }
    }

    /// Bytes that a call makes of a batch before the query is asked to go on with smaller ones.
    fn ease(&self) -> i64 {
        self.pace.map_or(self.call_bytes, |pace| as_bytes(pace.call_bytes()).min(self.call_bytes))
    }

    /// Whether it is within every limit, at first sight.
    fn is_small(&self, sizes: impl Iterator<Item = i64>) -> bool {
        let (mut all, ease) = (0_i64, self.ease());
        for size in sizes {
            all = all.saturating_add(size);
            if size > self.value_bytes || all > ease {
                return false;
            }
        }
        true
    }

    /// Judges what is made of rows of the batch, the first of them or all.
    fn check(&self, sizes: impl Iterator<Item = i64>) -> Result<()> {
        let (mut all, mut rows) = (0_i64, 0_usize);
        for size in sizes {
            (all, rows) = (all.saturating_add(size), rows + 1);
            if size > self.value_bytes {
                return Err(self.beyond("a value", self.value_bytes));
            }
        }
        let Some(pace) = self.pace.filter(|_| all > self.ease()) else {
            return match all > self.call_bytes {
                true => Err(self.beyond("values for a batch of rows", self.call_bytes)),
                false => Ok(()),
            };
        };
        let most = as_bytes(pace.call_bytes_late()).max(VALUE_BYTES_MAX).min(self.call_bytes);
        match pace.gives_up_for_call(all.unsigned_abs(), rows) || all > most {
            true => Err(self.beyond("values for a batch of rows", most)),
            false => Ok(()),
        }
    }

    /// How many of these rows are given to the function at a time: as many as are easy, or one that is not too large.
    fn rows_that_fit(&self, sizes: impl Iterator<Item = i64>) -> Result<usize> {
        let (mut all, mut rows, ease) = (0_i64, 0, self.ease());
        for size in sizes {
            all = all.saturating_add(size);
            if all > ease && (rows > 0 || all > self.call_bytes) {
                break;
            }
            rows += 1;
        }
        match rows {
            0 => Err(self.beyond("a value", self.call_bytes)),
            rows => Ok(rows),
        }
    }

    fn beyond(&self, what: &str, most: i64) -> DataFusionError {
        DataFusionError::Execution(match self.steps {
            true => format!(
                "{} would take more than {most} steps for a batch of rows: compare less with less",
                self.name
            ),
            false => format!("{} would make {what} of more than {most} bytes: make less of it", self.name),
        })
    }
}
