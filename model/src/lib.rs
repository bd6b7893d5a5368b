//! What crosses a boundary between stages: the record of the log, the definition of a stream, names, the notice.
//!
//! Everything here is a value. Nothing here does I/O, knows of a runtime, or reads a clock.

pub mod arrival;
pub mod column;
pub mod fault;
pub mod name;
pub mod notice;
pub mod quarantine;
pub mod record;
pub mod secret;
pub mod stream;
pub mod time;
pub mod topic;
