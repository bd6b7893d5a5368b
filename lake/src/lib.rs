//! Object storage and the Delta tables in it.
//!
//! A [`Bucket`] is an object store that has been probed; a [`Table`] is one Delta table in it: read by [`Snapshot`], filled by [`Table::write`] (files that
//! nobody sees yet) and [`Table::commit`] (the one step that makes them rows). Neighbours: `transform` writes, `query` reads through `provider`.
//!
//! Nothing here knows a stream, a reading or the log, spawns a task, cleans the log of a table, or deletes a data file.

mod bucket;
mod commit;
mod create;
mod datafile;
mod durable;
mod error;
#[doc(hidden)]
pub mod faults;
#[cfg(test)]
mod fixture;
pub mod permissions;
mod plan;
mod probe;
pub mod provider;
mod refresh;
pub mod s3;
mod schema;
mod snapshot;
mod stats;
#[cfg(test)]
mod suite;
mod summary;
mod table;
mod write;

pub use bucket::Bucket;
pub use create::TableDefinition;
pub use datafile::{DataFile, NewFile};
pub use error::LakeError;
pub use plan::{Operation, Outcome, Plan};
pub use snapshot::Snapshot;
pub use stats::FileStats;
pub use summary::CommitSummary;
pub use table::{CHECKPOINT_EVERY, Table};
pub use write::WriteOptions;
