//! A river small enough to be moved by hand: an embedded log, buckets in memory, and a firehose that commits when it is told to.

use crate::fixture::csv;
use bytes::Bytes;
use millstream_lake::ledger::{
    Closed, Decided, Decision, EPOCH, INPUT_SCHEMA, Mark, Mismatch, app, committed, epoch,
};
use millstream_lake::{
    Bucket, Operation, Outcome, Plan, Snapshot, Table, TableDefinition, WriteOptions, grow,
};
use millstream_log::embedded::{EmbeddedLog, EmbeddedSettings};
use millstream_log::{Log, ReadLimit};
use millstream_model::arrival::Arrival;
use millstream_model::name::{LogTopic, Offset, QUARANTINE, TopicPartition};
use millstream_model::record::Record;
use millstream_model::stream::{CloseRule, DatePartition, Misfit, Start, Stream};
use millstream_model::time::Micros;
use millstream_query::{Ask, Definitions, Lakehouse, Limits, QueryError, ScanMetrics, Session, TailUse};
use millstream_readings::{
    Decoder, InputSchema, quarantine_batch, quarantine_schema, table_schema, unrouted,
};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;

/// 2026-03-01T00:00:00Z.
pub(crate) const START: i64 = 1_772_323_200_000_000;

/// What becomes of a decision's quarantined messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// Quarantine's commit follows.
    Done,
    /// The firehose was killed before it.
    Left,
}

pub(crate) struct River {
    dir: TempDir,
    pub(crate) log: EmbeddedLog,
    pub(crate) ingestion: Bucket,
    pub(crate) stream: Arc<Stream>,
    sent: i64,
    /// What a killed firehose left to its successor.
    left: Mutex<Option<Plan>>,
}

pub(crate) fn telemetry() -> Stream {
    let second = Duration::from_secs(1);
    Stream {
        name: "telemetry".parse().unwrap(),
        topics: vec!["devices/{device_id}/telemetry".parse().unwrap()],
        time: None,
        device_field: None,
        columns: Vec::new(),
        transform: None,
        on_mismatch: Misfit::Extra,
        on_bad_time: Misfit::Extra,
        column_limit: 256,
        date: DatePartition::Day,
        files: CloseRule { after: second, size: 1 << 20, idle: second },
        start: Start::Refuse,
        sequence: None,
        keep: None,
    }
}

impl River {
    pub(crate) async fn new() -> Self {
        Self::with(telemetry(), 1).await
    }

