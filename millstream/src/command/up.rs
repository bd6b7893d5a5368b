//! `millstream up`: all stages in one process, until a signal.

use super::{STOPPED, announce, program, quoted};
use crate::cli::Up;
use crate::config::Settings;
use crate::directory::Directory;
use crate::pipeline::Pipeline;
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
pub(super) async fn run(options: Up) -> anyhow::Result<ExitCode> {
    let directory = Directory::new(options.place.data);
    let settings = directory.settings(options.place.config.as_deref())?;
    telemetry::start(&settings.log_level, settings.log_format)?;
    let signals = Signals::take().context("failed to take over signals")?;
    let stop = CancellationToken::new();
    let mut pipeline = Pipeline::start(&settings, &directory, Arc::new(Announcer)).await?;
    announce(&welcome(&directory, &settings, options.place.config.as_deref(), pipeline.address()));
    let work = async {
        let failure = tokio::select! {
            () = stop.cancelled() => None,
            error = pipeline.failed() => Some(error),
        };
        announce("draining: every acknowledged message goes to its table; a second signal stops at once\n");
        let drained = pipeline.drain().await;
        match failure {
            Some(error) => Err(error),
            None => drained,
        }
    };
    tokio::select! {
        ended = work => {
            ended?;
            announce("drained\n");
            Ok(ExitCode::SUCCESS)
        }
        () = signals.watch(stop.clone()) => Ok(ExitCode::from(STOPPED)),
    }
}

fn welcome(directory: &Directory, settings: &Settings, config: Option<&Path>, address: SocketAddr) -> String {
    let (program, data) = (program(), quoted(directory.path()));
    let port = if address.port() == 1883 { String::new() } else { format!("-p {} ", address.port()) };
    let config = config.map(|path| format!(" --config {}", quoted(path))).unwrap_or_default();
    let mut text = format!(
        "millstream {version} is up\n  \
           devices   mqtt://{address}   MQTT 3.1.1 and 5\n  \
           data      {data}\n\n",
        version = env!("CARGO_PKG_VERSION"),
    );
    let first = settings.streams.iter().find_map(|stream| stream.topics.first().map(|topic| (stream, topic)));
    if let Some((stream, topic)) = first {
        text.push_str(&format!(
            "A first message, from another terminal:\n  \
               mosquitto_pub {port}-t {topic} -m '{{\"temp\":21.5}}'\n\
             and, a few seconds later, what became of it:\n  \
               {program} sql --data {data}{config} -c 'select * from {stream}'\n\n",
            topic = quoted(Path::new(&example(topic))),
            stream = stream.name,
        ));
    }
    text.push_str("Ctrl-C drains and ends.\n");
    text
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
