//! A text of SQL: cut into statements, parsed, and let through only if it is a question, neither too large (`bounds`) nor too deep (`depth`), of which the engine
//! answers every clause (`clauses`).

mod bounds;
mod clauses;
mod depth;

pub(crate) use depth::STACK_BYTES;

use crate::error::{Place, QueryError, QueryErrorKind};
use datafusion::common::TableReference;
use datafusion::sql::parser::{DFParserBuilder, Statement as Parsed};
use datafusion::sql::resolve::resolve_table_references;
use depth::with_room;
use sqlparser::ast::{
    Ident, ObjectName, ObjectNamePart, Spanned, Statement as Ast, TableFactor, Visit, Visitor,
};
use sqlparser::dialect::GenericDialect;
use sqlparser::tokenizer::{Span, Token, Tokenizer};
use std::collections::HashSet;
use std::ops::ControlFlow;

/// Deepest nesting of expressions and subqueries that is parsed. Deeper ones are made by machines, and cost stack.
const NESTING_MAX: usize = 50;

/// One statement of a longer text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece<'a> {
    /// The statement, without its semicolon.
    pub sql: &'a str,
    /// Line of the text on which it begins, from 1.
    pub line: u64,
    /// Column in that line, in characters, from 1.
    pub column: u64,
}

/// Cuts a text at its semicolons. Pieces with nothing but blanks and comments are left out.
///
/// # Errors
/// Text that cannot be read as SQL at all, as an unterminated string.
pub fn split(text: &str) -> Result<Vec<Piece<'_>>, QueryError> {
    let tokens = Tokenizer::new(&GenericDialect {}, text).tokenize_with_location().map_err(|error| {
        QueryError::syntax(&error.message, Place::at(error.location.line, error.location.column))
    })?;
    let mut pieces = Vec::new();
    let mut begin = None;
    for token in &tokens {
        match &token.token {
            Token::Whitespace(_) | Token::EOF => {}
            Token::SemiColon => {
                if let Some(begin) = begin.take() {
                    pieces.push(piece(text, begin, token.span.start));
                }
            }
            _ => begin = begin.or(Some(token.span.start)),
        }
    }
    if let Some((begin, end)) = begin.zip(tokens.last().map(|token| token.span.end)) {
        pieces.push(piece(text, begin, end));
    }
    Ok(pieces)
}

fn piece(
    text: &str,
    begin: sqlparser::tokenizer::Location,
    end: sqlparser::tokenizer::Location,
) -> Piece<'_> {
    let from = Place::at(begin.line, begin.column).offset_in(text);
    let to = Place::at(end.line, end.column).offset_in(text);
    Piece { sql: text[from..to.max(from)].trim_end(), line: begin.line, column: begin.column }
}

/// A statement that only asks.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) parsed: Parsed,
    /// The tables it names, common table expressions and table functions left out.
    pub(crate) tables: Vec<NamedTable>,
}

/// A table, and where the statement names it first.
#[derive(Debug, Clone)]
pub(crate) struct NamedTable {
    pub(crate) reference: TableReference,
    pub(crate) place: Option<Place>,
}

/// What `show tables` stands for: the engine's own answer would list its information schema, too.
const SHOW_TABLES: &str = "select table_schema, table_name from information_schema.tables \
    where table_schema <> 'information_schema' order by table_schema, table_name";

impl Question {
    /// Parses exactly one statement.
    pub(crate) fn parse(sql: &str) -> Result<Self, QueryError> {
        bounds::check_text(sql)?;
        let parsed = with_room(|| depth::levelled(parse_one(sql)?))??;
        refuse_changes(&parsed, sql)?;
        let parsed = if is_show_tables(&parsed) { parse_one(SHOW_TABLES)? } else { parsed };
        clauses::check(&parsed, sql)?;
        let mut found = Relations::default();
        found.look_at(&parsed);
        bounds::check_tables(&parsed)?;
        let (references, _) = resolve_table_references(&parsed, true)
            .map_err(|error| QueryError::from_datafusion(error, sql))?;
        let tables = references
            .into_iter()
            .filter(|reference| {
                !(reference.schema().is_none() && found.functions.contains(reference.table()))
            })
            .map(|reference| NamedTable { place: found.place_of(&reference), reference })
            .collect();
        Ok(Self { parsed, tables })
    }

    /// Whether it asks about tables instead of reading them (`show tables`, `describe`, `information_schema`).
    pub(crate) fn asks_for_names(&self) -> bool {
        let describes =
            matches!(&self.parsed, Parsed::Statement(ast) if matches!(**ast, Ast::ShowColumns { .. }));
        describes || self.tables.iter().any(|table| table.reference.schema() == Some("information_schema"))
    }
}

fn parse_one(sql: &str) -> Result<Parsed, QueryError> {
    let mut statements = DFParserBuilder::new(sql)
        .with_dialect(&GenericDialect {})
        .with_recursion_limit(NESTING_MAX)
        .build()
        .and_then(|mut parser| parser.parse_statements())
        .map_err(|error| QueryError::from_datafusion(error, sql))?;
    let Some(parsed) = statements.pop_front() else {
        return Err(QueryError::new(QueryErrorKind::Syntax, "there is no statement"));
    };
    if statements.is_empty() {
        return Ok(parsed);
    }
    let second = split(sql)?.get(1).map(|piece| Place::at(piece.line, piece.column));
    Err(QueryError::new(QueryErrorKind::Syntax, "there is more than one statement")
        .at(second, "a second statement begins here")
        .hint("give one statement at a time"))
}

/// Without conditions: those the engine judges itself.
fn is_show_tables(parsed: &Parsed) -> bool {
    matches!(parsed, Parsed::Statement(ast) if matches!(**ast, Ast::ShowTables { .. }) && ast.to_string() == "SHOW TABLES")
}

