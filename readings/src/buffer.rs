//! The values of one column while a batch is built.

use crate::event_time::{from_text, instant};
use crate::json::{Document, Kind, Value, number};
use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray,
};
use arrow::array::{BooleanBufferBuilder, NullBufferBuilder};
use arrow::buffer::{BooleanBuffer, Buffer as Bytes, NullBuffer, OffsetBuffer, ScalarBuffer};
use millstream_model::column::ColumnType;
use millstream_model::quarantine::Reason;
use millstream_model::stream::TimeUnit;
use std::sync::Arc;

/// A column that grows by rows and can be cut back to the rows it had (arrow's own builders cannot): a message that fails half-way leaves nothing behind.
///
/// Rows that have no value are filled up when the next value comes, so a field that is rare costs nothing in the readings that lack it.
#[derive(Debug)]
pub(crate) struct Buffer {
    values: Values,
    valid: NullBufferBuilder,
}

#[derive(Debug)]
enum Values {
    Double(Vec<f64>),
    Boolean(BooleanBufferBuilder),
    Text(Texts),
    Long(Vec<i64>),
    Timestamp(Vec<i64>),
}

impl Buffer {
    pub(crate) fn new(kind: ColumnType) -> Self {
        let values = match kind {
            ColumnType::Double => Values::Double(Vec::new()),
            ColumnType::Boolean => Values::Boolean(BooleanBufferBuilder::new(0)),
            ColumnType::String => Values::Text(Texts::default()),
            ColumnType::Long => Values::Long(Vec::new()),
            ColumnType::Timestamp => Values::Timestamp(Vec::new()),
        };
        Self { values, valid: NullBufferBuilder::new(0) }
    }

    /// Rows that have been filled.
    pub(crate) fn len(&self) -> usize {
        self.valid.len()
    }

    /// Gives the row its value, and says how many bytes it took.
    ///
    /// # Errors
    /// The value does not fit: the row is null, and the reason is the code for it.
    pub(crate) fn put(&mut self, row: usize, value: Value<'_>) -> Result<usize, Reason> {
        self.fill(row);
        let put = self.fit(value);
        match put {
            Ok(_) => self.valid.append_non_null(),
            Err(_) => self.fill(row + 1),
        }
        put
    }

    fn fit(&mut self, value: Value<'_>) -> Result<usize, Reason> {
        match (&mut self.values, value.kind()) {
            (Values::Double(values), Kind::Number) => values.push(number::double(value.raw())?),
            (Values::Long(values), Kind::Number) => {
                values.push(number::long(value.raw()).ok_or(Reason::TypeMismatch)?)
            }
            (Values::Timestamp(values), Kind::Number | Kind::Text | Kind::Escaped) => {
                values.push(instant(value, TimeUnit::Auto).ok_or(Reason::TypeMismatch)?.0);
            }
            (Values::Boolean(values), Kind::True | Kind::False) => {
                values.append(value.kind() == Kind::True);
                return Ok(1);
            }
            (Values::Text(values), Kind::Text | Kind::Escaped | Kind::Array) => {
                let text = value.text();
                values.push(&text);
                return Ok(size_of::<i32>() + text.len());
            }
            _ => return Err(Reason::TypeMismatch),
        }
        Ok(size_of::<i64>())
    }

    /// Gives the row a piece of plain text, read as the column's type.
    ///
    /// # Errors
    /// It cannot be read so: the row is null.
    pub(crate) fn put_plain(&mut self, row: usize, text: &str) -> Result<usize, Reason> {
        self.fill(row);
        match &mut self.values {
            Values::Text(values) => {
                values.push(text);
                self.valid.append_non_null();
                return Ok(size_of::<i32>() + text.len());
            }
            Values::Timestamp(values) => {
                if let Some(instant) = from_text(text) {
                    values.push(instant.0);
                    self.valid.append_non_null();
                    return Ok(size_of::<i64>());
                }
            }
            _ => {}
        }
        let mut document = Document::default();
        match document.scan(text) {
            Ok(value) => self.put(row, value),
            Err(_) => {
                self.fill(row + 1);
                Err(Reason::TypeMismatch)
            }
        }
    }

    /// Makes the rows up to this one null that have nothing yet.
    fn fill(&mut self, rows: usize) {
        let missing = rows.saturating_sub(self.len());
        if missing == 0 {
            return;
        }
        match &mut self.values {
            Values::Double(values) => values.resize(rows, 0.0),
            Values::Long(values) | Values::Timestamp(values) => values.resize(rows, 0),
            Values::Boolean(values) => values.append_n(missing, false),
            Values::Text(values) => values.push_empty(missing),
        }
        self.valid.append_n_nulls(missing);
    }

    /// Cuts back to these rows.
    pub(crate) fn truncate(&mut self, rows: usize) {
        if self.len() <= rows {
            return;
        }
        match &mut self.values {
            Values::Double(values) => values.truncate(rows),
            Values::Long(values) | Values::Timestamp(values) => values.truncate(rows),
            Values::Boolean(values) => values.truncate(rows),
            Values::Text(values) => values.truncate(rows),
        }
        self.valid.truncate(rows);
    }

    /// The rows as an array; the buffer is empty afterwards.
    pub(crate) fn finish(&mut self, rows: usize) -> ArrayRef {
        self.fill(rows);
        let valid = std::mem::replace(&mut self.valid, NullBufferBuilder::new(0)).build();
        match &mut self.values {
            Values::Double(values) => Arc::new(Float64Array::new(std::mem::take(values).into(), valid)),
            Values::Long(values) => Arc::new(Int64Array::new(std::mem::take(values).into(), valid)),
            Values::Timestamp(values) => instants(std::mem::take(values), valid),
            Values::Boolean(values) => {
                let bits: BooleanBuffer = std::mem::replace(values, BooleanBufferBuilder::new(0)).build();
                Arc::new(BooleanArray::new(bits, valid))
            }
            Values::Text(values) => values.finish(valid),
        }
    }
}

/// An array of instants as the tables have them.
pub(crate) fn instants(micros: Vec<i64>, valid: Option<NullBuffer>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::new(micros.into(), valid).with_timezone("UTC"))
}

/// Texts, one behind the other. They stay below 2 GiB, because a batch does: see `BATCH_MAX`.
#[derive(Debug, Default)]
pub(crate) struct Texts {
    bytes: Vec<u8>,
    ends: Vec<i32>,
}

impl Texts {
    pub(crate) fn push(&mut self, text: &str) {
        self.bytes.extend_from_slice(text.as_bytes());
        self.push_empty(1);
    }

    pub(crate) fn push_empty(&mut self, count: usize) {
        let end = i32::try_from(self.bytes.len()).unwrap_or(i32::MAX);
        self.ends.resize(self.ends.len() + count, end);
    }

    pub(crate) fn truncate(&mut self, rows: usize) {
        self.ends.truncate(rows);
        self.bytes.truncate(self.ends.last().map_or(0, |&end| end as usize));
    }

    pub(crate) fn finish(&mut self, valid: Option<NullBuffer>) -> ArrayRef {
        let mut offsets = Vec::with_capacity(self.ends.len() + 1);
        offsets.push(0);
        offsets.append(&mut self.ends);
        let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
        let bytes = Bytes::from_vec(std::mem::take(&mut self.bytes));
        Arc::new(StringArray::new(offsets, bytes, valid))
    }
}
