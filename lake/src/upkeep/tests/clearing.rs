//! What nobody needs is removed, and nothing else.

use super::clocked::Clocked;
use super::compaction::readings;
use super::*;
use crate::Bucket;
use crate::faults::{FaultyStore, LogFault};
use crate::fixture::{append, table};
use crate::ledger::{Closed, Decided, Decision, app};
use chrono::TimeDelta;
use deltalake_core::kernel::EagerSnapshot;
use futures::TryStreamExt;
use millstream_model::name::{LogTopic, Offset, Partition, QUARANTINE};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use url::Url;

/// A bucket whose clock stands at the real one, for now.
fn clocked() -> (Arc<Clocked>, Bucket) {
    let store = Arc::new(Clocked::new(Arc::new(InMemory::new()), Utc::now()));
    (store.clone(), Bucket::with_store("clocked", Url::parse("memory:///").unwrap(), store))
}

async fn listed(table: &Table, folder: &str) -> Vec<String> {
    let store = table.store();
    let all: Vec<_> = store.list(None).map_ok(|meta| meta.location.to_string()).try_collect().await.unwrap();
    let mut all: Vec<String> = all.into_iter().filter(|path| path.starts_with(folder)).collect();
    all.sort_unstable();
    all
}

/// An upload that nobody commits.
async fn orphan(table: &Table) -> String {
    table.write(readings(0..3, 0), &WriteOptions::default()).await.unwrap().remove(0).path
}

#[tokio::test]
async fn files_go_when_no_version_of_the_safe_age_has_them_and_not_before() {
    let (store, bucket) = clocked();
    let table = table(&bucket).await;
    let begin = Utc::now();
    for step in 0..3 {
        flush(&table, "app", readings(step * 10..(step + 1) * 10, 0)).await;
    }
    let left = orphan(&table).await;
    let old: Vec<String> = listed(&table, "date=").await;
    assert_eq!(old.len(), 4);
    let opened = table.snapshot().await.unwrap();
    let day = |days: i64| begin + TimeDelta::days(days);
    // Merged on day 3; the orphan is 3 days old.
    store.set(day(3));
    let tended = tend(&table, rules(), day(3)).await;
    assert_eq!((tended.compacted.merged, tended.vacuumed.unwrap().files), (3, 0));
    // On day 9 the orphan is old enough; the merged files were needed until day 3, and somebody may still read them.
    store.set(day(9));
    let mut keeper = upkeep(&table, rules()).await;
    let stop = CancellationToken::new();
    let tended = keeper.tend(Depth::Folder, Others::Overruled, day(9), &stop, |_| {}).await.unwrap();
    assert_eq!(tended.vacuumed.unwrap().files, 1);
    assert!(!listed(&table, "date=").await.contains(&left));
    assert_eq!(ask_of(&table, opened, "select count(*) from t").await, [30], "a reader of the old version");
    let again = keeper.tend(Depth::Folder, Others::Overruled, day(9), &stop, |_| {}).await.unwrap();
    assert_eq!(again.vacuumed.unwrap().files, 0);
    // On day 11 nobody does any more.
    let tended = keeper.tend(Depth::Folder, Others::Overruled, day(11), &stop, |_| {}).await.unwrap();
    assert_eq!(tended.vacuumed.unwrap().files, 3);
    assert_eq!(listed(&table, "date=").await.len(), 1);
    assert_eq!(ask(&table, "select count(*) from t").await, [30]);
}

#[tokio::test]
async fn what_others_put_there_stays_and_is_named() {
    let (store, bucket) = clocked();
    let table = table(&bucket).await;
    flush(&table, "app", readings(0..10, 0)).await;
    let strangers = [
        "notes.txt",
        "date=2026-11-21/part-00000-x.c000.snappy.parquet",
        "date=2026-11-21/deep/part-00000000-0000-4000-8000-000000000000.zstd.parquet",
        "other=1/part-00000000-0000-4000-8000-000000000000.zstd.parquet",
    ];
    let hidden = ["_change_data/part-00000000-0000-4000-8000-000000000000.zstd.parquet", ".crc", "_x/y"];
    for path in strangers.iter().chain(&hidden) {
        table.store().put(&Path::from(*path), "x".into()).await.unwrap();
        store.date(&format!("t/{path}"), Utc::now() - TimeDelta::days(100));
    }
    let mut expected: Vec<&str> = strangers.to_vec();
    expected.sort_unstable();
    let vacuumed = tend(&table, rules(), Utc::now() + TimeDelta::days(50)).await.vacuumed.unwrap();
    let mut named = vacuumed.named.clone();
    named.sort_unstable();
    assert_eq!(
        (vacuumed.files, vacuumed.strangers, named),
        (0, 4, expected.iter().map(ToString::to_string).collect())
    );
    for path in strangers.iter().chain(&hidden) {
        table.store().head(&Path::from(*path)).await.unwrap();
    }
}

