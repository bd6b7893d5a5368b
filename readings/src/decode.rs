//! The decoder: messages in the order of the log in, one batch out.

use crate::decoded::Range;
use crate::device;
use crate::event_time::{date, judge};
use crate::extra::Extra;
use crate::fields::Fields;
use crate::flaw::Flaw;
use crate::json::{Document, Kind, Value};
use crate::quarantine::Quarantined;
use crate::reading::{Place, Walk};
use crate::rows::{Row, Rows};
use crate::schema::{InputSchema, captures};
use crate::source::Source;
use crate::transform::{Transform, TransformError};
use arrow::datatypes::Schema;
use bytes::Bytes;
use millstream_model::arrival::ArrivalView;
use millstream_model::column::{Column, fold_column_name, reserved};
use millstream_model::name::{Offset, Partition};
use millstream_model::quarantine::Reason;
use millstream_model::record::Stored;
use millstream_model::stream::{Misfit, Stream};
use millstream_model::time::Micros;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

mod finish;

/// Most bytes that the readings of one message may take, as each reading says what it costs. Each repeats device id and topic, so a small message of many small readings
/// on a long topic is large as a table.
const MESSAGE_MAX: usize = 64 << 20;

/// Most bytes of one batch: Arrow's texts have 32-bit offsets. Whoever flushes in time never comes near it.
const BATCH_MAX: usize = 1 << 30;

/// Turns the messages of one stream into readings, with the schema that it learns on the way.
///
/// It never fails and never panics, whatever comes: every message gets one outcome, whole. A message that goes to quarantine leaves no reading behind and teaches the
/// schema nothing; only if the transform refuses it, what its fields taught stays. Call [`Decoder::finish`] when [`Decoder::bytes`] is what a file should be, in any case well
/// below 1 GiB: messages pushed beyond that are quarantined as `too_large`.
#[derive(Debug)]
pub struct Decoder {
    stream: Arc<Stream>,
    time: Option<Source>,
    device: Option<Source>,
    /// The device's field is a declared column as well.
    keeps_device: bool,
    has_captures: bool,
    document: Document,
    extra: Extra,
    fields: Fields,
    rows: Rows,
    transform: Option<Transform>,
    /// The messages whose readings wait for the transform.
    waiting: Vec<Waiting>,
    /// Columns when the batch began.
    columns_before: usize,
    quarantined: Vec<Quarantined>,
    ranges: BTreeMap<Partition, Range>,
    mismatches: BTreeMap<(Place, &'static str), u64>,
    /// The columns that every reading must have: declared ones, so they never change.
    required: Vec<usize>,
    /// By column: whether what does not fit costs the message; see [`Walk::strict`].
    strict: Vec<bool>,
    /// What did not fit in the message that is being decoded.
    misfits: Vec<(Place, Reason)>,
    bytes: usize,
    messages: u64,
}

/// A message that has readings, until the transform has seen them.
#[derive(Debug)]
struct Waiting {
    partition: Partition,
    offset: Offset,
    received_at: Micros,
    rows: usize,
    device_id: Bytes,
    topic: String,
    payload: Bytes,
}

/// The parts of a message that all its readings share.
#[derive(Debug, Clone, Copy)]
struct Message<'m> {
    partition: Partition,
    offset: Offset,
    received_at: Micros,
    topic: &'m str,
    key: &'m [u8],
    levels: &'m [(usize, &'m str)],
}

impl Decoder {
    /// A decoder for a stream, beginning with what is known of its fields.
    ///
    /// # Errors
    /// If the stream's transform cannot be compiled for this schema.
    pub fn new(stream: Arc<Stream>, schema: InputSchema) -> Result<Self, TransformError> {
        let transform = match &stream.transform {
            Some(sql) => Some(Transform::compile(sql, &schema)?),
            None => None,
        };
        let computed = transform.as_ref().map_or_else(HashSet::new, Transform::computed);
        let columns_before = schema.columns().len();
        let has_captures = captures(&stream).next().is_some();
        let columns = schema.columns().iter().enumerate();
        let required = columns.filter(|(_, column)| column.required).map(|(place, _)| place).collect();
        let is_strict = |column: &Column| {
            let is_declared = stream.columns.iter().any(|declared| declared.name == column.name);
            column.required || (is_declared && stream.on_mismatch == Misfit::Quarantine)
        };
        let strict = schema.columns().iter().map(is_strict).collect();
        Ok(Self {
            time: stream.time.as_ref().map(|time| Source::new(&time.field)),
            device: stream.device_field.as_deref().map(Source::new),
            keeps_device: declares_device(&stream),
            has_captures,
            document: Document::default(),
            extra: Extra::default(),
            fields: Fields::new(schema, stream.column_limit, computed),
            rows: Rows::default(),
            transform,
            waiting: Vec::new(),
            columns_before,
            quarantined: Vec::new(),
            ranges: BTreeMap::new(),
            mismatches: BTreeMap::new(),
            required,
            strict,
            misfits: Vec::new(),
            bytes: 0,
            messages: 0,
            stream,
        })
    }

