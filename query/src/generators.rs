//! `generate_series` and `range` in a FROM clause, with a limit to the rows that they make.

use arrow::datatypes::IntervalMonthDayNano;
use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::Expr;
use std::sync::Arc;

const DAY_NANOS: i128 = 86_400 * 1_000_000_000;

/// Of the shortest month: a step of so long makes the most rows.
const MONTH_NANOS: i128 = 28 * DAY_NANOS;

/// Puts the limit on every function that makes tables.
pub(crate) fn bound(state: &mut SessionState, rows_max: u64) {
    let functions: Vec<_> = state
        .table_functions()
        .iter()
        .map(|(name, function)| (name.clone(), Arc::clone(function.function())))
        .collect();
    for (name, inner) in functions {
        state.register_udtf(&name, Arc::new(Bounded { name: name.clone(), inner, rows_max }));
    }
}

#[derive(Debug)]
struct Bounded {
    name: String,
    inner: Arc<dyn TableFunctionImpl>,
    rows_max: u64,
}

impl TableFunctionImpl for Bounded {
    fn call_with_args(&self, args: TableFunctionArgs<'_, '_>) -> Result<Arc<dyn TableProvider>> {
        match rows(args.exprs()) {
            Some(rows) if rows > i128::from(self.rows_max) => Err(DataFusionError::Plan(format!(
                "{} would make {rows} rows, and {} are what it may make: end earlier, or take wider steps",
                self.name, self.rows_max
            ))),
            _ => self.inner.call_with_args(args),
        }
    }
}

/// Nanoseconds that a step goes at least; none where it goes forth and back at once: such a step, as a month less 30 days, may never come to an end.
pub(crate) fn stride(step: IntervalMonthDayNano) -> Option<i128> {
    let parts = [i128::from(step.months), i128::from(step.days), i128::from(step.nanoseconds)];
    let one_way = parts.iter().all(|part| *part >= 0) || parts.iter().all(|part| *part <= 0);
    let [months, days, nanos] = parts;
    one_way.then_some(months * MONTH_NANOS + days * DAY_NANOS + nanos)
}

/// How many rows, as far as the arguments can be understood here; what they cannot be is for the function itself to refuse.
fn rows(args: &[Expr]) -> Option<i128> {
    let literals: Vec<_> = args.iter().map(literal).collect::<Option<_>>()?;
    let (start, end, step) = match literals.as_slice() {
        [end] => (0, point(end)?, 1),
        [start, end] => (point(start)?, point(end)?, 1),
        [start, end, step] => (point(start)?, point(end)?, step_of(step)?),
        _ => return None,
    };
    Some((end - start).checked_div(step)?.max(-1) + 1)
}

fn literal(expr: &Expr) -> Option<&ScalarValue> {
    match expr {
        Expr::Literal(value, _) => Some(value),
        _ => None,
    }
}

/// A number, or an instant in nanoseconds.
fn point(value: &ScalarValue) -> Option<i128> {
    match value {
        ScalarValue::Int64(number) | ScalarValue::TimestampNanosecond(number, _) => {
            Some(i128::from((*number)?))
        }
        ScalarValue::Date32(days) => Some(i128::from((*days)?) * DAY_NANOS),
        _ => None,
    }
}

fn step_of(value: &ScalarValue) -> Option<i128> {
    match value {
        ScalarValue::IntervalMonthDayNano(step) => stride((*step)?),
        other => point(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::logical_expr::lit;

    #[test]
    fn rows_are_known_before_they_are_made() {
        let check = |args: &[Expr], expected: Option<i128>| assert_eq!(rows(args), expected, "{args:?}");
        let instant = |nanos: i64| lit(ScalarValue::TimestampNanosecond(Some(nanos), None));
        let every = |months, days, nanos| {
            lit(ScalarValue::IntervalMonthDayNano(Some(IntervalMonthDayNano::new(months, days, nanos))))
        };
        check(&[lit(10_i64)], Some(11));
        check(&[lit(1_i64), lit(10_i64)], Some(10));
        check(&[lit(10_i64), lit(1_i64)], Some(0));
        check(&[lit(10_i64), lit(1_i64), lit(-3_i64)], Some(4));
        check(&[lit(i64::MIN), lit(i64::MAX)], Some(i128::from(u64::MAX) + 1));
        check(&[lit(1_i64), lit(2_i64), lit(0_i64)], None);
        check(&[instant(0), instant(1_000), every(0, 0, 10)], Some(101));
        check(&[instant(0), instant(i64::MAX), every(1, 0, 0)], Some(3_813));
        check(&[instant(0), instant(1_000), every(1, -30, 0)], None);
        check(&[lit("a")], None);
        check(&[], None);
    }
}