fn decision(topic: &LogTopic, quarantine: Vec<crate::NewFile>, last: i64) -> Decision {
    Decision {
        flush: format!("f{last}"),
        log_topic: topic.to_string(),
        epoch: 0,
        closed: Closed::Age,
        ranges: vec![Decided {
            partition: Partition(0),
            first: Offset(0),
            last: Offset(last),
            messages: 1,
            readings: 0,
            quarantined: 1,
            dropped: 0,
        }],
        marks: BTreeMap::new(),
        quarantine,
        mismatches: Vec::new(),
    }
}

#[tokio::test]
async fn a_file_that_a_decision_holds_stays_until_quarantine_has_it_and_so_does_the_decision() {
    let (store, bucket) = clocked();
    let ledger = table(&bucket).await;
    let quarantine = Table::open_or_create(&bucket, QUARANTINE, &definition()).await.unwrap();
    let topic: LogTopic = "millstream.t".parse().unwrap();
    let waiting = quarantine.write(readings(0..3, 0), &WriteOptions::default()).await.unwrap();
    let orphan = quarantine.write(readings(0..3, 0), &WriteOptions::default()).await.unwrap();
    let promised = decision(&topic, waiting.clone(), 9);
    let plan = Plan {
        info: promised.to_info().unwrap(),
        ..append("a", &app("t", &topic, 0, Partition(0)), None, 9)
    };
    assert_eq!(ledger.commit(plan).await.unwrap(), Outcome::Applied { version: 1 });
    // A hundred and more commits of another partition: the decision lies before a checkpoint, and before what the log keeps.
    for step in 0..120 {
        let other = app("t", &topic, 0, Partition(1));
        ledger
            .commit(append(&format!("b{step}"), &other, (step > 0).then_some(step), step + 1))
            .await
            .unwrap();
        ledger.checkpoint_if_due().await.unwrap();
    }
    let later = Utc::now() + TimeDelta::days(60);
    store.set(later);
    ledger.commit(append("young", "app", None, 1)).await.unwrap();
    ledger.checkpoint().await.unwrap();
    let rules = Rules { target_size: None, ..rules() };
    let cleaned = tend(&ledger, rules, later).await.cleaned.unwrap();
    assert_eq!(
        (cleaned.commits, cleaned.checkpoints),
        (99, 0),
        "all before the checkpoint of version 100 but the decision"
    );
    let log = listed(&ledger, "_delta_log/").await;
    assert!(
        log[0].ends_with("00000000000000000001.json") && log[1].contains("00000000000000000100"),
        "{log:?}"
    );
    assert_eq!(tend(&quarantine, rules, later).await.vacuumed.unwrap().files, 1, "the orphan alone");
    quarantine.store().head(&Path::from(orphan[0].path.as_str())).await.unwrap_err();

    // Whoever owns the partition next finds it, and finishes it however old it is.
    let found =
        another(&ledger).await.version_of_txn(&app("t", &topic, 0, Partition(0))).await.unwrap().unwrap();
    let read = Decision::from_info(&ledger.commit_info(found).await.unwrap().info).unwrap().unwrap();
    let redo = Plan {
        operation: Operation::Redo,
        adds: read.quarantine,
        ..append("unused", &app(QUARANTINE, &topic, 0, Partition(0)), None, 9)
    };
    let old = crate::NewFile { modified_ms: 0, ..redo.adds[0].clone() };
    let redo = Plan { adds: vec![old], ..redo };
    assert!(matches!(quarantine.commit(redo).await.unwrap(), Outcome::Applied { .. }));
    assert_eq!(tend(&quarantine, rules, later).await.vacuumed.unwrap().files, 0);
    assert_eq!(ask(&quarantine, "select count(*) from t").await, [3]);
}

