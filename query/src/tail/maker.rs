//! Makes rows of messages, with the firehose's own code and what the table knows of the columns.

use super::chunk::Made;
use super::error::TailError;
use crate::definitions::Unclaimed;
use arrow::datatypes::SchemaRef;
use chrono::Utc;
use millstream_lake::ledger::INPUT_SCHEMA;
use millstream_lake::{Snapshot, grow};
use millstream_model::name::Partition;
use millstream_model::record::Stored;
use millstream_model::stream::Stream;
use millstream_model::time::Micros;
use millstream_readings::{
    Decoder, InputSchema, Quarantined, quarantine_batch, quarantine_schema, table_schema, unrouted,
};
use std::sync::Arc;

/// Rows that are being made take so many bytes at most before they are given up for kept ones: what there is no memory for is noticed before it is there.
const PIECE_BYTES: usize = 4 << 20;

/// What makes rows of a log topic's messages.
#[derive(Debug)]
pub(super) enum Maker {
    /// A stream's readings, and what of it goes to quarantine.
    Readings(Box<Readings>),
    /// Messages that no stream claims.
    Unclaimed(Unclaimed),
}

/// What makes readings.
#[derive(Debug)]
pub(super) struct Readings {
    stream: Arc<Stream>,
    decoder: Decoder,
    /// What the table said when the decoder was made: its columns, and what it knows of the fields.
    known: Known,
    /// What is known of the fields now.
    fields: InputSchema,
    /// The columns of what is made now.
    columns: SchemaRef,
}

#[derive(Debug, PartialEq)]
struct Known {
    fields: Option<String>,
    columns: Option<SchemaRef>,
}

/// Whether what was made before goes with what the table says now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Agreement {
    Agrees,
    /// The table has learned something else: what was made before is to be made anew.
    Contradicts,
}

impl Known {
    fn of(snapshot: Option<&Snapshot>) -> Self {
        Self {
            fields: snapshot.and_then(|snapshot| snapshot.property(INPUT_SCHEMA)).map(str::to_owned),
            columns: snapshot.map(Snapshot::schema),
        }
    }

    fn fields(&self, stream: &Stream) -> Result<InputSchema, TailError> {
        let broken = |source| TailError::Columns { table: stream.name.to_string(), source };
        match &self.fields {
            Some(json) => InputSchema::restore(stream, json).map_err(broken),
            None => Ok(InputSchema::declared(stream)),
        }
    }
}

impl Readings {
    /// For a table as it is now, or for none.
    pub(super) fn new(stream: &Arc<Stream>, snapshot: Option<&Snapshot>) -> Result<Self, TailError> {
        let known = Known::of(snapshot);
        let fields = known.fields(stream)?;
        Self::with(stream, known, fields)
    }

    fn with(stream: &Arc<Stream>, known: Known, fields: InputSchema) -> Result<Self, TailError> {
        let table = || stream.name.to_string();
        let broken = |source| TailError::Transform { table: table(), source };
        let columns = table_schema(stream, None, &fields).map_err(broken)?;
        let mut decoder = Decoder::new(Arc::clone(stream), fields.clone()).map_err(broken)?;
        if let Some(in_table) = &known.columns {
            grow(in_table, &columns).map_err(|source| TailError::Contradiction { table: table(), source })?;
            decoder = decoder.for_table(in_table);
        }
        Ok(Self { stream: Arc::clone(stream), decoder, known, fields, columns })
    }

    /// Goes on with what the table says now.
    fn follow(&mut self, snapshot: Option<&Snapshot>) -> Result<Agreement, TailError> {
        let known = Known::of(snapshot);
        if known == self.known {
            return Ok(Agreement::Agrees);
        }
        let fields = known.fields(&self.stream)?;
        let goes = known.columns.as_ref().is_none_or(|table| grow(table, &self.columns).is_ok());
        let joined = fields.joined(&self.fields, self.stream.column_limit).filter(|_| goes);
        let agreement = if joined.is_some() { Agreement::Agrees } else { Agreement::Contradicts };
        let stream = Arc::clone(&self.stream);
        *self = Self::with(&stream, known, joined.unwrap_or(fields))?;
        Ok(agreement)
    }

    fn finish(&mut self) -> (Option<arrow::array::RecordBatch>, Vec<Quarantined>) {
        let decoded = self.decoder.finish();
        (self.fields, self.columns) = (decoded.schema, decoded.table_schema);
        (Some(decoded.readings), decoded.quarantined)
    }
}

impl Maker {
    /// Goes on with what the table says now.
    pub(super) fn follow(&mut self, snapshot: Option<&Snapshot>) -> Result<Agreement, TailError> {
        match self {
            Self::Readings(readings) => readings.follow(snapshot),
            Self::Unclaimed(_) => Ok(Agreement::Agrees),
        }
    }

    /// Forgets what was learned of the fields: it was another log's.
    pub(super) fn begin_anew(&mut self, snapshot: Option<&Snapshot>) -> Result<(), TailError> {
        if let Self::Readings(readings) = self {
            **readings = Readings::new(&readings.stream, snapshot)?;
        }
        Ok(())
    }

    /// The columns of the table, as far as they are known now.
    pub(super) fn columns(&self) -> SchemaRef {
        match self {
            Self::Readings(readings) => Arc::clone(&readings.columns),
            Self::Unclaimed(_) => quarantine_schema(),
        }
    }

    /// Makes rows of the first of these records, as many as go into one piece, and says how many they were. There must be one at least.
    pub(super) fn make(&mut self, partition: Partition, records: &[Stored]) -> Option<(Made, usize)> {
        let now = Micros::from(Utc::now());
        let (taken, readings, mut quarantined) = match self {
            Self::Readings(readings) => {
                let mut taken = 0;
                for stored in records {
                    readings.decoder.push(partition, stored, now);
                    taken += 1;
                    if readings.decoder.bytes() > PIECE_BYTES {
                        break;
                    }
                }
                let (rows, quarantined) = readings.finish();
                (taken, rows, quarantined)
            }
            Self::Unclaimed(Unclaimed::Quarantine) => {
                let all = records.iter().map(|stored| unrouted(partition, stored, now)).collect();
                (records.len(), None, all)
            }
            Self::Unclaimed(Unclaimed::Drop) => (records.len(), None, Vec::new()),
        };
        // Those that the transform refused come last.
        quarantined.sort_by_key(|message| message.offset);
        let made = &records[..taken];
        let received = made.iter().filter_map(Stored::received_at);
        let received = received.map(|at| (at, at));
        let made = Made {
            first: made.first()?.offset,
            last: made.last()?.offset,
            readings,
            quarantined: (!quarantined.is_empty()).then(|| quarantine_batch(&quarantined)),
            received: received.reduce(|(first, last), (from, to)| (first.min(from), last.max(to))),
        };
        Some((made, taken))
    }
}
