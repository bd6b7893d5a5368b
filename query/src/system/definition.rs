//! What a system table is: its name, its columns and what they mean, and where its rows come from.

use super::question::Question;
use super::rows::Rows;
use super::surroundings::Surroundings;
use super::wanted::Wanted;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::error::Result;
use futures::future::BoxFuture;
use std::fmt;
use std::sync::Arc;

/// A system table. What stands here is all the documentation it has: `system.columns` shows it.
pub(super) struct Definition {
    pub(super) name: &'static str,
    pub(super) columns: &'static [Column],
    /// So many of the first columns say what a row is about; what a filter on them leaves out is not looked at.
    pub(super) keys: usize,
    pub(super) contents: Contents,
}

/// A column of a system table.
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// What it says, as a clause for a person; with when it is null, where that is not plain.
    pub(super) about: &'static str,
}

/// The types that system tables have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Flag,
    /// A whole number.
    Count,
    Number,
    Date,
    /// UTC, microseconds.
    Instant,
}

/// Where the rows of a system table come from.
#[derive(Clone, Copy)]
pub(super) enum Contents {
    /// They are found when a query reads them.
    Listing(Source),
    /// They are the answer to a question over the query's other tables.
    Question(Ask),
}

/// Finds what is wanted of a listing's rows.
pub(super) type Source = for<'a> fn(&'a Surroundings, &'a Wanted, &'a mut Rows) -> BoxFuture<'a, Result<()>>;

/// Words a question, with the tables that it is about.
pub(super) type Ask = for<'a> fn(&'a Surroundings) -> BoxFuture<'a, Result<Question>>;

pub(super) const fn column(name: &'static str, kind: Kind, about: &'static str) -> Column {
    Column { name, kind, about }
}

impl Definition {
    pub(super) fn schema(&self) -> SchemaRef {
        Arc::new(Schema::new(self.columns.iter().map(Column::field).collect::<Vec<_>>()))
    }

    /// The columns that say what a row is about.
    pub(super) fn key_schema(&self) -> SchemaRef {
        Arc::new(Schema::new(self.columns[..self.keys].iter().map(Column::field).collect::<Vec<_>>()))
    }
}

impl Column {
    fn field(&self) -> Field {
        Field::new(self.name, self.kind.arrow(), true)
    }
}

impl Kind {
    pub(super) fn arrow(self) -> DataType {
        match self {
            Self::Text => DataType::Utf8,
            Self::Flag => DataType::Boolean,
            Self::Count => DataType::Int64,
            Self::Number => DataType::Float64,
            Self::Date => DataType::Date32,
            Self::Instant => DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::from("UTC"))),
        }
    }
}

impl fmt::Debug for Definition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Definition").field(&self.name).finish()
    }
}
