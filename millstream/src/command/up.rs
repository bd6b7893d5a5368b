//! `millstream up`: all stages in one process, until a signal.

use super::{STOPPED, program, say};
use crate::cli::Up;
use crate::directory::Directory;
use crate::pipeline::Pipeline;
use crate::shutdown::Signals;
use crate::telemetry;
use anyhow::Context;
use millstream_ingest::gateway::Observer;
use millstream_ingest::route::Route;
use std::net::SocketAddr;
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
    say(&welcome(&directory, pipeline.address()))?;
    let work = async {
        let failure = tokio::select! {
            () = stop.cancelled() => None,
            error = pipeline.failed() => Some(error),
        };
        say("draining: every acknowledged message goes to its table; a second signal stops at once\n")?;
        let drained = pipeline.drain().await;
        match failure {
            Some(error) => Err(error),
            None => drained,
        }
    };
    tokio::select! {
        ended = work => {
            ended?;
            say("drained\n")?;
            Ok(ExitCode::SUCCESS)
        }
        () = signals.watch(stop.clone()) => Ok(ExitCode::from(STOPPED)),
    }
}

fn welcome(directory: &Directory, address: SocketAddr) -> String {
    let (program, data) = (program(), directory.path().display());
    let port = if address.port() == 1883 { String::new() } else { format!("-p {} ", address.port()) };
    format!(
        "millstream {version} is up\n  \
           devices   mqtt://{address}   MQTT 3.1.1 and 5\n  \
           data      {data}\n\n\
         A first message, from another terminal:\n  \
           mosquitto_pub {port}-t devices/d1/telemetry -m '{{\"temp\":21.5}}'\n\
         and, two seconds later, what became of it:\n  \
           {program} sql --data {data} -c 'select * from telemetry'\n\n\
         Ctrl-C drains and ends.\n",
        version = env!("CARGO_PKG_VERSION"),
    )
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
        // The reader of standard output may be gone; the river flows on.
        if say(&format!("first message on {topic:?} -> {becomes}\n")).is_err() {
            tracing::debug!(topic, "nobody reads standard output");
        }
    }
}
