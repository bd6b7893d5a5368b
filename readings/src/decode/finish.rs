//! The end of a batch: its readings through the transform, and what became of every message.

use super::{Decoder, Waiting};
use crate::decoded::Decoded;
use crate::quarantine::Quarantined;
use crate::reading::Place;
use crate::transform::Transform;
use arrow::array::{AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{Int32Type, Int64Type, SchemaRef};
use bytes::Bytes;
use datafusion::error::DataFusionError;
use millstream_model::column::{Column, reserved};
use millstream_model::quarantine::Reason;
use std::collections::BTreeMap;

/// Rows that a transform sees at once: enough to work in columns, and few enough that one bad row costs the evaluation of few good ones again.
const CHUNK_ROWS: usize = 8_192;

/// Messages among which the ones to blame are looked for one by one: halving them further would cost more evaluations, where many are bad.
const SINGLY_MESSAGES: usize = 64;

impl Decoder {
    /// Everything that was pushed since the last time. What was learned of the schema stays.
    pub fn finish(&mut self) -> Decoded {
        let input = self.input();
        let readings = self.transform(input);
        self.columns_before = self.fields.count();
        self.bytes = 0;
        self.messages = 0;
        let mismatches = std::mem::take(&mut self.mismatches);
        Decoded {
            schema: self.fields.schema().clone(),
            table_schema: readings.schema(),
            readings,
            quarantined: std::mem::take(&mut self.quarantined),
            ranges: std::mem::take(&mut self.ranges),
            mismatches: self.name_columns(mismatches),
        }
    }

    fn input(&mut self) -> RecordBatch {
        let fields = self.fields.finish(self.rows.len());
        let columns = self.rows.finish(fields);
        RecordBatch::try_new(self.fields.schema().to_arrow(), columns)
            .expect("every column has all rows, in its type")
    }

    fn name_columns(
        &self,
        counts: BTreeMap<(Place, &'static str), u64>,
    ) -> BTreeMap<(String, &'static str), u64> {
        let columns = self.fields.schema().columns();
        let name = |place| match place {
            Place::EventTime => Some(reserved::TS.to_owned()),
            Place::Own(place) => columns.get(place).map(|column: &Column| column.name.clone()),
        };
        counts.into_iter().filter_map(|((place, why), count)| Some(((name(place)?, why), count))).collect()
    }

    /// The table's rows of the batch.
    fn transform(&mut self, input: RecordBatch) -> RecordBatch {
        let Some(mut transform) = self.transform.take() else {
            return input;
        };
        let waiting = std::mem::take(&mut self.waiting);
        let mut input = input;
        if self.fields.count() > self.columns_before {
            match transform.recompile(self.fields.schema()) {
                Ok(grown) => transform = grown,
                // Names that the transform computes are not learned, so this does not happen; if it does, nothing is lost and the stream goes on.
                Err(error) => {
                    self.fields.truncate(0, self.columns_before);
                    for message in &waiting {
                        self.refuse(message, error.to_string());
                    }
                    input = RecordBatch::new_empty(self.fields.schema().to_arrow());
                }
            }
        }
        let waiting = if input.num_rows() == 0 { Vec::new() } else { waiting };
        let mut done = Vec::new();
        let (mut rest, mut row) = (waiting.as_slice(), 0);
        while !rest.is_empty() {
            let (count, rows) = chunk(rest);
            let (now, later) = rest.split_at(count);
            self.evaluate(&transform, &input.slice(row, rows), now, &mut done);
            (rest, row) = (later, row + rows);
        }
        let readings = join(&transform.table_schema(), &done);
        self.transform = Some(transform);
        readings
    }

    /// Evaluates the messages together. Where that fails, each half for itself, and few of them one by one, so that only the message that is to blame goes to
    /// quarantine. However many are, a row is evaluated at most [`CHUNK_ROWS`]`.ilog2()` times.
    fn evaluate(
        &mut self,
        transform: &Transform,
        input: &RecordBatch,
        waiting: &[Waiting],
        done: &mut Vec<RecordBatch>,
    ) {
        if waiting.is_empty() {
            return;
        }
        match transform.apply(input) {
            Ok(output) => {
                self.settle_all(waiting, &output);
                done.push(output);
            }
            Err(error) if waiting.len() == 1 => match by_row(transform, input, error) {
                Ok(output) => {
                    self.settle(waiting[0].partition, output.iter().map(RecordBatch::num_rows).sum());
                    done.extend(output);
                }
                Err(error) => self.refuse(&waiting[0], error.to_string()),
            },
            Err(_) => {
                let part = if waiting.len() > SINGLY_MESSAGES { waiting.len().div_ceil(2) } else { 1 };
                let mut row = 0;
                for messages in waiting.chunks(part) {
                    let rows = messages.iter().map(|message| message.rows).sum();
                    self.evaluate(transform, &input.slice(row, rows), messages, done);
                    row += rows;
                }
            }
        }
    }

    /// Counts what the transform kept of each message: rows keep their order, so one pass tells.
    fn settle_all(&mut self, waiting: &[Waiting], output: &RecordBatch) {
        let partitions = output[reserved::PARTITION].as_primitive::<Int32Type>().values();
        let offsets = output[reserved::OFFSET].as_primitive::<Int64Type>().values();
        let mut row = 0;
        for message in waiting {
            let first = row;
            while row < output.num_rows()
                && (partitions[row], offsets[row]) == (message.partition.0, message.offset.0)
            {
                row += 1;
            }
            self.settle(message.partition, row - first);
        }
    }

    fn refuse(&mut self, message: &Waiting, detail: String) {
        self.quarantined.push(Quarantined {
            received_at: message.received_at,
            stream: Some(self.stream.name.clone()),
            reason: Reason::TransformFailed,
            detail,
            topic: message.topic.clone(),
            device_id: String::from_utf8_lossy(&message.device_id).into_owned(),
            payload: Bytes::copy_from_slice(&message.payload),
            partition: message.partition,
            offset: message.offset,
        });
        if let Some(range) = self.ranges.get_mut(&message.partition) {
            range.quarantined += 1;
        }
    }
}

/// The rows of a message over which the transform failed together: each half for itself, down to single rows. A row that is evaluated alone decides, for beside others an
/// expression may be evaluated of which this row's outcome does not depend (what stands behind a condition that is false of it), and which other rows there are is
/// chance. So only a row that fails alone costs the message.
fn by_row(
    transform: &Transform,
    input: &RecordBatch,
    error: DataFusionError,
) -> Result<Vec<RecordBatch>, DataFusionError> {
    if input.num_rows() <= 1 {
        return Err(error);
    }
    let half = input.num_rows() / 2;
    let mut done = Vec::new();
    for (from, rows) in [(0, half), (half, input.num_rows() - half)] {
        let part = input.slice(from, rows);
        match transform.apply(&part) {
            Ok(output) => done.push(output),
            Err(error) => done.extend(by_row(transform, &part, error)?),
        }
    }
    Ok(done)
}

/// How many of the first messages are evaluated at once, and their rows: no more than [`CHUNK_ROWS`], but at least one message.
fn chunk(waiting: &[Waiting]) -> (usize, usize) {
    let (mut messages, mut rows) = (0, 0);
    for message in waiting {
        if messages > 0 && rows + message.rows > CHUNK_ROWS {
            break;
        }
        (messages, rows) = (messages + 1, rows + message.rows);
    }
    (messages, rows)
}

fn join(schema: &SchemaRef, batches: &[RecordBatch]) -> RecordBatch {
    match batches {
        [only] => only.clone(),
        batches => concat_batches(schema, batches).expect("all batches have the transform's schema"),
    }
}
