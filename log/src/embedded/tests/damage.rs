//! What a crash tears and what the years flip: nothing is altered, and nothing is lost in silence.

use super::disk::TestDisk;
use super::{partition_of, segment_files, small, values};
use crate::api::Log;
use crate::contract::{append, read_all, record, topic};
use crate::embedded::frame::{Frames, Header, Marker};
use crate::embedded::recovery::frame_behind;
use crate::embedded::{EmbeddedLog, EmbeddedSettings};
use crate::error::LogError;
use millstream_model::name::Offset;
use millstream_model::record::Stored;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

async fn open(dir: &Path, settings: EmbeddedSettings) -> Result<EmbeddedLog, LogError> {
    EmbeddedLog::open_on(dir, settings, Arc::new(TestDisk::default())).await
}

/// Writes each of the batches by itself.
async fn written(batches: &[&[&str]], settings: EmbeddedSettings) -> (tempfile::TempDir, Vec<PathBuf>) {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), settings).await.unwrap();
    for batch in batches {
        append(&log, &topic("t"), batch.iter().map(|value| record("d", value)).collect()).await;
    }
    log.close().await.unwrap();
    let files = segment_files(dir.path(), "t");
    (dir, files)
}

const BATCHES: [&[&str]; 3] = [&["a0", "a1"], &["b2"], &["c3", "c4", "c5"]];

fn one_segment() -> EmbeddedSettings {
    EmbeddedSettings { segment_bytes: 1_000_000, ..small() }
}

/// Where the batches of a segment begin, from their lengths.
fn batch_starts(bytes: &[u8]) -> Vec<usize> {
    let mut starts = vec![0];
    while let Some(length) =
        bytes.get(starts[starts.len() - 1] + 20..).and_then(|rest| rest.first_chunk::<4>())
    {
        starts.push(starts[starts.len() - 1] + 32 + u32::from_le_bytes(*length) as usize);
    }
    starts
}

#[tokio::test]
async fn a_torn_last_batch_is_cut_wherever_it_was_torn() {
    let (dir, files) = written(&BATCHES, one_segment()).await;
    let whole = fs::read(&files[0]).unwrap();
    let starts = batch_starts(&whole);
    assert_eq!((starts.len(), starts[3]), (4, whole.len()));
    for length in 0..=whole.len() {
        fs::write(&files[0], &whole[..length]).unwrap();
        let log = open(dir.path(), one_segment()).await.unwrap();
        let left = starts.iter().rposition(|start| *start <= length).unwrap();
        let mut expected = BATCHES[..left].concat();
        assert_eq!(values(&log, "t").await.unwrap(), expected, "cut to {length} bytes");
        let next = append(&log, &topic("t"), vec![record("d", "new")]).await[0].offset;
        assert_eq!(next, Offset(expected.len() as i64));
        expected.push("new");
        log.close().await.unwrap();
        let log = open(dir.path(), one_segment()).await.unwrap();
        assert_eq!(values(&log, "t").await.unwrap(), expected);
        log.close().await.unwrap();
    }
}

