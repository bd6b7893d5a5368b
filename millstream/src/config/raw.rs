//! The configuration as it is written: every key optional, none unknown. What it means is decided in `settings`.

use super::value::{Ceiling, Size, Span, Term};
use indexmap::IndexMap;
use millstream_model::column::ColumnType;
use millstream_model::secret::Secret;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, IntoDeserializer, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawConfig {
    pub(crate) gateway: RawGateway,
    pub(crate) subscriber: Vec<RawSubscriber>,
    pub(crate) log: RawLog,
    pub(crate) kafka: Option<RawKafka>,
    pub(crate) lake: RawLake,
    pub(crate) s3: RawS3,
    pub(crate) http: RawHttp,
    pub(crate) sql: RawSql,
    pub(crate) reports: RawReports,
    pub(crate) upkeep: RawUpkeep,
    pub(crate) telemetry: RawTelemetry,
    pub(crate) stream: Option<Vec<RawStream>>,
    pub(crate) report: Vec<RawReport>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawGateway {
    pub(crate) listen: Option<String>,
    pub(crate) unclaimed: Option<Unclaimed>,
    pub(crate) connections_max: Option<usize>,
    pub(crate) message_max: Option<Size>,
    pub(crate) packet_max: Option<Size>,
    pub(crate) in_flight_max: Option<u16>,
    pub(crate) keep_alive_max: Option<Span>,
    pub(crate) connect_timeout: Option<Span>,
    pub(crate) session_expiry_max: Option<Span>,
    pub(crate) tls: Option<RawTls>,
    pub(crate) access: RawAccess,
}

/// The gateway's listener for TLS.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawTls {
    pub(crate) listen: Option<String>,
    pub(crate) certificate: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
    pub(crate) client_ca: Option<PathBuf>,
    pub(crate) client_certificates: Option<RawClientCertificates>,
}

/// Whether a device has to show a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RawClientCertificates {
    Optional,
    Required,
}

/// Who devices are, and what they may publish to.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawAccess {
    pub(crate) anonymous: Option<bool>,
    pub(crate) credentials: Option<PathBuf>,
    pub(crate) topics: Option<Vec<String>>,
}

/// What becomes of a message whose topic no stream claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Unclaimed {
    Quarantine,
    Drop,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawLog {
    pub(crate) partitions: Option<u16>,
    pub(crate) segment_size: Option<Size>,
    pub(crate) reserve: Option<Size>,
    pub(crate) keep: Option<Keep>,
}

/// What the log keeps of records that are committed to the lake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Keep {
    All,
    Uncommitted,
}

/// A subscription to somebody else's broker.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawSubscriber {
    pub(crate) name: String,
    pub(crate) broker: String,
    pub(crate) mqtt: Option<String>,
    pub(crate) filters: Option<Vec<String>>,
    pub(crate) group: Option<String>,
    pub(crate) client_id: Option<String>,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<Secret>,
    pub(crate) password_file: Option<PathBuf>,
    pub(crate) ca: Option<PathBuf>,
    pub(crate) certificate: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
    pub(crate) keep_alive: Option<Span>,
    pub(crate) session_expiry: Option<Span>,
    pub(crate) receive_max: Option<u16>,
    pub(crate) packet_max: Option<Size>,
}

/// The log on Kafka.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawKafka {
    pub(crate) brokers: Option<String>,
    pub(crate) partitions: Option<u16>,
    pub(crate) replication: Option<u16>,
    pub(crate) keep: Option<Keep>,
    pub(crate) group: Option<String>,
    pub(crate) client_id: Option<String>,
    pub(crate) tls: Option<bool>,
    pub(crate) ca: Option<PathBuf>,
    pub(crate) certificate: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
    pub(crate) sasl: Option<RawSasl>,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<Secret>,
    pub(crate) password_file: Option<PathBuf>,
    pub(crate) properties: BTreeMap<String, Property>,
}

/// How we say to Kafka who we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum RawSasl {
    Plain,
    #[serde(rename = "scram-sha-256")]
    ScramSha256,
    #[serde(rename = "scram-sha-512")]
    ScramSha512,
}

/// A property of librdkafka: its documentation writes texts, numbers and true or false.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected a text, a number, or true or false")]
pub(crate) enum Property {
    Text(String),
    Number(i64),
    Switch(bool),
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawLake {
    pub(crate) ingestion: Option<String>,
    pub(crate) reporting: Option<String>,
    pub(crate) notices: Option<Notices>,
}

/// Who tells the processor of new versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Notices {
    Firehose,
    Store,
}

