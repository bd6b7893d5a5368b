//! The embedded log on real files, with a disk in between that can fail.

mod damage;
mod disk;
mod faults;
mod history;
mod outside;
mod repairing;

use crate::api::{Log, ReadLimit};
use crate::contract::{self, Subject, append, read_all, record, topic};
use crate::embedded::{EmbeddedLog, EmbeddedSettings};
use crate::error::LogError;
use async_trait::async_trait;
use millstream_model::name::{Offset, Partition, TopicPartition};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::Mutex;

fn small() -> EmbeddedSettings {
    EmbeddedSettings {
        segment_bytes: 600,
        reserve_bytes: 0,
        record_max: 100_000,
        ..EmbeddedSettings::default()
    }
}

fn partition_of(name: &str) -> TopicPartition {
    TopicPartition { topic: topic(name), partition: Partition(0) }
}

/// Segment files of the first partition, oldest first.
fn segment_files(dir: &Path, name: &str) -> Vec<PathBuf> {
    let files = std::fs::read_dir(dir.join(topic(name).as_str()).join("0"))
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        files.filter(|path| path.extension().is_some_and(|extension| extension == "segment")).collect();
    files.sort();
    files
}

async fn values(log: &EmbeddedLog, name: &str) -> Result<Vec<String>, LogError> {
    let records = read_all(log, &partition_of(name)).await?;
    Ok(records.into_iter().map(|stored| String::from_utf8_lossy(&stored.record.value).into_owned()).collect())
}

struct Embedded {
    dir: tempfile::TempDir,
    settings: EmbeddedSettings,
    open: Mutex<Option<EmbeddedLog>>,
}

#[async_trait]
impl Subject for Embedded {
    async fn reopen(&self) -> Arc<dyn Log> {
        let mut open = self.open.lock().await;
        if let Some(log) = open.take() {
            log.close().await.unwrap();
        }
        let log = EmbeddedLog::open(self.dir.path(), self.settings.clone()).await.unwrap();
        *open = Some(log.clone());
        Arc::new(log)
    }

    fn partitions(&self) -> usize {
        self.settings.partitions.into()
    }

    fn record_max(&self) -> usize {
        self.settings.record_max
    }
}

async fn keeps_the_contract(settings: EmbeddedSettings) {
    let subject = Embedded { dir: tempfile::tempdir().unwrap(), settings, open: Mutex::default() };
    contract::check(&subject).await;
}

#[tokio::test]
async fn the_contract_holds_with_one_partition_and_small_segments() {
    keeps_the_contract(small()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_contract_holds_with_partitions_and_a_queue_that_is_always_full() {
    keeps_the_contract(EmbeddedSettings { partitions: 3, queue_bytes: 1000, segment_bytes: 5000, ..small() })
        .await;
}

#[tokio::test]
async fn a_second_owner_is_refused_and_told_who_has_it() {
    let dir = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open(dir.path(), small()).await.unwrap();
    let second = EmbeddedLog::open(dir.path(), small()).await;
    let own = std::process::id().to_string();
    assert!(matches!(&second, Err(LogError::InUse { holder, .. }) if *holder == own), "{second:?}");
    assert!(matches!(super::repair(dir.path()), Err(LogError::InUse { .. })));
    log.close().await.unwrap();
    EmbeddedLog::open(dir.path(), small()).await.unwrap().close().await.unwrap();
}

#[tokio::test]
async fn closing_makes_durable_what_waits_and_ends_everything_else() {
    let dir = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open(dir.path(), small()).await.unwrap();
    append(&log, &topic("t"), vec![record("d", "0")]).await;
    let mut reader = log.reader(&partition_of("t"), Offset(1)).await.unwrap();
    let pending = log.append(&topic("t"), vec![record("d", "1")]).await.unwrap();
    log.clone().close().await.unwrap();
    assert_eq!(pending.await.unwrap().len(), 1);
    assert_eq!(reader.next(contract::ALL).await.unwrap().len(), 1, "what is durable can still be read");
    assert!(reader.next(contract::ALL).await.is_err(), "there will never be more");
    assert!(log.append(&topic("t"), vec![record("d", "2")]).await.is_err());
    assert!(log.partitions(&topic("other")).await.is_err());
    log.close().await.unwrap();
    let log = EmbeddedLog::open(dir.path(), small()).await.unwrap();
    assert_eq!(values(&log, "t").await.unwrap(), ["0", "1"]);
}

#[tokio::test]
async fn a_reader_that_a_trim_overtakes_hears_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open(dir.path(), small()).await.unwrap();
    let long = "x".repeat(150);
    let append = async || append(&log, &topic("t"), vec![record("d", &long)]).await[0].offset;
    append().await;
    let one = ReadLimit { records: 1, bytes: 0 };
    let mut slow = log.reader(&partition_of("t"), Offset(0)).await.unwrap();
    let mut begun = log.reader(&partition_of("t"), Offset(0)).await.unwrap();
    assert_eq!(begun.next(one).await.unwrap().len(), 1);
    while append().await < Offset(9) {}
    log.trim(&partition_of("t"), Offset(9)).await.unwrap();
    for reader in [&mut slow, &mut begun] {
        let overtaken = reader.next(one).await;
        assert!(matches!(overtaken, Err(LogError::Trimmed { wanted: Offset(0..=1), .. })), "{overtaken:?}");
    }
    let mut rest = log.reader(&partition_of("t"), Offset(9)).await.unwrap();
    assert_eq!(rest.next(one).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_topic_keeps_its_number_of_partitions() {
    let dir = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open(dir.path(), EmbeddedSettings { partitions: 3, ..small() }).await.unwrap();
    assert_eq!(log.partitions(&topic("old")).await.unwrap().len(), 3);
    log.close().await.unwrap();
    let log = EmbeddedLog::open(dir.path(), EmbeddedSettings { partitions: 5, ..small() }).await.unwrap();
    assert_eq!(log.partitions(&topic("old")).await.unwrap().len(), 3);
    assert_eq!(log.partitions(&topic("new")).await.unwrap().len(), 5);
}

#[tokio::test]
async fn half_a_topic_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("new-millstream.t").join("0")).unwrap();
    let log = EmbeddedLog::open(dir.path(), small()).await.unwrap();
    assert!(!dir.path().join("new-millstream.t").exists());
    append(&log, &topic("t"), vec![record("d", "0")]).await;
    assert_eq!(values(&log, "t").await.unwrap(), ["0"]);
}
