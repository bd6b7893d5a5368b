//! JSON as a message has it: checked whole, then looked at in place.
//!
//! [`Document::scan`] accepts exactly RFC 8259, within our limits, and keeps where every value stands; numbers and text stay the bytes they came as until a
//! column asks for them. So a value that fits nowhere can be handed on unchanged. A document is reused from message to message and then allocates nothing.

mod document;
pub(crate) mod number;
mod scan;
mod text;

pub(crate) use document::{Document, Kind, Value};

/// Deepest nesting of objects and arrays.
pub(crate) const DEPTH_MAX: usize = 32;

/// Most fields of one reading, nested ones counted too.
pub(crate) const FIELDS_MAX: usize = 10_000;

#[cfg(test)]
mod tests;
