//! The rows of a listing while they are found: values one by one, then batches.

use super::definition::Definition;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result};
use std::sync::Arc;

/// Most rows that one scan of a system table gives. They are in memory at once, some hundred bytes each: that is about 100 MiB, and what is looked at with
/// so many is looked at table by table.
const ROWS_MAX: usize = 250_000;

/// Rows in a batch: as many as the engine has in one. Batches are worked on at the same time and may overtake each other.
const BATCH_ROWS: usize = 8192;

/// The rows that were found so far.
pub(super) struct Rows {
    definition: &'static Definition,
    schema: SchemaRef,
    pending: Vec<Vec<ScalarValue>>,
    batches: Vec<RecordBatch>,
    count: usize,
    /// So many are enough.
    limit: Option<usize>,
}

impl Rows {
    pub(super) fn new(definition: &'static Definition, schema: SchemaRef, limit: Option<usize>) -> Self {
        Self { definition, schema, pending: Vec::new(), batches: Vec::new(), count: 0, limit }
    }

    /// How many more rows are of use.
    pub(super) fn left(&self) -> usize {
        self.limit.map_or(usize::MAX, |limit| limit.saturating_sub(self.count))
    }

    /// Takes a row: a value for each column, in their order.
    pub(super) fn push<const COLUMNS: usize>(&mut self, row: [ScalarValue; COLUMNS]) -> Result<()> {
        self.count += 1;
        if self.count > ROWS_MAX {
            let Definition { name, columns, keys, .. } = self.definition;
            let key = columns[keys.saturating_sub(1)].name;
            return Err(DataFusionError::ResourcesExhausted(format!(
                "system.{name} would have more than {ROWS_MAX} rows; ask for fewer: where {key} = '…'"
            )));
        }
        self.pending.push(row.into());
        if self.pending.len() == BATCH_ROWS { self.pack() } else { Ok(()) }
    }

    /// All of them.
    pub(super) fn finish(mut self) -> Result<Vec<RecordBatch>> {
        self.pack()?;
        Ok(self.batches)
    }

    fn pack(&mut self) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let mut columns: Vec<Vec<ScalarValue>> =
            self.schema.fields().iter().map(|_| Vec::with_capacity(self.pending.len())).collect();
        for row in self.pending.drain(..) {
            for (column, value) in columns.iter_mut().zip(row) {
                column.push(value);
            }
        }
        let arrays = columns.into_iter().map(ScalarValue::iter_to_array).collect::<Result<_>>()?;
        self.batches.push(RecordBatch::try_new(Arc::clone(&self.schema), arrays)?);
        Ok(())
    }
}

/// Text, or null.
pub(super) fn text<T: Into<String>>(value: Option<T>) -> ScalarValue {
    ScalarValue::Utf8(value.map(Into::into))
}

/// A whole number, or null; one that is too large for the column is the largest.
pub(super) fn count<T: TryInto<i64>>(value: Option<T>) -> ScalarValue {
    ScalarValue::Int64(value.map(|value| value.try_into().unwrap_or(i64::MAX)))
}

/// A number, or null.
pub(super) fn number(value: Option<f64>) -> ScalarValue {
    ScalarValue::Float64(value)
}

/// True or false.
pub(super) fn flag(value: bool) -> ScalarValue {
    ScalarValue::Boolean(Some(value))
}

/// Days since 1970-01-01, or null.
pub(super) fn date(value: Option<i32>) -> ScalarValue {
    ScalarValue::Date32(value)
}

/// Microseconds since 1970, or null.
pub(super) fn instant(micros: Option<i64>) -> ScalarValue {
    ScalarValue::TimestampMicrosecond(micros, Some(Arc::from("UTC")))
}

/// Milliseconds since 1970, where 0 says that nobody knows.
pub(super) fn instant_of_millis(millis: i64) -> ScalarValue {
    instant(Some(millis).filter(|millis| *millis != 0).map(|millis| millis.saturating_mul(1000)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::mismatches;

    fn filled(count: usize) -> Result<Vec<RecordBatch>> {
        let definition = &mismatches::DEFINITION;
        let mut rows = Rows::new(definition, definition.schema(), None);
        for _ in 0..count {
            rows.push([text(Some("s")), text(Some("c")), super::count(Some(1)), date(None), date(Some(1))])?;
        }
        rows.finish()
    }

    #[test]
    fn no_row_is_lost_on_the_way_into_batches() {
        for count in [0, 1, BATCH_ROWS - 1, BATCH_ROWS, BATCH_ROWS + 1, 3 * BATCH_ROWS] {
            let batches = filled(count).unwrap();
            assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), count);
        }
    }

    #[test]
    fn more_rows_than_memory_is_meant_for_are_refused_with_what_to_do() {
        let error = filled(ROWS_MAX + 1).unwrap_err().strip_backtrace();
        assert!(error.contains("more than 250000 rows") && error.contains("where stream = '…'"), "{error}");
    }
}