fn refuse_changes(parsed: &Parsed, sql: &str) -> Result<(), QueryError> {
    match parsed {
        Parsed::Statement(ast) => match &**ast {
            Ast::Query(_)
            | Ast::ExplainTable { .. }
            | Ast::ShowTables { .. }
            | Ast::ShowColumns { .. }
            | Ast::ShowFunctions { .. }
            | Ast::ShowVariable { .. } => Ok(()),
            Ast::Explain { statement, .. } if matches!(**statement, Ast::Query(_)) => Ok(()),
            _ => Err(forbidden(sql)),
        },
        Parsed::Explain(explain) => refuse_changes(&explain.statement, sql),
        Parsed::CopyTo(_) => {
            Err(forbidden(sql).hint("to keep a result, print it: --format csv … > file.csv"))
        }
        Parsed::CreateExternalTable(_) | Parsed::Reset(_) => Err(forbidden(sql)),
    }
}

fn forbidden(sql: &str) -> QueryError {
    let first = split(sql).ok().and_then(|pieces| pieces.first().copied());
    let verb = first.and_then(|piece| piece.sql.split_whitespace().next()).unwrap_or("this").to_uppercase();
    let place = first.map(|piece| Place::spanning(piece.line, piece.column, verb.chars().count() as u64));
    QueryError::new(QueryErrorKind::Forbidden, format!("{verb} is not allowed: SQL only reads here"))
        .at(place, "not a question")
        .hint("allowed are SELECT, WITH, VALUES, EXPLAIN, SHOW TABLES, SHOW COLUMNS and DESCRIBE")
}

/// Where tables are named, and which names are functions.
#[derive(Debug, Default)]
struct Relations {
    places: Vec<(Vec<String>, Span)>,
    functions: HashSet<String>,
}

impl Relations {
    fn look_at(&mut self, parsed: &Parsed) {
        match parsed {
            Parsed::Statement(ast) => _ = ast.visit(self),
            Parsed::Explain(explain) => self.look_at(&explain.statement),
            Parsed::CreateExternalTable(_) | Parsed::CopyTo(_) | Parsed::Reset(_) => {}
        }
    }

    fn place_of(&self, reference: &TableReference) -> Option<Place> {
        let wanted: Vec<&str> = [reference.catalog(), reference.schema(), Some(reference.table())]
            .into_iter()
            .flatten()
            .collect();
        let (_, span) = self
            .places
            .iter()
            .find(|(name, _)| name.iter().map(String::as_str).eq(wanted.iter().copied()))?;
        Place::of_span(*span)
    }
}

impl Visitor for Relations {
    type Break = ();

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<Self::Break> {
        self.places.push((normal_name(relation), relation.span()));
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<Self::Break> {
        if let TableFactor::Table { name, args: Some(_), .. } = factor {
            self.functions.extend(normal_name(name).pop());
        }
        ControlFlow::Continue(())
    }
}

/// The parts of a name as they are looked up: in lower case unless quoted.
fn normal_name(name: &ObjectName) -> Vec<String> {
    let part = |part: &ObjectNamePart| match part {
        ObjectNamePart::Identifier(ident) => normal_ident(ident),
        ObjectNamePart::Function(function) => function.to_string(),
    };
    name.0.iter().map(part).collect()
}

/// The same of one part. The engine makes small only what is ASCII.
fn normal_ident(ident: &Ident) -> String {
    match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => ident.value.to_ascii_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[(&str, u64, u64)]) {
        let pieces = split(text).unwrap();
        let found: Vec<_> = pieces.iter().map(|piece| (piece.sql, piece.line, piece.column)).collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn a_text_is_cut_at_semicolons_only() {
        check("", &[]);
        check(" -- nothing\n;;\n", &[]);
        check("select 1", &[("select 1", 1, 1)]);
        check("select 'a;b'; -- two;\n  select \"ü;\" ;", &[("select 'a;b'", 1, 1), ("select \"ü;\"", 2, 3)]);
        check("select 1 -- open\n", &[("select 1 -- open", 1, 1)]);
    }

    #[test]
    fn a_string_without_end_is_refused_with_its_place() {
        assert_eq!(split("select 1;\nselect 'x").unwrap_err().place().map(|place| place.start), Some((2, 8)));
    }

    #[test]
    fn tables_are_named_without_ctes_and_functions() {
        let sql = "with a as (select * from Telemetry) select * from a join reporting.\"Hourly\" h on true, generate_series(1, 2)";
        let question = Question::parse(sql).unwrap();
        let names: Vec<_> = question.tables.iter().map(|table| table.reference.to_string()).collect();
        assert_eq!(names, ["telemetry", "reporting.Hourly"]);
        assert_eq!(question.tables[0].place.map(|place| place.start), Some((1, 26)));
    }

    #[test]
    fn only_questions_are_let_through() {
        for sql in [
            "select 1",
            "with a as (select 1) select * from a",
            "values (1)",
            "explain select 1",
            "show tables",
            "describe t",
        ] {
            assert!(Question::parse(sql).is_ok(), "{sql}");
        }
        let refused = [
            "create table t (a int)",
            "create external table t stored as parquet location '/etc'",
            "copy t to 'x.csv'",
            "explain copy t to 'x.csv'",
            "insert into t values (1)",
            "delete from t",
            "update t set a = 1",
            "drop table t",
            "set datafusion.execution.batch_size = 1",
            "reset datafusion.execution.batch_size",
            "select * from t tablesample (10)",
            "select * from (select 1) as s tablesample (10)",
            "begin",
            "prepare p as select 1",
        ];
        for sql in refused {
            assert_eq!(Question::parse(sql).unwrap_err().kind(), QueryErrorKind::Forbidden, "{sql}");
        }
    }
}
