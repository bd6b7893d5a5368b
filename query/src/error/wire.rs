//! An error on its way through HTTP: as JSON, of which the other side makes an error that reads the same.
//!
//! Neighbours: the server's refusals and trailers write it, the command line's client reads it.

use super::{Exceeded, Place, QueryError, QueryErrorKind};
use serde_json::{Map, Value, json};
use std::error::Error;
use std::fmt;

/// Kinds that a client tells apart by name; limits have names of their own.
const KINDS: [QueryErrorKind; 9] = [
    QueryErrorKind::Syntax,
    QueryErrorKind::UnknownTable,
    QueryErrorKind::UnknownColumn,
    QueryErrorKind::UnknownFunction,
    QueryErrorKind::Meaning,
    QueryErrorKind::Forbidden,
    QueryErrorKind::Value,
    QueryErrorKind::Storage,
    QueryErrorKind::Internal,
];

/// Lines and columns that no statement has: it may be far shorter.
const FAR: u64 = 1 << 32;

impl QueryError {
    /// Its name for programs, as in `unknown_table`; of a limit that was met, which one.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match (self.kind(), self.exceeded()) {
            (_, Some(Exceeded::Time)) => "time",
            (_, Some(Exceeded::Scan)) => "scan",
            (QueryErrorKind::Resources, _) => "memory",
            (kind, _) => kind.as_str(),
        }
    }

    /// All of it. `message` ends with the causes, each behind a colon, for those who read nothing else.
    pub(crate) fn to_json(&self) -> Map<String, Value> {
        let parts = &self.0;
        let causes = causes(self);
        let message = std::iter::once(parts.message.clone()).chain(causes.iter().cloned());
        let message = message.collect::<Vec<_>>().join(": ");
        let marks: Vec<Value> = parts
            .marks
            .iter()
            .map(|(place, label)| {
                let mut mark = spot(Some(*place));
                mark.insert("label".to_owned(), json!(label));
                Value::Object(mark)
            })
            .collect();
        let mut all = Map::new();
        all.insert("kind".to_owned(), json!(self.name()));
        all.insert("message".to_owned(), json!(message));
        all.extend(spot(parts.place));
        all.insert("label".to_owned(), json!(parts.label));
        all.insert("marks".to_owned(), json!(marks));
        all.insert("hints".to_owned(), json!(parts.hints));
        all.insert("causes".to_owned(), json!(causes));
        all
    }

    /// The error that a server wrote; `None` if it is none about a question, but about the request, or none of ours.
    #[must_use]
    pub fn from_json(error: &Value) -> Option<Self> {
        let text = |key: &str| error.get(key).and_then(Value::as_str);
        let list = |key: &str| error.get(key).and_then(Value::as_array).into_iter().flatten();
        let causes: Vec<&str> = list("causes").filter_map(Value::as_str).collect();
        let mut message = text("message")?;
        for cause in causes.iter().rev() {
            let shorter = message.strip_suffix(cause).and_then(|rest| rest.strip_suffix(": "));
            message = shorter.unwrap_or(message);
        }
        let mut found = match text("kind")? {
            "time" => Self::limit(Exceeded::Time, message),
            "scan" => Self::limit(Exceeded::Scan, message),
            "memory" => Self::limit(Exceeded::Memory, message),
            name => Self::new(*KINDS.iter().find(|kind| kind.as_str() == name)?, message),
        };
        found = found.at(place(error), text("label").unwrap_or_default());
        for mark in list("marks") {
            let label = mark.get("label").and_then(Value::as_str).unwrap_or_default();
            found = place(mark).into_iter().fold(found, |found, place| found.mark(place, label));
        }
        found = list("hints").filter_map(Value::as_str).fold(found, Self::hint);
        found.0.source = Told::chain(&causes).map(Into::into);
        Some(found)
    }
}

/// All causes, the nearest first.
fn causes(error: &QueryError) -> Vec<String> {
    std::iter::successors(error.source(), |&cause| cause.source()).map(ToString::to_string).collect()
}

fn spot(place: Option<Place>) -> Map<String, Value> {
    let (start, end) = place.map(|place| (place.start, place.end)).unzip();
    let ((line, column), (end_line, end_column)) = (start.unzip(), end.unzip());
    let members = [("line", line), ("column", column), ("end_line", end_line), ("end_column", end_column)];
    members.into_iter().map(|(name, number)| (name.to_owned(), json!(number))).collect()
}

fn place(spot: &Value) -> Option<Place> {
    // What lies beyond the text is cut where it is shown; what lies beyond any text is no place.
    let number = |key: &str| spot.get(key).and_then(Value::as_u64).filter(|number| (1..FAR).contains(number));
    let start = (number("line")?, number("column")?);
    let end = number("end_line").zip(number("end_column"));
    let end = end.filter(|end| *end >= start).unwrap_or((start.0, start.1 + 1));
    Some(Place { start, end })
}

/// A cause of which only the text came through.
#[derive(Debug)]
struct Told {
    text: String,
    source: Option<Box<Told>>,
}

impl Told {
    fn chain(causes: &[&str]) -> Option<Box<Self>> {
        causes
            .iter()
            .rev()
            .fold(None, |source, text| Some(Box::new(Self { text: (*text).to_owned(), source })))
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for Told {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_reads_the_same_behind_the_wire() {
        let sql = "select tmp\nfrom télémetri t";
        let check = |error: QueryError| {
            let json = Value::Object(error.to_json()).to_string();
            let found = QueryError::from_json(&serde_json::from_str(&json).unwrap()).unwrap();
            assert_eq!(found.render(sql, false), error.render(sql, false), "{json}");
            assert_eq!((found.kind(), found.exceeded()), (error.kind(), error.exceeded()));
            assert_eq!((found.name(), found.fault()), (error.name(), error.fault()));
        };
        for kind in KINDS {
            check(QueryError::new(kind, "no column is named tmp"));
        }
        for exceeded in [Exceeded::Time, Exceeded::Memory, Exceeded::Scan] {
            check(QueryError::limit(exceeded, "too much: far too much").hint("one").hint("two"));
        }
        let placed = QueryError::new(QueryErrorKind::UnknownTable, "no table")
            .at(Some(Place::spanning(2, 6, 9)), "here");
        check(placed.mark(Place::at(1, 8), "and there").hint("did you mean telemetry?"));
        let nested = Told::chain(&["the store: does not answer", "timed out"]).unwrap();
        check(QueryError::storage("failed to read: the bucket", nested));
    }

    #[test]
    fn what_is_no_error_of_a_question_is_none() {
        let check = |text: &str| {
            assert!(QueryError::from_json(&serde_json::from_str(text).unwrap()).is_none(), "{text}");
        };
        check("{}");
        check("[]");
        check(r#"{"kind":"busy","message":"too many queries at once"}"#);
        check(r#"{"kind":"syntax"}"#);
        check(r#"{"kind":3,"message":"x"}"#);
    }

    #[test]
    fn a_place_that_cannot_be_is_shown_somewhere_and_harms_nothing() {
        for spot in [
            r#""line":99,"column":99,"end_line":1,"end_column":1"#,
            r#""line":1,"column":18446744073709551615"#,
            r#""line":0,"column":0"#,
            r#""line":1,"column":1,"end_line":18446744073709551615,"end_column":18446744073709551615"#,
        ] {
            let text = format!(r#"{{"kind":"syntax","message":"x",{spot}}}"#);
            let error = QueryError::from_json(&serde_json::from_str(&text).unwrap()).unwrap();
            assert!(error.render("sélect\n1", false).contains("error: x"), "{text}");
        }
    }
}
