//! The configuration as it is written: every key optional, none unknown. What it means is decided in `settings`.

use bytesize::ByteSize;
use indexmap::IndexMap;
use millstream_model::column::ColumnType;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, IntoDeserializer, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::fmt;
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
    pub(crate) message_max: Option<Size>,
    pub(crate) packet_max: Option<Size>,
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
}

/// A length of time, written like `60s` or `5m`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span(pub(crate) Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Form;
        impl Visitor<'_> for Form {
            type Value = Span;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a length of time like \"60s\", \"5m\" or \"1h 30m\"")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Span, E> {
                let parsed = humantime::parse_duration(text);
                parsed.map(Span).map_err(|error| {
                    E::custom(format!(
                        "{error}; a length of time is written like \"60s\", \"5m\" or \"1h 30m\""
                    ))
                })
            }
        }
        deserializer.deserialize_str(Form)
    }
}

/// A number of bytes, written like `128MiB`, or as a bare number.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size(pub(crate) u64);

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Form;
        impl Visitor<'_> for Form {
            type Value = Size;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size like \"128MiB\", or a number of bytes")
            }

            fn visit_i64<E: Error>(self, bytes: i64) -> Result<Size, E> {
                u64::try_from(bytes).map(Size).map_err(|error| {
                    E::custom(format!("{error}; a size is written like \"128MiB\", or as a number of bytes"))
                })
            }

            fn visit_u64<E: Error>(self, bytes: u64) -> Result<Size, E> {
                Ok(Size(bytes))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Size, E> {
                let parsed = text.parse::<ByteSize>();
                parsed.map(|size| Size(size.as_u64())).map_err(|error| {
                    E::custom(format!("{error}; a size is written like \"128MiB\", or as a number of bytes"))
                })
            }
        }
        deserializer.deserialize_any(Form)
    }
}
