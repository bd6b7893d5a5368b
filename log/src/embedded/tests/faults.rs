//! Failures of the disk while the log is open.

use super::disk::TestDisk;
use super::{partition_of, small, values};
use crate::api::{Log, LogReader};
use crate::contract::{ALL, append, record, topic};
use crate::embedded::{EmbeddedLog, EmbeddedSettings};
use crate::error::LogError;
use millstream_model::name::Offset;
use std::io::ErrorKind;
use std::sync::Arc;

struct Bench {
    dir: tempfile::TempDir,
    disk: Arc<TestDisk>,
    log: EmbeddedLog,
}

impl Bench {
    /// A log with one record, "0".
    async fn new(settings: EmbeddedSettings) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let disk = Arc::new(TestDisk::default());
        let log = EmbeddedLog::open_on(dir.path(), settings, disk.clone()).await.unwrap();
        append(&log, &topic("t"), vec![record("d", "0")]).await;
        Self { dir, disk, log }
    }

    async fn append(&self, value: &str) -> Result<i64, LogError> {
        let positions = self.log.append(&topic("t"), vec![record("d", value)]).await?.await?;
        Ok(positions[0].offset.0)
    }

    async fn reopen(self) -> Self {
        let Self { dir, disk, log } = self;
        log.close().await.unwrap();
        let log = EmbeddedLog::open_on(dir.path(), small(), disk.clone()).await.unwrap();
        Self { dir, disk, log }
    }

    async fn holds(&self, expected: &[&str]) {
        assert_eq!(values(&self.log, "t").await.unwrap(), expected);
    }
}

#[tokio::test]
async fn a_failed_write_leaves_nothing_and_the_next_one_works() {
    for part in [0, 1, 31, 32, 40, 1000] {
        let bench = Bench::new(small()).await;
        bench.disk.plan(|plan| plan.write = Some((0, part, ErrorKind::Other)));
        let failed = bench.append("lost").await;
        assert!(matches!(failed, Err(LogError::Io { action: "write", .. })), "{failed:?}");
        bench.holds(&["0"]).await;
        assert_eq!(bench.append("1").await.unwrap(), 1);
        let bench = bench.reopen().await;
        bench.holds(&["0", "1"]).await;
    }
}

#[tokio::test]
async fn what_was_written_and_not_synced_is_never_read_nor_acknowledged() {
    let bench = Bench::new(small()).await;
    let mut reader = bench.log.reader(&partition_of("t"), Offset(1)).await.unwrap();
    bench.disk.plan(|plan| plan.sync = Some(ErrorKind::Other));
    let failed = bench.append("lost").await;
    assert!(matches!(failed, Err(LogError::Io { .. })), "{failed:?}");
    bench.holds(&["0"]).await;
    assert_eq!(bench.append("1").await.unwrap(), 1);
    assert_eq!(reader.next(ALL).await.unwrap()[0].record, record("d", "1"));
    let bench = bench.reopen().await;
    bench.holds(&["0", "1"]).await;
}

#[tokio::test]
async fn a_failure_that_cannot_be_undone_stops_the_partition_until_it_can_be_or_is_opened_again() {
    for (lies, restart) in [(false, false), (false, true), (true, false), (true, true)] {
        let bench = Bench::new(small()).await;
        bench.disk.plan(|plan| {
            plan.sync = Some(ErrorKind::Other);
            plan.cut = (!lies).then_some(ErrorKind::Other);
            plan.cut_lies = lies;
        });
        let unknown = bench.append("perhaps").await;
        assert!(matches!(unknown, Err(LogError::Unknown { .. })), "{unknown:?}");
        bench.holds(&["0"]).await;
        bench.disk.plan(|plan| plan.cut = Some(ErrorKind::Other));
        let stopped = bench.append("no").await;
        assert!(
            matches!(stopped, Err(LogError::Io { action: "restore after a failed write", .. })),
            "{stopped:?}"
        );
        // Another partition goes on.
        bench.disk.plan(|plan| plan.cut = Some(ErrorKind::Other));
        append(&bench.log, &topic("other"), vec![record("d", "0")]).await;
        bench.disk.plan(|plan| plan.cut_lies = false);
        let (bench, expected) = if restart {
            (bench.reopen().await, ["0", "perhaps", "2"].as_slice())
        } else {
            (bench, ["0", "2"].as_slice())
        };
        assert_eq!(bench.append("2").await.unwrap(), expected.len() as i64 - 1);
        bench.holds(expected).await;
        bench.reopen().await.holds(expected).await;
    }
}

