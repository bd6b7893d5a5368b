//! The ordered, replayable, partitioned log: what a message is safe in before its device hears of it.
//!
//! One trait, as narrow as its use, and its implementations: `embedded`, our own segment files. All pass one contract suite.
//! A log knows nothing of MQTT, of readings or of tables.

mod api;
#[cfg(test)]
mod contract;
pub mod embedded;
mod error;

pub use api::{Bounds, Log, LogReader, Pending, ReadLimit};
pub use error::LogError;