#[tokio::test]
async fn an_upload_that_waited_too_long_is_not_committed() {
    let bucket = Bucket::memory("b");
    let table = table(&bucket).await;
    let hour = |hours: i64| (Utc::now() - TimeDelta::hours(hours)).timestamp_millis();
    let check = async |operation: Operation, aged: i64, promised: i64, expected: bool| {
        let from = table.snapshot().await.unwrap().txn("app");
        let name = format!("{operation:?}{aged}{promised}");
        let mut plan = append(&name, "app", from, from.unwrap_or(0) + 1);
        plan.operation = operation;
        plan.adds[0].modified_ms = hour(aged);
        plan.promises =
            vec![crate::NewFile { modified_ms: hour(promised), ..crate::fixture::file("promised") }];
        let outcome = table.commit(plan).await.unwrap();
        assert_eq!(matches!(outcome, Outcome::Applied { .. }), expected, "{outcome:?}");
        assert_eq!(matches!(outcome, Outcome::Stale { .. }), !expected, "{outcome:?}");
    };
    check(Operation::Append, 11, 0, true).await;
    check(Operation::Append, 13, 0, false).await;
    check(Operation::Append, 0, 13, false).await;
    check(Operation::Replace, 13, 0, false).await;
    check(Operation::Redo, 1000, 0, true).await;
}

#[tokio::test]
async fn the_log_is_cleaned_up_to_a_checkpoint_and_every_version_that_is_kept_can_be_read() {
    let (store, bucket) = clocked();
    let table = table(&bucket).await;
    let begin = Utc::now();
    // Ten commits a day; a checkpoint every two days.
    for step in 0..500 {
        let at = begin + TimeDelta::days(i64::from(step) / 10);
        store.set(at);
        table
            .commit(append(&format!("{step}"), "app", (step > 0).then_some(step.into()), i64::from(step) + 1))
            .await
            .unwrap();
        if step % 20 == 19 {
            table.checkpoint().await.unwrap();
        }
    }
    let now = begin + TimeDelta::days(50);
    let rules = Rules { target_size: None, ..rules() };
    let foreseen = upkeep(&table, rules).await.foresee(now).await.unwrap();
    let cleaned = tend(&table, rules, now).await.cleaned.unwrap();
    assert_eq!(foreseen.cleaned, Some(cleaned));
    // What was in force 30 days ago is version 200, and its checkpoint.
    assert_eq!((cleaned.commits, cleaned.checkpoints), (200, 9));
    let opened = another(&table).await;
    assert_eq!(
        (opened.snapshot().await.unwrap().version(), opened.snapshot().await.unwrap().files().len()),
        (500, 500)
    );
    assert_eq!(opened.changes(200, 500).await.unwrap().len(), 300);
    assert!(matches!(opened.commit_info(199).await.unwrap_err(), LakeError::Gone { .. }));
    assert_eq!(tend(&table, rules, now).await.cleaned.unwrap(), Cleaned::default());
    // An open handle goes on.
    table.commit(append("next", "app", Some(500), 501)).await.unwrap();
    assert_eq!(table.snapshot().await.unwrap().files().len(), 501);
}

#[tokio::test]
async fn a_log_without_checkpoints_or_with_a_hint_to_an_old_one_keeps_what_readers_begin_at() {
    let (store, bucket) = clocked();
    let table = table(&bucket).await;
    for step in 0..20 {
        table.commit(append(&format!("{step}"), "app", (step > 0).then_some(step), step + 1)).await.unwrap();
        if step == 5 {
            table.checkpoint().await.unwrap();
        }
    }
    let later = Utc::now() + TimeDelta::days(60);
    store.set(later);
    let rules = Rules { target_size: None, ..rules() };
    let hint =
        table.store().get(&Path::from("_delta_log/_last_checkpoint")).await.unwrap().bytes().await.unwrap();
    table.checkpoint().await.unwrap();
    // Somebody who was slow writes his older hint over the newer one.
    table.store().put(&Path::from("_delta_log/_last_checkpoint"), hint.into()).await.unwrap();
    assert_eq!(tend(&table, rules, later).await.cleaned.unwrap().commits, 6);
    assert_eq!(another(&table).await.snapshot().await.unwrap().files().len(), 20);

    let bare = Table::open_or_create(&bucket, "bare", &definition()).await.unwrap();
    for step in 0..5 {
        bare.commit(append(&format!("{step}"), "app", (step > 0).then_some(step), step + 1)).await.unwrap();
    }
    assert_eq!(tend(&bare, rules, later + TimeDelta::days(60)).await.cleaned.unwrap(), Cleaned::default());
}

