//! Mending what does not open.

use super::{partition_of, segment_files, small, values};
use crate::contract::{append, read_all, record, topic};
use crate::embedded::{EmbeddedLog, EmbeddedSettings, LOST, repair};
use crate::error::LogError;
use std::fs;
use std::path::Path;

/// Ten records, each a batch; three to a segment.
async fn written() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open(dir.path(), settings()).await.unwrap();
    for number in 0..10 {
        append(&log, &topic("t"), vec![record("d", &format!("{number}{}", "x".repeat(100)))]).await;
    }
    log.close().await.unwrap();
    assert_eq!(segment_files(dir.path(), "t").len(), 4);
    dir
}

fn settings() -> EmbeddedSettings {
    EmbeddedSettings { segment_bytes: 450, ..small() }
}

/// What reads back: the number of each record, `-` where it is lost.
async fn found(dir: &Path) -> String {
    let log = EmbeddedLog::open(dir, settings()).await.unwrap();
    let records = read_all(&log, &partition_of("t")).await.unwrap();
    log.close().await.unwrap();
    let lost = |headers: &[(String, bytes::Bytes)]| headers.iter().any(|(name, _)| name == LOST);
    let letter = |stored: &millstream_model::record::Stored| match stored.record.value.first() {
        Some(digit) => char::from(*digit),
        None if lost(&stored.record.headers) => '-',
        None => '?',
    };
    records.iter().map(letter).collect()
}

#[tokio::test]
async fn repairing_keeps_all_that_can_be_read_at_its_offset() {
    let flip = |path: &Path, at: usize| {
        let mut bytes = fs::read(path).unwrap();
        bytes[at] ^= 0x10;
        fs::write(path, bytes).unwrap();
    };
    let check = async |harm: &dyn Fn(&[std::path::PathBuf]), expected: &str, lost: u64| {
        let dir = written().await;
        harm(&segment_files(dir.path(), "t"));
        let report = repair(dir.path()).unwrap();
        assert_eq!(report.repairs.iter().map(|repair| repair.lost).sum::<u64>(), lost, "{report}");
        assert!(
            report.repairs.iter().filter_map(|repair| repair.copy.as_ref()).all(|copy| copy.exists()),
            "{report}"
        );
        assert_eq!(found(dir.path()).await, expected, "{report}");
        assert_eq!(repair(dir.path()).unwrap().repairs, [], "once is enough");
    };
    check(&|_| {}, "0123456789", 0).await;
    // A body, a header, two in a row, the last of a segment, a seal.
    check(&|files| flip(&files[0], 60), "-123456789", 1).await;
    check(&|files| flip(&files[1], 10), "012-456789", 1).await;
    check(&|files| [60, 220].iter().for_each(|at| flip(&files[0], *at)), "--23456789", 2).await;
    check(&|files| flip(&files[0], 320), "01-3456789", 1).await;
    check(&|files| flip(&files[0], fs::metadata(&files[0]).unwrap().len() as usize - 20), "0123456789", 0)
        .await;
    // A segment that is missing, in the middle and at the end.
    check(&|files| fs::remove_file(&files[1]).unwrap(), "012---6789", 3).await;
    check(&|files| fs::remove_file(&files[3]).unwrap(), "012345678", 0).await;
    // The last batch: whether it was acknowledged cannot be known.
    check(&|files| flip(&files[3], 60), "012345678", 0).await;
}

#[tokio::test]
async fn the_small_files_are_written_again() {
    let dir = written().await;
    fs::remove_file(dir.path().join("format")).unwrap();
    fs::write(dir.path().join("millstream.t").join("partitions"), "7").unwrap();
    let error = EmbeddedLog::open(dir.path(), settings()).await.unwrap_err();
    assert!(matches!(error, LogError::Damaged { .. }), "{error:?}");
    let report = repair(dir.path()).unwrap();
    assert_eq!(report.repairs.len(), 2, "{report}");
    assert_eq!(found(dir.path()).await, "0123456789");
}

#[tokio::test]
async fn what_cannot_be_mended_is_left_alone() {
    let dir = written().await;
    fs::remove_dir_all(dir.path().join("millstream.t").join("0")).unwrap();
    let error = repair(dir.path()).unwrap_err();
    assert!(
        matches!(&error, LogError::Damaged { repair, .. } if repair.contains("restore it from a copy")),
        "{error:?}"
    );
    let other = tempfile::tempdir().unwrap();
    assert_eq!(repair(other.path()).unwrap().repairs, []);
    assert_eq!(repair(other.path()).unwrap().to_string(), "nothing to repair\n");
    let log = EmbeddedLog::open(other.path(), settings()).await.unwrap();
    append(&log, &topic("t"), vec![record("d", "0")]).await;
    assert_eq!(values(&log, "t").await.unwrap(), ["0"]);
}
