//! Regular expressions and the patterns of `like`, with limits to their memory and their time.
//!
//! The engine compiles every pattern that a batch of rows has and keeps all of them until the batch is done, uncounted; and nothing in a filter looks at the deadline of its query
//! while a pattern of thousands of states goes through thousands of texts. Here a pattern has a size, few are kept at a time, rows are looked at few at a time, and the deadline
//! between.
//!
//! `matching` says whether a text matches (`~`, `like` and `regexp_like`), `searching` stands around the functions that find what does.
//!
//! What the engine makes of a pattern that is written out, as `like 'a%'` of `~ '^a'`, is quicker and prunes files: so such patterns are left to it while it optimises, as long as they are
//! small. What is left of them in the end is put in place here (`BoundedPatterns`).

mod like;
mod matching;
mod searching;

pub(super) use searching::searching;

use crate::interruption::handing_over;
use crate::planning::check_time;
use arrow::array::{AsArray, StringViewArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{BinaryExpr, ColumnarValue, Expr, Like, LogicalPlan, Operator};
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};
use regex_automata::meta::{BuildError, Regex};
use regex_automata::nfa::thompson::WhichCaptures;
use std::time::{Duration, Instant};

/// Bytes of a compiled pattern, one way: as the engine has it. `\w` takes some 35 KB, so that there is room for two hundred, as in `\w{1,200}`.
const PATTERN_BYTES_MAX: usize = 10 << 20;

/// Bytes of one that is left to the engine while it optimises: there it may be tried on constants.
const PATTERN_BYTES_EASY: usize = 64 << 10;

/// Groups of such a one.
const GROUPS_EASY: usize = 64;

/// Bytes that a search remembers beside its pattern, each way.
const REMEMBERED_BYTES_MAX: usize = 2 << 20;

/// Bytes of a compiled pattern for each of its states, one way, about: at worst all of them are looked at for each byte of a text.
const STATE_BYTES: usize = 16;

/// Bytes of a text that are looked at in a step, where nothing is looked for but the next match, or a text. Where all matches are, each search may go to the end of the text.
const BYTES_A_STEP: usize = 8;

/// Steps that may be taken before the deadline is looked at: a tenth of a second at worst. Most patterns take far fewer than at worst: where they do, more may be taken the next time.
const STEPS_FIRST: usize = 20_000_000;
const STEPS_BETWEEN: usize = 500_000_000;
const STEPS_GROW: usize = 16;

/// How long a thread works on one call before its other tasks are moved to another.
const ALONE: Duration = Duration::from_millis(10);

/// Steps for one text: some seconds at worst, in which nothing ends a search.
const STEPS_MAX: usize = 1_000_000_000;

/// Puts matching with limits in place of the engine's, once the engine has made of a pattern what it can.
#[derive(Debug)]
pub(crate) struct BoundedPatterns;

impl OptimizerRule for BoundedPatterns {
    fn name(&self) -> &str {
        "bounded_patterns"
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        plan.transform_up_with_subqueries(|step| {
            let names = NamePreserver::new(&step);
            step.map_expressions(|expr| {
                let name = names.save(&expr);
                let expr = expr.transform_up(|expr| Ok(replaced(expr, |_, _| false, like::is_easy)))?;
                Ok(expr.update_data(|expr| name.restore(expr)))
            })
        })
    }
}

/// The same for what the engine is not to try on constants.
pub(super) fn replaced_unless_easy(expr: Expr) -> Transformed<Expr> {
    replaced(expr, is_easy, |like| like::is_easy(like) || !like::is_constant(like))
}

fn replaced(
    expr: Expr,
    is_left: impl Fn(&Expr, Option<&Expr>) -> bool,
    is_left_like: impl Fn(&Like) -> bool,
) -> Transformed<Expr> {
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if is_match(op) && !is_left(&right, None) => {
            let args = vec![*left, *right];
            Transformed::yes(Expr::ScalarFunction(ScalarFunction::new_udf(
                matching::function(Some(op)),
                args,
            )))
        }
        Expr::Like(like) if like::is_understood(&like) && !is_left_like(&like) => {
            let function = matching::function(Some(like::operator(&like)));
            let args = vec![*like.expr, *like.pattern];
            Transformed::yes(Expr::ScalarFunction(ScalarFunction::new_udf(function, args)))
        }
        Expr::ScalarFunction(ScalarFunction { func, args })
            if matching::is_engines(&func) && !args.get(1).is_some_and(|arg| is_left(arg, args.get(2))) =>
        {
            Transformed::yes(Expr::ScalarFunction(ScalarFunction::new_udf(matching::function(None), args)))
        }
        other => Transformed::no(other),
    }
}

