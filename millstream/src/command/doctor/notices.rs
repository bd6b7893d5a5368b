//! Whether the store's own notifications arrive: a commit of no table is put into the ingestion bucket, and its event is waited for on the notices' topic.

use super::Finding;
use millstream_lake::Bucket;
use millstream_log::kafka::KafkaLog;
use millstream_log::{Log, LogError, LogReader, ReadLimit};
use millstream_model::name::LogTopic;
use millstream_model::notice::Notice;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// How much is read at once; a notice has a kilobyte or two.
const READ: ReadLimit = ReadLimit { records: 256, bytes: 1 << 20 };

pub(super) async fn check(log: &KafkaLog, bucket: &Bucket, wait: Duration, sweep: Duration) -> Finding {
    let subject = "notices";
    let mut readers = match at_the_end(log).await {
        Ok(readers) => readers,
        Err(error) => return Finding::failed(subject, error.to_string()),
    };
    // A version that no other trial has: an event of an earlier one may still be on its way.
    let version =
        u64::from(std::process::id()) << 32 | u64::from(chrono::Utc::now().timestamp_subsec_nanos());
    let key = format!("_millstream_probe/_delta_log/{version:020}.json");
    let place = Path::from(key.as_str());
    let store = bucket.store();
    let begin = Instant::now();
    if let Err(error) = store.put(&place, "{}".into()).await {
        return Finding::failed(subject, format!("cannot write the commit that should be noticed: {error}"));
    }
    let noticed = bucket.noticed_key(&key);
    let mut waiting = JoinSet::new();
    for reader in readers.drain(..) {
        waiting.spawn(arrival(reader, noticed.clone()));
    }
    let arrived = tokio::time::timeout(wait, waiting.join_next()).await;
    waiting.shutdown().await;
    if let Err(error) = store.delete(&place).await {
        tracing::debug!(%place, %error, "left the commit of a trial behind");
    }
    match arrived {
        Ok(Some(Ok(Ok(())))) => Finding::ok(
            subject,
            format!("an event of the store arrived after {} ms", begin.elapsed().as_millis()),
        ),
        Ok(Some(Ok(Err(error)))) => Finding::failed(subject, format!("cannot be read: {error}")),
        Ok(Some(Err(_)) | None) => Finding::failed(subject, "the wait for them was cut off"),
        Err(_) => missing(subject, bucket, wait, sweep),
    }
}

fn missing(subject: &str, bucket: &Bucket, wait: Duration, sweep: Duration) -> Finding {
    let (name, topic) = (bucket.name(), LogTopic::notices());
    let prefix = bucket.noticed_key("");
    let prefix = if prefix.is_empty() { String::new() } else { format!(" (and prefix {prefix})") };
    let said = format!(
        "no event of the store arrived within {} s; until then reports follow within {} s, by the sweep",
        wait.as_secs(),
        sweep.as_secs()
    );
    Finding::failed(subject, said).advice(format!(
        "give the bucket {name} a rule for events s3:ObjectCreated:* with suffix .json{prefix}, whose target writes to the topic {topic};\n\
         on MinIO: QueueArn arn:minio:sqs::PRIMARY:kafka, with MINIO_NOTIFY_KAFKA_ENABLE_PRIMARY=on, MINIO_NOTIFY_KAFKA_BROKERS_PRIMARY and\n\
         MINIO_NOTIFY_KAFKA_TOPIC_PRIMARY={topic}; or let the firehose write notices: lake.notices = \"firehose\""
    ))
}

/// A reader of each partition of the notices' topic, behind all that is in it.
async fn at_the_end(log: &KafkaLog) -> Result<Vec<Box<dyn LogReader>>, LogError> {
    let mut readers = Vec::new();
    for partition in log.partitions(&LogTopic::notices()).await? {
        let next = log.bounds(&partition).await?.next;
        readers.push(log.reader(&partition, next).await?);
    }
    Ok(readers)
}

/// Ends when the notice of this key is read.
async fn arrival(mut reader: Box<dyn LogReader>, key: String) -> Result<(), LogError> {
    loop {
        for stored in reader.next(READ).await? {
            // What is no notice is the processor's to complain about.
            let notices = Notice::parse(&stored.record.value).unwrap_or_default();
            if notices.iter().any(|notice| notice.key == key) {
                return Ok(());
            }
        }
    }
}
