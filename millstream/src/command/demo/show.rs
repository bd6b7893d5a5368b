//! What the demonstration shows of its tables, and what to try next.

use super::chart;
use super::weather::{Key, Recording};
use crate::command::{program, quoted};
use crate::config::Settings;
use crate::directory::Directory;
use anyhow::Context;
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, Int64Type, TimestampMicrosecondType};
use millstream_model::time::Micros;
use millstream_query::{Format, Layout, Limits, Session, print};
use std::collections::HashSet;

/// Months as rows, from the report that the reporting bucket keeps.
const MONTHS: &str = "\
select date_format(date, '%Y-%m') as month, sum(readings) as readings,
       round(max(temp) filter (where device_id = 'EWR'), 1) as \"EWR °F\",
       round(max(temp) filter (where device_id = 'JFK'), 1) as \"JFK °F\",
       round(max(temp) filter (where device_id = 'LGA'), 1) as \"LGA °F\",
       round(min(coldest), 1) as coldest, round(max(warmest), 1) as warmest,
       round(max(gust), 1) as \"gust mph\", round(sum(rain), 2) as \"rain in\"
from reporting.monthly_weather group by date order by date";

const DAYS: &str = "select day, temp from reporting.daily_weather where temp is not null order by day";

/// Readings in the table; 0 where there is none yet.
pub(super) async fn count(directory: &Directory, settings: &Settings) -> anyhow::Result<u64> {
    let Some(session) = session_over_weather(directory, settings).await? else { return Ok(0) };
    let batches = session.query("select count(*) from weather").await?.collect().await?;
    let count = batches.first().filter(|batch| batch.num_rows() == 1).context("a count without a row")?;
    Ok(u64::try_from(count.column(0).as_primitive::<Int64Type>().value(0))?)
}

/// Station and time of each reading in the table.
pub(super) async fn keys(directory: &Directory, settings: &Settings) -> anyhow::Result<HashSet<Key>> {
    let Some(session) = session_over_weather(directory, settings).await? else { return Ok(HashSet::new()) };
    let batches = session
        .query("select arrow_cast(device_id, 'Utf8') as device_id, ts from weather")
        .await?
        .collect()
        .await?;
    let keys = |batch: &RecordBatch| {
        let stations = batch.column(0).as_string::<i32>().clone();
        let times = batch.column(1).as_primitive::<TimestampMicrosecondType>().clone();
        (0..batch.num_rows())
            .map(move |row| (stations.value(row).to_owned(), Micros(times.value(row))))
            .collect::<Vec<_>>()
    };
    Ok(batches.iter().flat_map(keys).collect())
}

/// The report as a table and as a chart.
pub(super) async fn report(directory: &Directory, settings: &Settings) -> anyhow::Result<String> {
    let session = session(directory, settings).await?;
    let mut text = b"\nThe report monthly_weather, from the reporting bucket:\n\n".to_vec();
    print(session.query(MONTHS).await?, Format::Box, Layout::default(), &mut text).await?;
    let mut text = String::from_utf8(text)?;
    let days = session.query(DAYS).await?.collect().await?;
    let values: Vec<f64> = days
        .iter()
        .flat_map(|batch| batch.column(1).as_primitive::<Float64Type>().values().to_vec())
        .collect();
    let times: Vec<Micros> = days
        .iter()
        .flat_map(|batch| batch.column(0).as_primitive::<TimestampMicrosecondType>().values().to_vec())
        .map(Micros)
        .collect();
    let label = |time: Option<&Micros>| {
        time.and_then(|time| time.to_datetime())
            .map(|time| time.format("%Y-%m-%d").to_string())
            .unwrap_or_default()
    };
    text.push_str("\nMean temperature by day, from the report daily_weather:\n\n");
    text.push_str(&chart::draw(&values, &label(times.first()), &label(times.last()), "°F"));
    Ok(text)
}

/// Where the files are, and commands to paste.
pub(super) fn next_steps(
    directory: &Directory,
    settings: &Settings,
    recording: &Recording,
) -> anyhow::Result<String> {
    let (program, data) = (program(), quoted(directory.path()));
    let (ingestion, reporting) = (directory.ingestion(settings)?, directory.reporting(settings)?);
    let recent = if recording.is_shifted() { " where ts > now() - interval '1 day'" } else { "" };
    Ok(format!(
        "\n\
         Everything is in open files, Delta tables of Parquet that DuckDB, Spark, Trino and Polars read:\n  \
           readings   {}/weather\n  \
           reports    {}/monthly_weather, {}/daily_weather\n\n\
         Ask for yourself:\n  \
           {program} sql --data {data} -c \"select device_id, count(*), avg(temp) from weather{recent} group by 1\"\n\n\
         Let your own devices publish (Ctrl-C ends it):\n  \
           {program} up --data {data}\n\
         and from another terminal:\n  \
           mosquitto_pub -t devices/d1/telemetry -m '{{\"temp\":21.5}}'\n  \
           {program} sql --data {data} -c 'select * from telemetry'\n",
        ingestion.url().path().trim_end_matches('/'),
        reporting.url().path().trim_end_matches('/'),
        reporting.url().path().trim_end_matches('/'),
    ))
}

async fn session(directory: &Directory, settings: &Settings) -> anyhow::Result<Session> {
    let lakehouse = directory.lakehouse(settings)?;
    Session::open(&lakehouse, Limits::default()).await.context("failed to start a session")
}

async fn session_over_weather(directory: &Directory, settings: &Settings) -> anyhow::Result<Option<Session>> {
    let there =
        directory.lakehouse(settings)?.ingestion.table_names().await?.iter().any(|name| name == "weather");
    if there { session(directory, settings).await.map(Some) } else { Ok(None) }
}
