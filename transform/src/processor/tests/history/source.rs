//! A stream of two partitions whose commits the history makes itself, as a firehose makes them.

use crate::simulation::compactor::compact;
use crate::simulation::memory_log::MemoryLog;
use crate::simulation::world::{START, message};
use arrow::array::{
    ArrayRef, Date32Array, Float64Array, StringArray, TimestampMicrosecondArray, new_null_array,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::record_batch::RecordBatch;
use chrono::{DateTime, Utc};
use fastrand::Rng;
use millstream_lake::ledger::{EPOCH, app, passed_app};
use millstream_lake::upkeep::{Depth, Keep, Others, Rules, Upkeep};
use millstream_lake::{Bucket, Operation, Outcome, Plan, Table, TableDefinition, WriteOptions};
use millstream_log::Log;
use millstream_model::name::{LogTopic, Offset, Partition};
use millstream_model::notice::Notice;
use millstream_model::record::Record;
use millstream_model::stream::DatePartition;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const DAY: i64 = 86_400_000_000;

/// One reading that waits in the log.
#[derive(Debug, Clone)]
struct Waiting {
    offset: Offset,
    device: String,
    ts: i64,
    value: f64,
}

/// The stream.
#[derive(Debug)]
pub(super) struct Source {
    table: Table,
    pub(super) log: MemoryLog,
    waiting: BTreeMap<Partition, Vec<Waiting>>,
    wide: bool,
}

fn schema(wide: bool) -> SchemaRef {
    let mut fields = vec![
        Field::new("ts", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true),
        Field::new("device", DataType::Utf8, true),
        Field::new("date", DataType::Date32, true),
        Field::new("v", DataType::Float64, true),
    ];
    fields.extend(wide.then(|| Field::new("w", DataType::Float64, true)));
    Arc::new(Schema::new(fields))
}

impl Source {
    pub(super) async fn new(bucket: &Bucket) -> Self {
        let definition = TableDefinition {
            schema: schema(false),
            partition_by: vec!["date".to_owned()],
            properties: BTreeMap::from([(EPOCH.to_owned(), "0".to_owned())]),
        };
        let table = Table::open_or_create(bucket, "telemetry", &definition).await.unwrap();
        Self { table, log: MemoryLog::new(2), waiting: BTreeMap::new(), wide: false }
    }

    /// Devices publish; what they say waits in the log.
    pub(super) async fn publish(&mut self, rng: &mut Rng) {
        for _ in 0..rng.u32(1..4) {
            let device = format!("d{}", rng.u32(0..3));
            let seconds = rng.i64(0..3 * 86_400);
            let record = message(&device, "{}", seconds);
            let topic: LogTopic = "millstream.telemetry".parse().unwrap();
            let position = self.log.put(&topic, vec![record]).await[0];
            let value = f64::from(rng.i32(-9..10));
            let ts = START + seconds * 1_000_000;
            let waiting = Waiting { offset: position.offset, device, ts, value };
            self.waiting.entry(position.partition).or_default().push(waiting);
        }
    }

    /// What waits becomes a commit; now and then the last messages of a partition do not.
    pub(super) async fn commit(&mut self, rng: &mut Rng) {
        let topic: LogTopic = "millstream.telemetry".parse().unwrap();
        let snapshot = self.table.snapshot().await.unwrap();
        let (mut rows, mut expect, mut set) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
        for (partition, waiting) in &mut self.waiting {
            let some = if rng.bool() { waiting.len() } else { rng.usize(0..=waiting.len()) };
            let taken: Vec<Waiting> = waiting.drain(..some).collect();
            let (Some(last), Some(passed)) = (taken.last(), taken.iter().map(|row| row.ts).max()) else {
                continue;
            };
            let (app, time) =
                (app("telemetry", &topic, 0, *partition), passed_app("telemetry", &topic, 0, *partition));
            expect.insert(app.clone(), snapshot.txn(&app));
            set.insert(app, last.offset.0);
            set.insert(time.clone(), passed.max(snapshot.txn(&time).unwrap_or(i64::MIN)));
            rows.extend(taken);
        }
        if set.is_empty() {
            return;
        }
        let adds = self.table.write(self.batch(&rows), &WriteOptions::default()).await.unwrap();
        let plan = Plan { expect, set, adds, data_change: true, ..Plan::default() };
        assert!(matches!(self.table.commit(plan).await.unwrap(), Outcome::Applied { .. }));
    }

    fn batch(&self, rows: &[Waiting]) -> RecordBatch {
        let times =
            TimestampMicrosecondArray::from_iter_values(rows.iter().map(|row| row.ts)).with_timezone("UTC");
        let days = rows.iter().map(|row| i32::try_from(row.ts.div_euclid(DAY)).unwrap());
        let values: ArrayRef = Arc::new(Float64Array::from_iter_values(rows.iter().map(|row| row.value)));
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(times),
            Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &row.device))),
            Arc::new(Date32Array::from_iter_values(days)),
            Arc::clone(&values),
        ];
        columns.extend(self.wide.then(|| new_null_array(&DataType::Float64, rows.len())));
        RecordBatch::try_new(schema(self.wide), columns).unwrap()
    }

    /// The table gets a column, which rows from before do not have.
    pub(super) async fn widen(&mut self) {
        let plan = Plan {
            operation: Operation::Schema,
            schema: Some(schema(true)),
            metadata_of: Some(self.table.snapshot().await.unwrap()),
            ..Plan::default()
        };
        assert!(matches!(self.table.commit(plan).await.unwrap(), Outcome::Applied { .. }));
        self.wide = true;
    }

    pub(super) async fn compact(&self) {
        compact(self.table.bucket(), "telemetry").await;
    }

    /// The first days leave.
    pub(super) async fn retire(&self, days: u32) {
        let day = Duration::from_secs(24 * 60 * 60);
        let keep = Some(Keep { time: day, date: DatePartition::Day });
        let rules = Rules { target_size: None, safe_age: 7 * day, log_keep: 30 * day, keep };
        let mut upkeep = Upkeep::open(self.table.bucket(), "telemetry", rules).await.unwrap().unwrap();
        let now: DateTime<Utc> = DateTime::from_timestamp_micros(START).unwrap() + day * (days + 1);
        let stop = CancellationToken::new();
        upkeep.tend(Depth::Rows, Others::Overruled, now, &stop, |_| {}).await.unwrap();
    }

    /// Notices of the latest versions: lost, sent, doubled, or out of order.
    pub(super) async fn notice(&self, rng: &mut Rng) {
        let latest = self.table.snapshot().await.unwrap().version();
        let versions: Vec<i64> = match rng.u32(0..4) {
            0 => vec![],
            1 => vec![latest],
            2 => vec![latest, latest],
            _ => vec![latest, rng.i64(0..=latest)],
        };
        for version in versions {
            let notice = Notice {
                bucket: "ingestion".to_owned(),
                key: format!("telemetry/_delta_log/{version:020}.json"),
                event_time: None,
                sequencer: None,
            };
            let key = bytes::Bytes::from_static(b"telemetry");
            let record = Record { key, value: notice.to_json().into(), headers: Vec::new() };
            self.log.append(&LogTopic::notices(), vec![record]).await.unwrap().await.unwrap();
        }
    }
}
