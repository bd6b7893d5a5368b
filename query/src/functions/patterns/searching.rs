//! The functions that find what matches, `regexp_count`, `regexp_instr`, `regexp_match` and `regexp_replace`: the engine's own, given a few rows at a time.

use super::super::sliced;
use super::{PATTERN_BYTES_MAX, Work, steps, too_large, whole};
use arrow::array::{Array, ArrayRef, AsArray, StringViewArray, UInt32Array};
use arrow::compute::{cast, concat, take};
use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature,
};
use regex_automata::nfa::thompson::NFA;
use std::collections::HashMap;
use std::sync::Arc;

/// The functions, and which of their arguments are flags.
const SEARCHES: [(&str, usize); 4] =
    [("regexp_count", 3), ("regexp_instr", 4), ("regexp_match", 2), ("regexp_replace", 3)];

/// Patterns that the function compiles at a time. Each takes a few times its bytes, and up to 4 MiB that its searches remember: some 100 MiB at worst.
const PATTERNS_MAX: usize = 4;

/// Bytes of a text that are looked at in a step, where nothing is looked for but the next match. Where all of them are, each search may go to the end of the text.
const BYTES_A_STEP: usize = 8;

/// The function with limits; one that is none of these as it is.
pub(in super::super) fn searching(inner: Arc<ScalarUDF>) -> Arc<ScalarUDF> {
    match SEARCHES.iter().find(|(name, _)| *name == inner.name()) {
        Some((_, flags)) => Arc::new(ScalarUDF::new_from_impl(Searching { inner, flags: *flags })),
        None => inner,
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Searching {
    inner: Arc<ScalarUDF>,
    flags: usize,
}

impl ScalarUDFImpl for Searching {
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
        let constant = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if constant { 1 } else { args.number_rows };
        let [text, pattern, ..] = args.args.as_slice() else { return self.inner.invoke_with_args(args) };
        // An aggregate with a FILTER asks also where no row is left.
        if rows == 0 {
            return self.inner.invoke_with_args(args);
        }
        let texts = strings(text, rows)?;
        let settings = Arc::clone(&args.config_options);
        let mut work = Work::new(self.name(), &settings);
        let patterns = Patterns::of(&work, pattern, args.args.get(self.flags), rows)?;
        let order = patterns.order();
        let row_of = |place: usize| order.as_ref().map_or(place, |order| order.value(place) as usize);
        let args = match &order {
            Some(order) => taken(args, order)?,
            None => args,
        };
        let finds_all = self.finds_all(args.args.len());
        let mut made = Vec::new();
        let mut from = 0;
        while from < rows {
            let part = work.turn(|work| {
                let begin = from;
                let mut held = Held::default();
                while from < rows && !work.turn_is_over() && held.has_room_for(patterns.of_row(row_of(from)))
                {
                    let row = row_of(from);
                    let bytes = if texts.is_null(row) { 0 } else { texts.value(row).len() };
                    let again = if finds_all { bytes.saturating_mul(bytes) / BYTES_A_STEP } else { 0 };
                    work.begin(steps(patterns.bytes(row), bytes).saturating_add(again))?;
                    from += 1;
                }
                self.inner.invoke_with_args(sliced(&args, begin, from - begin))?.into_array(from - begin)
            })?;
            made.push(part);
        }
        let made: Vec<&dyn Array> = made.iter().map(AsRef::as_ref).collect();
        match (made.as_slice(), order) {
            ([only], None) if constant => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(*only, 0)?)),
            (_, None) => Ok(ColumnarValue::Array(concat(&made)?)),
            (_, Some(order)) => Ok(ColumnarValue::Array(take(&concat(&made)?, &back(&order), None)?)),
        }
    }
}

impl Searching {
    /// Whether it goes on behind the first match.
    fn finds_all(&self, args: usize) -> bool {
        match self.name() {
            "regexp_match" => false,
            "regexp_replace" => args > self.flags,
            _ => true,
        }
    }
}