    /// The same decoder for a table that may have more columns than the fields that are known: what a transform computed that is no longer there, or somebody
    /// else added. A field of such a name has the column's type; where it cannot have it, or its name differs by case, it goes to `_extra`.
    #[must_use]
    pub fn for_table(mut self, table: &Schema) -> Self {
        self.fields.go_with(table);
        self
    }

    /// Takes the next message of a partition. Messages of one partition come in the order of their offsets, each once.
    ///
    /// `fallback_received_at` counts only where the record does not say when it came (a foreign producer's).
    pub fn push(&mut self, partition: Partition, stored: &Stored, fallback_received_at: Micros) {
        let range = self.ranges.entry(partition).or_insert_with(|| Range::starting(stored.offset));
        range.last = stored.offset;
        range.messages += 1;
        self.messages += 1;

        let received_at = stored.received_at().unwrap_or(fallback_received_at);
        let (rows, columns, bytes) = (self.rows.len(), self.fields.count(), self.bytes);
        match self.decode(partition, stored, received_at) {
            Ok(()) => self.keep(partition, stored, received_at, rows),
            Err(flaw) => {
                self.rows.truncate(rows);
                self.fields.truncate(rows, columns);
                self.bytes = bytes;
                self.quarantine(partition, stored, received_at, flaw);
            }
        }
    }

