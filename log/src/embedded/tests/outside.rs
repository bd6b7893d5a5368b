//! Looking into a log that somebody else writes.

use super::{partition_of, segment_files, small};
use crate::api::{Bounds, Log, ReadLimit};
use crate::contract::{ALL, append, record, topic};
use crate::embedded::{EmbeddedLog, EmbeddedSettings, Onlooker, Peek};
use crate::error::LogError;
use millstream_model::name::Offset;
use std::fs;
use tokio::task::JoinSet;

#[tokio::test]
async fn a_look_sees_what_was_acknowledged_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    assert!(Peek::open(&dir.path().join("none")).is_err());
    let peek = Peek::open(dir.path()).unwrap();
    assert_eq!(peek.topics().unwrap(), []);
    let log = EmbeddedLog::open(dir.path(), small()).await.unwrap();
    for number in 0..60 {
        append(&log, &topic("t"), vec![record("d", &number.to_string())]).await;
        let bounds = peek.bounds(&partition_of("t")).unwrap();
        assert_eq!(bounds, Bounds { first: Offset::ZERO, next: Offset(number + 1) });
        let read = peek.read(&partition_of("t"), Offset(number / 2), ALL).unwrap();
        assert_eq!(read.last().map(|last| last.offset), Some(Offset(number)));
        assert_eq!(read.len() as i64, number + 1 - number / 2);
    }
    assert_eq!(peek.topics().unwrap(), [partition_of("t")]);
    assert_eq!(peek.read(&partition_of("t"), Offset(60), ALL).unwrap(), []);
    let beyond = peek.read(&partition_of("t"), Offset(61), ALL);
    assert!(matches!(beyond, Err(LogError::BeyondEnd { .. })), "{beyond:?}");
    log.trim(&partition_of("t"), Offset(60)).await.unwrap();
    let trimmed = peek.read(&partition_of("t"), Offset::ZERO, ALL);
    assert!(matches!(trimmed, Err(LogError::Trimmed { .. })), "{trimmed:?}");
    log.close().await.unwrap();

    let last = segment_files(dir.path(), "t").pop().unwrap();
    let mut bytes = fs::read(&last).unwrap();
    bytes.extend_from_slice(b"half a batch");
    fs::write(&last, &bytes).unwrap();
    let peek = Peek::open(dir.path()).unwrap();
    assert_eq!(peek.bounds(&partition_of("t")).unwrap().next, Offset(60), "a torn batch is the end");
    assert_eq!(fs::read(&last).unwrap(), bytes);
}

#[tokio::test]
async fn a_look_verifies_the_last_batch_and_those_it_reads() {
    let dir = tempfile::tempdir().unwrap();
    let settings = EmbeddedSettings { segment_bytes: 1_000_000, ..small() };
    let log = EmbeddedLog::open(dir.path(), settings).await.unwrap();
    for value in ["first value", "second value", "third value"] {
        append(&log, &topic("t"), vec![record("d", value)]).await;
    }
    log.close().await.unwrap();
    let path = segment_files(dir.path(), "t").pop().unwrap();
    let whole = fs::read(&path).unwrap();
    // Which value is damaged, where the log then ends, and whether all before that end can be read.
    for (value, next, readable) in [("second value", 3, false), ("third value", 2, true)] {
        let mut bytes = whole.clone();
        let at = bytes.windows(value.len()).position(|window| window == value.as_bytes()).unwrap();
        bytes[at] ^= 1;
        fs::write(&path, &bytes).unwrap();
        let peek = Peek::open(dir.path()).unwrap();
        assert_eq!(peek.bounds(&partition_of("t")).unwrap().next, Offset(next), "{value}");
        let one = |offset| peek.read(&partition_of("t"), Offset(offset), ReadLimit { records: 1, bytes: 0 });
        assert_eq!(one(0).unwrap()[0].record, record("d", "first value"));
        let second = one(1);
        assert_eq!(second.is_ok(), readable, "{second:?}");
    }
}

#[tokio::test]
async fn an_onlooker_reads_as_the_owner_does_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    assert!(Onlooker::open(&dir.path().join("none")).is_err());
    let log = EmbeddedLog::open(dir.path(), small()).await.unwrap();
    append(&log, &topic("t"), vec![record("d", "0"), record("d", "1")]).await;
    let onlooker = Onlooker::open(dir.path()).unwrap();
    assert_eq!(onlooker.existing(&topic("none")).await.unwrap(), None);
    assert_eq!(onlooker.partitions(&topic("t")).await.unwrap(), log.partitions(&topic("t")).await.unwrap());
    let mut reader = onlooker.reader(&partition_of("t"), Offset(1)).await.unwrap();
    assert_eq!(reader.next(ALL).await.unwrap()[0].record, record("d", "1"));
    // It waits for what the owner writes.
    let (next, ()) = tokio::join!(reader.next(ALL), async {
        append(&log, &topic("t"), vec![record("d", "2")]).await;
    });
    assert_eq!(next.unwrap()[0].record, record("d", "2"));
    assert_eq!(onlooker.bounds(&partition_of("t")).await.unwrap().next, Offset(3));
    let beyond = onlooker.reader(&partition_of("t"), Offset(4)).await;
    assert!(matches!(beyond, Err(LogError::BeyondEnd { .. })), "{beyond:?}");

    assert!(matches!(onlooker.append(&topic("t"), vec![record("d", "3")]).await, Err(LogError::Closed)));
    assert!(matches!(onlooker.trim(&partition_of("t"), Offset(1)).await, Err(LogError::Closed)));
    assert!(matches!(onlooker.join(&topic("t"), "g").await, Err(LogError::Closed)));
    assert_eq!(
        log.bounds(&partition_of("t")).await.unwrap(),
        Bounds { first: Offset::ZERO, next: Offset(3) }
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_look_beside_a_live_writer_never_sees_less_than_before_nor_anything_else() {
    const RECORDS: i64 = 1500;
    let dir = tempfile::tempdir().unwrap();
    let settings = EmbeddedSettings { segment_bytes: 5_000, ..small() };
    let log = EmbeddedLog::open(dir.path(), settings).await.unwrap();
    append(&log, &topic("t"), vec![record("d", "0")]).await;
    let mut writer = JoinSet::new();
    writer.spawn(async move {
        let mut pending = Vec::new();
        for number in 1..RECORDS {
            pending.push(log.append(&topic("t"), vec![record("d", &number.to_string())]).await.unwrap());
            if number % 10 == 0 {
                for pending in pending.drain(..) {
                    pending.await.unwrap();
                }
            }
            if number % 300 == 0 {
                log.trim(&partition_of("t"), Offset(number / 2)).await.unwrap();
            }
        }
        log.close().await.unwrap();
    });
    let looking = tokio::task::spawn_blocking(move || {
        let peek = Peek::open(dir.path()).unwrap();
        let mut next = Offset::ZERO;
        while next.0 < RECORDS {
            match peek.read(&partition_of("t"), next, ALL) {
                Ok(read) => {
                    for stored in read {
                        assert_eq!(stored.record, record("d", &next.to_string()));
                        next = next.next();
                    }
                }
                Err(LogError::Trimmed { first, .. }) => next = first,
                Err(error) => panic!("{error:?}"),
            }
        }
    });
    while let Some(done) = writer.join_next().await {
        done.unwrap();
    }
    looking.await.unwrap();
}
