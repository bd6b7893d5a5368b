//! A report equals its SQL over its source, whatever notices say and whoever else works.

mod anew;
mod chain;
mod complete;
mod history;
mod kept;
mod noted;
mod running;

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
