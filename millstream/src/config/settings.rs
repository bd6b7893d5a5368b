//! The configuration as the program uses it: checked, complete, it cannot be invalid.

use super::problem::Problem;
use super::raw::{
    Keep, LogFormat, RawConfig, RawGateway, RawLake, RawLog, RawReport, RawStream, Size, Span, Unclaimed,
};
use super::stream::{self, check_stream};
use millstream_ingest::gateway::GatewaySettings;
use millstream_log::embedded::EmbeddedSettings;
use millstream_model::name::{LIFECYCLE, QUARANTINE, StreamName};
use millstream_model::stream::Stream;
use millstream_query::ReportPlan;
use millstream_transform::processor::Report;
use std::collections::HashSet;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tracing_subscriber::EnvFilter;

/// How long the processor lets a change wait that no notice told it of.
const SWEEP: Duration = Duration::from_secs(60);

/// Largest `packet_max`: a packet is held in memory several times over while it is read and appended.
const PACKET_MAX: u32 = 16 << 20;

/// Largest `segment_size`: a segment is trimmed only as a whole, so a larger one would hold on to too much of a disk.
const SEGMENT_MAX: u64 = 16 << 30;

/// Largest `reserve`: more is a slip of the unit, and a log that never has room.
const RESERVE_MAX: u64 = 1 << 40;

/// All that is configured.
#[derive(Debug)]
pub(crate) struct Settings {
    /// Where devices connect.
    pub(crate) listen: SocketAddr,
    /// The gateway's limits.
    pub(crate) gateway: GatewaySettings,
    /// What becomes of a message that no stream claims.
    pub(crate) unclaimed: Unclaimed,
    /// The embedded log's sizes.
    pub(crate) log: EmbeddedSettings,
    /// What the log keeps.
    pub(crate) keep: Keep,
    /// The ingestion bucket, if not in the data directory.
    pub(crate) ingestion: Option<PathBuf>,
    /// The reporting bucket, if not in the data directory.
    pub(crate) reporting: Option<PathBuf>,
    /// How often the processor looks without a notice.
    pub(crate) sweep: Duration,
    /// Filter of log lines, as in `info,millstream_log=debug`.
    pub(crate) log_level: String,
    /// Form of log lines.
    pub(crate) log_format: LogFormat,
    /// The user's streams, in the order in which they claim topics.
    pub(crate) streams: Vec<Arc<Stream>>,
    /// The reports.
    pub(crate) reports: Vec<Report>,
}

impl Settings {
    /// Checks all of a configuration and fills in what it leaves out.
    ///
    /// # Errors
    /// Everything that is wrong, with its key.
    pub(crate) fn check(raw: RawConfig) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let listen = keep(&mut problems, check_listen(raw.gateway.listen.as_deref()));
        let gateway = keep(&mut problems, check_gateway(&raw.gateway));
        let log = keep(&mut problems, check_log(&raw.log));
        check_lake(&raw.lake, &mut problems);
        let log_level = keep(&mut problems, check_level(raw.telemetry.level));
        let written = stream_names(raw.stream.as_deref());
        let streams = check_streams(raw.stream, &mut problems);
        let reports = check_reports(raw.report, &written, &streams, &mut problems);
        let sweep = keep(&mut problems, at_least_a_second("reports.sweep", raw.reports.sweep, SWEEP));
        match (listen, gateway, log, log_level, sweep) {
            (Some(listen), Some(gateway), Some(log), Some(log_level), Some(sweep)) if problems.is_empty() => {
                Ok(Self {
                    listen,
                    unclaimed: raw.gateway.unclaimed.unwrap_or(Unclaimed::Quarantine),
                    // What the gateway lets through the log must take: else its sender would send it again for ever.
                    log: EmbeddedSettings { record_max: log.record_max.max(gateway.record_max()), ..log },
                    gateway,
                    keep: raw.log.keep.unwrap_or(Keep::Uncommitted),
                    ingestion: raw.lake.ingestion,
                    reporting: raw.lake.reporting,
                    sweep,
                    log_level,
                    log_format: raw.telemetry.format.unwrap_or(LogFormat::Auto),
                    streams,
                    reports,
                })
            }
            _ => Err(problems),
        }
    }
}

fn keep<T>(problems: &mut Vec<Problem>, checked: Result<T, Problem>) -> Option<T> {
    checked.map_err(|problem| problems.push(problem)).ok()
}

