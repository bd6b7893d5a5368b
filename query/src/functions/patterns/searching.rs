//! The functions that find what matches, `regexp_count`, `regexp_instr`, `regexp_match` and `regexp_replace`: the engine's own, given a few rows at a time.

use super::super::sliced;
use super::{
    BYTES_A_STEP, PATTERN_BYTES_MAX, REMEMBERED_BYTES_MAX, STATE_BYTES, Work, strings, too_large, whole,
};
use arrow::array::{Array, UInt32Array};
use arrow::compute::{concat, take};
use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature,
};
use regex_automata::nfa::thompson::NFA;
use regex_syntax::hir::{Hir, Properties};
use std::collections::HashMap;
use std::sync::Arc;

/// The functions, and which of their arguments are flags.
const SEARCHES: [(&str, usize); 4] =
    [("regexp_count", 3), ("regexp_instr", 4), ("regexp_match", 2), ("regexp_replace", 3)];

/// Bytes that the patterns of a turn may take with what their searches remember; a single one may take more, three times as much at worst.
const HELD_BYTES_MAX: usize = 20 << 20;

/// Places of groups that a search remembers at most, for all states of its pattern together: 32 MiB.
const PLACES_MAX: usize = 2 << 20;
const PLACE_BYTES: usize = 16;

/// How many of them are copied in the time of a step.
const PLACES_A_STEP: usize = 8;

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
                while from < rows && !work.turn_is_over() {
                    let row = row_of(from);
                    let (pattern, weight) = patterns.of_row(row);
                    if !held.has_room_for(pattern, weight) {
                        break;
                    }
                    let bytes = if texts.is_null(row) { 0 } else { texts.value(row).len() };
                    work.begin(weight.steps(bytes, finds_all))?;
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
    /// Of each that is not the same as another.
    weights: Vec<Weight>,
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
        let mut found = Self { weights: Vec::new(), rows: Vec::with_capacity(rows) };
        for row in 0..rows {
            let flags =
                flags.as_ref().filter(|flags| flags.is_valid(row)).map_or("", |flags| flags.value(row));
            let pattern = if patterns.is_valid(row) { patterns.value(row) } else { "" };
            let pattern = whole(pattern, flags);
            let which = match known.get(&pattern) {
                Some(which) => *which,
                None => {
                    work.check()?;
                    found.weights.push(Weight::of(work.name, &pattern)?);
                    known.insert(pattern, found.weights.len() - 1);
                    found.weights.len() - 1
                }
            };
            found.rows.push(which);
        }
        Ok(found)
    }

    fn of_row(&self, row: usize) -> (usize, Weight) {
        let row = if self.rows.len() == 1 { 0 } else { row };
        let pattern = self.rows.get(row).copied().unwrap_or_default();
        (pattern, self.weights.get(pattern).copied().unwrap_or_default())
    }

    /// In which order the rows are given to the function, where that keeps more patterns than it may: those with the same one together.
    fn order(&self) -> Option<UInt32Array> {
        let bytes: usize = self.weights.iter().map(|weight| weight.bytes).sum();
        if self.weights.len() <= 1 || bytes <= HELD_BYTES_MAX {
            return None;
        }
        let mut order: Vec<u32> = (0..).take(self.rows.len()).collect();
        order.sort_by_key(|row| self.of_row(*row as usize).0);
        Some(UInt32Array::from(order))
    }
}

/// What a pattern costs.
#[derive(Clone, Copy, Default)]
struct Weight {
    /// Compiled, with what its searches remember.
    bytes: usize,
    /// That a search takes at worst for each byte of a text.
    steps: usize,
    /// Bytes that it matches at most; `None` where a search that has found a match may yet look on to the end of the text.
    longest: Option<usize>,
}

impl Weight {
    /// What is wrong with a pattern the function itself says.
    fn of(name: &str, pattern: &str) -> Result<Self> {
        let limit = NFA::config().nfa_size_limit(Some(PATTERN_BYTES_MAX));
        let compiled = match NFA::compiler().configure(limit).build(pattern) {
            Ok(compiled) => compiled,
            Err(error) if error.size_limit().is_some() => return Err(too_large(name)),
            Err(_) => return Ok(Self::default()),
        };
        // For each state a search may have to know where each group began and ended on the way there, now and one byte before.
        let places = compiled.states().len().saturating_mul(compiled.group_info().slot_len());
        if places > PLACES_MAX {
            return Err(too_many_groups(name));
        }
        let parsed = regex_syntax::parse(pattern).ok();
        let properties = parsed.as_ref().map(Hir::properties);
        // Among characters beyond ASCII the quick way of searching ends at each of these.
        let properties = properties.filter(|properties| !properties.look_set().contains_word_unicode());
        let longest = properties.and_then(Properties::maximum_len);
        Ok(Self {
            bytes: compiled.memory_usage() * 2 + places * PLACE_BYTES + REMEMBERED_BYTES_MAX * 2,
            steps: compiled.memory_usage() / STATE_BYTES + places / PLACES_A_STEP + 1,
            longest,
        })
    }

    /// How many steps it takes to find the next match in so many bytes, or all of them, at worst. A search that has found one looks on for no longer than a match may be.
    fn steps(&self, bytes: usize, finds_all: bool) -> usize {
        let again = match finds_all {
            true => {
                bytes.saturating_mul(self.longest.map_or(bytes, |longest| longest.min(bytes))) / BYTES_A_STEP
            }
            false => 0,
        };
        self.steps.saturating_mul(bytes).saturating_add(again)
    }
}

fn too_many_groups(name: &str) -> DataFusionError {
    DataFusionError::Execution(format!(
        "{name} was given a pattern with too many groups for its size: repeat less in it, and write (?:…) for groups that nobody asks for"
    ))
}

/// The patterns that a turn compiles.
#[derive(Default)]
struct Held {
    patterns: Vec<usize>,
    bytes: usize,
}

impl Held {
    /// Patterns that are the same stand together, or have room all at a time.
    fn has_room_for(&mut self, pattern: usize, weight: Weight) -> bool {
        if self.patterns.contains(&pattern) {
            return true;
        }
        let has_room = self.patterns.is_empty() || self.bytes + weight.bytes <= HELD_BYTES_MAX;
        if has_room {
            self.patterns.push(pattern);
            self.bytes += weight.bytes;
        }
        has_room
    }
}
