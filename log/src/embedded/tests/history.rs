//! Random histories of appends, trims, failures and restarts against a plain list; and random records through the frame.

use super::disk::TestDisk;
use super::{partition_of, small};
use crate::api::{Bounds, Log, ReadLimit};
use crate::contract::topic;
use crate::embedded::frame::{Batch, Frames, Header, Marker};
use crate::embedded::{EmbeddedLog, EmbeddedSettings, Peek};
use bytes::Bytes;
use fastrand::Rng;
use millstream_model::name::Offset;
use millstream_model::record::{Record, Stored};
use proptest::prelude::{any, prop_assert_eq, proptest};
use std::io::{ErrorKind, Write};
use std::sync::Arc;

fn random_record(random: &mut Rng, value_max: usize) -> Record {
    let bytes = |random: &mut Rng, max| {
        Bytes::from((0..random.usize(..max)).map(|_| random.u8(..)).collect::<Vec<_>>())
    };
    let headers = (0..random.usize(..3)).map(|number| (format!("h{number}"), bytes(random, 10))).collect();
    let filled = vec![random.u8(..); random.usize(..value_max)];
    Record { key: bytes(random, 4), value: filled.into(), headers }
}

struct History {
    seed: u64,
    random: Rng,
    dir: tempfile::TempDir,
    disk: Arc<TestDisk>,
    settings: EmbeddedSettings,
    value_max: usize,
    log: EmbeddedLog,
    model: Vec<Record>,
    /// The oldest that may not be forgotten.
    kept_from: usize,
}

impl History {
    async fn new(seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        let dir = tempfile::tempdir().unwrap();
        let disk = Arc::new(TestDisk::default());
        // Some with records that fill the index and outgrow what is fetched at once.
        let large = seed.is_multiple_of(5);
        let segment_bytes = random.u64(if large { 100_000..1_000_000 } else { 100..5_000 });
        let settings = EmbeddedSettings { segment_bytes, ..small() };
        let log = EmbeddedLog::open_on(dir.path(), settings.clone(), disk.clone()).await.unwrap();
        log.partitions(&topic("t")).await.unwrap();
        let value_max = if large { 50_000 } else { 200 };
        Self { seed, random, dir, disk, settings, value_max, log, model: Vec::new(), kept_from: 0 }
    }

    async fn step(&mut self) {
        match self.random.u8(..20) {
            0..10 => self.append().await,
            10..12 => self.append_and_fail().await,
            12..15 => self.trim().await,
            15..17 => self.reopen().await,
            _ => self.read().await,
        }
    }

    async fn append(&mut self) {
        let mut pending = Vec::new();
        for _ in 0..self.random.usize(1..6) {
            let records: Vec<_> = (0..self.random.usize(..4))
                .map(|_| random_record(&mut self.random, self.value_max))
                .collect();
            pending.push((
                self.model.len(),
                records.len(),
                self.log.append(&topic("t"), records.clone()).await.unwrap(),
            ));
            self.model.extend(records);
        }
        for (first, count, pending) in pending {
            let offsets: Vec<_> =
                pending.await.unwrap().iter().map(|position| position.offset.0 as usize).collect();
            assert_eq!(offsets, (first..first + count).collect::<Vec<_>>(), "seed {}", self.seed);
        }
    }

    async fn append_and_fail(&mut self) {
        let random = &mut self.random;
        let (part, kind) =
            (random.usize(..300), if random.bool() { ErrorKind::Other } else { ErrorKind::StorageFull });
        let which = random.u8(..3);
        self.disk.plan(|plan| match which {
            0 => plan.write = Some((0, part, kind)),
            1 => plan.sync = Some(kind),
            _ => plan.create = Some(kind),
        });
        let record = random_record(&mut self.random, self.value_max);
        // A failure of the seal, and one that met nothing, are no failures of the append.
        if self.log.append(&topic("t"), vec![record.clone()]).await.unwrap().await.is_ok() {
            self.model.push(record);
        }
        self.disk.plan(|plan| {
            plan.write = None;
            plan.sync = None;
            plan.create = None;
        });
    }

