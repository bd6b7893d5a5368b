use super::*;
use arrow::array::{ArrayRef, Date32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use millstream_lake::{Operation, Outcome, Plan, Table, TableDefinition, WriteOptions};
use object_store::ObjectStoreExt;
use object_store::path::Path;
use std::sync::Arc;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn definition() -> TableDefinition {
    let schema = Schema::new(vec![
        Field::new("device_id", DataType::Utf8, true),
        Field::new("n", DataType::Int64, true),
        Field::new("date", DataType::Date32, true),
    ]);
    TableDefinition {
        schema: Arc::new(schema),
        partition_by: vec!["date".to_owned()],
        properties: [("millstream.epoch".to_owned(), "0".to_owned())].into(),
    }
}

async fn append(table: &Table, n: i64) {
    let columns: [(&str, ArrayRef); 3] = [
        ("device_id", Arc::new(StringArray::from(vec!["d"]))),
        ("n", Arc::new(Int64Array::from(vec![n]))),
        ("date", Arc::new(Date32Array::from(vec![20_000]))),
    ];
    let adds =
        table.write(RecordBatch::try_from_iter(columns).unwrap(), &WriteOptions::default()).await.unwrap();
    let plan = Plan {
        operation: Operation::Append,
        adds,
        data_change: true,
        set: [("n".to_owned(), n)].into(),
        ..Plan::default()
    };
    assert!(matches!(table.commit(plan).await.unwrap(), Outcome::Applied { .. }));
}

async fn filled(bucket: &Bucket, name: &str) -> Table {
    let table = Table::open_or_create(bucket, name, &definition()).await.unwrap();
    for n in 0..20 {
        append(&table, n).await;
    }
    table
}

fn rules(_: &str) -> Rules {
    Rules { target_size: Some(1 << 20), safe_age: 7 * DAY, log_keep: 30 * DAY, keep: None }
}

fn often() -> Settings {
    Settings { every: Duration::from_millis(20) }
}

#[tokio::test]
async fn every_table_is_looked_after_although_one_of_them_cannot_be() {
    let bucket = Bucket::memory("b");
    // The first in the alphabet, so that it is met before the others.
    bucket.store().put(&Path::from("bad/_delta_log/00000000000000000000.json"), "{".into()).await.unwrap();
    let other = TableDefinition { properties: BTreeMap::new(), ..definition() };
    let foreign = Table::open_or_create(&bucket, "foreign", &other).await.unwrap();
    for n in 0..20 {
        append(&foreign, n).await;
    }
    let (one, two) = (filled(&bucket, "one").await, filled(&bucket, "two").await);
    let (shutdown, status) = (CancellationToken::new(), watch::Sender::<Status>::default());
    let mut seen = status.subscribe();
    let running = run(often(), bucket.clone(), Arc::new(rules), shutdown.clone(), status);
    let watching = async {
        let done = |status: &Status| {
            let merged = |name: &str| status.tables.get(name).is_some_and(|table| table.totals.merged == 20);
            let failed = status.tables.get("bad").is_some_and(|table| table.totals.errors > 2);
            merged("one") && merged("two") && failed && status.rounds > 2
        };
        let status = tokio::time::timeout(Duration::from_secs(60), seen.wait_for(done)).await;
        let status = status.expect("in time").unwrap().clone();
        shutdown.cancel();
        status
    };
    let ((), status) = tokio::join!(running, watching);
    assert!(status.tables["bad"].last_error.is_some() && status.tables["bad"].tended_at.is_none());
    assert!(status.tables["one"].last_error.is_none() && status.tables["one"].extent.files == 1);
    assert!(!status.tables.contains_key("foreign"), "another program's table is none of ours");
    for (table, files) in [(&one, 1), (&two, 1), (&foreign, 20)] {
        let snapshot = table.snapshot().await.unwrap();
        let rows: u64 = snapshot.files().iter().filter_map(|file| file.rows).sum();
        assert_eq!((snapshot.files().len(), rows), (files, 20), "{}", table.name());
    }
}

#[tokio::test]
async fn several_janitors_beside_writers_lose_and_double_nothing_and_stop_when_told() {
    let bucket = Bucket::memory("b");
    let table = filled(&bucket, "t").await;
    let shutdown = CancellationToken::new();
    let janitors: Vec<_> = (0..3)
        .map(|_| run(often(), bucket.clone(), Arc::new(rules), shutdown.clone(), watch::Sender::default()))
        .collect();
    let writer = async {
        for n in 20..120 {
            append(&table, n).await;
        }
        let merged = async {
            while table.snapshot().await.unwrap().files().len() > 30 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), merged).await.expect("in time");
        shutdown.cancel();
    };
    tokio::join!(futures::future::join_all(janitors), writer);
    let snapshot = table.snapshot().await.unwrap();
    assert_eq!(snapshot.files().iter().filter_map(|file| file.rows).sum::<u64>(), 120);
}