#[tokio::test]
async fn sectors_of_the_last_batch_may_be_lost_in_any_combination() {
    const SECTOR: usize = 512;
    let long: Vec<_> = (0..20).map(|number| format!("{number}-{}", "x".repeat(300))).collect();
    let last: Vec<_> = long.iter().map(String::as_str).collect();
    let (dir, files) = written(&[&["a0", "a1"], &["b2"], &last], one_segment()).await;
    let whole = fs::read(&files[0]).unwrap();
    let start = batch_starts(&whole)[2];
    for seed in 0..300 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut torn = whole.clone();
        let mut lost = false;
        for sector in (start / SECTOR)..whole.len().div_ceil(SECTOR) {
            if random.bool() {
                let range = (sector * SECTOR).max(start)..((sector + 1) * SECTOR).min(whole.len());
                lost |= torn[range.clone()].iter().any(|byte| *byte != 0);
                torn[range].fill(0);
            }
        }
        // The length may be durable before what is in it.
        torn.extend(std::iter::repeat_n(0, random.usize(..1000)));
        fs::write(&files[0], &torn).unwrap();
        let log = open(dir.path(), one_segment()).await.unwrap();
        let expected = if lost { 3 } else { 23 };
        assert_eq!(values(&log, "t").await.unwrap().len(), expected, "seed {seed}");
        log.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_flipped_bit_costs_at_most_the_last_batch_or_the_log_does_not_open() {
    let (dir, files) = written(&BATCHES, one_segment()).await;
    let whole = fs::read(&files[0]).unwrap();
    let last = batch_starts(&whole)[2];
    for (at, bit) in (0..whole.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << bit;
        fs::write(&files[0], &flipped).unwrap();
        match open(dir.path(), one_segment()).await {
            Ok(log) => {
                assert!(
                    at >= last,
                    "the flip at {at}.{bit} lies before batches that were acknowledged later"
                );
                assert_eq!(values(&log, "t").await.unwrap(), BATCHES[..2].concat());
                log.close().await.unwrap();
            }
            Err(error) => {
                assert!(at < last, "{error}");
                assert!(matches!(&error, LogError::Damaged { path, .. } if *path == files[0]), "{error:?}");
                assert_eq!(fs::read(&files[0]).unwrap(), flipped, "nothing is touched");
            }
        }
    }
}

/// Reads from an offset until the end or the first failure.
async fn read_from(log: &EmbeddedLog, from: Offset) -> (Vec<Stored>, Option<LogError>) {
    let next = log.bounds(&partition_of("t")).await.unwrap().next;
    let mut reader = log.reader(&partition_of("t"), from).await.unwrap();
    let mut records: Vec<Stored> = Vec::new();
    while records.last().map_or(from, |last| last.offset.next()) < next {
        match reader.next(crate::contract::ALL).await {
            Ok(read) => records.extend(read),
            Err(error) => return (records, Some(error)),
        }
    }
    (records, None)
}

#[tokio::test]
async fn a_flipped_bit_in_an_older_segment_is_found_at_the_start_or_by_the_reader() {
    let long = "x".repeat(150);
    let (dir, files) = written(&[&["a0", &long], &["b2", "b3"], &[&long, &long], &["d6"]], small()).await;
    assert_eq!(files.len(), 2);
    let log = open(dir.path(), small()).await.unwrap();
    let original = read_all(&log, &partition_of("t")).await.unwrap();
    let second = Offset(files[1].file_stem().unwrap().to_str().unwrap().parse().unwrap());
    log.close().await.unwrap();
    let (older, newer) = (fs::read(&files[0]).unwrap(), fs::read(&files[1]).unwrap());
    for at in 0..older.len() {
        let mut flipped = older.clone();
        flipped[at] ^= 1 << (at % 8);
        fs::write(&files[0], &flipped).unwrap();
        match open(dir.path(), small()).await {
            Err(error) => assert!(matches!(error, LogError::Damaged { .. }), "{error:?}"),
            Ok(log) => {
                let (read, error) = read_from(&log, Offset::ZERO).await;
                assert_eq!(read, original[..read.len()]);
                assert!(error.is_none() || matches!(error, Some(LogError::Damaged { .. })), "{error:?}");
                assert!(error.is_some() || read.len() == original.len());
                assert_eq!(
                    read_from(&log, second).await.0,
                    original[second.0 as usize..],
                    "what comes later is there"
                );
                log.close().await.unwrap();
            }
        }
        assert_eq!(fs::read(&files[1]).unwrap(), newer);
    }
}

#[tokio::test]
async fn a_flipped_bit_in_a_small_file_is_found() {
    let (dir, _) = written(&BATCHES, one_segment()).await;
    for path in [dir.path().join("format"), dir.path().join("millstream.t").join("partitions")] {
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << (at % 8);
            fs::write(&path, flipped).unwrap();
            let error = open(dir.path(), one_segment()).await.unwrap_err();
            assert!(matches!(&error, LogError::Damaged { path: found, .. } if *found == path), "{error:?}");
        }
        fs::remove_file(&path).unwrap();
        let error = open(dir.path(), one_segment()).await.unwrap_err();
        assert!(matches!(error, LogError::Damaged { .. }), "{error:?}");
        fs::write(&path, whole).unwrap();
    }
    assert!(open(dir.path(), one_segment()).await.is_ok());
}