    pub(crate) async fn with(stream: Stream, partitions: u16) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log = open(&dir, partitions).await;
        log.partitions(&stream.name.log_topic()).await.unwrap();
        Self {
            dir,
            log,
            ingestion: Bucket::memory("ingestion"),
            stream: Arc::new(stream),
            sent: 0,
            left: Mutex::default(),
        }
    }

    /// Another log in the place of this one.
    pub(crate) async fn recreate_log(&mut self) {
        self.dir = tempfile::tempdir().unwrap();
        self.log = open(&self.dir, 1).await;
        self.log.partitions(&self.topic()).await.unwrap();
    }

    pub(crate) fn topic(&self) -> LogTopic {
        self.stream.name.log_topic()
    }

    pub(crate) fn partition(&self, number: i32) -> TopicPartition {
        TopicPartition { topic: self.topic(), partition: millstream_model::name::Partition(number) }
    }

    pub(crate) fn lakehouse(&self) -> Lakehouse {
        let definitions = Definitions { streams: vec![Arc::clone(&self.stream)], ..Definitions::default() };
        Lakehouse::new(self.ingestion.clone(), Bucket::memory("reporting"))
            .with_definitions(Arc::new(definitions))
            .with_log(Arc::new(self.log.clone()))
    }

    pub(crate) async fn session(&self) -> Session {
        self.limited(Limits::default()).await
    }

    pub(crate) async fn limited(&self, limits: Limits) -> Session {
        let limits = Limits { parallelism: Some(2), ..limits };
        Session::open(&self.lakehouse(), limits).await.unwrap()
    }

    /// Messages of one device, each a second after the one before.
    pub(crate) async fn send(&mut self, device: &str, payloads: &[&str]) {
        let topic = self.topic();
        self.send_to(&topic, device, payloads).await;
    }

    pub(crate) async fn send_to(&mut self, topic: &LogTopic, device: &str, payloads: &[&str]) {
        let mut records = Vec::new();
        for payload in payloads {
            records.push(message(device, payload, self.sent));
            self.sent += 1;
        }
        self.log.append(topic, records).await.unwrap().await.unwrap();
    }

    /// The stream's table, made if there is none.
    pub(crate) async fn table(&self) -> Table {
        let name = self.stream.name.as_str();
        if let Some(table) = Table::open(&self.ingestion, name).await.unwrap() {
            return table;
        }
        let input = InputSchema::declared(&self.stream);
        let properties = [(INPUT_SCHEMA.to_owned(), input.to_json()), (EPOCH.to_owned(), "0".to_owned())];
        let definition = TableDefinition {
            schema: table_schema(&self.stream, None, &input).unwrap(),
            partition_by: vec!["date".to_owned()],
            properties: properties.into(),
        };
        Table::open_or_create(&self.ingestion, name, &definition).await.unwrap()
    }

    pub(crate) async fn quarantine(&self) -> Table {
        let definition = TableDefinition {
            schema: quarantine_schema(),
            partition_by: vec!["date".to_owned()],
            properties: BTreeMap::new(),
        };
        Table::open_or_create(&self.ingestion, QUARANTINE, &definition).await.unwrap()
    }

    /// Commits what waits, at most so many messages of each partition.
    pub(crate) async fn commit(&self, at_most: usize) {
        self.commit_and(at_most, Repeat::Done).await;
    }

    pub(crate) async fn commit_and(&self, at_most: usize, repeat: Repeat) {
        let (table, quarantine) = (self.table().await, self.quarantine().await);
        let left = self.left.lock().unwrap().take();
        if let Some(plan) = left {
            apply(&quarantine, plan).await;
        }
        let snapshot = table.snapshot().await.unwrap();
        let input = InputSchema::restore(&self.stream, snapshot.property(INPUT_SCHEMA).unwrap()).unwrap();
        let decoder = Decoder::new(Arc::clone(&self.stream), input).unwrap();
        let mut decoder = decoder.for_table(&snapshot.schema());
        let mut marks = BTreeMap::new();
        for partition in self.log.partitions(&self.topic()).await.unwrap() {
            for stored in self.waiting(&partition, &snapshot, at_most).await {
                decoder.push(partition.partition, &stored, Micros(START));
                marks.insert(partition.partition, Mark::of(&stored));
            }
        }
        let decoded = decoder.finish();
        let snapshot = evolve(&table, snapshot, &decoded.table_schema, &decoded.schema).await;
        let options = WriteOptions::default();
        let epoch = epoch(&snapshot).unwrap();
        let ranges = decoded.ranges.iter().map(|(partition, range)| Decided {
            partition: *partition,
            first: range.first,
            last: range.last,
            messages: range.messages,
            readings: range.readings,
            quarantined: range.quarantined,
            dropped: range.dropped,
        });
        let decision = Decision {
            flush: format!("{:?}", marks),
            log_topic: self.topic().to_string(),
            epoch,
            closed: Closed::Age,
            ranges: ranges.collect(),
            marks,
            quarantine: quarantine.write(quarantine_batch(&decoded.quarantined), &options).await.unwrap(),
            mismatches: Vec::<Mismatch>::new(),
        };
        let set = |table: &str| {
            let txns = decision.ranges.iter();
            txns.map(|range| (app(table, &self.topic(), epoch, range.partition), range.last.0)).collect()
        };
        let plan = Plan {
            set: set(self.stream.name.as_str()),
            adds: table.write(decoded.readings, &options).await.unwrap(),
            data_change: true,
            info: decision.to_info().unwrap(),
            ..Plan::default()
        };
        apply(&table, plan).await;
        if !decision.quarantine.is_empty() {
            let plan = Plan {
                operation: Operation::Redo,
                set: set(QUARANTINE),
                adds: decision.quarantine.clone(),
                data_change: true,
                info: decision.without_files().to_info().unwrap(),
                ..Plan::default()
            };
            match repeat {
                Repeat::Done => apply(&quarantine, plan).await,
                Repeat::Left => *self.left.lock().unwrap() = Some(plan),
            }
        }
    }

    /// Commits what waits of messages that no stream claims.
    pub(crate) async fn commit_unrouted(&self) {
        let quarantine = self.quarantine().await;
        let snapshot = quarantine.snapshot().await.unwrap();
        let topic = LogTopic::unrouted();
        let mut set = BTreeMap::new();
        let mut rows = Vec::new();
        for partition in self.log.partitions(&topic).await.unwrap() {
            for stored in self.waiting(&partition, &snapshot, usize::MAX).await {
                rows.push(unrouted(partition.partition, &stored, Micros(START)));
                set.insert(app(QUARANTINE, &topic, 0, partition.partition), stored.offset.0);
            }
        }
        let adds = quarantine.write(quarantine_batch(&rows), &WriteOptions::default()).await.unwrap();
        apply(&quarantine, Plan { set, adds, data_change: true, ..Plan::default() }).await;
    }

    async fn waiting(
        &self,
        partition: &TopicPartition,
        snapshot: &Snapshot,
        at_most: usize,
    ) -> Vec<millstream_model::record::Stored> {
        let from = committed(snapshot, partition).map_or(Offset::ZERO, Offset::next);
        let next = self.log.bounds(partition).await.unwrap().next;
        let mut reader = self.log.reader(partition, from).await.unwrap();
        let count = usize::try_from(next.0 - from.0).unwrap().min(at_most);
        let mut all = Vec::new();
        while all.len() < count {
            let limit = ReadLimit { records: count - all.len(), bytes: usize::MAX };
            all.extend(reader.next(limit).await.unwrap());
        }
        all
    }

    /// Forgets what is committed, but for the last record.
    pub(crate) async fn trim(&self) {
        let snapshot = self.table().await.snapshot().await.unwrap();
        for partition in self.log.partitions(&self.topic()).await.unwrap() {
            if let Some(last) = committed(&snapshot, &partition) {
                self.log.trim(&partition, last).await.unwrap();
            }
        }
    }
}

