//! The configuration as the program uses it: checked, complete, it cannot be invalid.

use super::gateway::{Gateway, check_gateway};
use super::http::{Http, check_http};
use super::lake::{Lake, check_lake};
use super::log::{Embedded, LogChoice, check_log};
use super::problem::Problem;
use super::raw::{self, Notices, RawConfig};
use super::report::check_reports;
use super::sql::{Sql, check_sql};
use super::stream::{self, check_streams, stream_names};
use super::subscriber::{Subscriber, check_subscribers};
use super::telemetry::{Telemetry, check_telemetry};
use super::upkeep::{Upkeep, check_upkeep};
use super::value::{Origin, at_least_a_second};
use millstream_model::stream::Stream;
use millstream_query::{Definitions, Unclaimed};
use millstream_transform::processor::Report;
use std::sync::Arc;
use std::time::Duration;

/// How long the processor lets a change wait that no notice told it of.
const SWEEP: Duration = Duration::from_secs(60);

/// All that is configured.
#[derive(Debug)]
pub(crate) struct Settings {
    /// Where devices connect.
    pub(crate) gateway: Gateway,
    /// Somebody else's brokers that are subscribed to.
    pub(crate) subscribers: Vec<Subscriber>,
    /// Which log it is.
    pub(crate) log: LogChoice,
    /// Where the tables are.
    pub(crate) lake: Lake,
    /// Where SQL, health and metrics are answered.
    pub(crate) http: Http,
    /// What questions may take.
    pub(crate) sql: Sql,
    /// How often the processor looks without a notice.
    pub(crate) sweep: Duration,
    /// How the tables are looked after.
    pub(crate) upkeep: Upkeep,
    /// Our own log lines.
    pub(crate) telemetry: Telemetry,
    /// The user's streams, in the order in which they claim topics.
    pub(crate) streams: Vec<Arc<Stream>>,
    /// The reports.
    pub(crate) reports: Vec<Report>,
    /// What works and may not be wanted.
    pub(crate) warnings: Vec<Problem>,
}

impl Settings {
    /// What a question knows of it.
    pub(crate) fn definitions(&self) -> Arc<Definitions> {
        let streams = self.streams.iter().cloned().chain([Arc::new(stream::lifecycle())]).collect();
        let unclaimed = match self.gateway.unclaimed {
            raw::Unclaimed::Quarantine => Unclaimed::Quarantine,
            raw::Unclaimed::Drop => Unclaimed::Drop,
        };
        Arc::new(Definitions { streams, unclaimed, reports: self.reports.clone() })
    }

    /// Checks all of a configuration and fills in what it leaves out.
    ///
    /// # Errors
    /// Everything that is wrong, with its key.
    pub(crate) fn check(raw: RawConfig, origin: &Origin) -> Result<Self, Vec<Problem>> {
        let (mut problems, mut warnings) = (Vec::new(), Vec::new());
        let (found, noted) = (&mut problems, &mut warnings);
        let gateway = check_gateway(raw.gateway, origin, found, noted);
        let log = check_log(raw.log, raw.kafka, origin, found, noted);
        let lake = check_lake(raw.lake, raw.s3, origin, found, noted);
        let http = check_http(raw.http, origin, found, noted);
        let sql = check_sql(raw.sql, found);
        let upkeep = check_upkeep(raw.upkeep, found);
        let telemetry = keep(found, check_telemetry(raw.telemetry));
        let written = stream_names(raw.stream.as_deref());
        let streams = check_streams(raw.stream, found);
        let subscribers = check_subscribers(raw.subscriber, &streams, origin, found, noted);
        let reports = check_reports(raw.report, &written, &streams, found, noted);
        let sweep = keep(found, at_least_a_second("reports.sweep", raw.reports.sweep, SWEEP));
        if lake.notices == Notices::Store && matches!(log, Some(LogChoice::Embedded(_))) {
            found.push(
                Problem::new(
                    "lake.notices",
                    "the store's notices come through Kafka, and the log is embedded",
                )
                .hint("write notices = \"firehose\", or name Kafka's brokers, [kafka]"),
            );
        }
        match (gateway, log, telemetry, sweep) {
            (Some(gateway), Some(mut log), Some(telemetry), Some(sweep)) if problems.is_empty() => {
                // What the gateway lets through the log must take: else its sender would send it again for ever.
                match &mut log {
                    LogChoice::Embedded(Embedded { settings, .. }) => {
                        settings.record_max = settings.record_max.max(gateway.limits.record_max());
                    }
                    LogChoice::Kafka(kafka) => kafka.take_records_of(gateway.limits.record_max()),
                }
                Ok(Self {
                    gateway,
                    subscribers,
                    log,
                    lake,
                    http,
                    sql,
                    sweep,
                    upkeep,
                    telemetry,
                    streams,
                    reports,
                    warnings,
                })
            }
            _ => Err(problems),
        }
    }
}

fn keep<T>(problems: &mut Vec<Problem>, checked: Result<T, Problem>) -> Option<T> {
    checked.map_err(|problem| problems.push(problem)).ok()
}
