//! A report equals its SQL over its source, whatever notices say and whoever else works.

mod chain;
mod complete;
mod history;
mod kept;
mod noted;

use super::look::{Look, Looked};
use super::refresh::{Refreshed, Thoroughness};
use super::replace::replace;
use super::scope::scope;
use super::tables::Tables;
use super::{Report, ReportError, ReportPhase, Settings, Status, Works, catch_up, run};
use crate::firehose::{self, NoticeRule, TrimRule};
use crate::simulation::compactor::compact;
use crate::simulation::world::{Fate, World};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use chrono::Utc;
use futures::TryStreamExt;
use millstream_lake::faults::{FaultyStore, LogFault};
use millstream_lake::{Bucket, Operation, Plan, Table, TableDefinition};
use millstream_log::{Log, ReadLimit};
use millstream_model::name::{LogTopic, TopicPartition};
use millstream_query::When;
use millstream_query::report::ledger::computed_app;
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use url::Url;

const DAILY: &str = "select date, device_id, count(*) as readings, sum(temp) as total, max(_extra) as extra from telemetry group by date, device_id";
const OVERALL: &str = "select device_id, count(*) as readings from telemetry group by 1";

fn report(name: &str, sql: &str, partition_by: Option<&str>) -> Report {
    Report {
        name: name.parse().unwrap(),
        sql: sql.to_owned(),
        partition_by: partition_by.map(str::to_owned),
        when: When::Always,
    }
}

fn daily() -> Report {
    report("daily", DAILY, Some("date"))
}

/// A look with tables that were never opened.
async fn refresh(works: &Works, report: &Report) -> Result<Refreshed, ReportError> {
    super::refresh::refresh(works, report, &mut Tables::default(), Thoroughness::Needed).await
}

async fn look(works: &Works, report: &Report) -> Look {
    let look = super::look::look(works, report, &mut Tables::default(), Thoroughness::Needed).await;
    match look.unwrap() {
        Looked::Found(look) => *look,
        Looked::Missing(source) => panic!("{source} is missing"),
    }
}

/// A world and a bucket for its reports.
struct Fixture {
    world: World,
    reporting: Bucket,
    reports: Arc<FaultyStore>,
    notices: NoticeRule,
}

impl Fixture {
    fn new(seed: u64) -> Self {
        let url = Url::parse("memory:///reporting/").unwrap();
        let reports = Arc::new(FaultyStore::new(Arc::new(InMemory::new())));
        Self {
            world: World::new(seed),
            reporting: Bucket::with_store("reporting", url, reports.clone()),
            reports,
            notices: NoticeRule::Firehose,
        }
    }

