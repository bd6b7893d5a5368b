//! A small river: devices' messages in a real log, carried to real tables whenever the test says so, with the very commits that a firehose makes.

use millstream_lake::ledger::{self, Closed, Decided, Decision, Mismatch};
use millstream_lake::upkeep::tags;
use millstream_lake::{Bucket, NewFile, Operation, Outcome, Plan, Table, TableDefinition, WriteOptions};
use millstream_log::embedded::{EmbeddedLog, EmbeddedSettings};
use millstream_log::{Log, ReadLimit};
use millstream_model::arrival::Arrival;
use millstream_model::column::{Column, ColumnType};
use millstream_model::name::{Offset, Partition, QUARANTINE, TopicPartition};
use millstream_model::stream::{CloseRule, DatePartition, Misfit, Start, Stream, TimeField, TimeUnit};
use millstream_model::time::Micros;
use millstream_query::{Definitions, Lakehouse, Limits, ReportDefinition, Session, When};
use millstream_readings::{Decoded, Decoder, InputSchema, quarantine_batch, quarantine_schema};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// 2026-11-19T00:00:00Z.
pub(super) const MIDNIGHT: Micros = Micros(1_795_046_400_000_000);

/// One stream with one partition, `plant`, that counts its readings in `seq`.
pub(super) struct River {
    dir: TempDir,
    pub(super) log: EmbeddedLog,
    pub(super) lakehouse: Lakehouse,
    pub(super) stream: Arc<Stream>,
    next: Offset,
    flushes: u32,
    /// The epoch in which the table is made.
    epoch: i64,
}

fn stream() -> Stream {
    Stream {
        name: "plant".parse().unwrap(),
        topics: vec!["plant/{hall}/{device_id}".parse().unwrap()],
        time: Some(TimeField {
            field: "ts".to_owned(),
            unit: TimeUnit::Auto,
            earliest: Micros(946_684_800_000_000),
            ahead_max: Duration::from_secs(600),
        }),
        device_field: None,
        columns: vec![Column { name: "temp".to_owned(), kind: ColumnType::Double, required: false }],
        transform: None,
        on_mismatch: Misfit::Extra,
        on_bad_time: Misfit::Extra,
        column_limit: 256,
        date: DatePartition::Day,
        files: CloseRule { after: Duration::from_secs(60), size: 1 << 27, idle: Duration::from_secs(2) },
        start: Start::Refuse,
        sequence: Some("seq".to_owned()),
        keep: None,
    }
}

/// A report, one of complete hours that is computed whole, and one of a report.
fn reports() -> Vec<ReportDefinition> {
    let report = |name: &str, sql: &str, partition_by: Option<&str>, when| ReportDefinition {
        name: name.parse().unwrap(),
        sql: sql.to_owned(),
        partition_by: partition_by.map(str::to_owned),
        when,
    };
    let late = When::Complete { lateness: Duration::from_secs(3600) };
    vec![
        report(
            "daily",
            "select date, count(*) as readings from plant group by date",
            Some("date"),
            When::Always,
        ),
        report("hottest", "select ts, temp from plant order by temp desc limit 3", None, late),
        report("monthly", "select sum(readings) as readings from daily", None, When::Always),
    ]
}

impl River {
    pub(super) async fn new() -> Self {
        Self::of(|_| {}, 0).await
    }

    /// With another definition of the stream, and a table that has seen so many logs before this one.
    pub(super) async fn of(edit: impl FnOnce(&mut Stream), epoch: i64) -> Self {
        let mut stream = stream();
        edit(&mut stream);
        let dir = tempfile::tempdir().unwrap();
        let log = EmbeddedLog::open(&dir.path().join("log"), EmbeddedSettings::default()).await.unwrap();
        let stream = Arc::new(stream);
        let definitions =
            Definitions { streams: vec![Arc::clone(&stream)], reports: reports(), ..Definitions::default() };
        let lakehouse = Lakehouse::new(Bucket::memory("ingestion"), Bucket::memory("reporting"))
            .with_definitions(Arc::new(definitions))
            .with_log(Arc::new(log.clone()));
        Self { dir, log, lakehouse, stream, next: Offset::ZERO, flushes: 0, epoch }
    }

    pub(super) async fn session(&self) -> Session {
        Session::open(&self.lakehouse, Limits { parallelism: Some(2), ..Limits::default() }).await.unwrap()
    }

