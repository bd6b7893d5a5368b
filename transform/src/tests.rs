//! Both stages together, on the real log and on files.

use crate::simulation::world::{SMALL_FILES, message, origins, rows, stream};
use crate::{firehose, processor};
use millstream_lake::{Bucket, Table};
use millstream_log::Log;
use millstream_log::embedded::{EmbeddedLog, EmbeddedSettings};
use millstream_model::name::{LogTopic, Offset, Partition, QUARANTINE, TopicPartition};
use millstream_query::When;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

const SQL: &str = "select date, count(*) as readings from telemetry group by date";

/// One run of a program: everything on `dir`, from start to drained.
async fn river(dir: &Path, messages: i64) {
    let log = EmbeddedLog::open(&dir.join("log"), EmbeddedSettings::default()).await.unwrap();
    let (ingestion, reporting) =
        (Bucket::local(&dir.join("ingestion")).unwrap(), Bucket::local(&dir.join("reporting")).unwrap());
    let shared: Arc<dyn Log> = Arc::new(log.clone());
    let (draining, stopping) = (CancellationToken::new(), CancellationToken::new());
    let mut telemetry = stream(SMALL_FILES);
    telemetry.files.idle = Duration::from_millis(200);
    let topic = telemetry.name.log_topic();
    let (settings, status) = (firehose::Settings::default(), watch::Sender::default());
    let mut firehoses = JoinSet::new();
    let (stream, into) = (Arc::new(telemetry), ingestion.clone());
    firehoses.spawn(firehose::run(settings.clone(), stream, shared.clone(), into, draining.clone(), status));
    let into = ingestion.clone();
    firehoses.spawn(firehose::run_unrouted(
        settings,
        shared.clone(),
        into,
        draining.clone(),
        watch::Sender::default(),
    ));
    let report = processor::Report {
        name: "daily".parse().unwrap(),
        sql: SQL.to_owned(),
        partition_by: Some("date".to_owned()),
        when: When::Always,
    };
    let (status, mut reported) = watch::channel(processor::Status::default());
    let mut processors = JoinSet::new();
    processors.spawn(processor::run(
        processor::Settings::default(),
        vec![report.clone()],
        shared.clone(),
        ingestion.clone(),
        reporting,
        stopping.clone(),
        status,
    ));

    for number in 0..messages {
        let payload = if number % 10 == 9 { "broken" } else { r#"{"temp":21.5}"# };
        log.append(&topic, vec![message("d1", payload, number * 600)]).await.unwrap().await.unwrap();
    }
    log.append(&LogTopic::unrouted(), vec![message("d1", "21.5", 0)]).await.unwrap().await.unwrap();
    draining.cancel();
    while let Some(ended) = firehoses.join_next().await {
        ended.unwrap().unwrap();
    }
    let source = Table::open(&ingestion, "telemetry").await.unwrap().unwrap().snapshot().await.unwrap();
    let shows = |status: &processor::Status| {
        let report = status.reports.get(&report.name);
        report.is_some_and(|report| report.sources.get("telemetry") == Some(&source.version()))
    };
    reported.wait_for(shows).await.unwrap();
    stopping.cancel();
    processors.join_next().await.unwrap().unwrap().unwrap();
    let partition = TopicPartition { topic, partition: Partition(0) };
    let next = log.bounds(&partition).await.unwrap().next;
    assert_eq!(firehose::committed(&source, &partition).map(Offset::next), Some(next));
    drop(shared);
    log.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_the_log_is_in_tables_and_reports_after_each_run() {
    let dir = tempfile::tempdir().unwrap();
    let ingestion = Bucket::local(&dir.path().join("ingestion")).unwrap();
    let reporting = Bucket::local(&dir.path().join("reporting")).unwrap();
    for run in 1..=2 {
        river(dir.path(), 500).await;
        assert_eq!(origins(&ingestion, "telemetry").await.len(), 450 * run);
        assert_eq!(origins(&ingestion, QUARANTINE).await.len(), 51 * run);
        // Messages at ten minute intervals: 144 of each day, a tenth of them broken.
        let days = rows(&reporting, "daily").await.iter().map(|batch| batch.num_rows()).sum::<usize>();
        assert_eq!(days, 4);
    }
}
