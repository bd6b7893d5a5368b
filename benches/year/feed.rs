//! What comes: a minute's readings of each device, as the firehose would commit them, and what must be found of them later.
//!
//! Each device has a reading a minute; once a day one of them sends a reading of two days ago, as fleets do.

use anyhow::Context;
use arrow::array::{
    ArrayRef, Date32Array, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use millstream_lake::ledger::{Closed, Decided, Decision, Mark, app, passed_app};
use millstream_lake::upkeep::tags;
use millstream_lake::{NewFile, Outcome, Plan, Table, TableDefinition, WriteOptions};
use millstream_model::column::reserved;
use millstream_model::name::{LogTopic, Offset, Partition};
use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) const TABLE: &str = "telemetry";
pub(crate) const DEVICES: i64 = 5;
pub(crate) const DAY_MINUTES: i64 = 24 * 60;
const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;
/// A late reading comes at noon, and is of the beginning of the day before yesterday.
const NOON: i64 = DAY_MINUTES / 2;
const LATE: i64 = NOON + 2 * DAY_MINUTES;

/// What comes from a moment on, from which its minutes are counted.
#[derive(Debug, Clone)]
pub(crate) struct Feed {
    begin: DateTime<Utc>,
    topic: LogTopic,
    schema: SchemaRef,
}

/// A minute's files, which nobody sees yet, and what their commit says.
#[derive(Debug)]
pub(crate) struct Uploaded {
    files: Vec<NewFile>,
    decision: Decision,
    passed: i64,
}