    /// Where the log's files are.
    pub(super) fn log_dir(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    fn partition(&self) -> TopicPartition {
        TopicPartition { topic: self.stream.name.log_topic(), partition: Partition(0) }
    }

    /// A message that reached us at an instant.
    pub(super) async fn publish(&self, device: &str, received_at: Micros, payload: &str) {
        let arrival = Arrival {
            topic: format!("plant/north/{device}"),
            qos: 1,
            retain: false,
            dup: false,
            received_at,
            content_type: None,
            user_properties: Vec::new(),
            truncated_from: None,
        };
        let record = arrival.into_record(device, payload.as_bytes().to_vec().into());
        let appended = self.log.append(&self.stream.name.log_topic(), vec![record]).await.unwrap();
        appended.await.unwrap();
    }

    /// Commits everything that is in the log.
    pub(super) async fn carry(&mut self, closed: Closed) {
        let decoded = self.decode().await;
        let definition = |schema, input: &InputSchema| TableDefinition {
            schema,
            partition_by: vec!["date".to_owned()],
            properties: BTreeMap::from([
                (ledger::INPUT_SCHEMA.to_owned(), input.to_json()),
                (ledger::EPOCH.to_owned(), self.epoch.to_string()),
            ]),
        };
        let bucket = &self.lakehouse.ingestion;
        let name = self.stream.name.as_str();
        let columns = definition(Arc::clone(&decoded.table_schema), &decoded.schema);
        let table = Table::open_or_create(bucket, name, &columns).await.unwrap();
        let quarantine = definition(quarantine_schema(), &InputSchema::declared(&self.stream));
        let quarantine = Table::open_or_create(bucket, QUARANTINE, &quarantine).await.unwrap();

        self.flushes += 1;
        let mut decision = self.decide(&decoded, closed);
        let options = WriteOptions::default();
        let mut adds = table.write(decoded.readings.clone(), &options).await.unwrap();
        tag(&mut adds, &decision);
        decision.quarantine =
            quarantine.write(quarantine_batch(&decoded.quarantined), &options).await.unwrap();
        self.commit(&table, adds, &decision, Operation::Append).await;
        if !decision.quarantine.is_empty() {
            self.commit(&quarantine, decision.quarantine.clone(), &decision.without_files(), Operation::Redo)
                .await;
        }
    }

    async fn decode(&mut self) -> Decoded {
        let mut decoder =
            Decoder::new(Arc::clone(&self.stream), InputSchema::declared(&self.stream)).unwrap();
        let partition = self.partition();
        let end = self.log.bounds(&partition).await.unwrap().next;
        let mut reader = self.log.reader(&partition, self.next).await.unwrap();
        while self.next < end {
            for stored in reader.next(ReadLimit { records: 100, bytes: 1 << 20 }).await.unwrap() {
                self.next = stored.offset.next();
                decoder.push(partition.partition, &stored, MIDNIGHT);
            }
        }
        decoder.finish()
    }

    fn decide(&self, decoded: &Decoded, closed: Closed) -> Decision {
        let ranges = decoded.ranges.iter().map(|(partition, range)| Decided {
            partition: *partition,
            first: range.first,
            last: range.last,
            messages: range.messages,
            readings: range.readings,
            quarantined: range.quarantined,
            dropped: range.dropped,
        });
        let mismatches = decoded.mismatches.iter().map(|((column, why), count)| Mismatch {
            column: column.clone(),
            why: (*why).to_owned(),
            count: *count,
        });
        Decision {
            flush: format!("flush {}", self.flushes),
            log_topic: self.stream.name.log_topic().to_string(),
            epoch: self.epoch,
            closed,
            ranges: ranges.collect(),
            marks: BTreeMap::new(),
            quarantine: Vec::new(),
            mismatches: mismatches.collect(),
        }
    }

    async fn commit(&self, table: &Table, adds: Vec<NewFile>, decision: &Decision, operation: Operation) {
        let topic = self.stream.name.log_topic();
        let app = ledger::app(table.name(), &topic, self.epoch, Partition(0));
        let passed = ledger::passed_app(table.name(), &topic, self.epoch, Partition(0));
        let last = decision.ranges[0].last.0;
        let plan = Plan {
            operation,
            set: BTreeMap::from([(app, last), (passed, MIDNIGHT.0 + last)]),
            adds,
            data_change: true,
            info: decision.to_info().unwrap(),
            ..Plan::default()
        };
        assert!(matches!(table.commit(plan).await.unwrap(), Outcome::Applied { .. }));
    }
}

/// What a firehose writes into the files of a flush, as far as it is asked for here.
fn tag(files: &mut [NewFile], decision: &Decision) {
    let range = &decision.ranges[0];
    for (number, file) in files.iter_mut().enumerate() {
        let mut tags = vec![
            (tags::FLUSH, decision.flush.clone()),
            (tags::LOG_TOPIC, decision.log_topic.clone()),
            (tags::CLOSED, decision.closed.to_string()),
            (tags::RANGES, format!("{}:{}-{}", range.partition, range.first, range.last)),
        ];
        if number == 0 && !decision.mismatches.is_empty() {
            let counts: BTreeMap<&str, u64> = decision
                .mismatches
                .iter()
                .map(|mismatch| (mismatch.column.as_str(), mismatch.count))
                .collect();
            tags.push((tags::MISMATCHES, serde_json::to_string(&counts).unwrap()));
        }
        file.tags.extend(tags.into_iter().map(|(tag, value)| (tag.to_owned(), value)));
    }
}
