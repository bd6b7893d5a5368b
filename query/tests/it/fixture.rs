//! A small lake: three days of two devices, a file for each; one report; a quarantined message.

use arrow::array::{
    ArrayRef, BinaryArray, Date32Array, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use millstream_lake::{Bucket, Outcome, Plan, Table, TableDefinition, WriteOptions};
use millstream_query::{Answer, Format, Lakehouse, Layout, Limits, QueryError, Session, print};
use std::collections::BTreeMap;
use std::sync::Arc;

/// 2026-11-19, the first of the three days, as days since 1970.
pub(crate) const FIRST_DAY: i32 = 20_776;
const DAY_MICROS: i64 = 86_400_000_000;

fn utc() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

pub(crate) fn telemetry_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("ts", utc(), true),
        Field::new("device_id", DataType::Utf8, true),
        Field::new("_offset", DataType::Int64, true),
        Field::new("date", DataType::Date32, true),
        Field::new("temp", DataType::Float64, true),
        Field::new("PM2.5", DataType::Float64, true),
        Field::new("TEMP_F", DataType::Float64, true),
        Field::new("note", DataType::Utf8, true),
    ]))
}

/// Four readings of a device, six hours apart, beginning at midnight.
pub(crate) fn readings(day: i32, device: &str, first: f64) -> RecordBatch {
    let temps: Vec<Option<f64>> = vec![Some(first), Some(first + 0.5), None, Some(first - 3.25)];
    let midnight = i64::from(day) * DAY_MICROS;
    let ts: Vec<i64> = (0..4)
        .map(|quarter| midnight + quarter * DAY_MICROS / 4 + if quarter == 3 { 250_000 } else { 0 })
        .collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(TimestampMicrosecondArray::from(ts).with_timezone("UTC")),
        Arc::new(StringArray::from(vec![device; 4])),
        Arc::new(Int64Array::from_iter_values(i64::from(day) * 4..i64::from(day) * 4 + 4)),
        Arc::new(Date32Array::from(vec![day; 4])),
        Arc::new(Float64Array::from(temps)),
        Arc::new(Float64Array::from(vec![Some(7.0), None, Some(1e-9), Some(1e300)])),
        Arc::new(Float64Array::from(vec![Some(first * 1.8 + 32.0), None, None, None])),
        Arc::new(StringArray::from(vec![Some("a, \"b\"\n| c"), Some(""), None, Some("\u{1b}[31mü")])),
    ];
    RecordBatch::try_new(telemetry_schema(), columns).unwrap()
}

pub(crate) async fn table(bucket: &Bucket, name: &str, schema: SchemaRef) -> Table {
    let definition =
        TableDefinition { schema, partition_by: vec!["date".to_owned()], properties: BTreeMap::new() };
    Table::open_or_create(bucket, name, &definition).await.unwrap()
}

pub(crate) async fn append(table: &Table, batch: RecordBatch) {
    let adds = table.write(batch, &WriteOptions::default()).await.unwrap();
    let plan = Plan { adds, data_change: true, ..Plan::default() };
    assert!(matches!(table.commit(plan).await.unwrap(), Outcome::Applied { .. }));
}

/// The lake of most tests.
pub(crate) async fn lakehouse() -> Lakehouse {
    let lakehouse = Lakehouse::new(Bucket::memory("ingestion"), Bucket::memory("reporting"));
    let telemetry = table(&lakehouse.ingestion, "telemetry", telemetry_schema()).await;
    for day in FIRST_DAY..FIRST_DAY + 3 {
        append(&telemetry, readings(day, "d1", f64::from(day - FIRST_DAY) + 20.0)).await;
        append(&telemetry, readings(day, "d2", 5.25)).await;
    }
    append_quarantined(&lakehouse.ingestion).await;
    append_report(&lakehouse.reporting).await;
    lakehouse
}

async fn append_quarantined(bucket: &Bucket) {
    let schema = Arc::new(Schema::new(vec![
        Field::new("reason", DataType::Utf8, true),
        Field::new("payload", DataType::Binary, true),
        Field::new("date", DataType::Date32, true),
    ]));
    let quarantine = table(bucket, "quarantine", Arc::clone(&schema)).await;
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(vec!["not_json"])),
        Arc::new(BinaryArray::from_vec(vec![b"{oops"])),
        Arc::new(Date32Array::from(vec![FIRST_DAY])),
    ];
    append(&quarantine, RecordBatch::try_new(schema, columns).unwrap()).await;
}

async fn append_report(bucket: &Bucket) {
    let schema = Arc::new(Schema::new(vec![
        Field::new("date", DataType::Date32, true),
        Field::new("readings", DataType::Int64, true),
    ]));
    let report = table(bucket, "daily", Arc::clone(&schema)).await;
    let columns: Vec<ArrayRef> =
        vec![Arc::new(Date32Array::from(vec![FIRST_DAY])), Arc::new(Int64Array::from(vec![8]))];
    append(&report, RecordBatch::try_new(schema, columns).unwrap()).await;
}

pub(crate) async fn session() -> Session {
    Session::open(&lakehouse().await, Limits { parallelism: Some(2), ..Limits::default() }).await.unwrap()
}

pub(crate) async fn text_of(answer: Answer, format: Format, layout: Layout) -> String {
    let mut out = Vec::new();
    print(answer, format, layout, &mut out).await.unwrap();
    String::from_utf8(out).unwrap()
}

/// The answer as CSV.
pub(crate) async fn csv(session: &Session, sql: &str) -> Result<String, QueryError> {
    Ok(text_of(session.query(sql).await?, Format::Csv, Layout::default()).await)
}