#[tokio::test]
async fn where_the_log_does_not_reach_back_over_the_safe_age_no_file_is_removed() {
    let (store, bucket) = clocked();
    let table = table(&bucket).await;
    let left = orphan(&table).await;
    let now = Utc::now() + TimeDelta::days(60);
    store.set(now);
    for step in 0..3 {
        flush(&table, "app", readings(step * 10..(step + 1) * 10, 0)).await;
    }
    table.checkpoint().await.unwrap();
    // Somebody else cleaned it to the last day.
    for version in 0..2 {
        crate::fixture::drop_commit(&table, version).await;
    }
    let rules = Rules { target_size: None, ..rules() };
    let vacuumed = tend(&table, rules, now).await.vacuumed.unwrap();
    assert!(vacuumed.skipped.is_some() && vacuumed.files == 0, "{vacuumed:?}");
    table.store().head(&Path::from(left)).await.unwrap();
}

#[tokio::test]
async fn a_table_that_is_busy_is_tidied_nevertheless() {
    let (store, bucket) = clocked();
    let table = table(&bucket).await;
    let left = orphan(&table).await;
    flush(&table, "app", readings(0..10, 0)).await;
    let now = Utc::now() + TimeDelta::days(10);
    store.set(now);
    let log = LogFiles::list(&table).await.unwrap();
    // A commit comes after the log was listed; it takes a file away.
    let planned = table.snapshot().await.unwrap();
    let taken_away = planned.files()[0].path.clone();
    table.commit(crate::fixture::rewrite("new", Operation::Compact, &planned, &table)).await.unwrap();
    let (mut known, safe_age) = (TakenAway::default(), rules().safe_age);
    let vacuumed = vacuum::vacuum(&table, &mut known, &log, safe_age, now, Mode::Do).await.unwrap();
    assert_eq!((vacuumed.files, vacuumed.skipped), (1, None));
    table.store().head(&Path::from(left)).await.unwrap_err();
    table.store().head(&Path::from(taken_away)).await.expect("somebody may still read it");
}

#[tokio::test]
async fn what_is_finished_while_the_ledgers_are_asked_is_no_orphan() {
    let (store, bucket) = clocked();
    let ledger = table(&bucket).await;
    let quarantine = Table::open_or_create(&bucket, QUARANTINE, &definition()).await.unwrap();
    let topic: LogTopic = "millstream.t".parse().unwrap();
    let app_of = |table: &str| app(table, &topic, 0, Partition(0));
    let waiting = quarantine.write(readings(0..3, 0), &WriteOptions::default()).await.unwrap();
    let promised = decision(&topic, waiting.clone(), 9);
    let plan = Plan { info: promised.to_info().unwrap(), ..append("a", &app_of("t"), None, 9) };
    ledger.commit(plan).await.unwrap();
    // It waits for so long that its file is old; then the firehose comes back, finishes it, and decides on.
    let later = Utc::now() + TimeDelta::days(10);
    store.set(later);
    let (firehose, quarantined) = (another(&ledger).await, another(&quarantine).await);
    let redo =
        Plan { operation: Operation::Redo, adds: waiting, ..append("unused", &app_of(QUARANTINE), None, 9) };
    let next = decision(&topic, Vec::new(), 19);
    let next = Plan { info: next.to_info().unwrap(), ..append("b", &app_of("t"), Some(9), 19) };
    store.meanwhile("t/", async move {
        assert!(matches!(quarantined.commit(redo).await.unwrap(), Outcome::Applied { .. }));
        assert!(matches!(firehose.commit(next).await.unwrap(), Outcome::Applied { .. }));
    });
    let rules = Rules { target_size: None, ..rules() };
    assert_eq!(tend(&quarantine, rules, later).await.vacuumed.unwrap().files, 0);
    assert_eq!(ask(&quarantine, "select count(*) from t").await, [3]);
}

