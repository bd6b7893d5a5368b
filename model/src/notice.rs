//! The notice: "there is something new at this version of a table", in the S3 event format, so that a store's own notification is one.

use crate::time::Micros;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// One object that was made in a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Bucket (or, on a local disk, the name of the directory that stands for it).
    pub bucket: String,
    /// Key in the bucket, decoded.
    pub key: String,
    /// When it happened, if the event says.
    pub event_time: Option<Micros>,
    /// The store's own order of events on one key.
    pub sequencer: Option<String>,
}

/// A record of the notices' log topic that is no S3 event.
#[derive(Debug, Error)]
#[error("not an S3 event record")]
pub struct BadNotice(#[from] serde_json::Error);

impl Notice {
    /// The table's folder and the version, if the key is a commit of a Delta log: `<table>/_delta_log/<20 digits>.json`.
    #[must_use]
    pub fn commit(&self) -> Option<(&str, u64)> {
        let (table, file) = self.key.split_once("/_delta_log/")?;
        let digits = file.strip_suffix(".json")?;
        let is_commit = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
        if is_commit { digits.parse().ok().map(|version| (table, version)) } else { None }
    }

    /// The event as a store would write it.
    #[must_use]
    pub fn to_json(&self) -> String {
        let record = EventRecord {
            event_name: "ObjectCreated:Put".to_owned(),
            event_time: self.event_time.map(|time| time.to_string()),
            s3: S3 {
                bucket: Bucket { name: self.bucket.clone() },
                object: Object {
                    key: utf8_percent_encode(&self.key, KEY).to_string(),
                    sequencer: self.sequencer.clone(),
                },
            },
        };
        // A struct of strings always serialises.
        serde_json::to_string(&Event { records: vec![record] }).unwrap_or_default()
    }

    /// Reads an event: those of its records that made an object. Others (removals, a store's test event) are none of ours.
    ///
    /// # Errors
    /// If it is not JSON of that shape.
    pub fn parse(event: &[u8]) -> Result<Vec<Self>, BadNotice> {
        let event: Event = serde_json::from_slice(event)?;
        let made = event.records.into_iter().filter(|record| {
            let name = record.event_name.as_str();
            name.strip_prefix("s3:").unwrap_or(name).starts_with("ObjectCreated:")
        });
        Ok(made.map(Self::from_record).collect())
    }

    fn from_record(record: EventRecord) -> Self {
        // S3 encodes a key like a form: a space is `+`.
        let key = record.s3.object.key.replace('+', " ");
        Self {
            bucket: record.s3.bucket.name,
            key: percent_decode_str(&key).decode_utf8_lossy().into_owned(),
            event_time: record.event_time.as_deref().and_then(Micros::from_rfc3339),
            sequencer: record.s3.object.sequencer,
        }
    }
}

/// What S3 encodes in a key: everything but letters, digits and `-_.*`.
const KEY: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'!')
    .add(b'"')
    .add(b'#')
    .add(b'$')
    .add(b'%')
    .add(b'&')
    .add(b'\'')
    .add(b'(')
    .add(b')')
    .add(b'+')
    .add(b',')
    .add(b'/')
    .add(b':')
    .add(b';')
    .add(b'<')
    .add(b'=')
    .add(b'>')
    .add(b'?')
    .add(b'@')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}')
    .add(b'~');

#[derive(Serialize, Deserialize)]
struct Event {
    #[serde(rename = "Records", default)]
    records: Vec<EventRecord>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct EventRecord {
    event_name: String,
    event_time: Option<String>,
    s3: S3,
}

#[derive(Serialize, Deserialize)]
struct S3 {
    bucket: Bucket,
    object: Object,
}

#[derive(Serialize, Deserialize)]
struct Bucket {
    name: String,
}

#[derive(Serialize, Deserialize)]
struct Object {
    key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    sequencer: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(key: &str) -> Notice {
        Notice {
            bucket: "ingestion".to_owned(),
            key: key.to_owned(),
            event_time: Some(Micros(1_000_001)),
            sequencer: Some("0A".to_owned()),
        }
    }

    #[test]
    fn a_notice_reads_back_whatever_its_key() {
        for key in ["telemetry/_delta_log/00000000000000000099.json", "a b/ä+%.json", ""] {
            assert_eq!(Notice::parse(notice(key).to_json().as_bytes()).unwrap(), [notice(key)]);
        }
        assert!(notice("a/b").to_json().contains("a%2Fb"));
    }

    #[test]
    fn only_commits_of_a_delta_log_count() {
        assert_eq!(
            notice("telemetry/_delta_log/00000000000000000099.json").commit(),
            Some(("telemetry", 99))
        );
        for other in [
            "telemetry/part-0.parquet",
            "t/_delta_log/00000000000000000010.checkpoint.parquet",
            "t/_delta_log/_last_checkpoint",
            "t/_delta_log/.json",
        ] {
            assert_eq!(notice(other).commit(), None);
        }
    }

    #[test]
    fn removals_are_not_notices_and_other_text_is_an_error() {
        let removed = br#"{"Records":[{"eventName":"s3:ObjectRemoved:Delete","s3":{"bucket":{"name":"b"},"object":{"key":"k"}}}]}"#;
        assert_eq!(Notice::parse(removed).unwrap(), []);
        assert_eq!(Notice::parse(br#"{"Service":"Amazon S3","Event":"s3:TestEvent"}"#).unwrap(), []);
        assert!(Notice::parse(b"21.5").is_err());
    }
}
