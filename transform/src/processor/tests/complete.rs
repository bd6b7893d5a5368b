//! Reports that wait until hours are complete.

use super::*;
use crate::simulation::memory_log::MemoryLog;
use crate::simulation::world::START;
use millstream_lake::ledger::passed_app;
use millstream_log::embedded::{EmbeddedLog, EmbeddedSettings};
use millstream_model::name::Partition;
use millstream_model::time::Micros;

const HOUR: i64 = 3_600;

fn complete(lateness: u64) -> Report {
    let when = When::Complete { lateness: Duration::from_secs(lateness) };
    Report {
        when,
        ..report(
            "hourly",
            "select date, device_id, count(*) as readings from telemetry group by 1, 2",
            Some("date"),
        )
    }
}

/// A world of two partitions, and a device in each.
struct Pair {
    fixture: Fixture,
    devices: [String; 2],
}

impl Pair {
    async fn new(seed: u64) -> Self {
        let mut fixture = Fixture::new(seed);
        fixture.world.log = MemoryLog::new(2);
        fixture.world.partitions = 2;
        let device_of = |partition: u32| {
            (0..)
                .map(|number| format!("d{number}"))
                .find(|name| crc32c::crc32c(name.as_bytes()) % 2 == partition)
        };
        let devices = [0, 1].map(|partition| device_of(partition).unwrap());
        Self { fixture, devices }
    }

