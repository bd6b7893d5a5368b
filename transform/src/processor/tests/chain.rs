//! Reports of reports.

use super::*;
use crate::processor::{Cycle, Once, ProcessorError, once};
use millstream_model::notice::Notice;
use tokio::time::Instant;

const BY_DEVICE: &str = "select date, device_id, sum(readings) as readings from daily group by 1, 2";
const TOP: &str = "select max(readings) as most from reporting.by_device";

/// A report of a stream by date, one of that by date, and one of that as a whole; the last first.
fn chain() -> [Report; 3] {
    [report("top", TOP, None), report("by_device", BY_DEVICE, Some("date")), daily()]
}

#[tokio::test(start_paused = true)]
async fn reports_of_reports_follow_by_date_where_they_can() {
    let mut fixture = Fixture::one_message(1).await;
    fixture.world.send("d1", r#"{"temp":2}"#, 86_400, Fate::Readings(1)).await;
    fixture.commit().await;
    // Once is enough: each comes after those that it reads.
    let status = fixture.catch_up(&chain()).await;
    for report in &chain() {
        fixture.assert_equal(report, report.name.as_str()).await;
    }
    assert_eq!(status.reports[&chain()[1].name].whole, None);
    assert_eq!(status.reports[&chain()[0].name].whole.as_deref(), Some("it is not partitioned"));

    fixture.world.send("d2", r#"{"temp":3}"#, 86_400, Fate::Readings(1)).await;
    fixture.commit().await;
    let works = fixture.works_of(&chain()).await;
    for (report, dates) in [(2, Some(1)), (1, Some(1)), (0, None)] {
        let report = &chain()[report];
        let refreshed = refresh(&works, report).await.unwrap();
        assert!(
            matches!(refreshed, Refreshed::Replaced { dates: found, .. } if found == dates),
            "{refreshed:?}"
        );
        fixture.assert_equal(report, report.name.as_str()).await;
        assert_eq!(refresh(&works, report).await.unwrap(), Refreshed::Current);
    }
}

/// Between the two ways the source may move on: each look shows versions that there were, and the last one those of the end.
#[tokio::test(start_paused = true)]
async fn a_report_of_two_reports_of_one_stream_comes_to_rest_on_the_latest_of_both() {
    let mut fixture = Fixture::one_message(5).await;
    let [_, by_device, daily] = chain();
    let sql = "select d.device_id, d.readings, b.readings as again from daily d join by_device b on d.date = b.date and d.device_id = b.device_id";
    let both = report("both", sql, None);
    let works = fixture.works_of(&[both.clone(), by_device.clone(), daily.clone()]).await;
    for device in ["d1", "d2", "d1"] {
        for report in [&daily, &both, &by_device, &both] {
            let refreshed = refresh(&works, report).await.unwrap();
            assert!(!matches!(refreshed, Refreshed::Incomplete), "{refreshed:?}");
        }
        assert_eq!(refresh(&works, &both).await.unwrap(), Refreshed::Current);
        fixture.assert_equal(&both, device).await;
        let rows = fixture.ask("select device_id from both where readings <> again").await;
        assert_eq!(rows, Vec::<String>::new(), "{device}");
        fixture.world.send(device, r#"{"temp":1}"#, 0, Fate::Readings(1)).await;
        fixture.commit().await;
    }
}

/// The sweep is far away: only that each wakes the next brings the last one so soon.
#[tokio::test(start_paused = true)]
async fn a_report_that_changed_wakes_those_that_read_it() {
    let mut fixture = Fixture::one_message(2).await;
    let sweep = Duration::from_secs(24 * 60 * 60);
    let settings = Settings { sweep, trim: TrimRule::Keep, ..Settings::default() };
    let (status, mut seen) = watch::channel(Status::default());
    let shutdown = CancellationToken::new();
    let mut tasks = JoinSet::new();
    tasks.spawn(run(
        settings,
        chain().to_vec(),
        Arc::new(fixture.world.log.clone()),
        fixture.world.ingestion(),
        fixture.reporting.clone(),
        shutdown.clone(),
        status,
    ));
    let began = Instant::now();
    for round in 1..4 {
        fixture.world.send("d1", r#"{"temp":1}"#, 0, Fate::Readings(1)).await;
        fixture.commit().await;
        let most = format!("{}", round + 1);
        loop {
            if seen.borrow().reports.get(&chain()[0].name).is_some_and(|top| top.version.is_some())
                && fixture.ask("select * from reporting.top").await == [most.as_str()]
            {
                break;
            }
            seen.changed().await.unwrap();
        }
    }
    assert!(began.elapsed() < sweep, "{:?}", began.elapsed());
    shutdown.cancel();
    tasks.join_next().await.unwrap().unwrap().unwrap();

    // And whoever keeps them elsewhere is told, of the reports that somebody reads.
    let mut noticed = BTreeSet::new();
    for partition in fixture.world.log.partitions(&LogTopic::notices()).await.unwrap() {
        let bounds = fixture.world.log.bounds(&partition).await.unwrap();
        if bounds.first < bounds.next {
            let mut reader = fixture.world.log.reader(&partition, bounds.first).await.unwrap();
            for stored in reader.next(ReadLimit { records: 1000, bytes: 1_000_000 }).await.unwrap() {
                for notice in Notice::parse(&stored.record.value).unwrap() {
                    noticed.insert(format!("{} in {}", notice.commit().unwrap().0, notice.bucket));
                }
            }
        }
    }
    let expected = ["by_device in reporting", "daily in reporting", "telemetry in ingestion"];
    assert_eq!(noticed.into_iter().collect::<Vec<_>>(), expected);
}

#[tokio::test(start_paused = true)]
async fn reports_in_a_circle_are_refused_by_name() {
    let fixture = Fixture::one_message(3).await;
    let circle = [report("a", "select * from b", None), report("b", "select * from a", None)];
    let (ingestion, reporting) = (fixture.world.ingestion(), fixture.reporting.clone());
    let what = Once::default();
    let refused = once(Settings::default(), &circle, None, ingestion, reporting, &what, |_, _| {}).await;
    let Err(ProcessorError::Cycle(Cycle(names))) = refused else { panic!("{refused:?}") };
    assert_eq!(names, ["a", "b", "a"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_run_brings_along_what_it_builds_on_and_a_rebuild_does_not() {
    let fixture = Fixture::one_message(4).await;
    let ran = async |everything: bool| {
        let names = BTreeSet::from([chain()[1].name.clone()]);
        let mut ran = Vec::new();
        let said = |name: &_, outcome: Result<Refreshed, ReportError>| {
            let replaced = matches!(outcome.unwrap(), Refreshed::Replaced { dates: None, .. });
            ran.push(format!("{name} {replaced}"));
        };
        let (ingestion, reporting) = (fixture.world.ingestion(), fixture.reporting.clone());
        let what = Once { names, everything };
        once(Settings::default(), &chain(), None, ingestion, reporting, &what, said).await.unwrap();
        ran
    };
    assert_eq!(ran(false).await, ["daily true", "by_device true"]);
    assert_eq!(ran(false).await, ["daily false", "by_device false"]);
    assert_eq!(ran(true).await, ["by_device true"]);
    fixture.assert_equal(&chain()[1], "rebuilt").await;
}
