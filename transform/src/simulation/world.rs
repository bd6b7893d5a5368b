//! A world of messages whose fate is known, and the look at what became of them.

use super::book::{Book, Sent};
use super::memory_log::MemoryLog;
use arrow::array::AsArray;
use arrow::datatypes::{Int32Type, Int64Type};
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use fastrand::Rng;
use millstream_lake::faults::FaultyStore;
use millstream_lake::{Bucket, Table};
use millstream_model::arrival::Arrival;
use millstream_model::column::reserved;
use millstream_model::name::{LogTopic, Offset, Partition, QUARANTINE};
use millstream_model::record::Record;
use millstream_model::stream::{CloseRule, DatePartition, Misfit, Start, Stream};
use millstream_model::time::Micros;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use url::Url;

/// What must become of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Readings(i32),
    Quarantined,
    Dropped,
}

/// One row of a table, by where it came from.
pub(crate) type Origin = (Partition, Offset, i32);

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) rng: Rng,
    pub(crate) store: Arc<FaultyStore>,
    /// What is really in the store.
    memory: Arc<InMemory>,
    pub(crate) log: MemoryLog,
    pub(crate) partitions: i32,
    pub(crate) stream: Arc<Stream>,
    pub(crate) fates: BTreeMap<(Partition, Offset), Fate>,
    /// The same, for whoever asks meanwhile.
    pub(crate) book: Arc<Book>,
    /// A partition whose log was lost: what became of it is not looked at.
    pub(crate) damaged: Option<Partition>,
    fields: u32,
}

/// A stream named `telemetry` whose files close after these times.
pub(crate) fn stream(files: CloseRule) -> Stream {
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
        files,
        start: Start::Refuse,
        sequence: None,
        keep: None,
    }
}

pub(crate) const SMALL_FILES: CloseRule =
    CloseRule { after: Duration::from_secs(5), size: 4096, idle: Duration::from_secs(1) };

/// 2026-03-01T00:00:00Z.
pub(crate) const START: i64 = 1_772_323_200_000_000;

