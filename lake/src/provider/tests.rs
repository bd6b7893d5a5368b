//! The provider over real tables: it leaves out what it can, and never a row that counts.

use super::*;
use crate::{Outcome, Plan, TableDefinition, WriteOptions};
use arrow::array::{
    ArrayRef, Date32Array, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, TimeUnit};
use arrow::util::pretty::pretty_format_batches;
use datafusion::physical_plan::collect;
use datafusion::prelude::{SessionConfig, SessionContext};
use std::collections::BTreeMap;

mod evolution;
mod latest;
mod property;
mod pruning;

/// A reading: day since 1970, microsecond of that day, device, value, and one of a column whose name needs quotes.
#[derive(Debug, Clone)]
struct Reading {
    date: Option<i32>,
    micros: Option<i64>,
    device: Option<String>,
    temp: Option<f64>,
    dust: Option<i64>,
}

fn reading(date: i32, device: &str, temp: f64) -> Reading {
    Reading {
        date: Some(date),
        micros: Some(1),
        device: Some(device.to_owned()),
        temp: Some(temp),
        dust: None,
    }
}

fn schema() -> SchemaRef {
    let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    Arc::new(Schema::new(vec![
        Field::new("ts", utc, true),
        Field::new("device_id", DataType::Utf8, true),
        Field::new("date", DataType::Date32, true),
        Field::new("temp", DataType::Float64, true),
        Field::new("PM2.5", DataType::Int64, true),
    ]))
}

fn batch(readings: &[Reading]) -> RecordBatch {
    let day = 86_400_000_000_i64;
    let ts =
        readings.iter().map(|r| r.date.zip(r.micros).map(|(date, micros)| i64::from(date) * day + micros));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(ts.collect::<TimestampMicrosecondArray>().with_timezone("UTC")),
        Arc::new(readings.iter().map(|r| r.device.clone()).collect::<StringArray>()),
        Arc::new(readings.iter().map(|r| r.date).collect::<Date32Array>()),
        Arc::new(readings.iter().map(|r| r.temp).collect::<Float64Array>()),
        Arc::new(readings.iter().map(|r| r.dust).collect::<Int64Array>()),
    ];
    RecordBatch::try_new(schema(), columns).unwrap()
}

async fn table(bucket: &Bucket) -> Table {
    let definition = TableDefinition {
        schema: schema(),
        partition_by: vec![DATE.to_owned()],
        properties: BTreeMap::new(),
    };
    Table::open_or_create(bucket, "telemetry", &definition).await.unwrap()
}

async fn append(table: &Table, batch: RecordBatch) {
    let adds = table.write(batch, &WriteOptions::default()).await.unwrap();
    let plan = Plan { adds, data_change: true, ..Plan::default() };
    assert!(matches!(table.commit(plan).await.unwrap(), Outcome::Applied { .. }));
}

/// What a query gave, and how many files it left out.
struct Asked {
    text: String,
    pruned: Option<usize>,
}

async fn ask(provider: Arc<dyn TableProvider>, sql: &str) -> Asked {
    let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(2));
    context.register_table("telemetry", provider).unwrap();
    let physical = context.sql(sql).await.unwrap().create_physical_plan().await.unwrap();
    let batches = collect(Arc::clone(&physical), context.task_ctx()).await.unwrap();
    let text = pretty_format_batches(&batches).unwrap().to_string();
    Asked { text, pruned: pruned(physical.as_ref()) }
}

/// `None` when nothing was scanned.
fn pruned(plan: &dyn ExecutionPlan) -> Option<usize> {
    if plan.is::<DataSourceExec>()
        && let Some(count) = plan.metrics().and_then(|metrics| metrics.sum_by_name(FILES_PRUNED))
    {
        return Some(count.as_usize());
    }
    plan.children().into_iter().find_map(|child| pruned(child.as_ref()))
}

async fn provider(bucket: &Bucket, table: &Table) -> Arc<SnapshotProvider> {
    SnapshotProvider::new(bucket, table.snapshot().await.unwrap(), table)
}
