use super::Decoder;
use crate::decoded::{Decoded, Range};
use crate::schema::InputSchema;
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Int32Type, Int64Type};
use arrow::util::display::array_value_to_string;
use bytes::Bytes;
use millstream_model::arrival::Arrival;
use millstream_model::column::{Column, ColumnType, reserved};
use millstream_model::name::{Offset, Partition};
use millstream_model::record::Stored;
use millstream_model::stream::{CloseRule, DatePartition, Misfit, Start, Stream, TimeField, TimeUnit};
use millstream_model::time::Micros;
use std::sync::Arc;
use std::time::Duration;

mod fields;
mod lossless;
mod order;
mod outcomes;
mod times;
mod transformed;

const PARTITION: Partition = Partition(3);

/// 2026-11-21T06:00:00Z.
const ARRIVAL: Micros = Micros(1_795_240_800_000_000);

/// The stream that there is without configuration.
fn stream() -> Stream {
    Stream {
        name: "telemetry".parse().unwrap(),
        topics: vec!["devices/{device_id}/telemetry".parse().unwrap(), "#".parse().unwrap()],
        time: Some(TimeField {
            field: "ts".to_owned(),
            unit: TimeUnit::Auto,
            earliest: Micros(946_684_800_000_000),
            ahead_max: Duration::from_secs(600),
        }),
        device_field: None,
        columns: Vec::new(),
        transform: None,
        on_mismatch: Misfit::Extra,
        on_bad_time: Misfit::Extra,
        column_limit: 256,
        date: DatePartition::Day,
        files: CloseRule { after: Duration::from_secs(60), size: 1 << 27, idle: Duration::from_secs(2) },
        start: Start::Refuse,
        sequence: None,
        keep: None,
    }
}

fn with(edit: impl FnOnce(&mut Stream)) -> Stream {
    let mut stream = stream();
    edit(&mut stream);
    stream
}

fn column(name: &str, kind: ColumnType) -> Column {
    Column { name: name.to_owned(), kind, required: false }
}

fn required(name: &str, kind: ColumnType) -> Column {
    Column { required: true, ..column(name, kind) }
}

fn arrival() -> Arrival {
    Arrival {
        topic: "devices/d1/telemetry".to_owned(),
        qos: 1,
        retain: false,
        dup: false,
        received_at: ARRIVAL,
        content_type: None,
        user_properties: Vec::new(),
        truncated_from: None,
    }
}

fn stored(offset: i64, arrival: Arrival, device: &str, payload: impl AsRef<[u8]>) -> Stored {
    Stored {
        offset: Offset(offset),
        appended_at: None,
        record: arrival.into_record(device, Bytes::copy_from_slice(payload.as_ref())),
    }
}

fn decoder(stream: Stream) -> Decoder {
    let stream = Arc::new(stream);
    Decoder::new(Arc::clone(&stream), InputSchema::declared(&stream)).unwrap()
}

/// The messages, in order, in one batch.
fn decode<P: AsRef<[u8]>>(stream: Stream, payloads: &[P]) -> Decoded {
    let mut decoder = decoder(stream);
    for (offset, payload) in payloads.iter().enumerate() {
        decoder.push(PARTITION, &stored(offset as i64, arrival(), "d1", payload), Micros(0));
    }
    assert_eq!(decoder.messages(), payloads.len() as u64);
    let decoded = decoder.finish();
    assert!(decoder.is_empty());
    coherent(&decoded);
    decoded
}

/// Every message has one outcome, and the counts say the same as the rows.
fn coherent(decoded: &Decoded) {
    assert_eq!(decoded.readings.schema(), decoded.table_schema);
    let mut rows = 0;
    for (partition, range) in &decoded.ranges {
        let quarantined: Vec<_> = decoded
            .quarantined
            .iter()
            .filter(|message| message.partition == *partition)
            .map(|message| message.offset)
            .collect();
        let mut kept: Vec<_> = positions(&decoded.readings)
            .into_iter()
            .filter(|(of, ..)| *of == partition.0)
            .map(|(_, offset, _)| Offset(offset))
            .collect();
        assert_eq!(kept.len() as u64, range.readings);
        assert_eq!(quarantined.len() as u64, range.quarantined);
        assert!(kept.is_sorted(), "rows stand in the order of the log");
        kept.dedup();
        assert_eq!(range.messages, kept.len() as u64 + range.quarantined + range.dropped);
        assert!(quarantined.iter().all(|offset| !kept.contains(offset)), "never a part of a message");
        rows += range.readings;
    }
    assert_eq!(decoded.readings.num_rows() as u64, rows);
}

fn positions(batch: &RecordBatch) -> Vec<(i32, i64, i32)> {
    let partitions = batch[reserved::PARTITION].as_primitive::<Int32Type>();
    let offsets = batch[reserved::OFFSET].as_primitive::<Int64Type>();
    let indexes = batch[reserved::INDEX].as_primitive::<Int32Type>();
    (0..batch.num_rows()).map(|row| (partitions.value(row), offsets.value(row), indexes.value(row))).collect()
}

fn cell(batch: &RecordBatch, column: &str, row: usize) -> String {
    let values = &batch[column];
    if values.is_null(row) { "null".to_owned() } else { array_value_to_string(values, row).unwrap() }
}

/// What became of one message: its readings' own fields and `_extra` where they are not null, ` | ` between readings; or `!reason`; or nothing.
fn outcome(decoded: &Decoded, offset: i64) -> String {
    if let Some(quarantined) = decoded.quarantined.iter().find(|message| message.offset == Offset(offset)) {
        return format!("!{}", quarantined.reason);
    }
    let batch = &decoded.readings;
    let schema = batch.schema();
    let own: Vec<_> = schema
        .fields()
        .iter()
        .map(|field| field.name().as_str())
        .filter(|name| !reserved::LEADING.contains(name))
        .collect();
    let rows = positions(batch).into_iter().enumerate().filter(|(_, (_, of, _))| *of == offset);
    let rows = rows.map(|(row, _)| {
        let cells = own.iter().map(|name| (name, cell(batch, name, row))).filter(|(_, cell)| cell != "null");
        cells.map(|(name, cell)| format!("{name}={cell}")).collect::<Vec<_>>().join(" ")
    });
    rows.collect::<Vec<_>>().join(" | ")
}

/// The message between two good ones, which must arrive whatever it is.
fn check_in(stream: Stream, payload: impl AsRef<[u8]>, expected: &str) {
    let good = br#"{"good":true}"#.as_slice();
    let payload = payload.as_ref();
    let decoded = decode(stream, &[good, payload, good]);
    assert_eq!(outcome(&decoded, 1), expected, "{}", String::from_utf8_lossy(payload));
    assert_eq!((outcome(&decoded, 0).as_str(), outcome(&decoded, 2).as_str()), ("good=true", "good=true"));
}

fn check(payload: impl AsRef<[u8]>, expected: &str) {
    check_in(stream(), payload, expected);
}
