//! How large a question may be. What no person writes would cost stack or time before any limit of a session can end it: planning never pauses.

use super::{normal_ident, normal_name};
use crate::error::{Place, QueryError, QueryErrorKind};
use datafusion::sql::parser::Statement as Parsed;
use sqlparser::ast::{
    ArrayElemTypeDef, DataType, Expr, Function, NamedWindowDefinition, NamedWindowExpr, ObjectName, Query,
    Select, SelectItem, TypedString, Visit, Visitor, WindowFrame, WindowFrameBound, WindowSpec, WindowType,
};
use sqlparser::dialect::GenericDialect;
use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};
use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;

/// Words, numbers and signs of a statement. Longer ones are lists of values, of which this leaves room for 25,000.
const TOKENS_MAX: usize = 50_000;

/// Queries joined by UNION and the like, and tables by JOIN.
const JOINED_MAX: usize = 100;

/// Tables that a statement reads, those of a common table expression counted where it is defined and as often as it is named: ten of them, each naming the one
/// before twice, are a thousand. Planning grows with their square, and with all of their columns: 240 small ones took it ten times as long as 100.
const TABLES_MAX: u64 = 100;

/// Columns of all the CUBEs: each doubles the groupings.
const CUBED_MAX: usize = 8;

/// WITHs within each other. Who looks for tables walks twice through what each of them defines, the WITHs in it included: eight are 256 times.
const WITHIN_MAX: usize = 8;

/// Queries that WITHs define. Planning copies for each of them those that stand before it.
const DEFINED_MAX: usize = 250;

/// Stars of one SELECT: each stands for all columns, of which a table may have hundreds.
const STARS_MAX: usize = 20;

/// Rows to which a window reaches back or ahead. The engine adds it to the number of a row, and may not come beyond what such a number can be.
const REACH_MAX: u64 = i64::MAX as u64;

/// Judges the text before it is parsed.
pub(super) fn check_text(sql: &str) -> Result<(), QueryError> {
    // What is no SQL the parser explains better.
    let Ok(tokens) = Tokenizer::new(&GenericDialect {}, sql).tokenize_with_location() else { return Ok(()) };
    let mut size = Size::default();
    for token in &tokens {
        size.take(token)?;
    }
    Ok(())
}

/// What was met so far.
#[derive(Debug, Default)]
struct Size {
    tokens: usize,
    joined: usize,
}

impl Size {
    fn take(&mut self, token: &TokenWithSpan) -> Result<(), QueryError> {
        match &token.token {
            Token::Whitespace(_) | Token::EOF => return Ok(()),
            Token::Word(word) if is_join(word.keyword) => self.joined += 1,
            _ => {}
        }
        self.tokens += 1;
        let judged = [
            (self.tokens > TOKENS_MAX, "it has more words and signs", TOKENS_MAX),
            (self.joined > JOINED_MAX, "it joins or unites more", JOINED_MAX),
        ];
        match judged.into_iter().find(|(beyond, ..)| *beyond) {
            None => Ok(()),
            Some((_, what, most)) => {
                Err(too_large(what, most as u64).at(Place::of_span(token.span), "one too many"))
            }
        }
    }
}

fn is_join(keyword: Keyword) -> bool {
    matches!(keyword, Keyword::JOIN | Keyword::UNION | Keyword::EXCEPT | Keyword::INTERSECT | Keyword::MINUS)
}

pub(super) fn too_large(what: &str, most: u64) -> QueryError {
    QueryError::new(QueryErrorKind::Forbidden, format!("the statement is too large: {what} than {most}"))
}

