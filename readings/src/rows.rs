//! The reserved columns while a batch is built.

use crate::buffer::{Texts, instants};
use arrow::array::{ArrayRef, Date32Array, Int32Array, Int64Array, NullBufferBuilder};
use millstream_model::name::{Offset, Partition};
use millstream_model::time::Micros;
use std::sync::Arc;

/// Bytes that the fixed part of a row takes.
const FIXED: usize = 48;

/// What is known of a reading beside its own fields.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row<'a> {
    pub(crate) ts: Micros,
    pub(crate) device_id: &'a str,
    pub(crate) partition: Partition,
    pub(crate) offset: Offset,
    pub(crate) index: usize,
    pub(crate) received_at: Micros,
    pub(crate) topic: &'a str,
    pub(crate) date: i32,
    pub(crate) extra: Option<&'a str>,
}

impl Row<'_> {
    /// About how many bytes it takes.
    pub(crate) fn size(&self) -> usize {
        FIXED + self.device_id.len() + self.topic.len() + self.extra.map_or(0, str::len)
    }
}

#[derive(Debug)]
pub(crate) struct Rows {
    ts: Vec<i64>,
    device_id: Texts,
    partition: Vec<i32>,
    offset: Vec<i64>,
    index: Vec<i32>,
    received_at: Vec<i64>,
    topic: Texts,
    date: Vec<i32>,
    extra: Texts,
    has_extra: NullBufferBuilder,
}

impl Default for Rows {
    fn default() -> Self {
        Self {
            ts: Vec::new(),
            device_id: Texts::default(),
            partition: Vec::new(),
            offset: Vec::new(),
            index: Vec::new(),
            received_at: Vec::new(),
            topic: Texts::default(),
            date: Vec::new(),
            extra: Texts::default(),
            has_extra: NullBufferBuilder::new(0),
        }
    }
}

impl Rows {
    pub(crate) fn len(&self) -> usize {
        self.ts.len()
    }

    pub(crate) fn push(&mut self, row: Row<'_>) {
        self.ts.push(row.ts.0);
        self.device_id.push(row.device_id);
        self.partition.push(row.partition.0);
        self.offset.push(row.offset.0);
        self.index.push(i32::try_from(row.index).unwrap_or(i32::MAX));
        self.received_at.push(row.received_at.0);
        self.topic.push(row.topic);
        self.date.push(row.date);
        self.extra.push(row.extra.unwrap_or_default());
        self.has_extra.append(row.extra.is_some());
    }

    /// Cuts back to so many rows.
    pub(crate) fn truncate(&mut self, rows: usize) {
        self.ts.truncate(rows);
        self.device_id.truncate(rows);
        self.partition.truncate(rows);
        self.offset.truncate(rows);
        self.index.truncate(rows);
        self.received_at.truncate(rows);
        self.topic.truncate(rows);
        self.date.truncate(rows);
        self.extra.truncate(rows);
        self.has_extra.truncate(rows);
    }

    /// The columns in the table's order: the leading ones, then what `fields` gives, then `_extra`.
    pub(crate) fn finish(&mut self, fields: Vec<ArrayRef>) -> Vec<ArrayRef> {
        let rows = std::mem::take(self);
        let Self {
            ts,
            mut device_id,
            partition,
            offset,
            index,
            received_at,
            mut topic,
            date,
            mut extra,
            has_extra,
        } = rows;
        let mut columns: Vec<ArrayRef> = vec![
            instants(ts, None),
            device_id.finish(None),
            Arc::new(Int32Array::from(partition)),
            Arc::new(Int64Array::from(offset)),
            Arc::new(Int32Array::from(index)),
            instants(received_at, None),
            topic.finish(None),
            Arc::new(Date32Array::from(date)),
        ];
        columns.extend(fields);
        columns.push(extra.finish(has_extra.build()));
        columns
    }
}
