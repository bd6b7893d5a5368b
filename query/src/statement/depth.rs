//! How deep the expressions of a question may be, and how those of many conditions are made less so.
//!
//! Whatever walks through an expression takes a step of stack for each level of it, and a thread has 2 MiB. As it is written, `a or b or c` is as deep as it has
//! conditions; since it does not matter to AND and OR which two are taken first, they are put together pair by pair, and a thousand are ten levels.

use super::bounds::too_large;
use crate::error::{Place, QueryError, QueryErrorKind};
use crate::interruption::handing_over;
use datafusion::sql::parser::Statement as Parsed;
use sqlparser::ast::{BinaryOperator, Expr, Spanned, Value, VisitMut, VisitorMut};
use std::ops::ControlFlow;
use std::panic::resume_unwind;
use std::thread;

/// Levels of an expression, brackets included. The engine's way of naming a column takes up to 8 KiB of stack for each.
const LEVELS_MAX: usize = 150;

/// Conditions that one chain of AND or OR may have: the engine makes deep chains of them again. Twice as many still fit onto a thread's stack, unoptimised.
const CONDITIONS_MAX: usize = 200;

/// Chains up to this long stay as they are written.
const CONDITIONS_LEFT: usize = 16;

/// Stack for statements whose depth is not known yet, and for planning: that goes down an expression of many conditions step by step, with more stack for each than anything that comes later. The longest one that is parsed is one of 50,000 levels, and to drop one takes less than a KiB.
pub(crate) const STACK_BYTES: usize = 128 << 20;

/// Does it on a stack on which no statement is too deep. Only what is used of it costs memory.
pub(crate) fn with_room<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, QueryError> {
    // Who waits for a thread does no more than that, and for a large statement it is a while.
    handing_over(|| run_with_room(work))
}

fn run_with_room<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, QueryError> {
    thread::scope(|scope| {
        let started = thread::Builder::new()
            .name("planner".to_owned())
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, work)
            .map_err(|error| {
                QueryError::new(QueryErrorKind::Internal, format!("failed to start a thread: {error}"))
            })?;
        Ok(started.join().unwrap_or_else(|panic| resume_unwind(panic)))
    })
}

/// The same statement with its chains of conditions made level, if it is not too deep.
pub(super) fn levelled(mut parsed: Parsed) -> Result<Parsed, QueryError> {
    match level(&mut parsed) {
        ControlFlow::Continue(()) => Ok(parsed),
        ControlFlow::Break(refusal) => Err(*refusal),
    }
}

fn level(parsed: &mut Parsed) -> ControlFlow<Box<QueryError>> {
    match parsed {
        Parsed::Statement(ast) => ast.visit(&mut Leveller::default()),
        Parsed::Explain(explain) => level(&mut explain.statement),
        Parsed::CreateExternalTable(_) | Parsed::CopyTo(_) | Parsed::Reset(_) => ControlFlow::Continue(()),
    }
}

#[derive(Debug, Default)]
struct Leveller {
    levels: usize,
}

impl VisitorMut for Leveller {
    type Break = Box<QueryError>;

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Self::Break> {
        if let Expr::BinaryOp { op: op @ (BinaryOperator::And | BinaryOperator::Or), .. } = expr {
            let op = op.clone();
            let conditions = apart(std::mem::replace(expr, Expr::Value(Value::Null.into())), &op);
            if conditions.len() > CONDITIONS_MAX {
                let place = conditions.get(CONDITIONS_MAX).and_then(|one| Place::of_span(one.span()));
                return ControlFlow::Break(Box::new(
                    too_large("it has more conditions in one chain", CONDITIONS_MAX as u64)
                        .at(place, "one too many")
                        .hint("compare with a list: column in (1, 2, 3)"),
                ));
            }
            *expr = together(conditions, &op);
        }
        self.levels += 1;
        match self.levels > LEVELS_MAX {
            false => ControlFlow::Continue(()),
            true => ControlFlow::Break(Box::new(
                too_large("it has more operators and functions within each other", LEVELS_MAX as u64)
                    .at(Place::of_span(expr.span()), "too deep"),
            )),
        }
    }

    fn post_visit_expr(&mut self, _: &mut Expr) -> ControlFlow<Self::Break> {
        self.levels -= 1;
        ControlFlow::Continue(())
    }
}

