//! One value as text, the same in every format: instants as RFC 3339 in UTC with no more decimals than needed, doubles as short as reads back.

use super::zone;
use arrow::array::{Array, ArrayRef, AsArray, Float32Array, Float64Array, RecordBatch};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use std::fmt::Write as _;
use std::io;

/// `%.f` leaves out what is zero.
pub(super) const INSTANT: &str = "%Y-%m-%dT%H:%M:%S%.fZ";

/// The columns of a batch; instants in other zones than UTC have become text, all others are in UTC, with or without saying so.
pub(super) fn printable(batch: &RecordBatch) -> io::Result<Vec<ArrayRef>> {
    batch.columns().iter().map(zone::shown).collect::<Result<_, _>>().map_err(unprintable)
}

/// A value that cannot be shown, as a year beyond the calendar.
pub(super) fn unprintable(error: ArrowError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// The values of one column as text.
pub(super) enum Cells<'a> {
    Double(&'a Float64Array),
    Float(&'a Float32Array),
    Other(&'a dyn Array, ArrayFormatter<'a>),
}

impl<'a> Cells<'a> {
    pub(super) fn of(column: &'a ArrayRef) -> io::Result<Self> {
        Ok(match column.data_type() {
            DataType::Float64 => Self::Double(column.as_primitive()),
            DataType::Float32 => Self::Float(column.as_primitive()),
            _ => {
                let options = FormatOptions::new()
                    .with_display_error(false)
                    .with_timestamp_format(Some(INSTANT))
                    .with_timestamp_tz_format(Some(INSTANT));
                Self::Other(
                    column.as_ref(),
                    ArrayFormatter::try_new(column.as_ref(), &options).map_err(unprintable)?,
                )
            }
        })
    }

    pub(super) fn all(columns: &'a [ArrayRef]) -> io::Result<Vec<Self>> {
        columns.iter().map(Self::of).collect()
    }

    /// Replaces `text` by the value in a row; false, and empty text, for null.
    pub(super) fn read(&self, row: usize, text: &mut String) -> io::Result<bool> {
        text.clear();
        let outcome = match self {
            Self::Double(values) if values.is_valid(row) => write!(text, "{:?}", values.value(row)),
            Self::Float(values) if values.is_valid(row) => write!(text, "{:?}", values.value(row)),
            Self::Other(values, formatter) if !values.is_null(row) => {
                write!(text, "{}", formatter.value(row))
            }
            _ => return Ok(false),
        };
        outcome.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        Ok(true)
    }
}

/// Whether a column's values stand to the right.
pub(super) fn is_number(kind: &DataType) -> bool {
    kind.is_numeric()
}