#[tokio::test]
async fn of_a_commit_whose_clock_stood_far_back_nothing_follows() {
    let (store, bucket) = clocked();
    let table = table(&bucket).await;
    for step in 0..3 {
        flush(&table, "app", readings(step * 10..(step + 1) * 10, 0)).await;
    }
    let planned = table.snapshot().await.unwrap();
    let removed: Vec<String> = planned.files().iter().map(|file| file.path.clone()).collect();
    table.commit(crate::fixture::rewrite("new", Operation::Compact, &planned, &table)).await.unwrap();
    table.checkpoint().await.unwrap();
    for path in &removed {
        store.date(&format!("t/{path}"), Utc::now() - TimeDelta::days(20));
    }
    // The process that merged believed to be in 1970.
    store.date(&format!("t/{}", crate::table::commit_path(planned.version() + 1)), DateTime::UNIX_EPOCH);
    let rules = Rules { target_size: None, ..rules() };
    let tended = tend(&table, rules, Utc::now()).await;
    assert_eq!(tended.cleaned.unwrap(), Cleaned::default(), "the commits before it are young");
    assert_eq!(tended.vacuumed.unwrap().files, 0, "they were part of the table a minute ago");
    assert_eq!(ask_of(&table, planned, "select count(*) from t").await, [30]);
}

#[tokio::test]
async fn a_log_that_is_kept_no_longer_than_files_reaches_back_far_enough_for_them() {
    let (store, bucket) = clocked();
    let table = table(&bucket).await;
    let begin = Utc::now();
    let rules = Rules { target_size: None, log_keep: rules().safe_age, ..rules() };
    for step in 0..400_i64 {
        store.set(begin + TimeDelta::minutes(step * 30));
        table.commit(append(&format!("{step}"), "app", (step > 0).then_some(step), step + 1)).await.unwrap();
        if step % 2 == 1 {
            table.checkpoint().await.unwrap();
        }
    }
    let now = begin + TimeDelta::minutes(400 * 30);
    let first = tend(&table, rules, now).await;
    assert!(first.cleaned.unwrap().commits > 0);
    assert_eq!(tend(&table, rules, now).await.vacuumed.unwrap().skipped, None);
}

#[tokio::test]
async fn of_former_epochs_nothing_is_kept_and_nothing_looked_for() {
    let (store, bucket) = clocked();
    let ledger = table(&bucket).await;
    let topic: LogTopic = "millstream.t".parse().unwrap();
    let app = |epoch: i64, partition: i32| app("t", &topic, epoch, Partition(partition));
    ledger.commit(append("a", &app(0, 0), None, 9)).await.unwrap();
    ledger.commit(append("b", &app(0, 1), None, 9)).await.unwrap();
    // The second partition had nothing new in the new epoch yet: what was decided about it last is still of the former.
    for step in 0..5 {
        ledger
            .commit(append(&format!("c{step}"), &app(1, 0), (step > 0).then_some(step), step + 1))
            .await
            .unwrap();
    }
    ledger.checkpoint().await.unwrap();
    store.set(Utc::now() + TimeDelta::days(60));
    ledger.commit(append("young", "app", None, 1)).await.unwrap();
    ledger.checkpoint().await.unwrap();
    let rules = Rules { target_size: None, ..rules() };
    tend(&ledger, rules, Utc::now() + TimeDelta::days(60)).await;
    let commits: Vec<String> =
        listed(&ledger, "_delta_log/").await.into_iter().filter(|path| path.ends_with(".json")).collect();
    let versions: Vec<i64> = commits.iter().map(|path| path[11..31].parse().unwrap()).collect();
    assert_eq!(versions, [2, 7, 8], "the last about each partition, and what a reader begins at");
}