fn strings(value: &ColumnarValue, rows: usize) -> Result<StringViewArray> {
    let values: ArrayRef = value.to_array(rows)?;
    Ok(cast(&values, &DataType::Utf8View)?.as_string_view().clone())
}

/// The same rows in another order.
fn taken(mut args: ScalarFunctionArgs, order: &UInt32Array) -> Result<ScalarFunctionArgs> {
    for arg in &mut args.args {
        if let ColumnarValue::Array(array) = arg {
            *arg = ColumnarValue::Array(take(array, order, None)?);
        }
    }
    Ok(args)
}

/// Where each row has gone to in this order.
fn back(order: &UInt32Array) -> UInt32Array {
    let mut places = vec![0; order.len()];
    for (place, row) in (0..).zip(order.values()) {
        if let Some(found) = places.get_mut(*row as usize) {
            *found = place;
        }
    }
    UInt32Array::from(places)
}

/// The patterns of a call.
struct Patterns {
    /// Of each that is not the same as another, how many bytes it takes.
    bytes: Vec<usize>,
    /// Which of them each row has; with a single entry: all rows have it.
    rows: Vec<usize>,
}

impl Patterns {
    fn of(
        work: &Work<'_>,
        pattern: &ColumnarValue,
        flags: Option<&ColumnarValue>,
        rows: usize,
    ) -> Result<Self> {
        let is_one = [Some(pattern), flags].iter().all(|arg| !matches!(arg, Some(ColumnarValue::Array(_))));
        let rows = if is_one { 1 } else { rows };
        let patterns = strings(pattern, rows)?;
        let flags = flags.map(|flags| strings(flags, rows)).transpose()?;
        let mut known: HashMap<String, usize> = HashMap::new();
        let mut found = Self { bytes: Vec::new(), rows: Vec::with_capacity(rows) };
        for row in 0..rows {
            let flags =
                flags.as_ref().filter(|flags| flags.is_valid(row)).map_or("", |flags| flags.value(row));
            let pattern = if patterns.is_valid(row) { patterns.value(row) } else { "" };
            let pattern = whole(pattern, flags);
            let which = match known.get(&pattern) {
                Some(which) => *which,
                None => {
                    work.check()?;
                    found.bytes.push(bytes(work.name, &pattern)?);
                    known.insert(pattern, found.bytes.len() - 1);
                    found.bytes.len() - 1
                }
            };
            found.rows.push(which);
        }
        Ok(found)
    }

    fn of_row(&self, row: usize) -> usize {
        let row = if self.rows.len() == 1 { 0 } else { row };
        self.rows.get(row).copied().unwrap_or_default()
    }

    fn bytes(&self, row: usize) -> usize {
        self.bytes.get(self.of_row(row)).copied().unwrap_or_default()
    }

    /// In which order the rows are given to the function, where that keeps more patterns than it may: those with the same one together.
    fn order(&self) -> Option<UInt32Array> {
        if self.bytes.len() <= PATTERNS_MAX {
            return None;
        }
        let mut order: Vec<u32> = (0..).take(self.rows.len()).collect();
        order.sort_by_key(|row| self.of_row(*row as usize));
        Some(UInt32Array::from(order))
    }
}

/// Of a pattern compiled. What is wrong with one the function itself says.
pub(super) fn bytes(name: &str, pattern: &str) -> Result<usize> {
    let limit = NFA::config().nfa_size_limit(Some(PATTERN_BYTES_MAX));
    match NFA::compiler().configure(limit).build(pattern) {
        Ok(compiled) => Ok(compiled.memory_usage()),
        Err(error) if error.size_limit().is_some() => Err(too_large(name)),
        Err(_) => Ok(0),
    }
}

/// The patterns that a turn compiles.
#[derive(Default)]
struct Held(Vec<usize>);

impl Held {
    /// Patterns that are the same stand together, or are few.
    fn has_room_for(&mut self, pattern: usize) -> bool {
        let known = self.0.contains(&pattern);
        if !known && self.0.len() < PATTERNS_MAX {
            self.0.push(pattern);
            return true;
        }
        known
    }
}