/// A message of a device that was received so many seconds after [`START`].
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

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let size = rng.u64(1..20_000);
        let partitions = rng.i32(1..=3);
        let memory = Arc::new(InMemory::new());
        Self {
            store: Arc::new(FaultyStore::new(Arc::clone(&memory) as _)),
            memory,
            log: MemoryLog::new(partitions),
            partitions,
            stream: Arc::new(stream(CloseRule { size, ..SMALL_FILES })),
            fates: BTreeMap::new(),
            book: Arc::default(),
            damaged: None,
            fields: 0,
            rng,
        }
    }

    pub(crate) fn topic(&self) -> LogTopic {
        self.stream.name.log_topic()
    }

    /// The bucket as one process sees it, through its own store.
    pub(crate) fn bucket(store: Arc<dyn ObjectStore>) -> Bucket {
        Bucket::with_store("ingestion", Url::parse("memory:///ingestion/").unwrap(), store)
    }

    /// The bucket as it is, for those who meet no faults.
    pub(crate) fn calm(&self) -> Bucket {
        Self::bucket(Arc::clone(&self.memory) as _)
    }

    pub(crate) fn ingestion(&self) -> Bucket {
        Self::bucket(Arc::clone(&self.store) as _)
    }

    /// Appends messages of all kinds, and remembers what must become of each.
    pub(crate) async fn append(&mut self, count: usize) {
        for _ in 0..count {
            let (payload, fate) = self.invent();
            let device = format!("d{}", self.rng.u32(0..5));
            let seconds = self.rng.i64(0..3 * 86_400);
            self.send(&device, &payload, seconds, fate).await;
        }
    }

    pub(crate) async fn send(&mut self, device: &str, payload: &str, seconds: i64, fate: Fate) {
        for position in self.log.put(&self.topic(), vec![message(device, payload, seconds)]).await {
            self.fates.insert((position.partition, position.offset), fate);
            let received_at = Micros(START + seconds * 1_000_000);
            self.book.write(position, Sent { fate, received_at });
        }
    }

    fn invent(&mut self) -> (String, Fate) {
        let temp = f64::from(self.rng.i32(-400..400)) / 10.0;
        match self.rng.u32(0..20) {
            0..10 => (format!(r#"{{"temp":{temp}}}"#), Fate::Readings(1)),
            10..12 => {
                (format!(r#"[{{"temp":{temp}}},{{"temp":1,"ok":true}},{{"note":"x"}}]"#), Fate::Readings(3))
            }
            12 | 13 => {
                self.fields += 1;
                (format!(r#"{{"temp":{temp},"f{}":{}}}"#, self.fields, self.rng.u32(0..9)), Fate::Readings(1))
            }
            14 => (r#"{"temp":"not a number","note":5}"#.to_owned(), Fate::Readings(1)),
            15 | 16 => (r#"{"temp":"#.to_owned(), Fate::Quarantined),
            17 => (String::new(), Fate::Quarantined),
            18 => ("null".to_owned(), Fate::Quarantined),
            _ => ("[]".to_owned(), Fate::Dropped),
        }
    }

    /// What is wrong with the tables: nothing, if every offset has exactly the one outcome that it must have.
    pub(crate) async fn violations(&self) -> Vec<String> {
        let mut found: BTreeMap<(Partition, Offset), Vec<i32>> = BTreeMap::new();
        for (partition, offset, index) in origins(&self.ingestion(), self.stream.name.as_str()).await {
            found.entry((partition, offset)).or_default().push(index);
        }
        let mut quarantined: BTreeMap<(Partition, Offset), usize> = BTreeMap::new();
        for (partition, offset, _) in origins(&self.ingestion(), QUARANTINE).await {
            *quarantined.entry((partition, offset)).or_default() += 1;
        }
        found.retain(|(partition, _), _| Some(*partition) != self.damaged);
        quarantined.retain(|(partition, _), _| Some(*partition) != self.damaged);
        let mut wrong = Vec::new();
        for (place, fate) in self.fates.iter().filter(|((partition, _), _)| Some(*partition) != self.damaged)
        {
            let mut indexes = found.remove(place).unwrap_or_default();
            indexes.sort_unstable();
            let aside = quarantined.remove(place).unwrap_or_default();
            let right = match fate {
                Fate::Readings(count) => indexes == (0..*count).collect::<Vec<_>>() && aside == 0,
                Fate::Quarantined => indexes.is_empty() && aside == 1,
                Fate::Dropped => indexes.is_empty() && aside == 0,
            };
            if !right {
                wrong.push(format!("{place:?} should be {fate:?}, but has readings {indexes:?} and stands in quarantine {aside} times"));
            }
        }
        wrong.extend(found.into_keys().map(|place| format!("{place:?} has readings and was never sent")));
        wrong.extend(
            quarantined.into_keys().map(|place| format!("{place:?} is in quarantine and was never sent")),
        );
        wrong
    }
}

/// Where each row of a table came from.
pub(crate) async fn origins(bucket: &Bucket, table: &str) -> Vec<Origin> {
    let mut origins = Vec::new();
    for batch in rows(bucket, table).await {
        let partitions =
            batch.column_by_name(reserved::PARTITION).unwrap().as_primitive::<Int32Type>().clone();
        let offsets = batch.column_by_name(reserved::OFFSET).unwrap().as_primitive::<Int64Type>().clone();
        let indexes =
            batch.column_by_name(reserved::INDEX).map(|column| column.as_primitive::<Int32Type>().clone());
        for row in 0..batch.num_rows() {
            let index = indexes.as_ref().map_or(0, |indexes| indexes.value(row));
            origins.push((Partition(partitions.value(row)), Offset(offsets.value(row)), index));
        }
    }
    origins
}

/// All rows of a table's latest version, without the partition column; none where there is no table.
pub(crate) async fn rows(bucket: &Bucket, table: &str) -> Vec<RecordBatch> {
    let Some(table) = Table::open(bucket, table).await.unwrap() else { return Vec::new() };
    let snapshot = table.snapshot().await.unwrap();
    let mut rows = Vec::new();
    for file in snapshot.files() {
        let bytes =
            table.store().get(&Path::parse(&file.path).unwrap()).await.unwrap().bytes().await.unwrap();
        let batches = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap();
        rows.extend(batches.map(Result::unwrap));
    }
    rows
}