    /// A reading of the device in a partition, so many seconds after the first day began.
    async fn send(&mut self, partition: usize, seconds: i64) {
        let device = self.devices[partition].clone();
        self.fixture.world.send(&device, r#"{"temp":1}"#, seconds, Fate::Readings(1)).await;
    }

    /// A message that is no reading, of the device in a partition.
    async fn babble(&mut self, partition: usize, seconds: i64) {
        let device = self.devices[partition].clone();
        self.fixture.world.send(&device, "oops", seconds, Fate::Quarantined).await;
    }

    /// Commits what there is, and leaves one more reading of the second partition waiting.
    async fn commit_and_wait(&mut self, seconds: i64) {
        self.fixture.commit().await;
        self.send(1, seconds).await;
    }

    async fn look(&self, report: &Report) -> (Refreshed, Option<i64>) {
        let (status, seen) = watch::channel(Status::default());
        let works = Works { status, ..self.fixture.works().await };
        let refreshed = refresh(&works, report).await.unwrap();
        let mark = seen.borrow().reports.get(&report.name).and_then(|status| status.mark);
        // What is shown is exactly what lies before the mark.
        if let Some(Micros(mark)) = mark {
            let sql =
                report.sql.replace("telemetry", &format!("telemetry where ts < to_timestamp_micros({mark})"));
            let kept = self.fixture.ask("select * from reporting.hourly").await;
            assert_eq!(kept, self.fixture.ask(&sql).await, "mark {mark}");
        }
        (refreshed, mark.map(|Micros(mark)| (mark - START) / 1_000_000))
    }
}

#[tokio::test(start_paused = true)]
async fn a_partition_whose_messages_wait_holds_the_mark_and_a_silent_one_does_not() {
    let mut pair = Pair::new(1).await;
    pair.send(0, 600).await;
    pair.send(1, 1200).await;
    pair.commit_and_wait(5 * HOUR + 60).await;
    let report = complete(0);
    // The first has nothing that waits, the second passed 00:20.
    let (refreshed, mark) = pair.look(&report).await;
    assert!(matches!(refreshed, Refreshed::Replaced { rows: 0, .. }), "{refreshed:?}");
    assert_eq!(mark, Some(0));
    pair.commit_and_wait(7 * HOUR + 60).await;
    let (refreshed, mark) = pair.look(&report).await;
    assert!(matches!(refreshed, Refreshed::Replaced { dates: Some(1), rows: 2, .. }), "{refreshed:?}");
    assert_eq!(mark, Some(5 * HOUR));
    // What is committed behind the mark changes nothing, and costs no commit.
    pair.send(0, 6 * HOUR).await;
    pair.commit_and_wait(7 * HOUR + 120).await;
    assert_eq!(pair.look(&report).await.1, Some(7 * HOUR));
    pair.send(0, 8 * HOUR).await;
    pair.commit_and_wait(7 * HOUR + 180).await;
    assert_eq!(pair.look(&report).await, (Refreshed::Current, Some(7 * HOUR)));
    // Late, and computed in.
    pair.send(0, 30).await;
    pair.commit_and_wait(7 * HOUR + 240).await;
    let (refreshed, mark) = pair.look(&report).await;
    assert!(matches!(refreshed, Refreshed::Replaced { dates: Some(1), .. }), "{refreshed:?}");
    assert_eq!(mark, Some(7 * HOUR));
    // Nothing waits any more: all that there is, is complete.
    pair.fixture.commit().await;
    let all = pair.look(&report).await;
    assert!(all.1 > Some(8 * HOUR), "{all:?}");
    assert_eq!(pair.fixture.ask("select sum(readings) from reporting.hourly").await, ["10"]);
    // It does not move back when something waits again.
    pair.send(1, HOUR).await;
    let (_, mark) = pair.look(&report).await;
    assert!(mark >= all.1, "{mark:?}");
}

#[tokio::test(start_paused = true)]
async fn a_report_allows_the_lateness_that_it_states() {
    let mut pair = Pair::new(2).await;
    pair.send(0, 600).await;
    pair.send(1, 26 * HOUR).await;
    pair.commit_and_wait(30 * HOUR).await;
    assert_eq!(pair.look(&complete(0)).await.1, Some(26 * HOUR));
    let other = Report { name: "hourly".parse().unwrap(), ..complete(2 * 3600 + 1) };
    // Never back, whatever the definition says by now.
    assert_eq!(pair.look(&other).await.1, Some(26 * HOUR));
    pair.commit_and_wait(31 * HOUR).await;
    assert_eq!(pair.look(&other).await.1, Some(27 * HOUR));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_complete_while_a_partition_never_passed_anything() {
    let mut pair = Pair::new(3).await;
    pair.send(0, 600).await;
    pair.commit_and_wait(60).await;
    assert_eq!(pair.look(&complete(0)).await, (Refreshed::Incomplete, None));
    // Without a log to ask, nothing is known either.
    let works = Works { log: None, ..pair.fixture.works().await };
    assert_eq!(refresh(&works, &complete(0)).await.unwrap(), Refreshed::Incomplete);
    pair.fixture.commit().await;
    assert!(matches!(pair.look(&complete(0)).await, (Refreshed::Replaced { rows: 2, .. }, Some(_))));
    assert_eq!(refresh(&works, &complete(0)).await.unwrap(), Refreshed::Current);
}

/// A topic that is made by looking has the partitions of whoever looked first, for good.
#[tokio::test]
async fn a_look_at_how_far_a_stream_has_come_makes_no_topic() {
    let fixture = Fixture::one_message(10).await;
    let dir = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open(dir.path(), EmbeddedSettings::default()).await.unwrap();
    let works = Works { log: Some(Arc::new(log.clone())), ..fixture.works().await };
    assert_eq!(refresh(&works, &complete(0)).await.unwrap(), Refreshed::Incomplete);
    assert_eq!(log.existing(&fixture.world.topic()).await.unwrap(), None);
    log.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn devices_whose_clocks_are_ahead_move_no_mark_beyond_the_present() {
    let mut pair = Pair::new(9).await;
    let now = || (Utc::now().timestamp_micros() - START) / 1_000_000;
    let ahead = now() + 240 * HOUR;
    for partition in [0, 1] {
        pair.send(partition, ahead).await;
    }
    pair.fixture.commit().await;
    for partition in [0, 1] {
        pair.send(partition, ahead).await;
    }
    let (_, mark) = pair.look(&complete(0)).await;
    assert!(mark.is_some_and(|mark| mark <= now()), "{mark:?}");
}

#[tokio::test(start_paused = true)]
async fn a_partition_with_nothing_but_quarantined_messages_holds_nothing() {
    let mut pair = Pair::new(6).await;
    for hour in [2, 3, 5] {
        pair.send(0, hour * HOUR + 30).await;
        pair.babble(1, hour * HOUR + 60).await;
        pair.fixture.commit().await;
        // Something of both always waits.
        pair.send(0, hour * HOUR + 90).await;
        pair.babble(1, hour * HOUR + 90).await;
        assert_eq!(pair.look(&complete(0)).await.1, Some(hour * HOUR));
    }
}

/// The firehose refuses to go on with it, so that its messages wait although their offsets have an outcome.
#[tokio::test(start_paused = true)]
async fn a_log_that_was_made_anew_moves_no_mark() {
    let mut pair = Pair::new(7).await;
    for minutes in [10, 20, 30] {
        pair.send(0, minutes * 60).await;
        pair.send(1, 2 * HOUR + minutes * 60).await;
    }
    pair.commit_and_wait(4 * HOUR).await;
    assert_eq!(pair.look(&complete(0)).await.1, Some(2 * HOUR));
    pair.fixture.world.log.recreate();
    pair.send(0, 5 * HOUR).await;
    pair.send(1, 5 * HOUR).await;
    assert_eq!(pair.look(&complete(0)).await.1, Some(2 * HOUR));
}

/// Nothing waits for a moment, or a clock is ahead: what is said then is said for good, unless a person takes it back.
#[tokio::test(start_paused = true)]
async fn a_report_that_is_computed_anew_takes_its_mark_anew() {
    let mut pair = Pair::new(8).await;
    pair.send(0, 600).await;
    pair.send(1, 3 * HOUR).await;
    pair.fixture.commit().await;
    let report = complete(0);
    let (_, ahead) = pair.look(&report).await;
    assert!(ahead > Some(24 * HOUR), "{ahead:?}");
    pair.send(1, 4 * HOUR).await;
    assert!(pair.look(&report).await.1 >= ahead);
    let works = pair.fixture.works().await;
    let everything = Thoroughness::Everything;
    super::super::refresh::refresh(&works, &report, &mut Tables::default(), everything).await.unwrap();
    assert_eq!(pair.look(&report).await.1, Some(3 * HOUR));
    assert_eq!(pair.fixture.ask("select sum(readings) from reporting.hourly").await, ["1"]);
}

#[tokio::test(start_paused = true)]
async fn a_report_that_begins_or_ends_to_wait_is_computed_whole() {
    let mut pair = Pair::new(4).await;
    pair.send(0, 600).await;
    pair.send(1, 3 * HOUR).await;
    pair.commit_and_wait(4 * HOUR).await;
    let always = Report { when: When::Always, ..complete(0) };
    for _ in 0..2 {
        let (refreshed, _) = pair.look(&always).await;
        assert!(matches!(refreshed, Refreshed::Replaced { dates: None, rows: 2, .. }), "{refreshed:?}");
        let (refreshed, mark) = pair.look(&complete(0)).await;
        assert!(matches!(refreshed, Refreshed::Replaced { dates: None, rows: 1, .. }), "{refreshed:?}");
        assert_eq!(mark, Some(3 * HOUR));
    }
}

#[tokio::test(start_paused = true)]
async fn the_event_time_that_a_partition_passed_never_moves_back() {
    let mut pair = Pair::new(5).await;
    let mut greatest = [i64::MIN; 2];
    for seconds in [7200, 60, 9000, 0] {
        for (partition, greatest) in greatest.iter_mut().enumerate() {
            let seconds = seconds + i64::try_from(partition).unwrap();
            pair.send(partition, seconds).await;
            *greatest = (*greatest).max(START + seconds * 1_000_000);
        }
        // Each is a worker of its own.
        pair.fixture.commit().await;
        let table = Table::open(&pair.fixture.world.ingestion(), "telemetry").await.unwrap().unwrap();
        let snapshot = table.snapshot().await.unwrap();
        let topic = pair.fixture.world.topic();
        let passed =
            [0, 1].map(|number| snapshot.txn(&passed_app("telemetry", &topic, 0, Partition(number))));
        assert_eq!(passed, greatest.map(Some));
    }
}
