//! A processor that runs: notices, other processors, and reports that never end.

use super::*;

/// Waits until the status says that the report shows this version.
async fn shows(seen: &mut watch::Receiver<Status>, report: &Report, version: i64) {
    let shown = |status: &Status| {
        status.reports.get(&report.name).is_some_and(|report| {
            let is_shown = report.sources.get("telemetry") == Some(&version);
            assert!(!is_shown || (report.latest >= report.sources && report.current_at.is_some()));
            is_shown
        })
    };
    seen.wait_for(shown).await.unwrap();
}

/// Notices that are doubled, garbled or lost change nothing; a report that fails holds up no other.
#[tokio::test(start_paused = true)]
async fn a_running_processor_follows_with_and_without_notices() {
    let mut fixture = Fixture::new(7);
    let broken = report("broken", "select nonsense from telemetry", None);
    let (status, mut seen) = watch::channel(Status::default());
    let shutdown = CancellationToken::new();
    let mut tasks = JoinSet::new();
    let (log, reports) = (Arc::new(fixture.world.log.clone()), vec![broken.clone(), daily()]);
    let settings = Settings { trim: TrimRule::Keep, ..Settings::default() };
    let running = run(
        settings,
        reports,
        log,
        fixture.world.ingestion(),
        fixture.reporting.clone(),
        shutdown.clone(),
        status,
    );
    tasks.spawn(running);
    for round in 0..6 {
        fixture.world.send("d1", &format!(r#"{{"temp":{round}}}"#), round * 20_000, Fate::Readings(1)).await;
        fixture.commit().await;
        disturb(&fixture, round).await;
        shows(&mut seen, &daily(), fixture.source_version().await).await;
        fixture.assert_equal(&daily(), &format!("round {round}")).await;
    }
    let status = seen.borrow().reports[&broken.name].clone();
    assert!(status.last_error.is_some_and(|error| error.contains("nonsense")));
    assert_ne!(status.phase, ReportPhase::Current);
    shutdown.cancel();
    tokio::time::timeout(Duration::from_secs(5), tasks.join_next()).await.unwrap().unwrap().unwrap().unwrap();
}

/// A look that comes to no computation never says that it computes.
#[tokio::test(start_paused = true)]
async fn looking_is_not_computing() {
    let fixture = Fixture::one_message(8).await;
    let works = fixture.works().await;
    let phase = |report: &Report| works.status.borrow().reports.get(&report.name).map(|report| report.phase);
    let broken = report("broken", "select nonsense from telemetry", None);
    refresh(&works, &broken).await.unwrap_err();
    assert_eq!(phase(&broken), None);
    let early = report("early", "select device_id from weather", None);
    assert!(matches!(refresh(&works, &early).await.unwrap(), Refreshed::Waiting { .. }));
    assert_eq!(phase(&early), Some(ReportPhase::Waiting));
    // One that failed while it was computed says so.
    let failing = report("failing", "select 1 / (cast(temp as bigint) - 1) as never from telemetry", None);
    refresh(&works, &failing).await.unwrap_err();
    assert_eq!(phase(&failing), Some(ReportPhase::Computing));
}

/// Both read the same notices, and each trims them under the other; both replace the same dates, and one of them is refused.
#[tokio::test(start_paused = true)]
async fn two_processors_of_the_same_reports_agree() {
    for (seed, notices) in [(11, NoticeRule::Firehose), (12, NoticeRule::Store)] {
        let mut fixture = Fixture::new(seed);
        fixture.notices = notices;
        let reports = [daily(), report("overall", OVERALL, None)];
        let shutdown = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let mut seen = Vec::new();
        for _ in 0..2 {
            let (status, watch) = watch::channel(Status::default());
            seen.push(watch);
            tasks.spawn(run(
                Settings::default(),
                reports.to_vec(),
                Arc::new(fixture.world.log.clone()),
                fixture.world.ingestion(),
                fixture.reporting.clone(),
                shutdown.clone(),
                status,
            ));
        }
        for round in 0..5 {
            for device in ["d1", "d2"] {
                let seconds = round * 40_000;
                fixture.world.send(device, r#"{"temp":1}"#, seconds, Fate::Readings(1)).await;
                fixture.commit().await;
            }
            for report in &reports {
                let version = fixture.source_version().await;
                for watch in &mut seen {
                    shows(watch, report, version).await;
                }
                fixture.assert_equal(report, &format!("seed {seed}, round {round}")).await;
            }
        }
        let current = |status: &Status| {
            status
                .reports
                .values()
                .all(|report| report.phase == ReportPhase::Current && report.last_error.is_none())
        };
        for watch in &mut seen {
            watch.wait_for(current).await.unwrap();
        }
        shutdown.cancel();
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap().unwrap();
        }
        let sent = fixture.world.log.bounds(&notices_of(&fixture).await).await.unwrap();
        assert_eq!(sent.next.0 > 0, notices == NoticeRule::Firehose, "{sent:?}");
    }
}

/// The partition of the notices of the stream's table.
async fn notices_of(fixture: &Fixture) -> TopicPartition {
    let partitions = fixture.world.log.partitions(&LogTopic::notices()).await.unwrap();
    let number = usize::try_from(crc32c::crc32c(b"telemetry")).unwrap() % partitions.len();
    partitions[number].clone()
}

/// The clock is the real one: what computes is never idle, and a paused clock stands still for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_that_never_ends_holds_up_no_other() {
    let mut fixture = Fixture::one_message(10).await;
    let sql = "select count(*) as n from (select value from generate_series(1, 10000000)) a cross join generate_series(1, 10000000) b cross join telemetry";
    let (endless, overall) = (report("endless", sql, None), report("overall", OVERALL, None));
    let settings = Settings {
        compute_max: Duration::from_secs(2),
        concurrent: 1,
        trim: TrimRule::Keep,
        ..Settings::default()
    };
    let (status, mut seen) = watch::channel(Status::default());
    let shutdown = CancellationToken::new();
    let mut tasks = JoinSet::new();
    tasks.spawn(run(
        settings,
        vec![endless.clone(), overall.clone()],
        Arc::new(fixture.world.log.clone()),
        fixture.world.ingestion(),
        fixture.reporting.clone(),
        shutdown.clone(),
        status,
    ));
    for round in 0..2 {
        let late = |status: &Status| {
            let report = status.reports.get(&endless.name);
            report.is_some_and(|report| {
                report.phase == ReportPhase::Retrying
                    && report
                        .last_error
                        .as_ref()
                        .is_some_and(|error| error.contains("it took longer than 2s"))
            })
        };
        seen.wait_for(late).await.unwrap();
        fixture.world.send("d2", r#"{"temp":2}"#, round, Fate::Readings(1)).await;
        fixture.commit().await;
        shows(&mut seen, &overall, fixture.source_version().await).await;
    }
    shutdown.cancel();
    tasks.join_next().await.unwrap().unwrap().unwrap();
}

/// A minute each, and a commit each minute: without a rest it would never do anything else.
#[tokio::test(start_paused = true)]
async fn a_report_that_takes_long_is_computed_less_often_than_its_source_changes() {
    let mut fixture = Fixture::one_message(16).await;
    let minute = Duration::from_secs(60);
    fixture.reports.script([LogFault::Delay(minute); 100]);
    let (status, mut seen) = watch::channel(Status::default());
    let shutdown = CancellationToken::new();
    let mut tasks = JoinSet::new();
    tasks.spawn(run(
        Settings { sweep: 1000 * minute, trim: TrimRule::Keep, ..Settings::default() },
        vec![daily()],
        Arc::new(fixture.world.log.clone()),
        fixture.world.ingestion(),
        fixture.reporting.clone(),
        shutdown.clone(),
        status,
    ));
    for round in 0..30 {
        fixture.world.send("d1", r#"{"temp":2}"#, round, Fate::Readings(1)).await;
        fixture.commit().await;
        tokio::time::sleep(minute).await;
    }
    let computed = seen.borrow().reports[&daily().name].recomputed;
    assert!((4..=8).contains(&computed), "{computed}");
    // And none of it is forgotten over the rest.
    shows(&mut seen, &daily(), fixture.source_version().await).await;
    fixture.assert_equal(&daily(), "after a rest").await;
    shutdown.cancel();
    tasks.join_next().await.unwrap().unwrap().unwrap();
}

async fn disturb(fixture: &Fixture, round: i64) {
    let notices = LogTopic::notices();
    for partition in fixture.world.log.partitions(&notices).await.unwrap() {
        let bounds = fixture.world.log.bounds(&partition).await.unwrap();
        if round % 3 == 0 && bounds.first < bounds.next {
            let mut reader = fixture.world.log.reader(&partition, bounds.first).await.unwrap();
            let again = reader.next(ReadLimit { records: 100, bytes: 1_000_000 }).await.unwrap();
            let mut again: Vec<_> = again.into_iter().map(|stored| stored.record).collect();
            again.reverse();
            again.push(crate::simulation::world::message("d1", "no notice", 0));
            fixture.world.log.put(&notices, again).await;
        } else if round % 3 == 1 {
            fixture.world.log.trim(&partition, bounds.next).await.unwrap();
        }
    }
}
