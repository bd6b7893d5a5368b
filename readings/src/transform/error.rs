//! Why a transform was refused.

use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;
use millstream_model::fault::Fault;
use thiserror::Error;

/// What is wrong with a stream's transform. All of it is for the one who wrote the configuration.
#[derive(Debug, Error)]
pub enum TransformError {
    /// It is no SQL.
    #[error("the transform is not SQL: {0}")]
    Syntax(String),
    /// It is not exactly one query.
    #[error("a transform is one `select … from input`")]
    NotOneQuery,
    /// It reads another table, or none.
    #[error("a transform reads from `input` only, not from {0}")]
    OtherTable(String),
    /// It does something else than choosing rows and computing columns from one row.
    #[error("a transform works row by row, with projection and filter only: {0} is not allowed")]
    NotByRow(String),
    /// Its result would depend on when it is evaluated; after a crash it is evaluated again.
    #[error(
        "a transform must give the same result whenever it is evaluated: {0}() is not allowed; the time of arrival is the column `_received_at`"
    )]
    Volatile(String),
    /// It computes with `_extra`.
    #[error(
        "a transform can hand on `_extra`, but not compute with it or ask for it: what stands there depends on which columns were known by then; declare the field under [stream.columns]"
    )]
    Extra,
    /// It names a column that `input` does not have for certain.
    #[error(
        "the transform names the column {0}, which `input` does not have for certain: declare it under [stream.columns]; a name with capital letters stands in double quotes"
    )]
    UnknownColumn(String),
    /// A computed output without a name that a column can have.
    #[error("the transform's output {0} needs a name that a column can have: write `… as name`")]
    BadName(String),
    /// An output has the name of a reserved column.
    #[error(
        "the transform's output {0} has a reserved name; reserved columns stay as they are, and names beginning with `_` are all reserved"
    )]
    Reserved(String),
    /// Two outputs have the same name, or names that differ only by case.
    #[error(
        "the transform has two outputs called {0} (case does not count): leave one out with `* exclude (…)`, or rename it"
    )]
    Twice(String),
    /// An output has a type that a table does not have.
    #[error(
        "the transform's output {name} is a {found}, which a table does not have: cast it to double, bigint, int, boolean, text, date or timestamp"
    )]
    Type {
        /// The output.
        name: String,
        /// Its type.
        found: String,
    },
    /// Whatever else DataFusion finds wrong: an unknown function, types that do not go together, a constant that cannot be computed.
    #[error("the transform cannot be compiled: {0}")]
    Plan(String),
}

impl TransformError {
    /// A person must change the configuration.
    #[must_use]
    pub fn fault(&self) -> Fault {
        Fault::Stop
    }

    pub(super) fn from_datafusion(error: DataFusionError) -> Self {
        match error.find_root() {
            DataFusionError::SchemaError(cause, _) => match cause.as_ref() {
                SchemaError::FieldNotFound { field, .. } => Self::UnknownColumn(field.flat_name()),
                SchemaError::DuplicateQualifiedField { name, .. }
                | SchemaError::DuplicateUnqualifiedField { name } => Self::Twice(name.clone()),
                SchemaError::AmbiguousReference { field } => Self::Twice(field.name.clone()),
            },
            DataFusionError::SQL(cause, _) => Self::Syntax(cause.to_string()),
            root => Self::Plan(root.message().into_owned()),
        }
    }
}
