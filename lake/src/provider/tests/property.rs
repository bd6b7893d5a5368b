//! Whatever is left out, the answers are those of the same rows in memory.

use super::*;
use datafusion::datasource::MemTable;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};

/// Each asks eight questions, twice.
const CASES: u32 = 32;

fn readings() -> impl Strategy<Value = Vec<Vec<Reading>>> {
    let temp = prop_oneof![
        4 => (-20_i32..20).prop_map(|tenths| Some(f64::from(tenths) / 10.0)),
        1 => prop_oneof![Just(f64::INFINITY), Just(f64::NEG_INFINITY), Just(f64::NAN), Just(-0.0), Just(f64::MIN_POSITIVE), Just(f64::MAX)].prop_map(Some),
        1 => Just(None),
    ];
    let device =
        prop_oneof![4 => "[a-c]{1,2}".prop_map(Some), 1 => "ü{0,60}".prop_map(Some), 1 => Just(None)];
    let dust = prop_oneof![3 => (-3_i64..3).prop_map(Some), 1 => Just(Some(i64::MAX)), 1 => Just(None)];
    let date = prop_oneof![8 => (20_000_i32..20_004).prop_map(Some), 1 => Just(None)];
    let micros = prop_oneof![8 => (0_i64..3_000).prop_map(Some), 1 => Just(None)];
    let reading = (date, micros, device, temp, dust).prop_map(|(date, micros, device, temp, dust)| Reading {
        date,
        micros,
        device,
        temp,
        dust,
    });
    proptest::collection::vec(proptest::collection::vec(reading, 1..4), 1..5)
}

fn filter() -> impl Strategy<Value = String> {
    let comparison = prop_oneof![Just("="), Just("<>"), Just("<"), Just("<="), Just(">"), Just(">=")];
    let literal = prop_oneof![
        (-20_i32..20).prop_map(|tenths| ("temp", format!("{:?}", f64::from(tenths) / 10.0))),
        (-3_i64..3).prop_map(|value| ("\"PM2.5\"", value.to_string())),
        "[a-c]{1,2}".prop_map(|text| ("device_id", format!("'{text}'"))),
        (4_u32..8).prop_map(|day| ("date", format!("date '2024-10-{day:02}'"))),
        (4_u32..8, 0_u32..3)
            .prop_map(|(day, ms)| ("ts", format!("timestamp '2024-10-{day:02}T00:00:00.{ms:03}Z'"))),
    ];
    let column = prop_oneof![Just("temp"), Just("\"PM2.5\""), Just("device_id"), Just("date"), Just("ts")];
    let leaf = prop_oneof![
        5 => (literal, comparison).prop_map(|((column, value), comparison)| format!("{column} {comparison} {value}")),
        1 => column.clone().prop_map(|column| format!("{column} is null")),
        1 => column.prop_map(|column| format!("{column} is not null")),
        1 => Just("device_id like 'a%'".to_owned()),
        1 => Just("date in (date '2024-10-04', date '2024-10-06')".to_owned()),
        1 => Just("\"PM2.5\" in (1, 2)".to_owned()),
    ];
    leaf.prop_recursive(2, 6, 2, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} and {b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} or {b})")),
            inner.prop_map(|a| format!("not ({a})")),
        ]
    })
}

/// The rows as a sorted list of texts, so that order does not count.
async fn rows(provider: Arc<dyn TableProvider>, sql: &str) -> Vec<String> {
    let mut lines: Vec<String> = ask(provider, sql).await.text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn answers_are_those_of_the_same_rows_in_memory() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let seed =
        std::env::var("SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    println!("SEED={seed}");
    let config = Config {
        cases: CASES,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(seed),
        ..Config::default()
    };
    let mut runner = TestRunner::new(config);
    let outcome = runner.run(&(readings(), proptest::collection::vec(filter(), 4)), |(batches, filters)| {
        runtime.block_on(async {
            let bucket = Bucket::memory("ingestion");
            let table = table(&bucket).await;
            for readings in &batches {
                append(&table, batch(readings)).await;
            }
            let snapshot = table.snapshot().await.unwrap();
            let memory: Arc<dyn TableProvider> = Arc::new(
                MemTable::try_new(schema(), vec![batches.iter().map(|readings| batch(readings)).collect()])
                    .unwrap(),
            );
            for filter in filters {
                for select in [
                    "select date, device_id, temp, ts, \"PM2.5\"",
                    "select count(*) as n, max(date) as d, count(temp) as t",
                ] {
                    let sql = format!("{select} from telemetry where {filter}");
                    let found =
                        rows(SnapshotProvider::new(&bucket, Arc::clone(&snapshot), &table), &sql).await;
                    let expected = rows(Arc::clone(&memory), &sql).await;
                    prop_assert_eq!(found, expected, "{}", sql);
                }
            }
            Ok(())
        })
    });
    outcome.unwrap();
}
