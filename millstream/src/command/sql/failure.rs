//! Why there is no answer, or not all of it.

use millstream_query::QueryError;
use std::io;

/// Why there is no answer, or not all of it.
#[derive(Debug)]
pub(super) enum Failure {
    /// Something about the question, wherever it is answered.
    Query(QueryError),
    /// Standard output. A closed pipe is no failure.
    Output(io::Error),
    /// Whoever should answer.
    Other(anyhow::Error),
}

impl From<QueryError> for Failure {
    fn from(error: QueryError) -> Self {
        Self::Query(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Other(error)
    }
}
