//! Whether texts match: `~`, `~*`, `like`, `ilike`, their negations, and `regexp_like`.

use super::like::{self, Plain};
use super::{BYTES_A_STEP, PATTERN_BYTES_MAX, STATE_BYTES, Work, compiled, strings, uncompiled, whole};
use arrow::array::{Array, BooleanArray, BooleanBuilder, StringViewArray};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{ScalarValue, internal_err, plan_err};
use datafusion::error::Result;
use datafusion::execution::SessionStateDefaults;
use datafusion::logical_expr::type_coercion::binary::BinaryTypeCoercer;
use datafusion::logical_expr::{
    ColumnarValue, Expr, Operator, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use regex_automata::Input;
use regex_automata::meta::{Cache, Regex};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, LazyLock};

/// Bytes that the patterns of one call may take with what they remember; then all of them are compiled anew.
const KEPT_BYTES_MAX: usize = 16 << 20;

/// What it takes to compile a pattern, as steps, beside one for each of its bytes.
const STEPS_COMPILING: usize = 100_000;

const FUNCTION: &str = "regexp_like";

/// The engine's own.
static ENGINES: LazyLock<Option<Arc<ScalarUDF>>> = LazyLock::new(|| {
    SessionStateDefaults::default_scalar_functions().into_iter().find(|function| function.name() == FUNCTION)
});

/// What stands for an operator, or for the engine's function.
pub(super) fn function(operator: Option<Operator>) -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::new_from_impl(Matching::new(operator)))
}

pub(super) fn is_engines(function: &Arc<ScalarUDF>) -> bool {
    ENGINES.as_ref() == Some(function)
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Matching {
    operator: Option<Operator>,
    name: String,
    signature: Signature,
}

impl Matching {
    fn new(operator: Option<Operator>) -> Self {
        let name = match operator {
            Some(Operator::LikeMatch) => "LIKE".to_owned(),
            Some(Operator::NotLikeMatch) => "NOT LIKE".to_owned(),
            Some(Operator::ILikeMatch) => "ILIKE".to_owned(),
            Some(Operator::NotILikeMatch) => "NOT ILIKE".to_owned(),
            Some(operator) => operator.to_string(),
            None => FUNCTION.to_owned(),
        };
        Self { operator, name, signature: Signature::variadic_any(Volatility::Immutable) }
    }

    fn is_negated(&self) -> bool {
        use Operator::{NotILikeMatch, NotLikeMatch, RegexNotIMatch, RegexNotMatch};
        matches!(self.operator, Some(RegexNotMatch | RegexNotIMatch | NotLikeMatch | NotILikeMatch))
    }

    /// One that needs no regular expression.
    fn plain<'a>(&self, pattern: &'a str) -> Option<Plain<'a>> {
        match self.operator {
            Some(Operator::LikeMatch | Operator::NotLikeMatch) => Plain::of(pattern),
            _ => None,
        }
    }

    fn plainly(&self, plain: Plain<'_>, text: &str, work: &mut Work<'_>) -> Result<bool> {
        work.begin((text.len() + plain.len()) / BYTES_A_STEP + 1)?;
        Ok(plain.matches(text) != self.is_negated())
    }

    /// A pattern as the regular expression that it means, with its flags in it.
    fn whole(&self, pattern: &str, flags: &str) -> String {
        use Operator::{ILikeMatch, LikeMatch, NotILikeMatch, NotLikeMatch, RegexIMatch, RegexNotIMatch};
        match self.operator {
            Some(LikeMatch | NotLikeMatch) => like::regular(pattern, "s"),
            Some(ILikeMatch | NotILikeMatch) => like::regular(pattern, "si"),
            Some(RegexIMatch | RegexNotIMatch) => whole(pattern, "i"),
            _ => whole(pattern, flags),
        }
    }
}

impl ScalarUDFImpl for Matching {
    fn name(&self) -> &str {
        &self.name
    }

    /// As the operator's, so that columns keep their names.
    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        match (&self.operator, args) {
            (Some(_), [left, right]) => {
                Ok(format!("{} {} {}", left.schema_name(), self.name, right.schema_name()))
            }
            _ => {
                let names: Vec<_> = args.iter().map(|arg| arg.schema_name().to_string()).collect();
                Ok(format!("{}({})", self.name, names.join(",")))
            }
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        match (&self.operator, arg_types) {
            (Some(operator), [left, right]) => {
                BinaryTypeCoercer::new(left, operator, right).get_result_type()
            }
            (None, [DataType::Null, ..]) => Ok(DataType::Null),
            (None, [_, _] | [_, _, _]) => Ok(DataType::Boolean),
            _ => internal_err!("{} was given {} values", self.name, arg_types.len()),
        }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let types: Vec<_> = args.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        let nullable = self.operator.is_none() || args.arg_fields.iter().any(|field| field.is_nullable());
        Ok(Arc::new(Field::new(self.name(), self.return_type(&types)?, nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let constant = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if constant { 1 } else { args.number_rows };
        if args.return_field.data_type().is_null() {
            return Ok(ColumnarValue::Scalar(ScalarValue::Null));
        }
        let [texts, patterns, flags @ ..] = args.args.as_slice() else {
            return internal_err!("{} was given too few values", self.name);
        };
        let texts = strings(texts, rows)?;
        let work = Work::new(&self.name, &args.config_options);
        let matched = match (patterns, flags) {
            (ColumnarValue::Scalar(pattern), []) => {
                self.by_one(&texts, pattern.try_as_str().flatten(), "", work)?
            }
            (ColumnarValue::Scalar(pattern), [ColumnarValue::Scalar(flags)]) => {
                let flags = flags.try_as_str().flatten().unwrap_or_default();
                check_flags(flags)?;
                self.by_one(&texts, pattern.try_as_str().flatten(), flags, work)?
            }
            _ => {
                let flags = flags.first().map(|flags| strings(flags, rows)).transpose()?;
                self.by_many(&texts, &strings(patterns, rows)?, flags.as_ref(), work)?
            }
        };
        match constant {
            true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&matched, 0)?)),
            false => Ok(ColumnarValue::Array(Arc::new(matched))),
        }
    }
}