/// What stands between the operators, in order.
fn apart(chain: Expr, op: &BinaryOperator) -> Vec<Expr> {
    let mut conditions = Vec::new();
    let mut rest = chain;
    loop {
        match rest {
            Expr::BinaryOp { left, op: between, right } if between == *op => {
                conditions.push(*right);
                rest = *left;
            }
            first => {
                conditions.push(first);
                conditions.reverse();
                return conditions;
            }
        }
    }
}

/// The conditions with the operator between them: pairs, pairs of pairs, and so on; few of them one after the other, as they were.
fn together(mut conditions: Vec<Expr>, op: &BinaryOperator) -> Expr {
    let pair = |left, right| Expr::BinaryOp { left: Box::new(left), op: op.clone(), right: Box::new(right) };
    while conditions.len() > CONDITIONS_LEFT {
        let mut pairs = Vec::with_capacity(conditions.len().div_ceil(2));
        let mut rest = conditions.into_iter();
        while let Some(left) = rest.next() {
            pairs.push(match rest.next() {
                Some(right) => pair(left, right),
                None => left,
            });
        }
        conditions = pairs;
    }
    conditions.into_iter().reduce(pair).unwrap_or_else(|| Expr::Value(Value::Null.into()))
}

#[cfg(test)]
mod tests {
    use super::{CONDITIONS_MAX, LEVELS_MAX};
    use crate::statement::Question;
    use datafusion::sql::parser::Statement as Parsed;

    fn check(sql: &str, expected: Option<&str>) {
        let found = Question::parse(sql).err().map(|error| error.to_string());
        let begin = &sql[..sql.len().min(60)];
        match (found, expected) {
            (None, None) => {}
            (Some(found), Some(expected)) => assert!(found.contains(expected), "{begin}: {found}"),
            (found, expected) => panic!("{begin}: {found:?} instead of {expected:?}"),
        }
    }

    fn chain(count: usize, operator: &str) -> String {
        format!("select 1{}", format!("{operator}1").repeat(count))
    }

    #[test]
    fn an_expression_has_so_many_levels() {
        check(&chain(LEVELS_MAX - 1, " + "), None);
        check(&chain(LEVELS_MAX, " + "), Some("within each other than 150"));
        for operator in [" + ", " || ", "=", " like ", " xor "] {
            check(&chain(10_000, operator), Some("too large"));
        }
        for suffix in ["::int", " is null", " at time zone 'UTC'"] {
            check(&format!("select 1{}", suffix.repeat(10_000)), Some("too large"));
        }
        check(&format!("select {}", vec!["a + b"; 1_000].join(", ")), None);
        check(&format!("select f({}) + 1", vec!["a + b"; 1_000].join(", ")), None);
        check(&format!("select {}1{}", "(1 + ".repeat(20), ")".repeat(20)), None);
        check(&format!("select {}1{}", "(1 + ".repeat(4_000), ")".repeat(4_000)), Some("nested too deeply"));
        check(&format!("select 1 = 1{}", " between 1 and 1".repeat(10_000)), Some("too large"));
        check(&vec!["select count(*) from t where a > 1 and b < 2"; 41].join(" union all "), None);
        check(&format!("select case {} end from t", "when code = 1 then 2 ".repeat(1_000)), None);
    }

    #[test]
    fn a_chain_has_so_many_conditions() {
        for operator in [" or ", " and "] {
            check(&chain(CONDITIONS_MAX - 1, operator), None);
            check(&chain(CONDITIONS_MAX, operator), Some("in one chain than 200"));
            check(&chain(20_000, operator), Some("in one chain than 200"));
        }
        check(&format!("select ({}) and ({})", &chain(150, " or ")[7..], &chain(150, " or ")[7..]), None);
    }

    #[test]
    fn conditions_keep_their_order() {
        for count in 0..70 {
            let conditions: Vec<_> = (0..=count).map(|number| format!("a = {number} AND b OR c")).collect();
            let sql = format!("SELECT {} FROM t", conditions.join(" OR "));
            let Parsed::Statement(ast) = Question::parse(&sql).unwrap().parsed else { panic!("{sql}") };
            assert_eq!(ast.to_string(), sql);
        }
    }
}
