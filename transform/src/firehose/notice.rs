//! Tells the processor that a table has a new version. A notice that is lost costs time only: the processor sweeps.

use super::NoticeRule;
use super::work::Work;
use crate::backoff::chain;
use bytes::Bytes;
use chrono::Utc;
use millstream_lake::Bucket;
use millstream_log::Log;
use millstream_model::name::LogTopic;
use millstream_model::notice::Notice;
use millstream_model::record::Record;
use millstream_model::time::Micros;
use std::time::Duration;

/// How long is waited for a notice to be durable. It is the log's own time for a sync, many times over.
const PATIENCE: Duration = Duration::from_secs(5);

/// Writes the notice of a commit, unless the store does so. A failure is only logged.
pub(crate) async fn send(work: &Work, table: &str, version: i64) {
    if work.settings.notices == NoticeRule::Firehose {
        write(work.log.as_ref(), &work.ingestion, table, version).await;
    }
}

/// Writes the notice of a commit. A failure is only logged.
pub(crate) async fn write(log: &dyn Log, bucket: &Bucket, table: &str, version: i64) {
    let notice = Notice {
        bucket: bucket.name().to_owned(),
        key: bucket.noticed_key(&format!("{table}/_delta_log/{version:020}.json")),
        event_time: Some(Micros::from(Utc::now())),
        sequencer: Some(format!("{version:016X}")),
    };
    let record = Record {
        key: Bytes::copy_from_slice(table.as_bytes()),
        value: Bytes::from(notice.to_json()),
        headers: Vec::new(),
    };
    let sent = async { log.append(&LogTopic::notices(), vec![record]).await?.await };
    match tokio::time::timeout(PATIENCE, sent).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::warn!(
            table,
            version,
            error = chain(&error),
            "a notice could not be written; the sweep will find the commit"
        ),
        Err(_) => tracing::warn!(table, version, "a notice took too long; the sweep will find the commit"),
    }
}
