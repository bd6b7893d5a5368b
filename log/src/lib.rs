//! The ordered, replayable, partitioned log: what a message is safe in before its device hears of it.
//!
//! One trait, as narrow as its use, and its implementations: `embedded`, our own segment files, and `kafka`. Both pass one contract suite.
//! A log knows nothing of MQTT, of readings or of tables.

mod api;
#[cfg(test)]
mod contract;
pub mod embedded;
mod error;
pub mod kafka;
mod partitioner;

pub use api::{Bounds, Log, LogReader, Membership, Pending, ReadLimit, Released, Share};
pub use error::LogError;