async fn open(dir: &TempDir, partitions: u16) -> EmbeddedLog {
    // Small segments, so that trimming takes something away.
    let settings =
        EmbeddedSettings { partitions, segment_bytes: 4096, reserve_bytes: 0, ..EmbeddedSettings::default() };
    EmbeddedLog::open(dir.path(), settings).await.unwrap()
}

async fn evolve(
    table: &Table,
    snapshot: Arc<Snapshot>,
    columns: &arrow::datatypes::SchemaRef,
    input: &InputSchema,
) -> Arc<Snapshot> {
    let schema = grow(&snapshot.schema(), columns).unwrap();
    if schema.is_none() && snapshot.property(INPUT_SCHEMA) == Some(&input.to_json()) {
        return snapshot;
    }
    let properties = BTreeMap::from([(INPUT_SCHEMA.to_owned(), input.to_json())]);
    let metadata_of = Some(snapshot);
    let plan = Plan { operation: Operation::Schema, schema, properties, metadata_of, ..Plan::default() };
    apply(table, plan).await;
    table.snapshot().await.unwrap()
}

pub(crate) async fn apply(table: &Table, plan: Plan) {
    let outcome = table.commit(plan).await.unwrap();
    assert!(matches!(outcome, Outcome::Applied { .. }), "{outcome:?}");
}

pub(crate) fn message(device: &str, payload: &str, seconds: i64) -> Record {
    let arrival = Arrival {
        topic: format!("devices/{device}/telemetry"),
        qos: 1,
        retain: false,
        dup: false,
        received_at: Micros(START + seconds * 1_000_000),
        content_type: None,
        user_properties: Vec::new(),
        truncated_from: None,
    };
    arrival.into_record(device, Bytes::copy_from_slice(payload.as_bytes()))
}

/// The answer as CSV, without its heading.
pub(crate) async fn rows(session: &Session, sql: &str) -> String {
    let text = csv(session, sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    text.split_once('\n').map(|(_, rows)| rows.to_owned()).unwrap()
}

/// What an answer cost, once it is read.
pub(crate) async fn cost(session: &Session, sql: &str, tail: TailUse) -> Result<ScanMetrics, QueryError> {
    let mut answer = session.ask(sql, Ask { tail }).await?;
    while answer.next().await?.is_some() {}
    Ok(answer.metrics())
}
