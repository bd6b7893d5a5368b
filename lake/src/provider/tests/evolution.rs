//! Columns that older files do not have.

use super::*;
use crate::Operation;

#[tokio::test]
async fn a_column_that_came_later_is_null_in_older_files() {
    let dir = tempfile::tempdir().unwrap();
    let bucket = Bucket::local(dir.path()).unwrap();
    let table = table(&bucket).await;
    append(&table, batch(&[reading(20_000, "a", 1.0)])).await;

    let mut fields: Vec<_> = schema().fields().iter().cloned().collect();
    fields.insert(4, Arc::new(Field::new("Wind speed", DataType::Float64, true)));
    let wider = Arc::new(Schema::new(fields));
    let outcome = table
        .commit(Plan { operation: Operation::Schema, schema: Some(Arc::clone(&wider)), ..Plan::default() })
        .await
        .unwrap();
    assert!(matches!(outcome, Outcome::Applied { .. }));
    let narrow = batch(&[reading(20_001, "b", 2.0)]);
    let mut columns = narrow.columns().to_vec();
    columns.insert(4, Arc::new(Float64Array::from(vec![Some(7.5)])));
    append(&table, RecordBatch::try_new(wider, columns).unwrap()).await;

    let provider = provider(&bucket, &table).await;
    let check = async |sql: &str, expected: &[&str], pruned: Option<usize>| {
        let asked = ask(Arc::clone(&provider) as _, sql).await;
        let rows: Vec<_> = asked.text.lines().skip(3).filter(|line| line.starts_with("| ")).collect();
        assert_eq!((rows.as_slice(), asked.pruned), (expected, pruned), "{sql}\n{}", asked.text);
    };
    let both = ["| a         | 1.0  |            |", "| b         | 2.0  | 7.5        |"];
    check("select device_id, temp, \"Wind speed\" from telemetry order by 1", &both, Some(0)).await;
    check("select device_id from telemetry where \"Wind speed\" > 5", &["| b         |"], Some(0)).await;
    check("select device_id from telemetry where \"Wind speed\" > 8", &[], Some(1)).await;
    check("select device_id from telemetry where \"Wind speed\" is null", &["| a         |"], Some(1)).await;
    check("select count(\"Wind speed\") as n from telemetry", &["| 1 |"], Some(0)).await;
}
