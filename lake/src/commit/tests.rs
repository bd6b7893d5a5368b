mod cost;

use super::*;
use crate::Bucket;
use crate::faults::LogFault;
use crate::fixture::{another, append, applied, faulty, file, names, rewrite, stem, table};
use futures::future::join_all;
use std::collections::BTreeMap;
use std::sync::Arc;

#[tokio::test(start_paused = true)]
async fn whatever_the_store_answers_a_plan_is_applied_once_and_says_so() {
    let check = async |script: &[LogFault], expected_version: i64| {
        let (store, bucket) = faulty();
        let table = table(&bucket).await;
        store.script(script.iter().copied());
        let outcome = table.commit(append("a", "app", None, 9)).await.unwrap();
        assert_eq!(outcome, applied(expected_version), "{script:?}");
        let snapshot = another(&table).await.snapshot().await.unwrap();
        assert_eq!((snapshot.version(), snapshot.txn("app")), (1, Some(9)), "{script:?}");
        assert_eq!(names(&table).await, ["a"], "{script:?}");
    };
    check(&[], 1).await;
    check(&[LogFault::Delay(Duration::from_millis(5))], 1).await;
    check(&[LogFault::FailBefore, LogFault::FailBefore], 1).await;
    check(&[LogFault::FailAfter], 1).await;
    check(&[LogFault::ExistsAfter], 1).await;
    check(&[LogFault::FailThenApply], 1).await;
    check(&[LogFault::FailBefore, LogFault::FailThenApply, LogFault::ExistsAfter], 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_doubtful_commit_is_settled_even_when_others_follow_it_or_the_log_cannot_be_read() {
    let (store, bucket) = faulty();
    let (mine, theirs) = (table(&bucket).await, another(&table(&bucket).await).await);
    store.script([LogFault::FailAfter]);
    // Both start at once: the one whose answer is lost has its version followed by the other's.
    let (a, b) =
        tokio::join!(mine.commit(append("a", "a", None, 1)), theirs.commit(append("b", "b", None, 1)));
    let mut versions = [a.unwrap(), b.unwrap()].map(|outcome| match outcome {
        Outcome::Applied { version } => version,
        other => panic!("{other:?}"),
    });
    versions.sort_unstable();
    assert_eq!((versions, names(&mine).await), ([1, 2], vec!["a".to_owned(), "b".to_owned()]));
    store.script([LogFault::FailAfter]);
    store.fail_reads(3);
    assert_eq!(mine.commit(append("c", "a", Some(1), 2)).await.unwrap(), applied(3));
    assert_eq!(names(&mine).await, ["a", "b", "c"]);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_stays_away_ends_in_a_bounded_number_of_attempts() {
    let (store, bucket) = faulty();
    let table = table(&bucket).await;
    let before = store.log_puts();
    store.script([LogFault::FailBefore; 50]);
    let error = table.commit(append("a", "app", None, 1)).await.unwrap_err();
    assert!(matches!(error, LakeError::Exhausted { attempts: ATTEMPTS_MAX, source: Some(_), .. }), "{error}");
    assert_eq!(error.fault(), Fault::Reload);
    assert_eq!(store.log_puts() - before, u64::from(ATTEMPTS_MAX));
    store.heal();
    assert_eq!(table.commit(append("a", "app", None, 1)).await.unwrap(), applied(1));
}

#[tokio::test(start_paused = true)]
async fn of_two_zombies_that_race_through_a_failing_store_one_is_applied_and_the_other_fenced() {
    for seed in 0..40 {
        let (store, bucket) = faulty();
        let (first, second) = (table(&bucket).await, table(&bucket).await);
        store.randomly(seed, 500);
        let (a, b) = tokio::join!(
            first.commit(append("a", "app", None, 9)),
            second.commit(append("b", "app", None, 9))
        );
        let outcomes = [a.unwrap(), b.unwrap()];
        store.heal();
        let winners = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Applied { .. })).count();
        assert_eq!((winners, names(&first).await.len()), (1, 1), "seed {seed}: {outcomes:?}");
        let expected = if matches!(outcomes[0], Outcome::Applied { .. }) { "a" } else { "b" };
        assert_eq!(names(&first).await, [expected], "seed {seed}");
    }
}

#[tokio::test]
async fn plans_that_contradict_themselves_or_the_table_are_refused() {
    let bucket = Bucket::memory("b");
    let table = table(&bucket).await;
    table.commit(append("a", "app", None, 1)).await.unwrap();
    let snapshot = table.snapshot().await.unwrap();
    let path = |path: &str| NewFileAt(path).plan();
    let forbidden =
        BTreeMap::from([("delta.setTransactionRetentionDuration".to_owned(), "interval 1 day".to_owned())]);
    let bad = [
        Plan { removes: snapshot.files().to_vec(), ..Plan::default() },
        Plan { properties: forbidden, ..Plan::default() },
        Plan { adds: vec![file("x"), file("x")], ..Plan::default() },
        Plan { adds: vec![file("a")], ..Plan::default() },
        path("../outside.parquet"),
        path("/etc/passwd"),
        path(""),
    ];
    for plan in bad {
        let error = table.commit(plan.clone()).await.unwrap_err();
        assert!(matches!(error, LakeError::Refused { what: "plan", .. }), "{plan:?}: {error}");
        assert_eq!(error.fault(), Fault::Stop);
    }
    assert_eq!(table.snapshot().await.unwrap().version(), 1);
}

struct NewFileAt<'a>(&'a str);

