//! What the tests of upkeep stand on: real tables, the real merge, a clock that is set by hand.

mod clearing;
mod clocked;
mod compaction;
mod leasing;
mod races;
mod retention;
mod years;

pub(crate) use compaction::readings;

use super::*;
use crate::fixture::{another, definition};
use crate::{Operation, Outcome, Plan, WriteOptions};
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use datafusion::prelude::{SessionConfig, SessionContext};
use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) const MIB: u64 = 1 << 20;

pub(crate) fn rules() -> Rules {
    let day = Duration::from_secs(24 * 60 * 60);
    Rules { target_size: Some(MIB), safe_age: 7 * day, log_keep: 30 * day, keep: None }
}

/// Writes the rows as one flush does, and commits them.
pub(crate) async fn flush(table: &Table, app: &str, rows: RecordBatch) {
    let adds = table.write(rows, &WriteOptions::default()).await.unwrap();
    let from = table.snapshot().await.unwrap().txn(app);
    let plan = Plan {
        adds,
        data_change: true,
        expect: BTreeMap::from([(app.to_owned(), from)]),
        set: BTreeMap::from([(app.to_owned(), from.unwrap_or(0) + 1)]),
        ..Plan::default()
    };
    assert!(matches!(table.commit(plan).await.unwrap(), Outcome::Applied { .. }));
}

/// What a query finds, as numbers: `sql` is over `t`.
pub(crate) async fn ask(table: &Table, sql: &str) -> Vec<i64> {
    ask_of(table, table.snapshot().await.unwrap(), sql).await
}

pub(crate) async fn ask_of(table: &Table, snapshot: Arc<Snapshot>, sql: &str) -> Vec<i64> {
    answer(SessionContext::new(), table, snapshot, sql).await
}

/// As [`ask`], by an engine of other settings.
pub(crate) async fn ask_as(config: SessionConfig, table: &Table, sql: &str) -> Vec<i64> {
    let snapshot = table.snapshot().await.unwrap();
    answer(SessionContext::new_with_config(config), table, snapshot, sql).await
}

async fn answer(context: SessionContext, table: &Table, snapshot: Arc<Snapshot>, sql: &str) -> Vec<i64> {
    let provider = crate::provider::SnapshotProvider::new(table.bucket(), snapshot, table);
    context.register_table("t", provider).unwrap();
    let batches = context.sql(sql).await.unwrap().collect().await.unwrap();
    let numbers = batches.iter().flat_map(|batch| {
        (0..batch.num_rows()).flat_map(move |row| {
            (0..batch.num_columns())
                .map(move |column| batch.column(column).as_primitive::<Int64Type>().value(row))
        })
    });
    numbers.collect()
}

pub(crate) async fn upkeep(table: &Table, rules: Rules) -> Upkeep {
    Upkeep::open(table.bucket(), table.name(), rules).await.unwrap().unwrap()
}

pub(crate) async fn tend(table: &Table, rules: Rules, now: DateTime<Utc>) -> Tended {
    let stop = CancellationToken::new();
    upkeep(table, rules).await.tend(Depth::Folder, Others::Overruled, now, &stop, |_| {}).await.unwrap()
}