fn is_match(op: Operator) -> bool {
    matches!(
        op,
        Operator::RegexMatch | Operator::RegexIMatch | Operator::RegexNotMatch | Operator::RegexNotIMatch
    )
}

/// Whether a pattern is written out, right, and small.
fn is_easy(pattern: &Expr, flags: Option<&Expr>) -> bool {
    let Some(pattern) = written(pattern) else { return false };
    // The engine has places for all of them.
    if pattern.matches('(').count() > GROUPS_EASY {
        return false;
    }
    let flags = match flags {
        None => "",
        Some(flags) => match written(flags) {
            Some(flags) => flags,
            None => return false,
        },
    };
    let compiled = compiled(&whole(pattern, flags), PATTERN_BYTES_EASY);
    compiled.is_ok_and(|pattern| pattern.memory_usage() <= PATTERN_BYTES_EASY)
}

fn written(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Literal(value, _) => value.try_as_str().map(Option::unwrap_or_default),
        Expr::Cast(cast) => written(&cast.expr),
        Expr::Alias(alias) => written(&alias.expr),
        _ => None,
    }
}

/// A pattern with its flags, of which `g` is one of the function and not of the pattern.
fn whole(pattern: &str, flags: &str) -> String {
    let flags = flags.replace('g', "");
    match flags.is_empty() {
        true => pattern.to_owned(),
        false => format!("(?{flags}){pattern}"),
    }
}

/// As the engine compiles it, with a limit, and without what is only of use to whoever asks where groups are: a search would remember all of them for each state.
fn compiled(whole: &str, bytes_max: usize) -> Result<Regex, Box<BuildError>> {
    let limits = Regex::config()
        .nfa_size_limit(Some(bytes_max))
        .hybrid_cache_capacity(REMEMBERED_BYTES_MAX)
        .which_captures(WhichCaptures::Implicit)
        .onepass(false);
    Regex::builder().configure(limits).build(whole).map_err(Box::new)
}

/// What is wrong with a pattern.
fn uncompiled(name: &str, error: &BuildError) -> DataFusionError {
    if error.size_limit().is_some() {
        return too_large(name);
    }
    let why = error.syntax_error().map_or_else(|| error.to_string(), ToString::to_string);
    DataFusionError::Execution(format!("{name} was given what is no regular expression: {why}"))
}

fn too_large(name: &str) -> DataFusionError {
    DataFusionError::Execution(format!(
        "{name} was given a pattern that takes more than {PATTERN_BYTES_MAX} bytes: take a shorter one; where it is a regular expression, repeat less in it, and write [a-z] for \\w, [0-9] for \\d"
    ))
}

/// What a function is given, as texts.
fn strings(value: &ColumnarValue, rows: usize) -> Result<StringViewArray> {
    let values = value.to_array(rows)?;
    Ok(cast(&values, &DataType::Utf8View)?.as_string_view().clone())
}

/// The work of one call, which ends with its query.
struct Work<'a> {
    name: &'a str,
    settings: &'a ConfigOptions,
    began: Instant,
    /// Since the deadline was looked at.
    steps: usize,
    /// How many there may be.
    steps_between: usize,
}

impl<'a> Work<'a> {
    fn new(name: &'a str, settings: &'a ConfigOptions) -> Self {
        Self { name, settings, began: Instant::now(), steps: 0, steps_between: STEPS_FIRST }
    }

    /// As much as may be done between two looks at the deadline. From the second time on, or so, others no longer wait for this thread.
    fn turn<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.check()?;
        self.steps = 0;
        let began = Instant::now();
        let done = match began.duration_since(self.began) < ALONE {
            true => work(self),
            false => handing_over(|| work(self)),
        };
        self.steps_between = match began.elapsed() < ALONE {
            true => (self.steps_between * STEPS_GROW).min(STEPS_BETWEEN),
            false => STEPS_FIRST,
        };
        done
    }

    fn check(&self) -> Result<()> {
        check_time(self.settings)
    }

    fn turn_is_over(&self) -> bool {
        self.steps > self.steps_between
    }

    /// Before the work on one text.
    fn begin(&mut self, steps: usize) -> Result<()> {
        self.steps = self.steps.saturating_add(steps);
        match steps > STEPS_MAX {
            false => Ok(()),
            true => Err(DataFusionError::Execution(format!(
                "{} would take more than {STEPS_MAX} steps for one text: take less of it, as with substr(payload, 1, 1000), or a smaller pattern",
                self.name
            ))),
        }
    }
}
