//! `millstream up`, all stages in one process, and each of them alone: until a signal.

use super::{STOPPED, announce, program, quoted};
use crate::cli::Place;
use crate::config::Settings;
use crate::directory::Directory;
use crate::pipeline::{Addresses, Pipeline, Role, Stages};
use crate::shutdown::Signals;
use crate::telemetry;
use anyhow::Context;
use millstream_ingest::gateway::Observer;
use millstream_ingest::route::Route;
use millstream_model::topic::TopicPattern;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Runs until the first signal, then drains; a second signal stops at once.
pub(super) async fn run(place: &Place, stages: Stages) -> anyhow::Result<ExitCode> {
    let directory = Directory::new(&place.data);
    let settings = directory.settings(place.config.as_deref())?;
    telemetry::start(&settings.telemetry.level, settings.telemetry.format)?;
    for warning in &settings.warnings {
        tracing::warn!(hint = warning.hint, "{warning}");
    }
    let signals = Signals::take().context("failed to take over signals")?;
    let stop = CancellationToken::new();
    let work = async {
        let started = Pipeline::start(&settings, &directory, &stages, Arc::new(Announcer));
        let mut pipeline = tokio::select! {
            started = started => started?,
            // What waits for Kafka or a store has taken nothing yet.
            () = stop.cancelled() => return Ok(ExitCode::from(STOPPED)),
        };
        announce(&welcome(&directory, &settings, &stages, place.config.as_deref(), pipeline.addresses()));
        let failure = tokio::select! {
            () = stop.cancelled() => None,
            error = pipeline.failed() => Some(error),
        };
        announce(&format!("draining: {}; a second signal stops at once\n", stages.draining()));
        let drained = pipeline.drain().await;
        failure.map_or(drained, Err)?;
        announce("drained\n");
        Ok(ExitCode::SUCCESS)
    };
    tokio::select! {
        ended = work => ended,
        () = signals.watch(stop.clone()) => Ok(ExitCode::from(STOPPED)),
    }
}

fn welcome(
    directory: &Directory,
    settings: &Settings,
    stages: &Stages,
    config: Option<&Path>,
    addresses: Addresses,
) -> String {
    let data = quoted(directory.path());
    let mut text = format!("millstream {} {} up\n", env!("CARGO_PKG_VERSION"), stages.is());
    if let Some(address) = addresses.gateway {
        text.push_str(&format!("  devices   mqtt://{address}   MQTT 3.1.1 and 5\n"));
    }
    if let Some(address) = addresses.gateway_tls {
        text.push_str(&format!("  devices   mqtts://{address}   MQTT 3.1.1 and 5, through TLS\n"));
    }
    if stages.has(Role::Collect) {
        for subscriber in &settings.subscribers {
            text.push_str(&format!("  broker    {}\n", subscriber.describe()));
        }
    }
    if let Some(address) = addresses.http {
        let sql = if stages.has(Role::Serve) { "SQL by POST to /v1/sql, " } else { "" };
        text.push_str(&format!("  http      http://{address}   {sql}/healthz, /readyz, /metrics\n"));
    }
    text.push_str(&format!("  data      {data}\n\n"));
    if stages.has(Role::Serve) {
        if !settings.gateway.access.anonymous && settings.gateway.listens() {
            text.push_str(&first_device(&data, config));
        } else if let Some(address) = addresses.gateway {
            text.push_str(&first_message(settings, &data, config, address));
        }
    }
    text.push_str("Ctrl-C drains and ends.\n");
    text
}

/// What to paste for a first message, and to see what became of it.
fn first_message(settings: &Settings, data: &str, config: Option<&Path>, address: SocketAddr) -> String {
    let first = settings.streams.iter().find_map(|stream| stream.topics.first().map(|topic| (stream, topic)));
    let Some((stream, topic)) = first else { return String::new() };
    let port = if address.port() == 1883 { String::new() } else { format!("-p {} ", address.port()) };
    let config = config.map(|path| format!(" --config {}", quoted(path))).unwrap_or_default();
    format!(
        "A first message, from another terminal:\n  \
           mosquitto_pub {port}-t {topic} -m '{{\"temp\":21.5}}'\n\
         and what became of it:\n  \
           {program} sql --data {data}{config} -c 'select * from {stream}'\n\n",
        program = program(),
        topic = quoted(Path::new(&example(topic))),
        stream = stream.name,
    )
}

/// What to paste where devices need credentials: what it prints shows a first message.
fn first_device(data: &str, config: Option<&Path>) -> String {
    let config = config.map(|path| format!(" --config {}", quoted(path))).unwrap_or_default();
    format!(
        "Devices need credentials. A first one, from another terminal; it prints a password, and a message to publish with it:\n  \
           {program} device add d1 --data {data}{config}\n\
         and, after that message, what became of it:\n  \
           {program} sql --data {data}{config} -c 'show tables'\n\n",
        program = program(),
    )
}

/// A topic that a pattern matches.
fn example(pattern: &TopicPattern) -> String {
    let filter = pattern.filter();
    let levels = filter.split('/').map(|level| match level {
        "+" => "d1",
        "#" => "first",
        level => level,
    });
    levels.collect::<Vec<_>>().join("/")
}

/// Tells once, for each topic that is seen first, what becomes of it.
#[derive(Debug)]
struct Announcer;

impl Observer for Announcer {
    fn first_seen(&self, topic: &str, route: &Route) {
        let becomes = match &route.stream {
            Some(stream) => format!("a row of {stream}, device {:?}", route.device_id),
            None => "no stream claims it: quarantined as no_stream".to_owned(),
        };
        announce(&format!("first message on {topic:?} -> {becomes}\n"));
    }
}