#[tokio::test]
async fn a_full_disk_refuses_appends_and_nothing_else() {
    let full = |outcome: Result<i64, LogError>| {
        assert!(matches!(outcome, Err(LogError::Full { .. })), "{outcome:?}")
    };
    let settings = EmbeddedSettings { reserve_bytes: 1_000_000, ..small() };
    let bench = Bench::new(settings).await;
    bench.disk.plan(|plan| plan.free = Some(1_000_010));
    full(bench.append("no").await);
    bench.holds(&["0"]).await;
    bench.log.trim(&partition_of("t"), Offset(1)).await.unwrap();
    bench.disk.plan(|plan| plan.free = None);
    assert_eq!(bench.append("1").await.unwrap(), 1);
    // The check cannot see everything: the system says it too, when writing, syncing, and making a segment or a topic.
    bench.disk.plan(|plan| plan.write = Some((0, 10, ErrorKind::StorageFull)));
    full(bench.append("no").await);
    bench.disk.plan(|plan| plan.sync = Some(ErrorKind::StorageFull));
    full(bench.append("no").await);
    bench.disk.plan(|plan| plan.create = Some(ErrorKind::QuotaExceeded));
    full(bench.append(&"too long for this segment".repeat(30)).await);
    bench.disk.plan(|plan| plan.create = Some(ErrorKind::StorageFull));
    let other = bench.log.partitions(&topic("other")).await;
    assert!(matches!(other, Err(LogError::Full { .. })), "{other:?}");
    assert_eq!(bench.append("2").await.unwrap(), 2);
    assert_eq!(bench.log.partitions(&topic("other")).await.unwrap().len(), 1);
    let bench = bench.reopen().await;
    bench.holds(&["0", "1", "2"]).await;
}

#[tokio::test]
async fn a_small_append_does_not_get_in_where_a_large_one_would_not() {
    const RESERVE: u64 = 1_000_000;
    const GROUP: u64 = 4 * 1024 * 1024;
    let settings = EmbeddedSettings { reserve_bytes: RESERVE, record_max: 10_000_000, ..small() };
    let bench = Bench::new(settings).await;
    let large = "x".repeat(6_000_000);
    // What is free, what is appended, whether it is taken.
    let check = async |free: u64, value: &str, expected: bool| {
        bench.disk.plan(|plan| plan.free = Some(RESERVE + free));
        let outcome = bench.append(value).await;
        assert_eq!(outcome.is_ok(), expected, "{free}: {outcome:?}");
    };
    check(GROUP, "a", true).await;
    check(GROUP - 1, "b", false).await;
    check(GROUP, "b", false).await;
    check(2 * GROUP - 1, "b", false).await;
    check(2 * GROUP, "b", true).await;
    check(GROUP, "c", true).await;
    check(GROUP + 1_000_000, &large, false).await;
    check(2 * GROUP, "d", false).await;
    check(6_001_000 + GROUP, "d", true).await;
    check(GROUP, "e", true).await;
}

#[tokio::test]
async fn what_is_queued_behind_a_failed_append_of_its_topic_fails_with_it() {
    let bench = Bench::new(small()).await;
    append(&bench.log, &topic("other"), vec![record("d", "0")]).await;
    bench.disk.plan(|plan| plan.held = true);
    let first = bench.log.append(&topic("t"), vec![record("d", "lost")]).await.unwrap();
    bench.disk.caught();
    let behind = bench.log.append(&topic("t"), vec![record("d", "lost, too")]).await.unwrap();
    let other = bench.log.append(&topic("other"), vec![record("d", "1")]).await.unwrap();
    bench.disk.plan(|plan| {
        plan.write = Some((0, 3, ErrorKind::StorageFull));
        plan.held = false;
    });
    for refused in [first.await, behind.await] {
        assert!(matches!(refused, Err(LogError::Full { .. })), "{refused:?}");
    }
    assert_eq!(other.await.unwrap()[0].offset, Offset(1));
    assert_eq!(bench.append("1").await.unwrap(), 1);
    bench.holds(&["0", "1"]).await;
}

#[tokio::test]
async fn a_topic_whose_making_failed_at_last_is_completed_by_the_next_attempt() {
    let bench = Bench::new(small()).await;
    bench.disk.plan(|plan| plan.sync_dir = Some(ErrorKind::Other));
    let failed = bench.log.partitions(&topic("other")).await;
    assert!(matches!(failed, Err(LogError::Io { action: "sync directory", .. })), "{failed:?}");
    assert_eq!(append(&bench.log, &topic("other"), vec![record("d", "0")]).await[0].offset, Offset::ZERO);
    assert_eq!(values(&bench.log, "other").await.unwrap(), ["0"]);
}

