//! Object storage and the Delta tables in it.
//!
//! A [`Bucket`] is an object store that has been probed; a [`Table`] is one Delta table in it: read by [`Snapshot`], filled by [`Table::write`] (files that
//! nobody sees yet) and [`Table::commit`] (the one step that makes them rows). Neighbours: `transform` writes, `query` reads through `provider`.
//!
//! [`upkeep`] keeps tables small, quick to open and free of what nobody needs.
//!
//! Nothing here knows a stream, a reading or the log, or spawns a task; only `upkeep` removes data files or commits.

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
mod grow;
pub mod ledger;
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
pub mod upkeep;
mod write;

pub use bucket::Bucket;
pub use create::TableDefinition;
pub use datafile::{DataFile, NewFile};
pub use error::LakeError;
pub use grow::{GrowError, grow};
pub use plan::{Operation, Outcome, Plan, UPLOAD_AGE_MAX};
pub use snapshot::Snapshot;
pub use stats::FileStats;
pub use summary::CommitSummary;
pub use table::{CHECKPOINT_EVERY, Table};
pub use write::WriteOptions;
