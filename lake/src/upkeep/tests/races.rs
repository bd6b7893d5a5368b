//! Several who look after a table, beside writers, a report that replaces its rows, columns that grow, and a store that fails: no row is lost or doubled, and nobody
//! ever sees it otherwise.

use super::choose::Group;
use super::compaction::readings;
use super::*;
use crate::Bucket;
use crate::fixture::{faulty, table, wider};
use arrow::array::{Float64Array, RecordBatch};
use chrono::TimeDelta;
use futures::future::join_all;
use millstream_model::fault::Fault;
use std::cell::Cell;

/// Rows of a generation of what is replaced as a whole; they stand behind all that is appended.
const GENERATION: i64 = 5;
const REPLACED: i64 = 1_000_000;

/// Between two looks, by a clock that stands still while anybody works: without it nobody's retry would ever come to its end.
const PAUSE: Duration = Duration::from_millis(5);

/// What took part in a history.
struct World {
    bucket: Bucket,
    seed: u64,
    ended: Cell<bool>,
    /// Offsets whose append was committed.
    appended: Cell<i64>,
    merged: Cell<u64>,
}

impl World {
    async fn handle(&self) -> Table {
        loop {
            match Table::open(&self.bucket, "t").await {
                Ok(table) => return table.unwrap(),
                Err(error) => assert_ne!(error.fault(), Fault::Stop, "seed {}: {error}", self.seed),
            }
        }
    }

    fn survive<T>(&self, outcome: Result<T, LakeError>) -> Option<T> {
        outcome.map_err(|error| assert_ne!(error.fault(), Fault::Stop, "seed {}: {error}", self.seed)).ok()
    }

    /// Appends ten times two rows of its own; whoever is in doubt looks where it stands.
    async fn append(&self, number: i64) {
        let table = self.handle().await;
        let app = format!("app{number}");
        for step in 1..=10_i64 {
            let first = number * 1000 + step * 2;
            loop {
                let Some(snapshot) = self.survive(table.snapshot().await) else { continue };
                let owned = snapshot.txn(&app);
                if owned == Some(step) {
                    break;
                }
                let rows = fitting(readings(first..first + 2, 0), &snapshot);
                let Some(adds) = self.survive(table.write(rows, &WriteOptions::default()).await) else {
                    continue;
                };
                let plan = Plan {
                    adds,
                    data_change: true,
                    expect: BTreeMap::from([(app.clone(), owned)]),
                    set: BTreeMap::from([(app.clone(), step)]),
                    ..Plan::default()
                };
                self.survive(table.commit(plan).await);
            }
            self.appended.set(self.appended.get() + 2);
        }
    }

    /// Replaces the rows of the next day, as a report does, fifteen times.
    async fn replace(&self) {
        let table = self.handle().await;
        let maintenance = table.maintenance_app();
        for generation in 1..=15_i64 {
            loop {
                let Some(planned) = self.survive(table.snapshot().await) else { continue };
                if planned.txn("generation") == Some(generation) {
                    break;
                }
                let first = REPLACED + generation * 100;
                let removes: Vec<_> = of_next_day(&planned);
                // In several files, so that there is something to merge.
                let mut adds = Vec::new();
                for row in first..first + GENERATION {
                    let rows = fitting(readings(row..row + 1, 1), &planned);
                    adds.extend(
                        self.survive(table.write(rows, &WriteOptions::default()).await).into_iter().flatten(),
                    );
                }
                if adds.len() < 5 {
                    continue;
                }
                let upkeep = planned.txn(&maintenance);
                let plan = Plan {
                    operation: Operation::Replace,
                    adds,
                    removes,
                    data_change: true,
                    expect: BTreeMap::from([(maintenance.clone(), upkeep)]),
                    set: BTreeMap::from([
                        (maintenance.clone(), upkeep.unwrap_or(0) + 1),
                        ("generation".to_owned(), generation),
                    ]),
                    on_snapshot: Some(planned),
                    ..Plan::default()
                };
                self.survive(table.commit(plan).await);
            }
        }
    }

    async fn grow(&self) {
        let table = self.handle().await;
        loop {
            let plan = Plan { operation: Operation::Schema, schema: Some(wider("late")), ..Plan::default() };
            self.survive(table.commit(plan).await);
            if self
                .survive(table.snapshot().await)
                .is_some_and(|snapshot| snapshot.schema().fields().len() == 6)
            {
                return;
            }
        }
    }