fn check_listen(listen: Option<&str>) -> Result<SocketAddr, Problem> {
    let text = listen.unwrap_or("127.0.0.1:1883");
    let key = "gateway.listen";
    let address: SocketAddr = text.parse().map_err(|error| {
        Problem::new(key, error)
            .hint("write an address and a port, like \"127.0.0.1:1883\"; port 0 takes a free one")
    })?;
    // Devices cannot prove who they are yet, so nobody else's network may reach the port.
    if address.ip().is_loopback() {
        Ok(address)
    } else {
        Err(Problem::new(
            key,
            "the gateway listens on loopback only, because devices have no credentials yet",
        )
        .hint("write \"127.0.0.1:1883\" or \"[::1]:1883\""))
    }
}

fn check_gateway(raw: &RawGateway) -> Result<GatewaySettings, Problem> {
    let mut settings = GatewaySettings::default();
    if let Some(most) = raw.connections_max {
        settings.connections_max = most;
    }
    if let Some(Size(most)) = raw.message_max {
        settings.message_max =
            usize::try_from(most).map_err(|error| Problem::new("gateway.message_max", error))?;
    }
    if let Some(Size(most)) = raw.packet_max {
        settings.packet_max =
            u32::try_from(most).map_err(|error| Problem::new("gateway.packet_max", error))?;
    }
    if let Some(most) = raw.in_flight_max {
        settings.in_flight_max = NonZeroU16::new(most)
            .ok_or_else(|| Problem::new("gateway.in_flight_max", "must be at least 1"))?;
    }
    settings.keep_alive_max =
        at_least_a_second("gateway.keep_alive_max", raw.keep_alive_max, settings.keep_alive_max)?;
    settings.connect_timeout =
        at_least_a_second("gateway.connect_timeout", raw.connect_timeout, settings.connect_timeout)?;
    settings.session_expiry_max =
        at_least_a_second("gateway.session_expiry_max", raw.session_expiry_max, settings.session_expiry_max)?;
    if settings.message_max as u64 >= u64::from(settings.packet_max) {
        return Err(Problem::new("gateway.message_max", "must be smaller than packet_max").hint(
            "a message above message_max is quarantined; a packet above packet_max ends the connection",
        ));
    }
    if settings.packet_max > PACKET_MAX {
        return Err(Problem::new("gateway.packet_max", "must be at most 16MiB"));
    }
    if settings.connections_max == 0 {
        return Err(Problem::new("gateway.connections_max", "must be at least 1"));
    }
    Ok(settings)
}

fn check_log(raw: &RawLog) -> Result<EmbeddedSettings, Problem> {
    let mut settings = EmbeddedSettings::default();
    if let Some(partitions) = raw.partitions {
        if partitions == 0 {
            return Err(Problem::new("log.partitions", "must be at least 1"));
        }
        settings.partitions = partitions;
    }
    if let Some(Size(size)) = raw.segment_size {
        if !(1 << 20..=SEGMENT_MAX).contains(&size) {
            return Err(Problem::new("log.segment_size", "must be from 1MiB to 16GiB"));
        }
        settings.segment_bytes = size;
    }
    if let Some(Size(size)) = raw.reserve {
        if size > RESERVE_MAX {
            return Err(Problem::new("log.reserve", "must be at most 1TiB"));
        }
        settings.reserve_bytes = size;
    }
    Ok(settings)
}

fn at_least_a_second(key: &str, span: Option<Span>, default: Duration) -> Result<Duration, Problem> {
    match span {
        Some(Span(span)) if span < Duration::from_secs(1) => Err(Problem::new(key, "must be at least 1s")),
        Some(Span(span)) => Ok(span),
        None => Ok(default),
    }
}

fn check_lake(raw: &RawLake, problems: &mut Vec<Problem>) {
    for (key, bucket) in [("lake.ingestion", &raw.ingestion), ("lake.reporting", &raw.reporting)] {
        if bucket.as_ref().is_some_and(|path| path.as_os_str().is_empty()) {
            problems.push(
                Problem::new(key, "the path cannot be empty")
                    .hint("leave it out to keep the tables in the data directory"),
            );
        }
    }
}

fn check_level(level: Option<String>) -> Result<String, Problem> {
    let level = level.unwrap_or_else(|| "info".to_owned());
    match EnvFilter::try_new(&level) {
        Ok(_) => Ok(level),
        Err(error) => Err(Problem::new("telemetry.level", error)
            .hint("write \"info\", or by part \"info,millstream_log=debug\"")),
    }
}

