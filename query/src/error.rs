//! What is wrong with a question, where in it, and what would be right.
//!
//! `place` finds the spot, `translate` turns the engine's errors into ours, `hints` thinks of what was meant, `render` draws it, `wire` carries it through
//! HTTP.

mod hints;
mod place;
mod render;
mod translate;
mod wire;

pub use place::Place;

use crate::statement::Piece;
pub(crate) use hints::unknown_table;
use millstream_model::fault::Fault;
use std::error::Error;
use std::fmt;

/// What kind of thing went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueryErrorKind {
    /// The text is not SQL.
    Syntax,
    /// A table that does not exist.
    UnknownTable,
    /// A column that does not exist.
    UnknownColumn,
    /// A function that does not exist.
    UnknownFunction,
    /// It is SQL, but makes no sense: types that do not fit, a column that is not grouped.
    Meaning,
    /// A statement that would change something, or a clause that is not supported.
    Forbidden,
    /// A value on which the query failed: a division by zero, text that is no number.
    Value,
    /// It needs more memory, disk, time or reading than it may have.
    Resources,
    /// Reading the bucket failed.
    Storage,
    /// A fault of the engine.
    Internal,
}

impl QueryErrorKind {
    /// Its name for programs, as in `unknown_table`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Syntax => "syntax",
            Self::UnknownTable => "unknown_table",
            Self::UnknownColumn => "unknown_column",
            Self::UnknownFunction => "unknown_function",
            Self::Meaning => "meaning",
            Self::Forbidden => "forbidden",
            Self::Value => "value",
            Self::Resources => "resources",
            Self::Storage => "storage",
            Self::Internal => "internal",
        }
    }
}

/// Which limit a query met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exceeded {
    /// It worked for longer than it may.
    Time,
    /// It needed more memory, or more disk to spill to, than there is for all queries.
    Memory,
    /// It would read more than it may, and was not begun.
    Scan,
}

/// Why a query failed.
#[derive(Debug)]
pub struct QueryError(Box<Parts>);

#[derive(Debug)]
struct Parts {
    kind: QueryErrorKind,
    message: String,
    place: Option<Place>,
    label: String,
    /// Other spots that explain it.
    marks: Vec<(Place, String)>,
    hints: Vec<String>,
    exceeded: Option<Exceeded>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl QueryError {
    pub(crate) fn new(kind: QueryErrorKind, message: impl Into<String>) -> Self {
        let message = message.into();
        let (label, marks, hints) = (String::new(), Vec::new(), Vec::new());
        let (place, exceeded, source) = (None, None, None);
        Self(Box::new(Parts { kind, message, place, label, marks, hints, exceeded, source }))
    }

    pub(crate) fn limit(exceeded: Exceeded, message: impl Into<String>) -> Self {
        let mut error = Self::new(QueryErrorKind::Resources, message);
        error.0.exceeded = Some(exceeded);
        error
    }

    pub(crate) fn syntax(message: &str, place: Place) -> Self {
        Self::new(QueryErrorKind::Syntax, message).at(Some(place), "")
    }

    pub(crate) fn storage(
        message: impl Into<String>,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        let mut error = Self::new(QueryErrorKind::Storage, message);
        error.0.source = Some(source.into());
        error
    }

    /// Says where; `label` stands under the spot.
    pub(crate) fn at(mut self, place: Option<Place>, label: impl Into<String>) -> Self {
        self.0.place = place;
        self.0.label = label.into();
        self
    }

    /// Says something about another spot.
    pub(crate) fn mark(mut self, place: Place, label: impl Into<String>) -> Self {
        self.0.marks.push((place, label.into()));
        self
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hints.push(hint.into());
        self
    }

    /// What kind of thing went wrong.
    #[must_use]
    pub fn kind(&self) -> QueryErrorKind {
        self.0.kind
    }

    /// Which limit it met, if it was one.
    #[must_use]
    pub fn exceeded(&self) -> Option<Exceeded> {
        self.0.exceeded
    }

    /// Where in the SQL, where that is known.
    #[must_use]
    pub fn place(&self) -> Option<Place> {
        self.0.place
    }

    /// What would be right, as far as can be guessed.
    #[must_use]
    pub fn hints(&self) -> &[String] {
        &self.0.hints
    }

    /// What a caller can do.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self.0.kind {
            QueryErrorKind::Resources if self.0.exceeded == Some(Exceeded::Scan) => Fault::Stop,
            QueryErrorKind::Storage | QueryErrorKind::Resources => Fault::Retry,
            _ => Fault::Stop,
        }
    }

    /// The same error with its place counted from the beginning of the text that the piece was cut from.
    #[must_use]
    pub fn in_piece(mut self, piece: &Piece<'_>) -> Self {
        self.0.place = self.0.place.map(|place| place.moved_behind(piece.line, piece.column));
        for (place, _) in &mut self.0.marks {
            *place = place.moved_behind(piece.line, piece.column);
        }
        self
    }

    /// The error as a person reads it: the message, the line of the SQL with the spot underlined, hints, and causes. Ends without a line break.
    #[must_use]
    pub fn render(&self, sql: &str, color: bool) -> String {
        render::render(self, sql, color)
    }
}

impl fmt::Display for QueryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl Error for QueryError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}