/// Judges how much of it would be walked through more than once, how many tables would be read, and in how many ways grouped.
pub(super) fn check_tables(parsed: &Parsed) -> Result<(), QueryError> {
    let mut tables = Tables::default();
    match parsed {
        Parsed::Statement(ast) => {
            if let ControlFlow::Break(refusal) = ast.visit(&mut Repeats::default()) {
                return Err(*refusal);
            }
            _ = ast.visit(&mut tables);
        }
        Parsed::Explain(explain) => return check_tables(&explain.statement),
        Parsed::CreateExternalTable(_) | Parsed::CopyTo(_) | Parsed::Reset(_) => {}
    }
    match tables {
        Tables { fixed: true, .. } => {
            Err(QueryError::new(QueryErrorKind::Forbidden, "a cast to a type of fixed size is not supported"))
        }
        Tables { cubed, .. } if cubed > CUBED_MAX => {
            Err(too_large("its CUBEs have more columns", CUBED_MAX as u64)
                .hint("name the groupings: GROUPING SETS"))
        }
        Tables { read, .. } if read <= TABLES_MAX => Ok(()),
        _ => Err(too_large("its tables, each counted as often as it is read, are more", TABLES_MAX)
            .hint("a WITH query is computed anew wherever it is named")),
    }
}

/// Refuses what stands for far more than is written.
#[derive(Debug, Default)]
struct Repeats {
    within: usize,
    defined: usize,
}

impl Visitor for Repeats {
    type Break = Box<QueryError>;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Self::Break> {
        let Some(with) = &query.with else { return ControlFlow::Continue(()) };
        self.within += 1;
        self.defined += with.cte_tables.len();
        let refused = match (self.within > WITHIN_MAX, self.defined > DEFINED_MAX) {
            (true, _) => too_large("it has more WITHs within each other", WITHIN_MAX as u64)
                .hint("write what they define one after the other: with a as (…), b as (… from a)"),
            (_, true) => too_large("its WITHs define more queries", DEFINED_MAX as u64),
            _ => return ControlFlow::Continue(()),
        };
        ControlFlow::Break(Box::new(refused.at(Place::of_span(with.with_token.0.span), "one too many")))
    }

