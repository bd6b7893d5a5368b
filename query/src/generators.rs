//! `generate_series` and `range` in a FROM clause, with a limit to the rows that they make.

use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::Expr;
use std::sync::Arc;

/// Nanoseconds of the shortest day of a time zone, and of the shortest month: a step of so long makes the most rows.
const DAY_NANOS: i128 = 23 * 3_600 * 1_000_000_000;
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
                "{} would make {rows} rows, and {} are what it may make",
                self.name, self.rows_max
            ))),
            _ => self.inner.call_with_args(args),
        }
    }
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
        ScalarValue::IntervalMonthDayNano(step) => {
            let step = (*step)?;
            let long = i128::from(step.months) * MONTH_NANOS + i128::from(step.days) * DAY_NANOS;
            Some(long + i128::from(step.nanoseconds))
        }
        other => point(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::IntervalMonthDayNano;
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
        check(&[instant(0), instant(i64::MAX), every(1, 0, 0)], Some(3_979));
        check(&[lit("a")], None);
        check(&[], None);
    }
}