#[tokio::test]
async fn a_new_segment_that_was_half_made_is_completed_later_whether_or_not_a_restart_comes_between() {
    for restart in [true, false] {
        let mut bench = Bench::new(small()).await;
        let long = "x".repeat(580);
        bench.disk.plan(|plan| plan.create = Some(ErrorKind::Other));
        assert!(bench.append(&long).await.is_err());
        if restart {
            bench = bench.reopen().await;
        }
        // This one would have fitted the old segment.
        assert_eq!(bench.append("1").await.unwrap(), 1);
        assert_eq!(bench.append(&long).await.unwrap(), 2);
        bench = bench.reopen().await;
        bench.holds(&["0", "1", &long]).await;
    }
}

#[tokio::test]
async fn a_segment_without_its_seal_is_sealed_at_the_next_start() {
    for part in [0, 1, 31, 32] {
        let bench = Bench::new(small()).await;
        bench.disk.plan(|plan| plan.write = Some((0, part, ErrorKind::Other)));
        // The first write of this append is the seal of the segment before.
        let long = "x".repeat(590);
        assert_eq!(bench.append(&long).await.unwrap(), 1);
        assert_eq!(bench.append("2").await.unwrap(), 2);
        let bench = bench.reopen().await;
        bench.holds(&["0", &long, "2"]).await;
        let bench = bench.reopen().await;
        bench.holds(&["0", &long, "2"]).await;
    }
}

#[tokio::test]
async fn an_append_over_partitions_of_which_one_failed_says_that_its_outcome_is_unknown() {
    let bench = Bench::new(EmbeddedSettings { partitions: 2, ..small() }).await;
    let records: Vec<_> = (0..20).map(|key| record(&format!("device-{key}"), "x")).collect();
    bench.disk.plan(|plan| plan.write = Some((1, 5, ErrorKind::Other)));
    let outcome = bench.log.append(&topic("t"), records.clone()).await.unwrap().await;
    assert!(matches!(outcome, Err(LogError::Unknown { .. })), "{outcome:?}");
    bench.disk.plan(|plan| plan.free = Some(0));
    let outcome = bench.log.append(&topic("t"), records).await.unwrap().await;
    assert!(matches!(outcome, Err(LogError::Full { .. })), "{outcome:?}");
}

#[tokio::test]
async fn an_append_waits_for_room_and_a_dropped_one_takes_none() {
    let bench = Bench::new(EmbeddedSettings { queue_bytes: 400, ..small() }).await;
    bench.disk.plan(|plan| plan.held = true);
    let value = "x".repeat(200);
    let first = bench.log.append(&topic("t"), vec![record("d", &value)]).await.unwrap();
    for _ in 0..3 {
        tokio::select! {
            biased;
            done = bench.append("dropped") => panic!("there is no room: {done:?}"),
            () = tokio::task::yield_now() => {}
        }
    }
    bench.disk.plan(|plan| plan.held = false);
    first.await.unwrap();
    // Larger than the whole queue: it waits until it is alone, and is taken.
    assert!(bench.append(&"y".repeat(5_000)).await.is_ok());
    let found = values(&bench.log, "t").await.unwrap();
    assert_eq!(
        found,
        ["0", &value, &"y".repeat(5_000)],
        "those that were dropped while they waited are not there"
    );
}

#[tokio::test]
async fn what_waits_is_synced_together() {
    let bench = Bench::new(EmbeddedSettings { segment_bytes: 1_000_000, ..small() }).await;
    bench.disk.plan(|plan| plan.held = true);
    let mut pending = Vec::new();
    for number in 0..500 {
        pending.push(bench.log.append(&topic("t"), vec![record("d", &number.to_string())]).await.unwrap());
    }
    let before = bench.disk.syncs();
    bench.disk.plan(|plan| plan.held = false);
    for pending in pending {
        pending.await.unwrap();
    }
    // The first group was already on its way and holds whatever had come until then; the second holds the rest.
    assert!(bench.disk.syncs() - before <= 2);
    let mut reader: Box<dyn LogReader> = bench.log.reader(&partition_of("t"), Offset(250)).await.unwrap();
    assert_eq!(reader.next(ALL).await.unwrap()[0].record, record("d", "249"));
    drop(bench.dir);
}
