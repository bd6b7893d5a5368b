//! The notice: "there is something new at this version of a table", in the S3 event format, so that a store's own notification is one.

use crate::time::Micros;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use serde_json::Value;
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

/// A record of the notices' log topic that is no event of an object store.
#[derive(Debug, Error)]
pub enum BadNotice {
    /// It is no JSON.
    #[error("not an event: not JSON")]
    NotJson(#[source] serde_json::Error),
    /// It looks like an event of S3, and lacks what one has.
    #[error("not an event of S3")]
    Incomplete(#[source] serde_json::Error),
    /// It is JSON of another shape.
    #[error("not an event of S3, nor an envelope of SNS, SQS or EventBridge with one in it, but {found}")]
    Unknown {
        /// What it is, in a few words.
        found: String,
    },
}

impl Notice {
    /// The table and the version, if the key is a commit of a Delta log: `<table>/_delta_log/<20 digits>.json`, also in a folder of the bucket.
    #[must_use]
    pub fn commit(&self) -> Option<(&str, u64)> {
        let (folder, file) = self.key.rsplit_once("/_delta_log/")?;
        let table = folder.rsplit('/').next()?;
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
    /// It is taken as S3 and MinIO write it, by itself or in envelopes of SNS and SQS, and as EventBridge writes it.
    ///
    /// # Errors
    /// If it is nothing of these, or one of its records is not.
    pub fn parse(event: &[u8]) -> Result<Vec<Self>, BadNotice> {
        let mut notices = Vec::new();
        collect(&serde_json::from_slice(event).map_err(BadNotice::NotJson)?, ENVELOPES_MAX, &mut notices)?;
        Ok(notices)
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

    /// EventBridge leaves the key as it is.
    fn from_detail(detail: S3, time: Option<&str>) -> Self {
        Self {
            bucket: detail.bucket.name,
            key: detail.object.key,
            event_time: time.and_then(Micros::from_rfc3339),
            sequencer: detail.object.sequencer,
        }
    }
}

/// How many envelopes may lie in one another: SQS around SNS is two.
const ENVELOPES_MAX: usize = 3;

/// Adds what an event made, looking into envelopes.
fn collect(event: &Value, envelopes: usize, notices: &mut Vec<Notice>) -> Result<(), BadNotice> {
    let text = |value: &'_ Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
    let said = |key: &str| text(event, key);
    if let Some(records) = event.get("Records").and_then(Value::as_array) {
        for record in records {
            let content =
                record.get("Sns").and_then(|sns| text(sns, "Message")).or_else(|| text(record, "body"));
            match content {
                _ if record.get("s3").is_some() => notices.extend(made(record)?),
                Some(content) => unwrap(&content, envelopes, notices)?,
                None => return Err(unknown(record)),
            }
        }
        return Ok(());
    }
    match (said("source").as_deref(), said("Type").as_deref(), said("Message")) {
        // A bucket's owner has just switched notifications on.
        _ if said("Event").as_deref() == Some("s3:TestEvent") => Ok(()),
        (_, Some("Notification"), Some(content)) => unwrap(&content, envelopes, notices),
        (Some("aws.s3"), _, _) => {
            if said("detail-type").as_deref() == Some("Object Created") {
                let detail = event.get("detail").cloned().unwrap_or_default();
                let detail = serde_json::from_value(detail).map_err(BadNotice::Incomplete)?;
                notices.push(Notice::from_detail(detail, said("time").as_deref()));
            }
            Ok(())
        }
        _ => Err(unknown(event)),
    }
}

fn unwrap(content: &str, envelopes: usize, notices: &mut Vec<Notice>) -> Result<(), BadNotice> {
    if envelopes == 0 {
        return Err(BadNotice::Unknown { found: "an envelope in an envelope".to_owned() });
    }
    collect(&serde_json::from_str(content).map_err(BadNotice::NotJson)?, envelopes - 1, notices)
}

/// The object that a record of S3 made, if it did make one.
fn made(record: &Value) -> Result<Option<Notice>, BadNotice> {
    let record = EventRecord::deserialize(record).map_err(BadNotice::Incomplete)?;
    let name = record.event_name.as_str();
    let is_made = name.strip_prefix("s3:").unwrap_or(name).starts_with("ObjectCreated:");
    Ok(is_made.then(|| Notice::from_record(record)))
}

fn unknown(value: &Value) -> BadNotice {
    const KEYS_MAX: usize = 5;
    let found = match value {
        Value::Object(fields) if fields.is_empty() => "an empty object".to_owned(),
        Value::Object(fields) => {
            let keys: Vec<&str> = fields.keys().take(KEYS_MAX).map(String::as_str).collect();
            format!("an object with {}", keys.join(", "))
        }
        Value::Array(_) => "an array".to_owned(),
        _ => "a bare value".to_owned(),
    };
    BadNotice::Unknown { found }
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
        let check = |key: &str, expected: Option<(&str, u64)>| assert_eq!(notice(key).commit(), expected);
        check("telemetry/_delta_log/00000000000000000099.json", Some(("telemetry", 99)));
        check("plant/a/telemetry/_delta_log/00000000000000000099.json", Some(("telemetry", 99)));
        check("x/_delta_log/telemetry/_delta_log/00000000000000000099.json", Some(("telemetry", 99)));
        check("telemetry/part-0.parquet", None);
        check("t/_delta_log/00000000000000000010.checkpoint.parquet", None);
        check("t/_delta_log/_last_checkpoint", None);
        check("t/_delta_log/.json", None);
        check("_delta_log/00000000000000000099.json", None);
    }

    /// A file of `testdata/events`.
    fn fixture(name: &str) -> String {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/events/");
        std::fs::read_to_string(format!("{path}{name}")).unwrap()
    }

    /// The envelope with another content.
    fn enveloped(envelope: &str, place: &str, content: &str) -> String {
        let mut envelope: Value = serde_json::from_str(&fixture(envelope)).unwrap();
        *envelope.pointer_mut(place).unwrap() = content.into();
        envelope.to_string()
    }

    #[test]
    fn events_of_stores_are_read_in_whatever_they_are_wrapped() {
        let check = |event: &str, bucket: &str, key: &str, sequencer: &str| {
            let [found] = &Notice::parse(event.as_bytes()).unwrap()[..] else { panic!("{event}") };
            let names = (found.bucket.as_str(), found.key.as_str(), found.sequencer.as_deref());
            assert_eq!(names, (bucket, key, Some(sequencer)), "{event}");
            assert!(found.event_time.is_some(), "{event}");
        };
        let minio = fixture("minio.json");
        let commit = "plant a/telemetry/_delta_log/00000000000000000042.json";
        check(&minio, "ingestion", commit, "18EA051D0145CD9F");
        for name in ["s3.json", "s3_with_decoded_key.json"] {
            check(&fixture(name), "sourcebucket", "Happy Face.jpg", "Happy Sequencer");
        }
        let by_sns = enveloped("sns.json", "/Records/0/Sns/Message", &minio);
        let by_sqs = enveloped("sqs.json", "/Records/0/body", &minio);
        // As SNS writes it to a queue: its notification alone.
        let sns: Value = serde_json::from_str(&by_sns).unwrap();
        let notification = sns.pointer("/Records/0/Sns").unwrap().to_string();
        let by_both = enveloped("sqs.json", "/Records/0/body", &notification);
        for wrapped in [by_sns, by_sqs, notification, by_both] {
            check(&wrapped, "ingestion", commit, "18EA051D0145CD9F");
        }
        let mut bridge: Value = serde_json::from_str(&fixture("eventbridge.json")).unwrap();
        bridge["source"] = "aws.s3".into();
        bridge["detail-type"] = "Object Created".into();
        bridge["detail"] = serde_json::json!({
            "version": "0", "bucket": { "name": "ingestion" }, "reason": "PutObject",
            "object": { "key": commit, "size": 2, "sequencer": "0A" },
        });
        check(&bridge.to_string(), "ingestion", commit, "0A");
        bridge["detail-type"] = "Object Deleted".into();
        assert_eq!(Notice::parse(bridge.to_string().as_bytes()).unwrap(), []);
    }

    #[test]
    fn removals_and_a_stores_test_are_not_notices() {
        let removed = br#"{"Records":[{"eventName":"s3:ObjectRemoved:Delete","s3":{"bucket":{"name":"b"},"object":{"key":"k"}}}]}"#;
        assert_eq!(Notice::parse(removed).unwrap(), []);
        assert_eq!(Notice::parse(br#"{"Service":"Amazon S3","Event":"s3:TestEvent"}"#).unwrap(), []);
        assert_eq!(Notice::parse(br#"{"Records":[]}"#).unwrap(), []);
    }

    #[test]
    fn what_is_no_event_of_a_store_says_what_it_is() {
        let check = |event: &str, expected: &str| {
            let error = Notice::parse(event.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(expected), "{event}: {error}");
        };
        check("hello", "not JSON");
        check("21.5", "a bare value");
        check("[]", "an array");
        check("{}", "an empty object");
        check(&fixture("eventbridge.json"), "id, detail-type, source");
        check(&fixture("sns_of_text.json"), "not JSON");
        check(&fixture("sqs_of_text.json"), "not JSON");
        check(&fixture("sns.json"), "an object with foo, bar");
        check(&fixture("sqs.json"), "an object with a, b");
        check(r#"{"Records":[{"kinesis":{}}]}"#, "an object with kinesis");
        check(
            r#"{"Records":[{"eventName":"ObjectCreated:Put","s3":{"bucket":{"name":"b"}}}]}"#,
            "not an event of S3",
        );
        let mut nested = fixture("s3.json");
        for _ in 0..=ENVELOPES_MAX {
            nested = enveloped("sqs.json", "/Records/0/body", &nested);
        }
        check(&nested, "an envelope in an envelope");
    }
}