    fn post_visit_query(&mut self, query: &Query) -> ControlFlow<Self::Break> {
        self.within -= usize::from(query.with.is_some());
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Self::Break> {
        match expr {
            Expr::Function(Function { over: Some(WindowType::WindowSpec(window)), .. }) => {
                check_reach(window)
            }
            _ => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<Self::Break> {
        for NamedWindowDefinition(_, window) in &select.named_window {
            if let NamedWindowExpr::WindowSpec(window) = window {
                check_reach(window)?;
            }
        }
        let is_star =
            |item: &&SelectItem| matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..));
        match select.projection.iter().filter(is_star).count() > STARS_MAX {
            false => ControlFlow::Continue(()),
            true => ControlFlow::Break(Box::new(
                too_large("a SELECT of it has more stars", STARS_MAX as u64)
                    .hint("name the columns that are wanted"),
            )),
        }
    }
}

fn check_reach(window: &WindowSpec) -> ControlFlow<Box<QueryError>> {
    let Some(WindowFrame { units: _, start_bound, end_bound }) = &window.window_frame else {
        return ControlFlow::Continue(());
    };
    let reach = |bound: &WindowFrameBound| match bound {
        WindowFrameBound::Preceding(Some(rows)) | WindowFrameBound::Following(Some(rows)) => number(rows),
        _ => None,
    };
    match [Some(start_bound), end_bound.as_ref()].into_iter().flatten().filter_map(reach).max() {
        Some(rows) if rows > REACH_MAX => ControlFlow::Break(Box::new(
            too_large("a window of it reaches to more rows", REACH_MAX).hint("unbounded preceding"),
        )),
        _ => ControlFlow::Continue(()),
    }
}

/// What stands in quotes there is parsed as an interval.
fn number(written: &Expr) -> Option<u64> {
    match written {
        Expr::Interval(interval) => number(&interval.value),
        Expr::Value(value) => {
            value.clone().into_string().unwrap_or_else(|| value.to_string()).trim().parse().ok()
        }
        _ => None,
    }
}

/// Counts tables.
#[derive(Debug, Default, Clone)]
struct Tables {
    read: u64,
    cubed: usize,
    /// Whether something is cast to a type that has a size of its own.
    fixed: bool,
    /// What is defined, by the name under which the engine looks it up.
    defined: HashMap<String, u64>,
    /// The same as it was outside of each query with a WITH that is being walked through.
    outside: Vec<HashMap<String, u64>>,
    /// Whether only that is counted which a name stands for: what is defined within it is counted on its own.
    expanded: bool,
    /// How many definitions lie around, where those are passed over, and which queries they are.
    within: usize,
    definitions: HashSet<*const Query>,
}

impl Tables {
    fn of(&self, query: &Query) -> u64 {
        let mut inner = Self { defined: self.defined.clone(), expanded: true, ..Self::default() };
        _ = query.visit(&mut inner);
        inner.read
    }
}

fn named(function: &Function, name: &str) -> bool {
    normal_name(&function.name).last().is_some_and(|last| last.eq_ignore_ascii_case(name))
}

/// Whether values of this type have so many places whatever is put into them: `int[2000000000]`.
fn is_sized(kind: &DataType) -> bool {
    match kind {
        DataType::Array(ArrayElemTypeDef::SquareBracket(_, Some(_))) | DataType::FixedString(_) => true,
        DataType::Array(
            ArrayElemTypeDef::SquareBracket(inner, None)
            | ArrayElemTypeDef::AngleBracket(inner)
            | ArrayElemTypeDef::Parenthesis(inner),
        )
        | DataType::Nullable(inner)
        | DataType::LowCardinality(inner) => is_sized(inner),
        DataType::Map(key, value) => is_sized(key) || is_sized(value),
        DataType::Struct(fields, _) | DataType::Tuple(fields) => {
            fields.iter().any(|field| is_sized(&field.field_type))
        }
        _ => false,
    }
}

impl Visitor for Tables {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        self.within += usize::from(self.definitions.contains(&std::ptr::from_ref(query)));
        if query.with.is_some() {
            self.outside.push(self.defined.clone());
        }
        for defined in query.with.iter().flat_map(|with| &with.cte_tables) {
            let read = self.of(&defined.query);
            self.defined.insert(normal_ident(&defined.alias.name), read.max(1));
            if self.expanded {
                self.definitions.insert(std::ptr::from_ref(&*defined.query));
            }
            if read > TABLES_MAX {
                self.read = read;
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        if query.with.is_some() {
            self.defined = self.outside.pop().unwrap_or_default();
        }
        self.within -= usize::from(self.definitions.contains(&std::ptr::from_ref(query)));
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        match expr {
            Expr::Cube(columns) => self.cubed += columns.len(),
            // `FixedSizeList(2000000000, Int64)` has so many places whatever is put into them.
            Expr::Function(function)
                if named(function, "arrow_cast") || named(function, "arrow_try_cast") =>
            {
                self.fixed |= function.to_string().to_lowercase().contains("fixedsize");
            }
            Expr::Cast { data_type, .. }
            | Expr::Convert { data_type: Some(data_type), .. }
            | Expr::TypedString(TypedString { data_type, .. }) => self.fixed |= is_sized(data_type),
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<()> {
        if self.within > 0 {
            return ControlFlow::Continue(());
        }
        // As the engine does it: a dot is a dot, whether it stands in a name or between two.
        let read = self.defined.get(&normal_name(relation).join(".")).copied().unwrap_or(1);
        self.read = self.read.saturating_add(read);
        match self.read > TABLES_MAX {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::statement::Question;

    fn check(sql: &str, expected: Option<&str>) {
        let found = Question::parse(sql).err().map(|error| error.to_string());
        let begin = &sql[..sql.len().min(60)];
        match (found, expected) {
            (None, None) => {}
            (Some(found), Some(expected)) => assert!(found.contains(expected), "{begin}: {found}"),
            (found, expected) => panic!("{begin}: {found:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn a_statement_has_so_many_words() {
        check(&format!("select 1 in ({})", vec!["1"; 20_000].join(",")), None);
        check(&format!("select 1 in ({})", vec!["1"; 30_000].join(",")), Some("words and signs"));
        check(&vec!["select 1"; 101].join(" union all "), None);
        check(&vec!["select 1"; 102].join(" union all "), Some("joins or unites"));
        check(")))", Some("expected"));
    }

    #[test]
    fn a_table_counts_as_often_as_it_is_read() {
        let doubling = |count: usize, quote: &str| {
            let name = |index: usize| format!("{quote}t{index}{quote}");
            let read = |index: usize| format!("select 1 from {} a, {} b", name(index), name(index));
            let steps: Vec<_> =
                (0..count).map(|index| format!("{} as ({})", name(index + 1), read(index))).collect();
            format!("{} as (select 1), {} select 1 from {}", name(0), steps.join(", "), name(count))
        };
        for quote in ["", "\"", "`"] {
            check(&format!("with {}", doubling(5, quote)), None);
            check(&format!("with {}", doubling(6, quote)), Some("as often as it is read"));
            check(&format!("with {}", doubling(90, quote)), Some("as often as it is read"));
            check(&format!("explain with {}", doubling(90, quote)), Some("as often as it is read"));
        }
        check(&format!("with {}", doubling(90, "").replace("from t90", "from \"t90\"")), Some("as often"));
        check(&format!("with {}", doubling(90, "\"").replace("from \"t90\"", "from T90")), Some("as often"));
        // What a name stands for within brackets is no business of those outside.
        let twice = format!("{}, t5", doubling(5, ""));
        check(&format!("with {twice}"), Some("as often as it is read"));
        let inside = "z as (with t5 as (select 1) select 1 from t5)";
        check(&format!("with {inside}, {twice}"), Some("as often as it is read"));
        // Small letters are made of ASCII alone.
        check(&format!("with {}, \"Ä\"", doubling(5, "").replace("t5", "Ä")), Some("as often as it is read"));
        check(&format!("with {inside}, {}", doubling(4, "")), None);
        check("select 1 from t group by cube (a, b, c, d), cube (e, f, g, h)", None);
        check("select 1 from t group by cube (a, b, c, d), cube (e, f, g, h, i)", Some("CUBEs"));
        check(&format!("select 1 from {}", vec!["t"; 101].join(", ")), Some("as often as it is read"));
    }

    #[test]
    fn a_type_has_no_size_of_its_own() {
        for sql in [
            "select cast(null as int[2000000][2000000])",
            "select try_cast(null as int[3])",
            "select null::int[3]",
            "select null::array<int[3]>",
            "select null::struct<a int[3]>",
            "select null::int[3][]",
            "select 1 from t where (select x::int[][9] from u) is null",
            "select arrow_cast(null, 'FixedSizeList(3, Int64)')",
            "select \"arrow_cast\"(null, 'FixedSizeList(3, Int64)')",
            "select `arrow_try_cast`(null, 'FixedSizeBinary(3)')",
        ] {
            check(sql, Some("fixed size"));
        }
        for sql in ["select null::int[]", "select cast(null as int[][])", "select [1, 2][1], x[3] from t"] {
            check(sql, None);
        }
    }

    /// Each of these would be planned for minutes, or for ever.
    #[test]
    fn what_stands_for_far_more_than_is_written_is_refused() {
        let nested = |depth: usize| {
            (0..depth).fold("select 1 as x".to_owned(), |sql, _| format!("with a as ({sql}) select x from a"))
        };
        check(&nested(8), None);
        for depth in [9, 30, 45] {
            check(&nested(depth), Some("WITHs within each other than 8"));
            check(&format!("explain {}", nested(depth)), Some("WITHs within each other than 8"));
        }
        let beside = |count: usize| {
            let defined: Vec<_> = (0..count).map(|index| format!("t{index} as (select {index})")).collect();
            format!("with {} select 1 from t0", defined.join(", "))
        };
        check(&beside(250), None);
        check(&beside(251), Some("define more queries than 250"));
        check(&beside(6_000), Some("define more queries than 250"));
        let frame = |rows: &str| format!("rows between {rows} preceding and current row");
        let over = |rows: &str| format!("select sum(a) over (order by b {}) from t", frame(rows));
        let named =
            |rows: &str| format!("select sum(a) over w from t window w as (order by b {})", frame(rows));
        let windows: [&dyn Fn(&str) -> String; 2] = [&over, &named];
        for window in windows {
            check(&window("9223372036854775807"), None);
            check(&window("18446744073709551615"), Some("a window of it reaches to more rows"));
            check(&window("'18446744073709551615'"), Some("a window of it reaches to more rows"));
        }
        check(&format!("select {} from t", vec!["*"; 20].join(", ")), None);
        check(&format!("select {} from t", vec!["t.*"; 21].join(", ")), Some("more stars than 20"));
    }
}