/// The slowest writer there can be: its last look is when its upload is young, and its commit when that is gone.
#[tokio::test(start_paused = true)]
async fn a_writer_that_was_stopped_before_its_commit_has_to_look_again() {
    let (clock, _) = clocked();
    let store = Arc::new(FaultyStore::new(clock.clone()));
    let bucket = Bucket::with_store("faulty", Url::parse("memory:///").unwrap(), store.clone());
    let (table, writer) = (table(&bucket).await, another(&table(&bucket).await).await);
    let days = |days: i64| Utc::now() + TimeDelta::days(days);
    let adds = writer.write(readings(0..3, 0), &WriteOptions::default()).await.unwrap();
    let path = Path::from(adds[0].path.as_str());
    store.script([LogFault::Delay(Duration::from_secs(10 * 86_400))]);
    let writes = async {
        let outcome = writer.commit(Plan { adds, ..append("unused", "app", None, 1) }).await.unwrap();
        // By the real clock its upload is young still: else this would be refused.
        assert_eq!(outcome, Outcome::Applied { version: 2 }, "version 1 was taken");
    };
    let tidies = async {
        while store.log_puts() < 2 {
            tokio::task::yield_now().await;
        }
        clock.set(days(9));
        assert_eq!(tend(&table, rules(), days(9)).await.vacuumed.unwrap().files, 1);
        table.store().head(&path).await.unwrap_err();
    };
    tokio::join!(writes, tidies);
    // Where others commit, nothing is committed for this; nor where there is nothing to remove.
    orphan(&table).await;
    clock.set(days(12));
    flush(&table, "other", readings(10..20, 0)).await;
    let later = days(17);
    let version = table.snapshot().await.unwrap().version();
    assert_eq!(tend(&table, Rules { target_size: None, ..rules() }, later).await.vacuumed.unwrap().files, 1);
    assert_eq!(
        tend(&table, Rules { target_size: None, ..rules() }, days(60)).await.vacuumed.unwrap().files,
        0
    );
    assert_eq!(table.snapshot().await.unwrap().version(), version);
}

#[tokio::test]
async fn of_checkpoints_one_a_day_stays_and_every_version_behind_the_first_can_be_read() {
    let (store, bucket) = clocked();
    let table = table(&bucket).await;
    let begin = Utc::now().date_naive().and_time(chrono::NaiveTime::MIN).and_utc();
    // A commit and a checkpoint every six hours: those of the last five days have the versions from 1 to 20.
    for step in 0..20 {
        store.set(begin + TimeDelta::hours(6 * step));
        table.commit(append(&format!("{step}"), "app", (step > 0).then_some(step), step + 1)).await.unwrap();
        table.checkpoint().await.unwrap();
    }
    let now = begin + TimeDelta::hours(6 * 20);
    let rules = Rules { target_size: None, ..rules() };
    let foreseen = upkeep(&table, rules).await.foresee(now).await.unwrap();
    let cleaned = tend(&table, rules, now).await.cleaned.unwrap();
    assert_eq!((foreseen.cleaned, cleaned.commits), (Some(cleaned), 0));
    let versions = async || -> Vec<i64> {
        let checkpoints = listed(&table, "_delta_log/").await.into_iter();
        let names = checkpoints.filter_map(|path| {
            Some(path.strip_prefix("_delta_log/")?.strip_suffix(".checkpoint.parquet")?.parse().unwrap())
        });
        names.collect()
    };
    // The last of four days, and all of the day that is over just now.
    assert_eq!(versions().await, [4, 8, 12, 16, 17, 18, 19, 20]);
    assert_eq!(tend(&table, rules, now).await.cleaned.unwrap(), Cleaned::default());
    // A version without a checkpoint of its own is made of the one before and the commits between.
    let files_at = async |version: u64| {
        let opened = EagerSnapshot::try_new(table.log().as_ref(), Some(version)).await.unwrap();
        opened.try_log_data().unwrap().iter().count() as u64
    };
    for version in 1..=20 {
        assert_eq!(files_at(version).await, version);
    }
    // What is to be read up to a time long ago begins at a checkpoint that is not the last of its day: it stays.
    let before = begin + TimeDelta::hours(6 * 18) - TimeDelta::minutes(1);
    let later = before + TimeDelta::days(30);
    store.set(later);
    table.commit(append("young", "app", Some(20), 21)).await.unwrap();
    table.checkpoint().await.unwrap();
    let cleaned = tend(&table, rules, later).await.cleaned.unwrap();
    assert_eq!((cleaned.commits, versions().await), (18, vec![18, 20, 21]));
    for version in 18..=21 {
        assert_eq!(files_at(version).await, version);
    }
}
