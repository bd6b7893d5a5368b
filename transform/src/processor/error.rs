//! What can go wrong with reports.

use super::order::Cycle;
use millstream_lake::LakeError;
use millstream_log::LogError;
use millstream_query::QueryError;
use std::time::Duration;
use thiserror::Error;
use tokio::task::JoinError;

/// How long a report is left to whoever computed it by another definition: two processes that do not agree would compute all of it in turn, at each look, for ever. While
/// a new configuration is rolled out, the process of the former one has ended by then.
pub(crate) const TAKEN_BACK_AFTER: Duration = Duration::from_secs(10 * 60);

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
        "it took longer than {limit:?} and was given up; ask for less, or partition it by its source's `date`, so that only the dates that changed are computed: the first \
         time `millstream report run` takes as long as it needs"
    )]
    TooLong {
        /// How long it may take.
        limit: Duration,
    },
    /// Its rows were of this definition, and are of another one now.
    #[error(
        "another process computed it by another definition; start all processes with the same configuration (this one takes the report back in {} minutes, as long as \
         it runs)", TAKEN_BACK_AFTER.as_secs() / 60
    )]
    TakenOver,
    /// Its task ended by a defect.
    #[error("its computation ended unexpectedly")]
    Panicked(#[source] JoinError),
    /// Others kept replacing the report's rows.
    #[error(
        "others replaced its rows {attempts} times while they were computed; a running `millstream process`, or `up`, tries again by itself, and for \
         `millstream report rebuild` it has to be stopped, or the command given again when less comes in"
    )]
    Contended {
        /// How often it was planned anew.
        attempts: u32,
    },
}
