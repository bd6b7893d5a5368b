//! What can go wrong with reports.

use super::order::Cycle;
use millstream_lake::LakeError;
use millstream_log::LogError;
use millstream_query::QueryError;
use std::time::Duration;
use thiserror::Error;
use tokio::task::JoinError;

/// Why the processor stopped, or could not catch up.
#[derive(Debug, Error)]
pub enum ProcessorError {
    /// SQL cannot be run at all.
    #[error("the session for reports could not be opened")]
    Session(#[source] QueryError),
    /// A report could not be brought up to date.
    #[error("report {report} could not be brought up to date")]
    Report {
        /// The report.
        report: String,
        /// Why.
        #[source]
        source: Box<ReportError>,
    },
    /// No order of the reports is right.
    #[error("the reports cannot be kept")]
    Cycle(#[from] Cycle),
    /// A task ended by a defect.
    #[error("a task of the processor ended unexpectedly")]
    Panicked(#[source] JoinError),
}

/// Why one report could not be brought up to date. Each is worth another try: even a wrong question becomes right when its source gets the column it asks for.
#[derive(Debug, Error)]
pub enum ReportError {
    /// The SQL is wrong, or failed.
    #[error("its SQL failed")]
    Query(#[from] QueryError),
    /// A table could not be read or written.
    #[error("its tables could not be read or written")]
    Lake(#[from] LakeError),
    /// The log could not be asked how far a stream has come.
    #[error("the log of its source could not be asked how far it has come")]
    Log(#[from] LogError),
    /// It waits for completeness, of which nothing is known of one of its sources.
    #[error(
        "it waits until {table} is complete, and only a stream ever is; leave out `when`, or read streams only"
    )]
    NeverComplete {
        /// The source.
        table: String,
    },
    /// Rows could not be put together.
    #[error("its rows could not be put together")]
    Rows(#[from] arrow::error::ArrowError),
    /// The table is split otherwise than the definition wants.
    #[error(
        "its table is split by {in_table:?}, and the definition wants {wanted:?}; give the report another name, or remove the folder of its table"
    )]
    Partitioned {
        /// Partition columns of the table.
        in_table: Vec<String>,
        /// Partition columns of the definition.
        wanted: Vec<String>,
    },
    /// A column has another type than in the table.
    #[error(
        "its column {column} is {in_table} in its table, and the SQL now makes it {wanted}; give the column or the report another name"
    )]
    ColumnType {
        /// The column.
        column: String,
        /// Its type in the table.
        in_table: String,
        /// Its type by the SQL.
        wanted: String,
    },
    /// It was not done within the time.
    #[error(
        "it took longer than {limit:?} and was given up; ask for less, or partition it by its source's `date`, so that only the dates that changed are computed"
    )]
    TooLong {
        /// How long it may take.
        limit: Duration,
    },
    /// Its task ended by a defect.
    #[error("its computation ended unexpectedly")]
    Panicked(#[source] JoinError),
    /// Others kept replacing the report's rows.
    #[error("others replaced its rows {attempts} times meanwhile")]
    Contended {
        /// How often it was planned anew.
        attempts: u32,
    },
}
