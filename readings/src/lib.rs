//! Messages to readings: a payload of the log becomes rows of its stream's table, or goes to quarantine with a reason.
//!
//! The firehose writes what this package decodes, and the tail of a query shows it: both use [`Decoder`], so they cannot differ.
//! Everything here is pure: no I/O, no runtime, no clock, and no input that makes it fail.

mod buffer;
mod decode;
mod decoded;
mod device;
mod event_time;
mod extra;
mod fields;
mod flaw;
mod json;
mod quarantine;
mod reading;
mod rows;
mod schema;
mod source;
mod transform;

pub use decode::Decoder;
pub use decoded::{Decoded, Range};
pub use quarantine::{Quarantined, quarantine_batch, quarantine_schema, unrouted};
pub use schema::{InputSchema, SchemaError, table_schema};
pub use transform::{Transform, TransformError};
