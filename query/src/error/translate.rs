//! From the engine's errors to ours.

use super::hints::{misspelt_keyword, unknown_column, unknown_function};
use super::{Exceeded, Place, QueryError, QueryErrorKind};
use crate::pace::LARGE_VALUES;
use crate::system::Unasked;
use crate::tail::TailFailure;
use datafusion::arrow::error::ArrowError;
use datafusion::common::{Diagnostic, SchemaError};
use datafusion::error::DataFusionError;
use millstream_lake::LakeError;
use sqlparser::parser::ParserError;
use std::error::Error;

impl QueryError {
    /// Takes the innermost error, which says what happened, and the outermost place.
    pub(crate) fn from_datafusion(error: DataFusionError, sql: &str) -> Self {
        let diagnostic = error.diagnostic().cloned();
        let place = diagnostic.as_ref().and_then(|diagnostic| diagnostic.span).map(Place::from);
        if let Some(error) = own(&error) {
            return error;
        }
        match error.find_root() {
            DataFusionError::SQL(error, _) => syntax(error, sql),
            DataFusionError::SchemaError(error, _) => schema(error, place, sql),
            DataFusionError::Plan(message) => plan(message, diagnostic.as_ref(), place, sql),
            DataFusionError::NotImplemented(message) => {
                Self::new(QueryErrorKind::Meaning, format!("not supported: {}", fragment(message)))
                    .at(place, "")
            }
            DataFusionError::Configuration(message) => {
                Self::new(QueryErrorKind::Meaning, fragment(message)).at(place, "")
            }
            DataFusionError::ArrowError(error, _) => arrow(error, place),
            DataFusionError::Execution(message) => value(message, place),
            DataFusionError::ResourcesExhausted(message) => exhausted(message),
            DataFusionError::ObjectStore(_)
            | DataFusionError::IoError(_)
            | DataFusionError::ParquetError(_) => storage(error),
            _ => Self::new(QueryErrorKind::Internal, fragment(&error.strip_backtrace())),
        }
    }
}

/// Errors of ours that came through the engine.
fn own(error: &DataFusionError) -> Option<QueryError> {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(unasked) = error.downcast_ref::<Unasked>() {
            return Some(unasked.to_query_error());
        }
        if let Some(failure) = error.downcast_ref::<TailFailure>() {
            return Some(failure.to_query_error());
        }
        if error.downcast_ref::<LakeError>().is_some() {
            let causes =
                std::iter::successors(error.source(), |&cause| cause.source()).map(ToString::to_string);
            let source = causes.reduce(|all, cause| format!("{all}: {cause}"));
            return Some(match source {
                Some(source) => QueryError::storage(format!("failed to {error}"), source),
                None => QueryError::new(QueryErrorKind::Storage, format!("failed to {error}")),
            });
        }
        next = error.source();
    }
    None
}

fn exhausted(message: &str) -> QueryError {
    // The engine's advice names settings of its own.
    let why = message.split(" Please try increasing").next().unwrap_or(message);
    let message = format!("the query needs more memory or disk than it may have: {}", fragment(why));
    let wide = message.contains(LARGE_VALUES);
    let error = QueryError::limit(Exceeded::Memory, message);
    match wide {
        true => error.hint("select fewer columns with large values, or less of each, as with substr(payload, 1, 1000); or raise the limit, sql.memory"),
        false => error.hint("filter earlier, group by less, or raise the limits, sql.memory and sql.spill"),
    }
}

/// How the engine says that the disk to spill to is used up: as an error of input and output.
const SPILLED: &str = "The used disk space during the spilling process has exceeded the allowable limit";

fn storage(error: DataFusionError) -> QueryError {
    let root = error.find_root().strip_backtrace();
    if let Some(at) = root.find(SPILLED) {
        return exhausted(&root[at..]);
    }
    QueryError::storage("failed to read the bucket", root)
}

/// The parser appends its place to the message.
fn syntax(error: &ParserError, sql: &str) -> QueryError {
    let message = match error {
        ParserError::ParserError(message) | ParserError::TokenizerError(message) => message.as_str(),
        ParserError::RecursionLimitExceeded => {
            return QueryError::new(QueryErrorKind::Syntax, "it is nested too deeply");
        }
    };
    let Some((text, place)) = message.rsplit_once(" at Line: ").and_then(|(text, at)| {
        let (line, column) = at.split_once(", Column: ")?;
        Some((text, Place::at(line.parse().ok()?, column.parse().ok()?)))
    }) else {
        // What is missing at the end has no place of its own.
        let end = sql.trim_end();
        let line = end.matches('\n').count() as u64 + 1;
        let column = end.chars().rev().take_while(|&c| c != '\n').count() as u64 + 1;
        return QueryError::syntax(&fragment(message), Place::at(line, column));
    };
    let place = word_at(place, sql);
    let error = QueryError::syntax(&fragment(text), place);
    let spot = place.offset_in(sql);
    if sql[spot..].starts_with('.') && sql[..spot].ends_with(|c: char| c.is_alphanumeric()) {
        return error.hint("a name with a dot stands in double quotes, as in \"PM2.5\"");
    }
    match misspelt_keyword(&sql[..place.range_in(sql).end]) {
        Some((word, keyword)) => error.hint(format!("did you mean {keyword} instead of {word}?")),
        None => error,
    }
}