    /// Whether no message was pushed since the last [`Decoder::finish`].
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.messages == 0
    }

    /// About how many bytes of memory are held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Messages pushed since the last [`Decoder::finish`].
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.messages
    }

    fn decode(&mut self, partition: Partition, stored: &Stored, received_at: Micros) -> Result<(), Flaw> {
        self.misfits.clear();
        let arrival = ArrivalView(&stored.record);
        let payload = stored.record.value.as_ref();
        if let Some(length) = arrival.truncated_from() {
            return Err(Flaw::new(
                Reason::TooLarge,
                format!("{length} bytes as published; the first {} are kept", payload.len()),
            ));
        }
        if self.bytes > BATCH_MAX {
            return Err(Flaw::new(Reason::TooLarge, "the batch it came in was full"));
        }
        if arrival.is_lost() {
            return Err(Flaw::lost());
        }
        if payload.is_empty() {
            return Err(Flaw::new(Reason::Empty, "no payload"));
        }
        let text =
            std::str::from_utf8(payload).map_err(|cause| Flaw::new(Reason::NotJson, cause.to_string()))?;

        let topic = arrival.topic();
        let levels = self.levels(topic);
        let message = Message {
            partition,
            offset: stored.offset,
            received_at,
            topic,
            key: &stored.record.key,
            levels: &levels,
        };
        let mut document = std::mem::take(&mut self.document);
        let decoded = document.scan(text).and_then(|value| self.message(message, value));
        self.document = document;
        decoded
    }

    /// The columns of the topic's named levels, and their values.
    fn levels<'t>(&self, topic: &'t str) -> Vec<(usize, &'t str)> {
        if !self.has_captures {
            return Vec::new();
        }
        let captures =
            self.stream.topics.iter().find_map(|pattern| pattern.captures(topic)).unwrap_or_default();
        let own = captures.into_iter().filter(|(name, _)| !reserved::is_reserved(name));
        own.filter_map(|(name, level)| self.fields.find(name).map(|place| (place, level))).collect()
    }

    fn message(&mut self, message: Message<'_>, value: Value<'_>) -> Result<(), Flaw> {
        match value.kind() {
            Kind::Null => Err(Flaw::new(Reason::NotAReading, "null")),
            Kind::Array => {
                if let Some(place) = value.elements().position(|element| element.kind() != Kind::Object) {
                    return Err(Flaw::new(
                        Reason::NotAReading,
                        format!("element {place} of the array is not an object"),
                    ));
                }
                let mut cost = 0;
                for (index, element) in value.elements().enumerate() {
                    cost += self.reading(message, index, element)?;
                    if cost > MESSAGE_MAX {
                        return Err(Flaw::new(
                            Reason::TooLarge,
                            format!("its readings take more than {MESSAGE_MAX} bytes"),
                        ));
                    }
                }
                Ok(())
            }
            _ => self.reading(message, 0, value).map(|_cost| ()),
        }
    }

    /// Makes a row of it, and says what it costs: about as much memory, whatever is known of its fields, so that what is known never decides what a message becomes.
    fn reading(&mut self, message: Message<'_>, index: usize, value: Value<'_>) -> Result<usize, Flaw> {
        let row = self.rows.len();
        let is_object = value.kind() == Kind::Object;
        let find = |source: &Option<Source>| {
            source.as_ref().filter(|_| is_object).and_then(|source| source.find(value))
        };
        let (time, device) = (find(&self.time), find(&self.device));

        let device_id = match device {
            Some(value) => device::from_field(value)?,
            None => Cow::Borrowed(device::from_key(message.key)?),
        };
        device::check(&device_id)?;
        let ts = self.event_time(time, message.received_at)?;

        self.extra.begin();
        let mut walk = Walk {
            fields: &mut self.fields,
            extra: &mut self.extra,
            mismatches: &mut self.misfits,
            strict: &self.strict,
            row,
            consumed: [
                time.filter(|_| ts.is_some()).map(Value::index),
                device.filter(|_| !self.keeps_device).map(Value::index),
            ],
            unfit_time: time.filter(|_| ts.is_none()).map(Value::index),
            path: Vec::new(),
            name: String::new(),
            nth: 0,
            bytes: 0,
        };
        walk.levels(message.levels)?;
        if is_object {
            walk.object(value)?
        } else {
            walk.bare(value)?
        }
        self.bytes += walk.bytes;
        self.check_required(row)?;

        let ts = ts.unwrap_or(message.received_at);
        let Message { partition, offset, received_at, topic, .. } = message;
        let date = date(ts, self.stream.date);
        let extra = self.extra.finish();
        let row =
            Row { ts, device_id: &device_id, partition, offset, index, received_at, topic, date, extra };
        self.bytes += row.size();
        let cost = Row { extra: Some(value.raw()), ..row }.size();
        self.rows.push(row);
        Ok(cost)
    }

    /// The event time, if the reading has one that can be. Where the stream is strict, one that cannot be is a flaw.
    fn event_time(&self, value: Option<Value<'_>>, received_at: Micros) -> Result<Option<Micros>, Flaw> {
        let (Some(value), Some(field)) = (value, &self.stream.time) else {
            return Ok(None);
        };
        match judge(value, field, received_at) {
            Ok(ts) => Ok(Some(ts)),
            Err(_) if self.stream.on_bad_time == Misfit::Extra => Ok(None),
            Err(detail) => {
                let name = self.time.as_ref().map_or("", Source::name);
                Err(Flaw::new(Reason::BadTime, format!("field {name}: {detail}")))
            }
        }
    }

    fn check_required(&self, row: usize) -> Result<(), Flaw> {
        let missing = self.required.iter().find(|place| !self.fields.is_claimed(**place, row));
        missing.map_or(Ok(()), |place| {
            let name = &self.fields.column(*place).name;
            Err(Flaw::new(Reason::MissingField, format!("field {name} is required")))
        })
    }

    /// Counts a message that was decoded, whose rows begin at `first`.
    fn keep(&mut self, partition: Partition, stored: &Stored, received_at: Micros, first: usize) {
        for (place, reason) in self.misfits.drain(..) {
            *self.mismatches.entry((place, reason.as_str())).or_default() += 1;
        }

        let rows = self.rows.len() - first;
        if rows > 0 && self.transform.is_some() {
            let record = &stored.record;
            self.bytes += size_of::<Waiting>() + record.size();
            self.waiting.push(Waiting {
                partition,
                offset: stored.offset,
                received_at,
                rows,
                device_id: record.key.clone(),
                topic: ArrivalView(record).topic().to_owned(),
                payload: record.value.clone(),
            });
            return;
        }
        self.settle(partition, rows);
    }

    /// Counts a message that gave so many readings; none is dropped on purpose.
    fn settle(&mut self, partition: Partition, readings: usize) {
        if let Some(range) = self.ranges.get_mut(&partition) {
            range.readings += readings as u64;
            range.dropped += u64::from(readings == 0);
        }
    }

    fn quarantine(&mut self, partition: Partition, stored: &Stored, received_at: Micros, flaw: Flaw) {
        let stream = Some(self.stream.name.clone());
        let quarantined = Quarantined::new(stream, partition, stored, received_at, flaw.reason, flaw.detail);
        self.bytes += quarantined.size();
        self.quarantined.push(quarantined);
        if let Some(range) = self.ranges.get_mut(&partition) {
            range.quarantined += 1;
        }
    }
}

/// Whether the stream wants the field with the device id as a column, too: then it can be required.
fn declares_device(stream: &Stream) -> bool {
    let Some(field) = &stream.device_field else { return false };
    let name = fold_column_name(&field.replace('.', "_"));
    stream.columns.iter().any(|column| fold_column_name(&column.name) == name)
}

#[cfg(test)]
mod tests;
