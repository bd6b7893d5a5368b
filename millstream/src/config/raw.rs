//! The configuration as it is written: every key optional, none unknown. What it means is decided in `settings`.

use bytesize::ByteSize;
use indexmap::IndexMap;
use millstream_model::column::ColumnType;
use serde::{Deserialize, Deserializer};
use std::path::PathBuf;
use std::time::Duration;

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawConfig {
    pub(crate) gateway: RawGateway,
    pub(crate) log: RawLog,
    pub(crate) lake: RawLake,
    pub(crate) reports: RawReports,
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
    pub(crate) message_max: Option<ByteSize>,
    pub(crate) packet_max: Option<ByteSize>,
    pub(crate) in_flight_max: Option<u16>,
    pub(crate) keep_alive_max: Option<Span>,
    pub(crate) connect_timeout: Option<Span>,
    pub(crate) session_expiry_max: Option<Span>,
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
    pub(crate) segment_size: Option<ByteSize>,
    pub(crate) reserve: Option<ByteSize>,
    pub(crate) keep: Option<Keep>,
}

/// What the log keeps of records that are committed to the lake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Keep {
    All,
    Uncommitted,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawLake {
    pub(crate) ingestion: Option<PathBuf>,
    pub(crate) reporting: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawReports {
    pub(crate) sweep: Option<Span>,
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

/// A text, or a list of texts.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected a topic pattern, or a list of them")]
pub(crate) enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

/// A column's type, or a table of type and required.
#[derive(Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "expected a type (`double`, `boolean`, `string`, `long` or `timestamp`), or { type = .., required = true }"
)]
pub(crate) enum RawColumn {
    Type(ColumnType),
    Full {
        #[serde(rename = "type")]
        kind: ColumnType,
        #[serde(default)]
        required: bool,
    },
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawFiles {
    pub(crate) close_after: Option<Span>,
    pub(crate) close_size: Option<ByteSize>,
    pub(crate) close_idle: Option<Span>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawReport {
    pub(crate) name: String,
    pub(crate) sql: String,
    pub(crate) partition_by: Option<String>,
}

/// A length of time, written like `60s` or `5m`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span(pub(crate) Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let parsed = humantime::parse_duration(&text);
        parsed.map(Self).map_err(|error| {
            serde::de::Error::custom(format!(
                "{error}; a length of time is written like \"60s\", \"5m\" or \"1h 30m\""
            ))
        })
    }
}