/// The whole word that begins at a place.
fn word_at(place: Place, sql: &str) -> Place {
    let word = sql[place.offset_in(sql)..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').count();
    Place::spanning(place.start.0, place.start.1, word.max(1) as u64)
}

fn schema(error: &SchemaError, place: Option<Place>, sql: &str) -> QueryError {
    match error {
        SchemaError::FieldNotFound { field, valid_fields } => {
            let place = place
                .or_else(|| field.spans.first().map(Place::from))
                .or_else(|| Place::of_word(sql, &field.name));
            unknown_column(field, valid_fields, place, sql)
        }
        SchemaError::AmbiguousReference { field } => {
            let place = place
                .or_else(|| field.spans.first().map(Place::from))
                .or_else(|| Place::of_word(sql, &field.name));
            QueryError::new(
                QueryErrorKind::Meaning,
                format!("the column {} is in more than one table", field.name),
            )
            .at(place, "which one?")
            .hint(format!("say which: table.{}", field.name))
        }
        _ => QueryError::new(QueryErrorKind::Meaning, fragment(&error.to_string())).at(place, ""),
    }
}

fn plan(message: &str, diagnostic: Option<&Diagnostic>, place: Option<Place>, sql: &str) -> QueryError {
    let first = message.lines().next().unwrap_or(message);
    if let Some(name) = between(first, "Invalid function '", "'") {
        return unknown_function(
            name,
            between(message, "Did you mean '", "'"),
            place.or_else(|| Place::of_word(sql, name)),
        );
    }
    if let Some(call) = between(message, "argument types '", "'") {
        return unfit_arguments(call, message, sql);
    }
    let ungrouped = first.starts_with("Column in SELECT must be in GROUP BY");
    let text = diagnostic.filter(|_| ungrouped).map_or(first, |diagnostic| diagnostic.message.as_str());
    let mut error =
        QueryError::new(QueryErrorKind::Meaning, fragment(text)).at(place.or_else(|| called(first, sql)), "");
    let Some(diagnostic) = diagnostic else { return error };
    let notes = diagnostic.notes.iter().map(|note| (&note.message, note.span));
    for (text, span) in notes.chain(diagnostic.helps.iter().map(|help| (&help.message, help.span))) {
        error = match span {
            Some(span) => error.mark(span.into(), text.as_str()),
            None => error.hint(fragment(text)),
        };
    }
    error
}

/// The engine's list of signatures in a line.
fn unfit_arguments(call: &str, message: &str, sql: &str) -> QueryError {
    let name = call.split('(').next().unwrap_or(call);
    let candidates: Vec<&str> = message
        .lines()
        .skip_while(|line| !line.trim_end().ends_with("functions:"))
        .skip(1)
        .map(str::trim)
        .collect();
    let error =
        QueryError::new(QueryErrorKind::Meaning, format!("no function {name} takes these types: {call}"))
            .at(Place::of_word(sql, name), "");
    match candidates.is_empty() {
        true => error,
        false => error.hint(format!("there are {}; cast(… as …) changes a type", candidates.join(", "))),
    }
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(before)?;
    rest.split_once(after).map(|(found, _)| found)
}

/// The place of a function that a message names in quotes.
fn called(message: &str, sql: &str) -> Option<Place> {
    let name = message.split(['\'', '`']).nth(1)?;
    let name = name.split('(').next().filter(|name| !name.is_empty())?;
    Place::of_word(sql, name)
}

fn arrow(error: &ArrowError, place: Option<Place>) -> QueryError {
    match error {
        ArrowError::DivideByZero => QueryError::new(QueryErrorKind::Value, "division by zero")
            .at(place, "")
            .hint("nullif(divisor, 0) makes such a quotient null"),
        ArrowError::CastError(message) | ArrowError::ParseError(message) => {
            value(message, place).hint("try_cast gives null for a value that does not fit")
        }
        ArrowError::ArithmeticOverflow(message) | ArrowError::ComputeError(message) => value(message, place),
        ArrowError::InvalidArgumentError(message) => value(message, place),
        ArrowError::IoError(message, _) if message.contains(SPILLED) => exhausted(message),
        ArrowError::IoError(message, _) => QueryError::storage("failed to read the bucket", message.clone()),
        other => QueryError::new(QueryErrorKind::Internal, fragment(&other.to_string())),
    }
}

fn value(message: &str, place: Option<Place>) -> QueryError {
    QueryError::new(QueryErrorKind::Value, fragment(message)).at(place, "")
}

/// A message as the beginning of ours: without the engine's prefixes, its first letter small unless the word is in capitals, no full stop.
fn fragment(message: &str) -> String {
    const PREFIXES: [&str; 5] = [
        "Error during planning: ",
        "Arrow error: ",
        "Execution error: ",
        "Schema error: ",
        "Optimizer rule failed: ",
    ];
    let mut text = message.trim();
    while let Some(rest) = PREFIXES.iter().find_map(|prefix| text.strip_prefix(prefix)) {
        text = rest;
    }
    let text = text.trim_end_matches('.');
    let mut chars = text.chars();
    match (chars.next(), chars.clone().next()) {
        (Some(first), Some(second)) if second.is_lowercase() => first.to_lowercase().chain(chars).collect(),
        _ => text.to_owned(),
    }
}