impl NewFileAt<'_> {
    fn plan(&self) -> Plan {
        let file = crate::NewFile { path: self.0.to_owned(), ..file("x") };
        Plan { adds: vec![file], ..Plan::default() }
    }
}

/// Writers that append, own again after every doubt, and compact, over a store that fails at random: what they were told is what the table is.
#[tokio::test(start_paused = true)]
async fn random_histories_over_a_failing_store_leave_every_file_exactly_once() {
    let mut compacted = 0;
    for seed in 0..60 {
        let (store, bucket) = faulty();
        let table = table(&bucket).await;
        store.randomly(seed, 300);
        let writer = async |number: u64| {
            let handle = another(&table).await;
            let app = format!("app{number}");
            for step in 1..=5_i64 {
                // A writer that does not know whether it was applied owns again: the fence tells.
                loop {
                    let owned = handle.snapshot().await.unwrap().txn(&app);
                    if owned == Some(step) {
                        break;
                    }
                    match handle.commit(append(&format!("{number}-{step}"), &app, owned, step)).await {
                        Ok(Outcome::Applied { .. }) => break,
                        Ok(other) => panic!("seed {seed}: {other:?}"),
                        Err(error) => assert_eq!(error.fault(), Fault::Reload, "seed {seed}: {error}"),
                    }
                }
            }
        };
        // Each merged file is named by the files in it, so that the end shows what was lost or doubled.
        let compactor = async {
            let handle = another(&table).await;
            for _ in 0..6 {
                let planned = handle.snapshot().await.unwrap();
                let removes: Vec<_> = planned.files().iter().take(2).cloned().collect();
                let merged: Vec<&str> = removes.iter().map(|file| stem(&file.path)).collect();
                let plan = rewrite(&format!("+{}", merged.join("+")), Operation::Compact, &planned, &handle);
                if let Err(error) = handle.commit(Plan { removes, ..plan }).await {
                    assert_eq!(error.fault(), Fault::Reload, "seed {seed}: {error}");
                }
            }
        };
        tokio::join!(join_all((0..3).map(writer)), compactor);
        store.heal();
        let expected: Vec<String> =
            (0..3).flat_map(|number| (1..=5).map(move |step| format!("{number}-{step}"))).collect();
        let merged = names(&table).await;
        let mut found: Vec<&str> =
            merged.iter().flat_map(|name| name.split('+')).filter(|name| !name.is_empty()).collect();
        found.sort_unstable();
        assert_eq!(found, expected, "seed {seed}");
        compacted += merged.iter().filter(|name| name.contains('+')).count();
    }
    assert!(compacted > 0, "no history had a compaction in it");
}

/// With 10,000 files a copy is tens of megabytes, and there would be one for each minute.
#[tokio::test]
async fn a_handle_that_nobody_else_reads_goes_on_by_its_own_commit_without_a_copy_of_all_files() {
    let bucket = Bucket::memory("b");
    let table = table(&bucket).await;
    table.commit(append("a", "app", None, 1)).await.unwrap();
    let place = async || Arc::as_ptr(&table.snapshot().await.unwrap());
    let before = place().await;
    table.commit(append("b", "app", Some(1), 2)).await.unwrap();
    assert_eq!(place().await, before);
    // Who still reads the version before has it for himself.
    let held = table.snapshot().await.unwrap();
    table.commit(append("c", "app", Some(2), 3)).await.unwrap();
    assert_ne!(place().await, before);
    assert_eq!((held.files().len(), table.snapshot().await.unwrap().files().len()), (2, 3));
}
