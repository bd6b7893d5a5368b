//! The last rows are found in the newest files, however many older ones there are.

use crate::Table;
use crate::fixture::{MIDNIGHT, another, faulty, table};
use crate::upkeep::tests::{ask_as, flush, readings};
use datafusion::prelude::SessionConfig;

/// The engine hands rows that pass a filter on when a batch is full of them: here it is after so few that a few small files fill it, as some files of real days do
/// otherwise.
async fn ask(table: &Table, sql: &str) -> Vec<i64> {
    let few = SessionConfig::new().with_target_partitions(2).with_batch_size(20);
    ask_as(few, table, sql).await
}

#[tokio::test]
async fn the_last_reading_of_a_device_costs_the_same_with_four_times_as_many_days() {
    let (store, bucket) = faulty();
    let table = table(&bucket).await;
    let mut days = 0;
    let mut grow = async |until: i64| {
        for day in days..until {
            flush(&table, "app", readings(day * 70..(day + 1) * 70, day)).await;
        }
        days = until;
    };
    let cost = async |sql: &str, expected: i64| {
        let mut most = 0;
        // Who has only loaded the table has its files in another order than who wrote them.
        for handle in [&table, &another(&table).await] {
            handle.snapshot().await.unwrap();
            let before = store.requests();
            assert_eq!(ask(handle, sql).await, [expected], "{sql}");
            most = most.max(store.requests() - before);
        }
        println!("{most} requests: {sql}");
        most
    };
    let last = "select _offset from t order by ts desc limit 1";
    let last_of_device = "select _offset from t where device_id = 'd3' order by ts desc limit 1";
    grow(20).await;
    let (few, few_of_device) = (cost(last, 1399).await, cost(last_of_device, 1396).await);
    grow(80).await;
    let (many, many_of_device) = (cost(last, 5599).await, cost(last_of_device, 5596).await);
    // Which reader is faster decides by a file or two.
    assert!(many <= few + 12, "{many} requests instead of {few}");
    assert!(many_of_device <= few_of_device + 12, "{many_of_device} requests instead of {few_of_device}");
    // The first one is in the oldest file, and no file is left out that may have it.
    cost("select _offset from t where device_id = 'd3' order by ts limit 1", 3).await;
    let all = cost("select _offset from t where device_id = 'd3' order by _offset desc limit 1", 5596).await;
    assert!(all >= 80, "a control: {all} requests where nothing says in which file it is");
    let when = cost("select cast(max(ts) as bigint) from t", MIDNIGHT + 79 * 86_400_000_000 + 5599).await;
    assert!(when <= 2, "{when} requests to know what the statistics say");
    // Not of a part of the rows: the first five of the newest file, which begins with the device d0.
    let of_some = "select cast(max(ts) as bigint) from (select ts from t limit 5)";
    cost(of_some, MIDNIGHT + 79 * 86_400_000_000 + 5558).await;
}