/// The streams' names as they are written: a report of a stream that has a problem of its own has none by that.
fn stream_names(raw: Option<&[RawStream]>) -> Vec<String> {
    match raw {
        Some(raw) => raw.iter().map(|stream| stream.name.clone()).collect(),
        None => vec![stream::telemetry().name.to_string()],
    }
}

fn check_streams(raw: Option<Vec<RawStream>>, problems: &mut Vec<Problem>) -> Vec<Arc<Stream>> {
    let Some(raw) = raw else { return vec![Arc::new(stream::telemetry())] };
    if raw.is_empty() {
        problems.push(
            Problem::new("stream", "a list of no streams")
                .hint("leave it out for the stream `telemetry` of every topic, or write a [[stream]]"),
        );
    }
    let mut names = HashSet::new();
    let mut streams: Vec<Arc<Stream>> = Vec::new();
    for (index, raw) in raw.into_iter().enumerate() {
        let key = format!("stream[{index}]");
        match check_stream(&key, raw) {
            Ok(stream) if !names.insert(stream.name.clone()) => {
                problems.push(Problem::new(
                    format!("{key}.name"),
                    format!("there are two streams named `{}`", stream.name),
                ));
            }
            Ok(stream) => {
                problems.extend(check_reached(&key, &stream, &streams));
                streams.push(Arc::new(stream));
            }
            Err(mut found) => problems.append(&mut found),
        }
    }
    streams
}

/// The first stream that claims a topic gets it, and `#` claims all but those that begin with `$`.
fn check_reached(key: &str, stream: &Stream, before: &[Arc<Stream>]) -> Option<Problem> {
    let greedy = before.iter().find(|other| other.topics.iter().any(|topic| topic.to_string() == "#"))?;
    if stream.topics.iter().all(|topic| topic.to_string().starts_with('$')) {
        return None;
    }
    let name = &greedy.name;
    let what = format!("the stream `{name}` before it claims every topic");
    Some(Problem::new(format!("{key}.topic"), what).hint(format!("put `{name}` last")))
}

fn check_reports(
    raw: Vec<RawReport>,
    written: &[String],
    streams: &[Arc<Stream>],
    problems: &mut Vec<Problem>,
) -> Vec<Report> {
    let mut names: HashSet<StreamName> = streams.iter().map(|stream| stream.name.clone()).collect();
    let mut reports = Vec::new();
    for (index, raw) in raw.into_iter().enumerate() {
        let key = format!("report[{index}]");
        let partition_by = raw.partition_by.as_deref();
        if partition_by.is_some_and(|column| column != "date") {
            problems.push(
                Problem::new(format!("{key}.partition_by"), "a report can be partitioned by `date` only")
                    .hint("write partition_by = \"date\", or leave it out"),
            );
        }
        problems.extend(check_sql(&key, &raw.sql, written));
        match raw.name.parse::<StreamName>() {
            Err(error) => problems.push(Problem::new(format!("{key}.name"), error)),
            Ok(name) if !names.insert(name.clone()) || name.is_reserved() => {
                problems.push(
                    Problem::new(format!("{key}.name"), format!("the name `{name}` is taken"))
                        .hint("streams, reports and Millstream's own tables share one set of names"),
                );
            }
            Ok(name) => reports.push(Report { name, sql: raw.sql, partition_by: raw.partition_by }),
        }
    }
    reports
}

fn check_sql(key: &str, sql: &str, streams: &[String]) -> Vec<Problem> {
    let key = format!("{key}.sql");
    let sources = match ReportPlan::sources(sql) {
        Ok(sources) => sources,
        Err(error) => {
            let mut problem = Problem::new(key, &error);
            problem.hint = (!error.hints().is_empty()).then(|| error.hints().join("; "));
            return vec![problem];
        }
    };
    let exists = |name: &String| [LIFECYCLE, QUARANTINE].contains(&name.as_str()) || streams.contains(name);
    let unknown = sources.iter().filter(|name| !exists(name));
    let names = streams.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let hint = format!("the streams are {names}, and Millstream's own `{LIFECYCLE}` and `{QUARANTINE}`");
    unknown.map(|name| Problem::new(&key, format!("no stream is named `{name}`")).hint(&hint)).collect()
}
