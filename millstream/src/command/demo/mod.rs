//! `millstream demo`: all of it at once, on a year of real weather.

mod chart;
mod show;
mod weather;

use super::{STOPPED, say};
use crate::cli::Demo;
use crate::config::Settings;
use crate::config::raw::LogFormat;
use crate::directory::{Directory, read_file};
use crate::pipeline::{Pipeline, Stages};
use crate::shutdown::Signals;
use crate::telemetry;
use anyhow::{Context, ensure};
use indicatif::HumanCount;
use millstream_ingest::replay::progress::{WithoutTerminal, on_stderr};
use millstream_ingest::replay::{self, Broker, Clients, Observers, Rebase, ReplaySettings, Summary};
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use weather::{Missing, Recording, TOTAL};

/// Stations in the recording; each has a client of its own.
const STATIONS: NonZeroU16 = NonZeroU16::MIN.saturating_add(2);

/// What the demonstration's directory is configured as; `up --data` goes on with it.
const CONFIG: &str = include_str!("demo.toml");

/// Plays the readings into a directory, unless they are there, and reports.
pub(super) async fn run(options: Demo) -> anyhow::Result<ExitCode> {
    telemetry::start("warn", LogFormat::Text)?;
    let signals = Signals::take().context("failed to take over signals")?;
    let stop = CancellationToken::new();
    tokio::select! {
        ended = play(options, stop.clone()) => ended,
        () = signals.watch(stop.clone()) => Ok(ExitCode::from(STOPPED)),
    }
}

async fn play(options: Demo, stop: CancellationToken) -> anyhow::Result<ExitCode> {
    let directory = open_directory(options.data)?;
    let settings = settings(&directory)?;
    let recording = Recording::open(&directory, options.as_recorded)?;
    say(&format!("A year of weather, from MQTT to a report\n\ndata       {}\n", directory.path().display()))?;
    say(&recording.describe())?;
    let mut found = show::count(&directory, &settings).await?;
    if found < TOTAL && directory.log().exists() {
        // What an earlier demo was acknowledged, and did not live to see in the table, is in the log.
        Pipeline::start(&settings, &directory, &Stages::all(), Arc::new(())).await?.drain().await?;
        found = show::count(&directory, &settings).await?;
    }
    if found < TOTAL {
        let missing = recording.missing(&show::keys(&directory, &settings).await?)?;
        if found > 0 {
            let (found, rest) = (HumanCount(found), HumanCount(missing.readings));
            say(&format!(
                "found      {found} of them, of a demo that was cut short: only the other {rest} are published\n"
            ))?;
        }
        let summary = publish(&directory, &settings, &missing, stop.clone()).await?;
        if stop.is_cancelled() {
            say(
                "stopped; what was acknowledged is in the table, and the next `demo` on this directory publishes the rest\n",
            )?;
            return Ok(ExitCode::from(STOPPED));
        }
        say(&format!("{summary}\n"))?;
    } else {
        let total = HumanCount(TOTAL);
        say(&format!("found      all {total} readings of an earlier demo: nothing is published again\n"))?;
    }
    let stored = show::count(&directory, &settings).await?;
    let path = directory.path().display();
    ensure!(
        stored == TOTAL,
        "the table has {stored} readings instead of {TOTAL}: was something else published to it? name a new directory instead of {path}"
    );
    say(&show::report(&directory, &settings).await?)?;
    say(&show::next_steps(&directory, &settings, &recording)?)?;
    Ok(ExitCode::SUCCESS)
}

/// The directory that was named, or a new one that stays when the demonstration has ended: its next steps are commands on it.
fn open_directory(named: Option<PathBuf>) -> anyhow::Result<Directory> {
    let path = match named {
        Some(path) => path,
        None => tempfile::Builder::new()
            .prefix("millstream-demo-")
            .tempdir()
            .context("failed to make a temporary directory")?
            .keep(),
    };
    let directory = Directory::new(path);
    let path = directory.path();
    if !Recording::is_in(&directory) {
        let is_free = match std::fs::read_dir(path) {
            Ok(mut entries) => entries.next().is_none(),
            Err(error) => error.kind() == ErrorKind::NotFound,
        };
        ensure!(
            is_free,
            "{} is not empty, and not of a demo; name a new directory with --data, or none",
            path.display()
        );
        std::fs::create_dir_all(path).with_context(|| format!("failed to make {}", path.display()))?;
        let config = directory.config();
        std::fs::write(&config, CONFIG).with_context(|| format!("failed to write {}", config.display()))?;
    }
    Ok(directory)
}

/// As the directory's file says, but on any free port: a demonstration must not meet the user's own broker. The environment says nothing here: it may name the log and
/// the buckets of the user's own Millstream, where readings of a demonstration must never be.
fn settings(directory: &Directory) -> anyhow::Result<Settings> {
    let mut settings = read_file(&directory.config())?;
    settings.gateway.listen = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    settings.gateway.tls = None;
    settings.http.listen = None;
    Ok(settings)
}

/// Runs all stages while the readings are published, and until all of them are in the ingestion bucket and the reports know them.
async fn publish(
    directory: &Directory,
    settings: &Settings,
    missing: &Missing,
    stop: CancellationToken,
) -> anyhow::Result<Summary> {
    let mut pipeline = Pipeline::start(settings, directory, &Stages::all(), Arc::new(())).await?;
    let address = pipeline.addresses().gateway.context("the gateway does not listen")?;
    say(&format!("gateway    mqtt://{address}, MQTT 5, QoS 1, one client per station\n\n"))?;
    let replayed = tokio::select! {
        replayed = replay::run(replay_settings(address, missing)?, observers(), stop.clone()) => replayed.map_err(anyhow::Error::new),
        failure = pipeline.failed() => Err(failure),
    };
    let what = if stop.is_cancelled() { "what was acknowledged" } else { "all of it" };
    say(&format!("waiting until {what} is in the bucket, and in the reports ...\n"))?;
    pipeline.drain().await?;
    replayed
}

fn replay_settings(address: SocketAddr, missing: &Missing) -> anyhow::Result<ReplaySettings> {
    let broker = Broker { host: address.ip().to_string(), port: address.port() };
    let mut settings =
        ReplaySettings::new(vec![missing.file.clone()], "stations/{origin}/weather".parse()?, broker);
    settings.input.time_field = Some("time_hour".to_owned());
    settings.input.rebase = Rebase::EndAt(missing.end);
    settings.connection.clients = Clients::PerTopic { max: STATIONS };
    settings.connection.client_id_prefix = "demo".to_owned();
    Ok(settings)
}

fn observers() -> Observers {
    Observers { progress: on_stderr(WithoutTerminal::Lines), ..Observers::default() }
}
