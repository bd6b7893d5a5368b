//! What can go wrong between us and the bucket, and what a caller can do about it.

use crate::s3;
use deltalake_core::DeltaTableError;
use millstream_model::fault::Fault;
use parquet::errors::ParquetError;
use std::path::PathBuf;
use std::time::Duration;
use thiserror::Error;

/// A failure of the lake. Messages complete "failed to …".
#[derive(Debug, Error)]
pub enum LakeError {
    /// The object store refused or did not answer.
    #[error("{action} {place}")]
    Store {
        /// What was tried.
        action: &'static str,
        /// The bucket or the table.
        place: String,
        /// What the store said.
        source: object_store::Error,
    },
    /// The Delta log could not be read or written.
    #[error("{action} table {table}")]
    Log {
        /// What was tried.
        action: &'static str,
        /// The table.
        table: String,
        /// What the Delta library said.
        source: Box<DeltaTableError>,
    },
    /// What was named as a bucket is none, or cannot be reached in the way that is configured.
    #[error("use {place} as a bucket: {reason}")]
    Place {
        /// What was named, without a user or password that may stand in it.
        place: String,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no client for a bucket as configured.
    #[error("connect to {place}")]
    Connect {
        /// The bucket.
        place: String,
        /// What the client said.
        source: object_store::Error,
    },
    /// A file that the settings of a store name could not be read.
    #[error("read {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The local directory that stands for a bucket could not be prepared.
    #[error("use the directory {}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The store lets more or fewer than one of several concurrent creates of the same key win: commits on it would be lost.
    #[error(
        "rely on bucket {bucket}: of {contenders} concurrent conditional creates of one key {won} won, and it must be exactly one"
    )]
    BrokenCreate {
        /// The bucket.
        bucket: String,
        /// How many tried.
        contenders: usize,
        /// How many were told that they had won.
        won: usize,
    },
    /// The table asks for more of the Delta protocol than is understood here.
    #[error(
        "use table {table}: it asks for Delta reader {reader} and writer {writer}, and 1 and 2 are what is understood"
    )]
    Protocol {
        /// The table.
        table: String,
        /// The reader version that it asks for.
        reader: i32,
        /// The writer version that it asks for.
        writer: i32,
    },
    /// A name that cannot be a table's folder.
    #[error("use {name:?} as the name of a table")]
    Name {
        /// The refused name.
        name: String,
    },
    /// A table definition, a plan or a batch that contradicts itself or its table.
    #[error("accept the {what} for table {table}: {reason}")]
    Refused {
        /// `definition`, `plan` or `batch`.
        what: &'static str,
        /// The table.
        table: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Rows could not be sorted, split or measured.
    #[error("arrange rows for table {table}")]
    Rows {
        /// The table.
        table: String,
        /// What arrow said.
        source: arrow::error::ArrowError,
    },
    /// A Parquet file could not be encoded or read.
    #[error("encode or decode Parquet of table {table}")]
    Parquet {
        /// The table.
        table: String,
        /// What the Parquet library said.
        source: ParquetError,
    },
    /// A data file of a table could not be read.
    #[error("read {path} of table {table}")]
    Unread {
        /// The table.
        table: String,
        /// The file, relative to the table's folder.
        path: String,
        /// What the Parquet library or, through it, the store said.
        source: ParquetError,
    },
    /// A commit could not be turned into, or out of, JSON.
    #[error("encode or decode a commit of table {table}")]
    Json {
        /// The table.
        table: String,
        /// What serde said.
        source: serde_json::Error,
    },
    /// A version that was asked for is no longer in the log.
    #[error("read version {version} of table {table}: its commit is no longer in the log")]
    Gone {
        /// The table.
        table: String,
        /// The version.
        version: i64,
    },
    /// A commit was tried as often as allowed, and whether the last try was applied is not known.
    #[error("commit to table {table} in {attempts} attempts over {elapsed:?}")]
    Exhausted {
        /// The table.
        table: String,
        /// How often it was tried.
        attempts: u32,
        /// For how long.
        elapsed: Duration,
        /// What the last attempt met; none if every one lost to another writer.
        source: Option<Box<LakeError>>,
    },
    /// A blocking task was lost: the runtime is shutting down, or it panicked.
    #[error("finish encoding for table {table}")]
    Interrupted {
        /// The table.
        table: String,
        /// What the runtime said.
        source: tokio::task::JoinError,
    },
}

impl LakeError {
    /// What the caller can do.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Store { source, .. } => store_fault(source),
            Self::Log { source, .. } => log_fault(source),
            Self::Unread { source, .. } => file_fault(source),
            Self::Exhausted { .. } => Fault::Reload,
            Self::Gone { .. } => Fault::Reload,
            Self::Place { .. }
            | Self::Connect { .. }
            | Self::File { .. }
            | Self::Directory { .. }
            | Self::BrokenCreate { .. }
            | Self::Protocol { .. }
            | Self::Name { .. }
            | Self::Refused { .. }
            | Self::Rows { .. }
            | Self::Parquet { .. }
            | Self::Json { .. }
            | Self::Interrupted { .. } => Fault::Stop,
        }
    }
}

/// A store that has let us in and now denies it does so because somebody is changing a policy or a credential: that is worth waiting for, and a running program must
/// not end by it. One that never let us in waits for a person.
fn store_fault(error: &object_store::Error) -> Fault {
    match error {
        object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. }
            if s3::had_let_in(error) =>
        {
            Fault::Retry
        }
        object_store::Error::InvalidPath { .. }
        | object_store::Error::NotSupported { .. }
        | object_store::Error::NotImplemented { .. }
        | object_store::Error::PermissionDenied { .. }
        | object_store::Error::Unauthenticated { .. }
        | object_store::Error::UnknownConfigurationKey { .. } => Fault::Stop,
        _ => Fault::Retry,
    }
}

/// A file that the table has and the store has not will not come back; what else the store says of one is no fault of the file.
fn file_fault(error: &ParquetError) -> Fault {
    let ParquetError::External(source) = error else { return Fault::Stop };
    match source.downcast_ref() {
        None | Some(object_store::Error::NotFound { .. }) => Fault::Stop,
        Some(source) => store_fault(source),
    }
}

/// The library wraps what the store said in many ways; what is not surely permanent is worth a bounded retry.
fn log_fault(error: &DeltaTableError) -> Fault {
    match error {
        DeltaTableError::ObjectStore { source } => store_fault(source),
        DeltaTableError::InvalidJsonLog { .. }
        | DeltaTableError::InvalidStatsJson { .. }
        | DeltaTableError::SerializeLogJson { .. }
        | DeltaTableError::SchemaMismatch { .. }
        | DeltaTableError::MetadataError(_)
        | DeltaTableError::NoSchema => Fault::Stop,
        _ => Fault::Retry,
    }
}