    async fn look_after(&self) {
        let (now, stop) = (Utc::now() + TimeDelta::days(3), CancellationToken::new());
        let mut keeper = loop {
            match self.survive(Upkeep::open(&self.bucket, "t", rules()).await) {
                Some(keeper) => break keeper.unwrap(),
                None => continue,
            }
        };
        while !self.ended.get() {
            let tended = keeper.tend(Depth::Folder, Others::Overruled, now, &stop, |_| {}).await;
            if let Some(tended) = self.survive(tended.map_err(|unfinished| unfinished.error)) {
                self.merged.set(self.merged.get() + tended.compacted.merged);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Asks again and again; each answer is whole.
    async fn watch(&self) {
        let (table, mut before) = (self.handle().await, 0);
        while !self.ended.get() {
            let known = self.appended.get();
            let Some(snapshot) = self.survive(table.snapshot().await) else { continue };
            let told = judge(&table, snapshot, self.seed).await.unwrap_or_else(|wrong| panic!("{wrong}"));
            assert!(
                told >= known && told >= before,
                "seed {}: {told} rows after {known}, {before}",
                self.seed
            );
            before = told;
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// The rows with as many columns as the table has.
fn fitting(rows: RecordBatch, snapshot: &Snapshot) -> RecordBatch {
    if snapshot.schema().fields().len() == rows.num_columns() {
        return rows;
    }
    let mut columns = rows.columns().to_vec();
    columns.push(Arc::new(Float64Array::from(vec![0.5; rows.num_rows()])));
    RecordBatch::try_new(wider("late"), columns).unwrap()
}

fn of_next_day(snapshot: &Snapshot) -> Vec<crate::DataFile> {
    let next_day = |file: &&crate::DataFile| file.path.starts_with("date=2026-11-22");
    snapshot.files().iter().filter(next_day).cloned().collect()
}

/// How many rows were appended, if nothing is doubled and what is replaced is of one generation.
async fn judge(table: &Table, snapshot: Arc<Snapshot>, seed: u64) -> Result<i64, String> {
    let generation = snapshot.txn("generation").unwrap_or(0);
    let sql = "select _offset from t";
    let mut offsets = ask_of(table, snapshot, sql).await;
    offsets.sort_unstable();
    let count = offsets.len();
    offsets.dedup();
    let replaced: Vec<i64> = offsets.iter().copied().filter(|offset| *offset >= REPLACED).collect();
    let first = REPLACED + generation * 100;
    let expected: Vec<i64> = (first..first + GENERATION).filter(|_| generation > 0).collect();
    if offsets.len() != count || replaced != expected {
        return Err(format!(
            "seed {seed}: {count} rows, {} of them different; of generation {generation}: {replaced:?}",
            offsets.len()
        ));
    }
    Ok(i64::try_from(count - replaced.len()).unwrap())
}

/// A history; at the end, what is wrong with it.
async fn history(seed: u64) -> u64 {
    let (store, bucket) = faulty();
    table(&bucket).await;
    let world = World { bucket, seed, ended: Cell::new(false), appended: Cell::new(0), merged: Cell::new(0) };
    store.randomly(seed, 200);
    let writers = async {
        tokio::join!(join_all((0..3).map(|number| world.append(number))), world.replace(), world.grow());
        store.heal();
        world.ended.set(true);
    };
    tokio::join!(writers, world.look_after(), world.look_after(), world.watch());
    let latest = world.handle().await.snapshot().await.unwrap();
    let rows = judge(&world.handle().await, latest, seed).await.unwrap_or_else(|wrong| panic!("{wrong}"));
    assert_eq!(rows, 60, "seed {seed}");
    assert_eq!(store.uploads_open(), 0, "seed {seed}");
    world.merged.get()
}

#[tokio::test(start_paused = true)]
async fn random_histories_beside_upkeep_lose_and_double_nothing_and_show_nothing_half_done() {
    let seeds = match std::env::var("MILLSTREAM_SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => seed..seed + 1,
        None => 0..5,
    };
    let mut merged = 0;
    for seed in seeds {
        merged += history(seed).await;
    }
    assert!(merged > 100, "only {merged} files were merged: nothing was tested");
}

/// The negative control: a compaction that goes on top of whatever came between, without looking at `maint` and at what is still there, brings back what was replaced.
#[tokio::test]
async fn without_the_fence_a_replaced_row_comes_back() {
    let bucket = Bucket::memory("b");
    let table = table(&bucket).await;
    for row in 0..3 {
        flush(&table, "app", readings(REPLACED + 100 + row..REPLACED + 101 + row, 1)).await;
    }
    let replacement = async || {
        let planned = another(&table).await.snapshot().await.unwrap();
        let app = table.maintenance_app();
        let upkeep = planned.txn(&app);
        let adds =
            table.write(readings(REPLACED + 200..REPLACED + 205, 1), &WriteOptions::default()).await.unwrap();
        let plan = Plan {
            operation: Operation::Replace,
            adds,
            removes: planned.files().to_vec(),
            data_change: true,
            expect: BTreeMap::from([(app.clone(), upkeep)]),
            set: BTreeMap::from([(app, upkeep.unwrap_or(0) + 1), ("generation".to_owned(), 2)]),
            on_snapshot: Some(planned),
            ..Plan::default()
        };
        assert!(matches!(table.commit(plan).await.unwrap(), Outcome::Applied { .. }));
    };
    let planned = table.snapshot().await.unwrap();
    let group = Group { files: planned.files().to_vec() };
    let merged = merge::merge(&table, &planned, &group, &CancellationToken::new()).await.unwrap().unwrap();
    replacement().await;
    let plan =
        Plan { operation: Operation::Compact, adds: vec![merged], removes: group.files, ..Plan::default() };
    // As it is done: nothing comes of it.
    assert_eq!(land::land(&table, &planned, plan.clone()).await.unwrap(), land::Landed::Overtaken);
    let latest = table.snapshot().await.unwrap();
    assert_eq!(judge(&table, latest.clone(), 0).await, Ok(0));
    // As it would be done by whoever takes away only what is still there.
    let careless = Plan { removes: Vec::new(), on_snapshot: None, ..plan };
    assert!(matches!(table.commit(careless).await.unwrap(), Outcome::Applied { .. }));
    judge(&table, table.snapshot().await.unwrap(), 0).await.unwrap_err();
}

/// Of a merge and of what retires its rows, whichever was planned first and lands last comes to nothing.
#[tokio::test]
async fn what_was_retired_does_not_come_back_by_a_merge_nor_the_other_way_round() {
    let bucket = Bucket::memory("b");
    let table = table(&bucket).await;
    let day = Duration::from_secs(86_400);
    let keep = Keep { time: 10 * day, date: millstream_model::stream::DatePartition::Day };
    let dated = chrono::NaiveDate::from_epoch_days(crate::fixture::DAY).unwrap();
    let now = dated.and_time(chrono::NaiveTime::MIN).and_utc() + TimeDelta::days(30);
    let merged = async |planned: &Snapshot| {
        let group = Group { files: planned.files().to_vec() };
        let file = merge::merge(&table, planned, &group, &CancellationToken::new()).await.unwrap().unwrap();
        let removes = group.files;
        Plan { operation: Operation::Compact, adds: vec![file], removes, ..Plan::default() }
    };
    let flushes = async || {
        for row in 0..3 {
            flush(&table, "app", readings(row..row + 1, 0)).await;
        }
        table.snapshot().await.unwrap()
    };
    let planned = flushes().await;
    let plan = merged(&planned).await;
    assert_eq!(retire::retire(&table, keep, now).await.unwrap().unwrap().rows, Some(3));
    assert_eq!(land::land(&table, &planned, plan).await.unwrap(), land::Landed::Overtaken);
    assert!(table.snapshot().await.unwrap().files().is_empty());

    let planned = flushes().await;
    let plan = merged(&planned).await;
    let retired = Plan { operation: Operation::Retire, removes: planned.files().to_vec(), ..Plan::default() };
    assert!(matches!(land::land(&table, &planned, plan).await.unwrap(), land::Landed::At(_)));
    assert_eq!(land::land(&table, &planned, retired).await.unwrap(), land::Landed::Overtaken);
    assert_eq!(retire::retire(&table, keep, now).await.unwrap().unwrap().rows, Some(3));
    assert!(table.snapshot().await.unwrap().files().is_empty());
}

/// What a query has begun to read stays until it ends, whatever is merged and removed meanwhile.
#[tokio::test]
async fn a_scan_that_is_open_goes_on_while_files_are_merged_and_removed() {
    let bucket = Bucket::memory("b");
    let table = table(&bucket).await;
    for step in 0..20 {
        flush(&table, "app", readings(step * 500..(step + 1) * 500, 0)).await;
    }
    let context =
        SessionContext::new_with_config(SessionConfig::new().with_target_partitions(1).with_batch_size(100));
    let snapshot = table.snapshot().await.unwrap();
    let provider = crate::provider::SnapshotProvider::new(&bucket, snapshot, &table);
    context.register_table("t", provider).unwrap();
    let mut rows = context.sql("select _offset from t").await.unwrap().execute_stream().await.unwrap();
    let mut sum = 0;
    let mut add = |batch: RecordBatch| {
        sum += batch.column(0).as_primitive::<Int64Type>().values().iter().sum::<i64>();
    };
    add(futures::StreamExt::next(&mut rows).await.unwrap().unwrap());
    // Within the safe age: all is merged, and nothing of what the scan still reads is removed.
    let now = Utc::now() + TimeDelta::days(3);
    let tended = tend(&table, rules(), now).await;
    assert_eq!((tended.after.files, tended.vacuumed.unwrap().files), (1, 0));
    while let Some(batch) = futures::StreamExt::next(&mut rows).await {
        add(batch.unwrap());
    }
    assert_eq!(sum, (0..10_000).sum::<i64>());
}