/// The object store, where the environment's AWS_ variables do not say it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawS3 {
    pub(crate) endpoint: Option<String>,
    pub(crate) region: Option<String>,
    pub(crate) path_style: Option<bool>,
    pub(crate) allow_http: Option<bool>,
    pub(crate) access_key: Option<Secret>,
    pub(crate) secret_key: Option<Secret>,
    pub(crate) secret_key_file: Option<PathBuf>,
    pub(crate) session_token: Option<Secret>,
    pub(crate) ca: Option<PathBuf>,
}

/// SQL, health and metrics over HTTP.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawHttp {
    pub(crate) listen: Option<String>,
    pub(crate) token: Option<Secret>,
    pub(crate) token_file: Option<PathBuf>,
}

/// What questions may take.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawSql {
    pub(crate) memory: Option<Size>,
    pub(crate) spill: Option<Size>,
    pub(crate) time: Option<Span>,
    pub(crate) scan: Option<Ceiling>,
    pub(crate) running: Option<usize>,
    pub(crate) waiting: Option<usize>,
    pub(crate) wait: Option<Span>,
    pub(crate) stall: Option<Span>,
    pub(crate) delivery: Option<Span>,
    pub(crate) tail: Option<bool>,
    pub(crate) tail_memory: Option<Size>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawReports {
    pub(crate) sweep: Option<Span>,
}

/// How the tables are looked after.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawUpkeep {
    pub(crate) every: Option<Term>,
    pub(crate) compact: Option<bool>,
    pub(crate) target_size: Option<Size>,
    pub(crate) safe_age: Option<Span>,
    pub(crate) log_keep: Option<Span>,
    pub(crate) quarantine_keep: Option<Term>,
    pub(crate) lifecycle_keep: Option<Term>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawTelemetry {
    pub(crate) level: Option<String>,
    pub(crate) format: Option<LogFormat>,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// Text on a terminal, else JSON.
    Auto,
    Text,
    Json,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawStream {
    pub(crate) name: String,
    pub(crate) topic: OneOrMany,
    #[serde(default)]
    pub(crate) format: Option<Format>,
    pub(crate) time: Option<String>,
    pub(crate) time_unit: Option<RawTimeUnit>,
    pub(crate) time_earliest: Option<String>,
    pub(crate) time_ahead_max: Option<Span>,
    pub(crate) device: Option<String>,
    pub(crate) transform: Option<String>,
    pub(crate) on_mismatch: Option<RawMisfit>,
    pub(crate) on_bad_time: Option<RawMisfit>,
    pub(crate) column_limit: Option<usize>,
    pub(crate) partition: Option<RawPartition>,
    pub(crate) start: Option<RawStart>,
    pub(crate) sequence: Option<String>,
    pub(crate) keep: Option<Term>,
    #[serde(default)]
    pub(crate) columns: IndexMap<String, RawColumn>,
    #[serde(default)]
    pub(crate) files: RawFiles,
}

/// How payloads are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RawTimeUnit {
    Auto,
    S,
    Ms,
    Us,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RawMisfit {
    Extra,
    Quarantine,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RawPartition {
    Day,
    Month,
}

/// Where a stream begins that has no commit yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RawStart {
    /// At the log's very beginning; it is a problem if that is not there any more.
    Beginning,
    /// At the oldest record that the log still has.
    Earliest,
}

/// A text, or a list of texts.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected a topic pattern, or a list of them")]
pub(crate) enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

/// A column's type, or a table of type and required.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub(crate) struct RawColumn {
    #[serde(rename = "type")]
    pub(crate) kind: ColumnType,
    #[serde(default)]
    pub(crate) required: bool,
}

impl<'de> Deserialize<'de> for RawColumn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Form;
        impl<'de> Visitor<'de> for Form {
            type Value = RawColumn;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a type like \"double\", or { type = \"double\", required = true }")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<RawColumn, E> {
                let kind = ColumnType::deserialize(text.into_deserializer())?;
                Ok(RawColumn { kind, required: false })
            }

            fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<RawColumn, A::Error> {
                RawColumn::deserialize(MapAccessDeserializer::new(table))
            }
        }
        deserializer.deserialize_any(Form)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawFiles {
    pub(crate) close_after: Option<Span>,
    pub(crate) close_size: Option<Size>,
    pub(crate) close_idle: Option<Span>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawReport {
    pub(crate) name: String,
    pub(crate) sql: String,
    pub(crate) partition_by: Option<String>,
    pub(crate) when: Option<RawWhen>,
    pub(crate) lateness: Option<Span>,
}

/// Which readings a report goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RawWhen {
    Always,
    Complete,
}