impl Feed {
    pub(crate) fn new(begin: DateTime<Utc>) -> anyhow::Result<Self> {
        let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let columns = [
            (reserved::TS, utc.clone()),
            (reserved::DEVICE_ID, DataType::Utf8),
            (reserved::PARTITION, DataType::Int32),
            (reserved::OFFSET, DataType::Int64),
            (reserved::INDEX, DataType::Int32),
            (reserved::RECEIVED_AT, utc),
            (reserved::TOPIC, DataType::Utf8),
            (reserved::DATE, DataType::Date32),
            ("seq", DataType::Float64),
            ("temp", DataType::Float64),
            (reserved::EXTRA, DataType::Utf8),
        ];
        let fields = columns.into_iter().map(|(name, kind)| Field::new(name, kind, true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        Ok(Self { begin, topic: format!("millstream.{TABLE}").parse()?, schema })
    }

    pub(crate) fn definition(&self) -> TableDefinition {
        TableDefinition {
            schema: Arc::clone(&self.schema),
            partition_by: vec![reserved::DATE.to_owned()],
            properties: BTreeMap::from([("millstream.epoch".to_owned(), "0".to_owned())]),
        }
    }

    /// The moment at which a minute begins.
    pub(crate) fn at(&self, minute: i64) -> DateTime<Utc> {
        self.begin + TimeDelta::minutes(minute)
    }

    /// The date of a day, counted from 0.
    pub(crate) fn date(&self, day: i64) -> NaiveDate {
        self.at(day * DAY_MINUTES).date_naive()
    }

    /// Uploads the files of a minute, with all that the firehose says of them.
    pub(crate) async fn upload(&self, table: &Table, minute: i64) -> anyhow::Result<Uploaded> {
        let rows = self.rows(minute)?;
        let (first, last) = (readings(minute), readings(minute + 1) - 1);
        let count = u64::try_from(rows.num_rows())?;
        let decision = Decision {
            flush: format!("00000000-0000-4000-8000-{minute:012x}"),
            log_topic: self.topic.to_string(),
            epoch: 0,
            closed: Closed::Age,
            ranges: vec![Decided {
                partition: Partition(0),
                first: Offset(first),
                last: Offset(last),
                messages: count,
                readings: count,
                quarantined: 0,
                dropped: 0,
            }],
            marks: BTreeMap::from([(
                Partition(0),
                Mark { offset: Offset(last), fingerprint: format!("{last:08x}"), received_at: None },
            )]),
            quarantine: Vec::new(),
            mismatches: Vec::new(),
        };
        let mut files = table.write(rows, &WriteOptions::default()).await?;
        for (number, file) in files.iter_mut().enumerate() {
            // Writers look at the machine's clock, which stands far behind.
            file.modified_ms = self.at(minute + 1).timestamp_millis();
            file.tags.extend(said(&decision, number, count));
        }
        let passed = self.at(minute).timestamp_micros() + MINUTE - SECOND;
        Ok(Uploaded { files, decision, passed })
    }

    /// One commit of what was uploaded.
    pub(crate) async fn commit(&self, table: &Table, uploaded: Uploaded) -> anyhow::Result<()> {
        let Uploaded { files, decision, passed } = uploaded;
        let range = decision.ranges.first().context("a decision is about offsets")?;
        let offsets = app(TABLE, &self.topic, 0, Partition(0));
        let times = passed_app(TABLE, &self.topic, 0, Partition(0));
        let before = range.first.0.checked_sub(1).filter(|offset| *offset >= 0);
        let plan = Plan {
            expect: BTreeMap::from([(offsets.clone(), before)]),
            set: BTreeMap::from([(offsets, range.last.0), (times, passed)]),
            adds: files,
            data_change: true,
            info: decision.to_info()?,
            ..Plan::default()
        };
        match table.commit(plan).await? {
            Outcome::Applied { .. } => Ok(()),
            other => anyhow::bail!("a minute was not committed: {other:?}"),
        }
    }

    fn rows(&self, minute: i64) -> anyhow::Result<RecordBatch> {
        let begin = self.at(minute).timestamp_micros();
        let comes = |device: i64| (device, begin + device * SECOND);
        let mut events: Vec<(i64, i64)> = (0..DEVICES).map(comes).collect();
        if is_late(minute) {
            events.push((0, begin - LATE * MINUTE + SECOND / 2));
        }
        let times = |times: Vec<i64>| -> ArrayRef {
            Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC"))
        };
        let count = events.len();
        let offsets = readings(minute)..;
        let days = events.iter().map(|(_, ts)| i32::try_from(ts.div_euclid(DAY_MINUTES * MINUTE)));
        let temps = events.iter().map(|(device, _)| 20.0 + ((minute + device) % 100) as f64 / 10.0);
        let columns: Vec<ArrayRef> = vec![
            times(events.iter().map(|(_, ts)| *ts).collect()),
            Arc::new(events.iter().map(|(device, _)| Some(format!("d{device}"))).collect::<StringArray>()),
            Arc::new(Int32Array::from(vec![0; count])),
            Arc::new(Int64Array::from_iter_values(offsets.take(count))),
            Arc::new(Int32Array::from(vec![0; count])),
            times(vec![begin + 10 * SECOND; count]),
            Arc::new(
                events
                    .iter()
                    .map(|(device, _)| Some(format!("devices/d{device}/telemetry")))
                    .collect::<StringArray>(),
            ),
            Arc::new(Date32Array::from(days.collect::<Result<Vec<_>, _>>()?)),
            Arc::new(Float64Array::from(vec![minute as f64; count])),
            Arc::new(Float64Array::from_iter_values(temps)),
            Arc::new(StringArray::from(vec![None::<&str>; count])),
        ];
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }
}

/// What the firehose writes into the tags of its files; its counts into those of the first.
fn said(decision: &Decision, number: usize, count: u64) -> Vec<(String, String)> {
    let ranges: Vec<String> = decision
        .ranges
        .iter()
        .map(|range| format!("{}:{}-{}", range.partition, range.first, range.last))
        .collect();
    let mut said = vec![
        (tags::FLUSH, decision.flush.clone()),
        (tags::LOG_TOPIC, decision.log_topic.clone()),
        (tags::EPOCH, decision.epoch.to_string()),
        (tags::CLOSED, decision.closed.as_str().to_owned()),
        (tags::RANGES, ranges.join(",")),
    ];
    if number == 0 {
        let counts =
            [(tags::MESSAGES, count), (tags::READINGS, count), (tags::QUARANTINED, 0), (tags::DROPPED, 0)];
        said.extend(counts.map(|(name, count)| (name, count.to_string())));
    }
    said.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn is_late(minute: i64) -> bool {
    minute >= LATE && minute % DAY_MINUTES == NOON
}

/// How many readings came before a minute: so their offsets have no gap.
pub(crate) fn readings(minute: i64) -> i64 {
    let late = (minute - LATE + DAY_MINUTES - 1).div_euclid(DAY_MINUTES).max(0);
    minute * DEVICES + late
}

/// How many readings a day has that is over, when all that is late has come.
pub(crate) const OF_A_DAY: i64 = DAY_MINUTES * DEVICES + 1;

/// How many days are over, with all that is late.
pub(crate) fn settled_days(minute: i64) -> i64 {
    (minute - 3 * DAY_MINUTES).div_euclid(DAY_MINUTES).max(0)
}

/// The sum of all offsets, each of them once.
pub(crate) fn sum_of_offsets(minute: i64) -> i64 {
    let count = readings(minute);
    count * (count - 1) / 2
}