impl Matching {
    /// One pattern for all texts.
    fn by_one(
        &self,
        texts: &StringViewArray,
        pattern: Option<&str>,
        flags: &str,
        work: Work<'_>,
    ) -> Result<BooleanArray> {
        let Some(pattern) = pattern else { return Ok(BooleanArray::new_null(texts.len())) };
        if let Some(plain) = self.plain(pattern) {
            return in_turns(texts.len(), work, |row, work| {
                let text = texts.is_valid(row).then(|| texts.value(row));
                text.map(|text| self.plainly(plain, text, work)).transpose()
            });
        }
        let pattern = self.whole(pattern, flags);
        let mut held = Held::new(&self.name, &pattern)?;
        in_turns(texts.len(), work, |row, work| {
            if texts.is_null(row) {
                return Ok(None);
            }
            work.begin(held.steps(texts.value(row)))?;
            Ok(Some(held.matches(texts.value(row)) != self.is_negated()))
        })
    }

    /// A pattern for each text.
    fn by_many(
        &self,
        texts: &StringViewArray,
        patterns: &StringViewArray,
        flags: Option<&StringViewArray>,
        work: Work<'_>,
    ) -> Result<BooleanArray> {
        let mut kept = Kept::default();
        in_turns(texts.len(), work, |row, work| {
            if texts.is_null(row) || patterns.is_null(row) {
                return Ok(None);
            }
            let flags = match flags {
                Some(flags) if flags.is_valid(row) => flags.value(row),
                _ => "",
            };
            let (text, pattern) = (texts.value(row), patterns.value(row));
            if let Some(plain) = self.plain(pattern) {
                return self.plainly(plain, text, work).map(Some);
            }
            check_flags(flags)?;
            let (held, compiled) = kept.held(&self.name, self.whole(pattern, flags))?;
            work.steps = work.steps.saturating_add(compiled);
            work.begin(held.steps(text))?;
            let before = held.remembers();
            let found = held.matches(text);
            let grown = held.remembers().saturating_sub(before);
            kept.bytes += grown;
            Ok(Some(found != self.is_negated()))
        })
    }
}

/// What is found for each row, with a look at the deadline now and then.
fn in_turns(
    rows: usize,
    mut work: Work<'_>,
    mut one: impl FnMut(usize, &mut Work<'_>) -> Result<Option<bool>>,
) -> Result<BooleanArray> {
    let mut found = BooleanBuilder::with_capacity(rows);
    let mut row = 0;
    while row < rows {
        work.turn(|work| {
            while row < rows && !work.turn_is_over() {
                found.append_option(one(row, work)?);
                row += 1;
            }
            Ok(())
        })?;
    }
    Ok(found.finish())
}

/// The function's own, as the engine says it.
fn check_flags(flags: &str) -> Result<()> {
    match flags.contains('g') {
        true => plan_err!("regexp_like() does not support the \"global\" option"),
        false => Ok(()),
    }
}

/// A pattern with what its searches remember.
struct Held {
    pattern: Regex,
    remembered: Cache,
    /// Of the pattern, in both ways in which it may go through a text.
    bytes: usize,
}

impl Held {
    fn new(name: &str, pattern: &str) -> Result<Self> {
        let pattern = compiled(pattern, PATTERN_BYTES_MAX).map_err(|error| uncompiled(name, &error))?;
        let (remembered, bytes) = (pattern.create_cache(), pattern.memory_usage());
        Ok(Self { pattern, remembered, bytes })
    }

    fn matches(&mut self, text: &str) -> bool {
        self.pattern.search_half_with(&mut self.remembered, &Input::new(text).earliest(true)).is_some()
    }

    /// How many a search takes at worst.
    fn steps(&self, text: &str) -> usize {
        (self.bytes / 2 / STATE_BYTES + 1).saturating_mul(text.len())
    }

    fn remembers(&self) -> usize {
        self.remembered.memory_usage()
    }
}

/// The patterns of one call, as far as they have room.
#[derive(Default)]
struct Kept {
    by_pattern: HashMap<String, Held>,
    bytes: usize,
}

impl Kept {
    /// The pattern, and how many steps it took to compile it now.
    fn held(&mut self, name: &str, pattern: String) -> Result<(&mut Held, usize)> {
        if self.bytes > KEPT_BYTES_MAX {
            self.by_pattern.clear();
            self.bytes = 0;
        }
        Ok(match self.by_pattern.entry(pattern) {
            Entry::Occupied(held) => (held.into_mut(), 0),
            Entry::Vacant(free) => {
                let held = Held::new(name, free.key())?;
                self.bytes += held.bytes + held.remembers();
                let steps = held.bytes + STEPS_COMPILING;
                (free.insert(held), steps)
            }
        })
    }
}
