//! What a commit costs must not grow with the table: design section 6 saw its time grow with the number of active files. Requests and bytes are counted, since time
//! says as much about the machine.

use super::{another, append, applied, file, rewrite, table};
use crate::faults::FaultyStore;
use crate::fixture::{assert_same, faulty, growth};
use crate::{Operation, Outcome, Plan, Table};
use std::sync::Arc;

/// How many files a table has.
const FILES: [usize; 4] = [1, 100, 300, 1_200];

/// Requests, bytes read, and objects listed.
type Cost = (u64, u64, u64);

fn counted(store: &FaultyStore) -> Cost {
    (store.requests(), store.bytes_read(), store.listed())
}

fn since(store: &FaultyStore, before: Cost) -> Cost {
    let now = counted(store);
    (now.0 - before.0, now.1 - before.1, now.2 - before.2)
}

/// A table of so many files.
async fn of_files(count: usize) -> (Arc<FaultyStore>, Table) {
    let (store, bucket) = faulty();
    let table = table(&bucket).await;
    let adds = (0..count).map(|number| file(&format!("{number}"))).collect();
    let plan = Plan { adds, ..append("first", "app", None, 1) };
    assert_eq!(table.commit(plan).await.unwrap(), applied(1));
    (store, table)
}

#[tokio::test]
async fn a_commit_through_an_open_handle_costs_the_same_however_many_files_there_are() {
    let check = async |files: usize, requests: u64, bytes_max: u64| {
        let (store, table) = of_files(files).await;
        // After this one, the handle has seen all that the table is.
        table.commit(append("a", "app", Some(1), 2)).await.unwrap();
        table.snapshot().await.unwrap();
        for step in 2..5 {
            let before = counted(&store);
            let outcome = table.commit(append(&format!("b{step}"), "app", Some(step), step + 1)).await;
            assert_eq!(outcome.unwrap(), applied(step + 1));
            assert_eq!(table.snapshot().await.unwrap().files().len(), files + usize::try_from(step).unwrap());
            let (made, read, listed) = since(&store, before);
            assert_eq!((made, listed), (requests, 0), "{files} files, step {step}");
            assert!(read <= bytes_max, "{files} files, step {step}: {read} bytes");
        }
    };
    // A look (the last commit is still what it was, there is no next one), the commit, and the look again: what this handle sent, it need not read.
    for files in FILES {
        check(files, 5, 0).await;
    }
}

#[tokio::test]
async fn what_follows_a_commit_costs_nothing_while_no_checkpoint_is_due() {
    let (store, table) = of_files(1).await;
    let before = counted(&store);
    for step in 1..10 {
        table.commit(append(&format!("c{step}"), "app", Some(step), step + 1)).await.unwrap();
        assert!(!table.checkpoint_if_due().await.unwrap());
    }
    assert_eq!(since(&store, before), (9 * 3, 0, 0));
}

#[tokio::test]
async fn a_handle_that_knows_its_own_commits_by_heart_knows_what_a_newcomer_reads() {
    let (_, table) = of_files(3).await;
    let other = another(&table).await;
    for (step, handle) in (1..).zip([&table, &table, &other, &table, &other, &other]) {
        handle.commit(append(&format!("c{step}"), "app", Some(step), step + 1)).await.unwrap();
        let removes: Vec<_> = handle.snapshot().await.unwrap().files()[..2].to_vec();
        let planned = handle.snapshot().await.unwrap();
        let compact = Plan { removes, ..rewrite(&format!("m{step}"), Operation::Compact, &planned, handle) };
        assert!(matches!(handle.commit(compact).await.unwrap(), Outcome::Applied { .. }));
        handle.commit(growth(&format!("column{step}"))).await.ok();
        assert_same(&handle.seen().await.unwrap(), &another(&table).await.snapshot().await.unwrap());
    }
}

#[tokio::test]
async fn a_handle_opened_behind_a_checkpoint_costs_the_same_requests_however_long_the_log_and_many_the_files()
{
    let check = async |files: usize, commits: i64, expected: Option<Cost>| {
        let (store, table) = of_files(files).await;
        for step in 1..commits {
            table.commit(append(&format!("c{step}"), "app", Some(step), step + 1)).await.unwrap();
        }
        table.checkpoint().await.unwrap();
        table.commit(append("behind", "app", Some(commits), commits + 1)).await.unwrap();
        let before = counted(&store);
        let opened = Table::open(table.bucket(), table.name()).await.unwrap().unwrap();
        opened.commit(append("fresh", "app", Some(commits + 1), commits + 2)).await.unwrap();
        let cost = since(&store, before);
        if let Some((requests, _, listed)) = expected {
            assert_eq!((cost.0, cost.2), (requests, listed), "{files} files, {commits} commits");
        }
        cost
    };
    let least = check(FILES[0], 1, None).await;
    assert!(least.0 <= 25, "{least:?}");
    for files in FILES {
        check(files, 1, Some(least)).await;
    }
    check(1, 300, Some(least)).await;
}