    async fn one_message(seed: u64) -> Self {
        let mut fixture = Self::new(seed);
        fixture.world.send("d1", r#"{"temp":1}"#, 0, Fate::Readings(1)).await;
        fixture.commit().await;
        fixture
    }

    /// Everything that is in the log becomes a commit of the source.
    async fn commit(&self) {
        let shutdown = CancellationToken::new();
        shutdown.cancel();
        let (status, _) = watch::channel(firehose::Status::default());
        let (stream, log) = (Arc::clone(&self.world.stream), Arc::new(self.world.log.clone()));
        let settings = firehose::Settings { notices: self.notices, ..firehose::Settings::default() };
        firehose::run(settings, stream, log, self.world.ingestion(), shutdown, status).await.unwrap();
    }

    async fn works(&self) -> Works {
        self.works_of(&[]).await
    }

    async fn works_of(&self, reports: &[Report]) -> Works {
        let (status, _) = watch::channel(Status::default());
        let log: Arc<dyn Log> = Arc::new(self.world.log.clone());
        let (ingestion, reporting) = (self.world.ingestion(), self.reporting.clone());
        Works::open(Settings::default(), reports, Some(log), ingestion, reporting, status).await.unwrap()
    }

    async fn catch_up(&self, reports: &[Report]) -> Status {
        let (status, seen) = watch::channel(Status::default());
        let log: Arc<dyn Log> = Arc::new(self.world.log.clone());
        let (ingestion, reporting) = (self.world.ingestion(), self.reporting.clone());
        catch_up(Settings::default(), reports, Some(log), ingestion, reporting, status).await.unwrap();
        seen.borrow().clone()
    }

    async fn source_version(&self) -> i64 {
        Table::open(&self.world.ingestion(), "telemetry")
            .await
            .unwrap()
            .unwrap()
            .snapshot()
            .await
            .unwrap()
            .version()
    }

    async fn files(&self, report: &Report) -> BTreeSet<String> {
        let table = Table::open(&self.reporting, report.name.as_str()).await.unwrap().unwrap();
        table.snapshot().await.unwrap().files().iter().map(|file| file.path.clone()).collect()
    }

    /// The rows of an answer as text, sorted.
    async fn ask(&self, sql: &str) -> Vec<String> {
        let mut answer = self.works().await.session.query(sql).await.unwrap();
        let mut rows = Vec::new();
        while let Some(batch) = answer.next().await.unwrap() {
            let options = FormatOptions::default().with_null("null");
            let columns: Vec<_> = batch
                .columns()
                .iter()
                .map(|column| ArrayFormatter::try_new(column, &options).unwrap())
                .collect();
            rows.extend((0..batch.num_rows()).map(|row| {
                columns.iter().map(|column| column.value(row).to_string()).collect::<Vec<_>>().join("|")
            }));
        }
        rows.sort();
        rows
    }

    async fn assert_equal(&self, report: &Report, context: &str) {
        let kept = self.ask(&format!("select * from reporting.{}", report.name)).await;
        assert_eq!(kept, self.ask(&report.sql).await, "{context}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_report_equals_its_sql_after_any_commits() {
    for seed in 1..6 {
        println!("seed {seed}");
        // What `temp` is, is learned from the first message, alone in its commit.
        let mut fixture = Fixture::one_message(seed).await;
        let reports = [daily(), report("overall", OVERALL, None)];
        for _ in 0..6 {
            let count = fixture.world.rng.usize(1..20);
            fixture.world.append(count).await;
            fixture.commit().await;
            if fixture.world.rng.bool() {
                let status = fixture.catch_up(&reports).await;
                assert_eq!(status.reports[&reports[0].name].whole, None);
                assert!(status.reports[&reports[1].name].whole.is_some());
                for report in &reports {
                    fixture.assert_equal(report, &format!("seed {seed}, report {}", report.name)).await;
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn only_the_dates_that_changed_are_replaced() {
    let mut fixture = Fixture::one_message(1).await;
    fixture.world.send("d1", r#"{"temp":2}"#, 86_400, Fate::Readings(1)).await;
    fixture.commit().await;
    fixture.catch_up(&[daily()]).await;
    let before = fixture.files(&daily()).await;
    fixture.world.send("d2", r#"{"temp":3}"#, 86_400, Fate::Readings(1)).await;
    fixture.commit().await;
    let refreshed = refresh(&fixture.works().await, &daily()).await.unwrap();
    assert!(matches!(refreshed, Refreshed::Replaced { dates: Some(1), rows: 2, .. }), "{refreshed:?}");
    let after = fixture.files(&daily()).await;
    assert_eq!((before.len(), after.len(), before.intersection(&after).count()), (2, 2, 1));
    fixture.assert_equal(&daily(), "late").await;
    assert_eq!(refresh(&fixture.works().await, &daily()).await.unwrap(), Refreshed::Current);
}

#[tokio::test(start_paused = true)]
async fn other_sql_is_computed_anew_and_may_have_more_columns() {
    let fixture = Fixture::one_message(2).await;
    fixture.catch_up(&[daily()]).await;
    let wider = report(
        "daily",
        "select date, device_id, count(*) as readings, sum(temp) as total, max(_extra) as extra, min(temp) as low from telemetry group by 1, 2",
        Some("date"),
    );
    fixture.catch_up(std::slice::from_ref(&wider)).await;
    fixture.assert_equal(&wider, "wider").await;
    let other = report("daily", &wider.sql.replace("min(temp)", "max(temp) + 1"), Some("date"));
    fixture.catch_up(std::slice::from_ref(&other)).await;
    fixture.assert_equal(&other, "other").await;
}

/// Both look every minute; without the truce each would compute all of it at each look, for ever.
#[tokio::test(start_paused = true)]
async fn processors_that_do_not_agree_on_a_report_say_so_and_leave_it_to_each_other_for_a_while() {
    let fixture = Fixture::one_message(3).await;
    let sql = DAILY.replace("sum(temp)", "sum(temp) + 1");
    let definitions = [daily(), report("daily", &sql, Some("date"))];
    let shutdown = CancellationToken::new();
    let (mut tasks, mut seen) = (JoinSet::new(), Vec::new());
    for definition in &definitions {
        let (status, watch) = watch::channel(Status::default());
        seen.push(watch);
        tasks.spawn(run(
            Settings::default(),
            vec![definition.clone()],
            Arc::new(fixture.world.log.clone()),
            fixture.world.ingestion(),
            fixture.reporting.clone(),
            shutdown.clone(),
            status,
        ));
    }
    let began = tokio::time::Instant::now();
    for watch in &mut seen {
        let told = |status: &Status| {
            status.reports.get(&daily().name).is_some_and(|report| {
                report.last_error.as_ref().is_some_and(|error| error.contains("by another definition"))
            })
        };
        tokio::time::timeout(Duration::from_secs(60 * 60), watch.wait_for(told)).await.unwrap().unwrap();
    }
    // Hours of looks are few computations.
    tokio::time::sleep(Duration::from_secs(60 * 60)).await;
    let computed: u64 = seen.iter().map(|watch| watch.borrow().reports[&daily().name].recomputed).sum();
    let minutes = began.elapsed().as_secs() / 60;
    assert!(computed <= 2 + minutes / 5, "{computed} times in {minutes} minutes");
    shutdown.cancel();
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_table_that_is_split_otherwise_or_of_another_type_is_refused() {
    let fixture = Fixture::one_message(2).await;
    fixture.catch_up(&[daily()]).await;
    let works = fixture.works().await;
    let whole = refresh(&works, &report("daily", DAILY, None)).await.unwrap_err();
    assert!(matches!(whole, ReportError::Partitioned { .. }), "{whole:?}");
    let text = DAILY.replace("count(*)", "max(device_id)");
    let other = refresh(&works, &report("daily", &text, Some("date"))).await.unwrap_err();
    assert!(matches!(other, ReportError::ColumnType { .. }), "{other:?}");
}

#[tokio::test(start_paused = true)]
async fn a_report_waits_for_its_source() {
    let mut fixture = Fixture::new(3);
    let works = fixture.works().await;
    assert_eq!(
        refresh(&works, &daily()).await.unwrap(),
        Refreshed::Waiting { source: "telemetry".to_owned() }
    );
    fixture.world.send("d1", r#"{"temp":1}"#, 0, Fate::Readings(1)).await;
    fixture.commit().await;
    assert!(matches!(
        refresh(&works, &daily()).await.unwrap(),
        Refreshed::Replaced { dates: None, rows: 1, .. }
    ));
}

/// Both planned on the same version; without the shared transaction and the pinned version the second would double the first one's rows.
#[tokio::test(start_paused = true)]
async fn of_two_replacements_one_is_refused() {
    let mut fixture = Fixture::one_message(4).await;
    fixture.catch_up(&[daily()]).await;
    fixture.world.send("d2", r#"{"temp":2}"#, 0, Fate::Readings(1)).await;
    fixture.commit().await;
    let (first, second) = (fixture.works().await, fixture.works().await);
    let seen = [look(&first, &daily()).await, look(&second, &daily()).await];
    let scopes = [scope(&daily(), &seen[0]).await.unwrap(), scope(&daily(), &seen[1]).await.unwrap()];
    assert!(replace(&first, &daily(), &seen[0], &scopes[0]).await.unwrap().is_some());
    assert!(replace(&second, &daily(), &seen[1], &scopes[1]).await.unwrap().is_none());
    fixture.assert_equal(&daily(), "refused").await;
    assert_eq!(refresh(&second, &daily()).await.unwrap(), Refreshed::Current);
}

#[tokio::test(start_paused = true)]
async fn source_versions_that_are_gone_cost_a_whole_computation() {
    let mut fixture = Fixture::one_message(5).await;
    fixture.catch_up(&[daily()]).await;
    for temp in 2..5 {
        fixture.world.send("d1", &format!(r#"{{"temp":{temp}}}"#), 86_400, Fate::Readings(1)).await;
        fixture.commit().await;
    }
    let table = Table::open(&fixture.world.ingestion(), "telemetry").await.unwrap().unwrap();
    table.checkpoint().await.unwrap();
    for version in 0..fixture.source_version().await {
        table.store().delete(&Path::from(format!("_delta_log/{version:020}.json"))).await.unwrap();
    }
    let refreshed = refresh(&fixture.works().await, &daily()).await.unwrap();
    assert!(matches!(refreshed, Refreshed::Replaced { dates: None, .. }), "{refreshed:?}");
    fixture.assert_equal(&daily(), "gone").await;
}

#[tokio::test(start_paused = true)]
async fn a_compaction_of_the_source_computes_nothing_anew() {
    let mut fixture = Fixture::one_message(13).await;
    fixture.world.send("d2", r#"{"temp":2}"#, 60, Fate::Readings(1)).await;
    fixture.commit().await;
    let reports = [daily(), report("overall", OVERALL, None)];
    fixture.catch_up(&reports).await;
    assert!(compact(&fixture.world.ingestion(), "telemetry").await);
    for report in &reports {
        let refreshed = refresh(&fixture.works().await, report).await.unwrap();
        let nothing = matches!(refreshed, Refreshed::Replaced { dates: Some(0), rows: 0, files: 0, .. });
        assert!(nothing, "{refreshed:?}");
        fixture.assert_equal(report, report.name.as_str()).await;
    }
}

/// Empties the source's folder and makes another table there, of the same columns and without rows, with so many commits.
async fn make_source_anew(fixture: &Fixture, commits: usize) {
    let bucket = fixture.world.ingestion();
    let table = Table::open(&bucket, "telemetry").await.unwrap().unwrap();
    let before = table.snapshot().await.unwrap();
    let store = table.store();
    let listed: Vec<_> = store.list(None).try_collect().await.unwrap();
    for object in listed {
        store.delete(&object.location).await.unwrap();
    }
    let definition = TableDefinition {
        schema: before.schema(),
        partition_by: before.partition_by().to_vec(),
        properties: before.properties().clone().into_iter().collect(),
    };
    let anew = Table::open_or_create(&bucket, "telemetry", &definition).await.unwrap();
    for number in 0..commits {
        let properties = [("number".to_owned(), number.to_string())].into();
        let plan = Plan { operation: Operation::Schema, properties, ..Plan::default() };
        anew.commit(plan).await.unwrap();
    }
}

/// Its versions have the numbers of the former table's, so they alone do not tell.
#[tokio::test(start_paused = true)]
async fn a_source_that_was_made_anew_is_computed_whole() {
    for more in [0, 3] {
        for keeps_tables in [false, true] {
            let fixture = Fixture::one_message(8).await;
            let (works, mut tables) = (fixture.works().await, Tables::default());
            super::refresh::refresh(&works, &daily(), &mut tables, Thoroughness::Needed).await.unwrap();
            assert_eq!(
                super::refresh::refresh(&works, &daily(), &mut tables, Thoroughness::Needed).await.unwrap(),
                Refreshed::Current
            );
            let commits = usize::try_from(fixture.source_version().await).unwrap() + more;
            make_source_anew(&fixture, commits).await;
            if !keeps_tables {
                tables = Tables::default();
            }
            let refreshed =
                super::refresh::refresh(&works, &daily(), &mut tables, Thoroughness::Needed).await.unwrap();
            assert!(
                matches!(refreshed, Refreshed::Replaced { dates: None, rows: 0, .. }),
                "{more}: {refreshed:?}"
            );
            fixture.assert_equal(&daily(), "made anew").await;
            assert_eq!(
                super::refresh::refresh(&works, &daily(), &mut tables, Thoroughness::Needed).await.unwrap(),
                Refreshed::Current
            );
        }
    }
}

/// Takes the last commits of the source away, as when an older copy of it is put back.
async fn put_source_back(fixture: &Fixture, version: i64) {
    let table = Table::open(&fixture.world.ingestion(), "telemetry").await.unwrap().unwrap();
    for later in version + 1..=fixture.source_version().await {
        table.store().delete(&Path::from(format!("_delta_log/{later:020}.json"))).await.unwrap();
    }
}

/// After four commits there are more versions than are shown, and the last two of them alone say nothing of the days that the first two brought.
#[tokio::test(start_paused = true)]
async fn a_source_that_was_put_back_is_computed_whole_also_when_it_has_gone_on() {
    for commits_since in [0, 1, 4] {
        let mut fixture = Fixture::one_message(14).await;
        let before = fixture.source_version().await;
        for day in [1, 2] {
            fixture.world.send("d1", r#"{"temp":1}"#, day * 86_400, Fate::Readings(1)).await;
            fixture.commit().await;
        }
        fixture.catch_up(&[daily()]).await;
        put_source_back(&fixture, before).await;
        for day in 5..5 + commits_since {
            fixture.world.send("d2", r#"{"temp":1}"#, day * 86_400, Fate::Readings(1)).await;
            fixture.commit().await;
        }
        let refreshed = refresh(&fixture.works().await, &daily()).await.unwrap();
        assert!(
            matches!(refreshed, Refreshed::Replaced { dates: None, .. }),
            "{commits_since}: {refreshed:?}"
        );
        fixture.assert_equal(&daily(), &format!("{commits_since} commits since")).await;
        assert_eq!(refresh(&fixture.works().await, &daily()).await.unwrap(), Refreshed::Current);
    }
}

/// A stream that is silent makes no versions, and just then it is asked for.
#[tokio::test(start_paused = true)]
async fn a_report_that_asks_for_the_time_is_computed_also_while_its_source_is_silent() {
    let fixture = Fixture::one_message(15).await;
    let sql = "select device_id from telemetry group by 1 having max(ts) < now() - interval '1 hour'";
    for (report, expected) in [(report("silent", sql, None), true), (report("overall", OVERALL, None), false)]
    {
        let works = fixture.works().await;
        assert!(matches!(refresh(&works, &report).await.unwrap(), Refreshed::Replaced { .. }));
        assert_eq!(refresh(&works, &report).await.unwrap(), Refreshed::Current);
        let table = Table::open(&fixture.reporting, report.name.as_str()).await.unwrap().unwrap();
        let earlier = (Utc::now() - Duration::from_secs(60 * 60)).timestamp_millis();
        let set = [(computed_app(report.name.as_str()), earlier)].into();
        table.commit(Plan { operation: Operation::Schema, set, ..Plan::default() }).await.unwrap();
        let refreshed = refresh(&works, &report).await.unwrap();
        let again = matches!(refreshed, Refreshed::Replaced { dates: None, rows: 1, .. });
        assert_eq!(again, expected, "{refreshed:?}");
        assert_eq!(refresh(&works, &report).await.unwrap(), Refreshed::Current);
    }
}

/// Two for the source's table, two for the report's; to open both costs several times as many.
#[tokio::test(start_paused = true)]
async fn a_look_at_what_has_not_changed_costs_four_small_requests() {
    let fixture = Fixture::one_message(9).await;
    let (works, mut tables) = (fixture.works().await, Tables::default());
    super::refresh::refresh(&works, &daily(), &mut tables, Thoroughness::Needed).await.unwrap();
    let requests = || fixture.world.store.requests() + fixture.reports.requests();
    let before = requests();
    assert_eq!(
        super::refresh::refresh(&works, &daily(), &mut tables, Thoroughness::Needed).await.unwrap(),
        Refreshed::Current
    );
    let kept = requests() - before;
    assert_eq!(refresh(&works, &daily()).await.unwrap(), Refreshed::Current);
    let opened = requests() - before - kept;
    println!("requests of a look: {opened} with tables to open, {kept} with tables kept open");
    assert_eq!(kept, 4);
    assert!(opened >= 3 * kept, "{opened}");
}

#[tokio::test(start_paused = true)]
async fn a_report_of_two_streams_is_computed_whole_and_shows_a_version_of_each() {
    let fixture = Fixture::one_message(6).await;
    let both = report(
        "both",
        "select t.device_id, q.reason from telemetry t left join quarantine q on t.device_id = q.device_id",
        None,
    );
    fixture.catch_up(std::slice::from_ref(&both)).await;
    fixture.assert_equal(&both, "both").await;
    assert_eq!(refresh(&fixture.works().await, &both).await.unwrap(), Refreshed::Current);
}

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