    async fn trim(&mut self) {
        let before = self.random.usize(..self.model.len() + 2);
        self.log.trim(&partition_of("t"), Offset(before as i64)).await.unwrap();
        self.kept_from = self.kept_from.max(before.min(self.model.len()));
    }

    async fn reopen(&mut self) {
        self.log.clone().close().await.unwrap();
        self.log =
            EmbeddedLog::open_on(self.dir.path(), self.settings.clone(), self.disk.clone()).await.unwrap();
    }

    async fn read(&mut self) {
        let Bounds { first, next } = self.log.bounds(&partition_of("t")).await.unwrap();
        assert_eq!(next.0 as usize, self.model.len(), "seed {}", self.seed);
        assert!(first.0 as usize <= self.kept_from, "seed {}", self.seed);
        let from = Offset(self.random.i64(first.0..=next.0));
        let limit =
            ReadLimit { records: self.random.usize(1..20), bytes: self.random.usize(..10 * self.value_max) };
        let mut reader = self.log.reader(&partition_of("t"), from).await.unwrap();
        let peek = Peek::open(self.dir.path()).unwrap();
        let mut at = from;
        while at < next {
            let read = reader.next(limit).await.unwrap();
            let expected = self.expected(at, read.len());
            assert_eq!(read, expected, "seed {}", self.seed);
            assert_eq!(peek.read(&partition_of("t"), at, limit).unwrap(), expected, "seed {}", self.seed);
            at = Offset(at.0 + read.len() as i64);
        }
        assert_eq!(peek.bounds(&partition_of("t")).unwrap(), Bounds { first, next }, "seed {}", self.seed);
    }

    fn expected(&self, from: Offset, count: usize) -> Vec<Stored> {
        let from = from.0 as usize;
        let range = from..from + count.max(1);
        range
            .map(|offset| Stored {
                offset: Offset(offset as i64),
                appended_at: None,
                record: self.model[offset].clone(),
            })
            .collect()
    }
}

#[tokio::test]
async fn any_history_reads_like_a_list() {
    for seed in 0..150 {
        let mut history = History::new(seed).await;
        for _ in 0..40 {
            history.step().await;
        }
        history.reopen().await;
        history.read().await;
        history.log.close().await.unwrap();
    }
}

proptest! {
    #[test]
    fn a_batch_reads_back(seed in any::<u64>(), count in 1_usize..50, first in 0_i64..i64::MAX / 2) {
        let mut random = Rng::with_seed(seed);
        let marker = Marker(random.u64(..).to_le_bytes());
        let records: Vec<_> = (0..count).map(|_| random_record(&mut random, 200)).collect();
        let mut batch = Batch::default();
        records.iter().for_each(|record| batch.push(record));
        let frame = batch.finish(marker, Offset(first)).to_vec();
        let sizes: usize = records.iter().map(Record::size).sum();
        assert!(frame.len() <= sizes + 32, "what a record takes is never more than its size says");

        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&frame).unwrap();
        let mut frames = Frames::new(file, marker, 0);
        let end = frame.len() as u64;
        let header = frames.header(end).unwrap().unwrap();
        let read: Vec<_> = frames.records(&header, end).unwrap().map(Result::unwrap).collect();
        let expected = records.into_iter().zip(first..).map(|(record, offset)| Stored { offset: Offset(offset), appended_at: None, record });
        prop_assert_eq!(read, expected.collect::<Vec<_>>());
        prop_assert_eq!(frames.at(), end);
        assert!(frames.header(end).unwrap().is_none());
    }

    #[test]
    fn no_bytes_upset_the_header(bytes in any::<Vec<u8>>(), marker in any::<[u8; 8]>()) {
        let with_marker = [&marker[..], &bytes].concat();
        for bytes in [bytes, with_marker] {
            if let Ok(header) = Header::decode(Marker(marker), &bytes) {
                prop_assert_eq!(header.encode(Marker(marker)).to_vec(), bytes[..32].to_vec());
            }
        }
    }
}