#[tokio::test]
async fn a_missing_segment_or_partition_is_noticed_at_the_start() {
    let long = "x".repeat(500);
    let (dir, files) = written(&[&[&long], &[&long], &[&long], &[&long]], small()).await;
    assert_eq!(files.len(), 4);
    for missing in [1, 2, 3] {
        let whole = fs::read(&files[missing]).unwrap();
        fs::remove_file(&files[missing]).unwrap();
        let error = open(dir.path(), small()).await.unwrap_err();
        assert!(
            matches!(&error, LogError::Damaged { path, .. } if *path == files[missing - 1]),
            "{missing}: {error:?}"
        );
        assert!(error.to_string().contains("millstream log repair"), "{error}");
        fs::write(&files[missing], whole).unwrap();
    }
    // The oldest looks as if it was trimmed: who still wanted it hears so.
    fs::remove_file(&files[0]).unwrap();
    let log = open(dir.path(), small()).await.unwrap();
    assert!(matches!(log.reader(&partition_of("t"), Offset::ZERO).await, Err(LogError::Trimmed { .. })));
    log.close().await.unwrap();
    fs::remove_dir_all(files[0].parent().unwrap()).unwrap();
    assert!(matches!(open(dir.path(), small()).await, Err(LogError::Damaged { .. })));
}

#[tokio::test]
async fn a_payload_cannot_pretend_to_be_a_batch() {
    let (_other, files) = written(&BATCHES, one_segment()).await;
    let foreign = fs::read(&files[0]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), one_segment()).await.unwrap();
    append(&log, &topic("t"), vec![record("d", "0")]).await;
    let mut evil = record("d", "");
    evil.value = foreign.into();
    append(&log, &topic("t"), vec![evil]).await;
    log.close().await.unwrap();
    let file = &segment_files(dir.path(), "t")[0];
    let whole = fs::read(file).unwrap();
    fs::write(file, &whole[..whole.len() - 1]).unwrap();
    let log = open(dir.path(), one_segment()).await.unwrap();
    assert_eq!(
        values(&log, "t").await.unwrap(),
        ["0"],
        "the torn batch is cut although a batch of another log stands in it"
    );
}

#[tokio::test]
async fn a_batch_that_stands_in_a_wrong_place_is_damage_even_at_the_end() {
    let (dir, files) = written(&BATCHES, one_segment()).await;
    let whole = fs::read(&files[0]).unwrap();
    let starts = batch_starts(&whole);
    let (first, last) = (&whole[..starts[1]], &whole[starts[2]..]);
    for misplaced in [[first, last].concat(), [first, first].concat()] {
        fs::write(&files[0], misplaced).unwrap();
        let error = open(dir.path(), one_segment()).await.unwrap_err();
        assert!(matches!(error, LogError::Damaged { .. }), "{error:?}");
    }
}

/// The search goes through the file in windows.
#[test]
fn a_batch_behind_damage_is_found_wherever_it_begins() {
    let marker = Marker(*b"a marker");
    let header = Header::seal(Offset(7)).encode(marker);
    for at in (1..70).chain(65_480..65_620).chain(262_100..262_200) {
        let mut bytes = vec![b'a'; at];
        bytes.extend_from_slice(&header);
        for rest in [0, 1, 100] {
            bytes.resize(at + header.len() + rest, 0);
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&bytes).unwrap();
            let mut frames = Frames::new(file, marker, 0);
            let found = frame_behind(&mut frames, marker, 0, bytes.len() as u64).unwrap();
            assert_eq!(found, Some(at as u64), "{rest} bytes follow");
        }
    }
}
