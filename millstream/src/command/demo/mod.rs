//! `millstream demo`: all of it at once, on a year of real weather.

mod chart;
mod show;
mod weather;

use super::{STOPPED, say};
use crate::cli::Demo;
use crate::config::Settings;
use crate::config::raw::LogFormat;
use crate::directory::Directory;
use crate::pipeline::Pipeline;
use crate::shutdown::Signals;
use crate::telemetry;
use anyhow::{Context, ensure};
use indicatif::HumanCount;
use millstream_ingest::replay::progress::{WithoutTerminal, on_stderr};
use millstream_ingest::replay::{self, Broker, Clients, Observers, Rebase, ReplaySettings, Summary};
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
    let settings = directory.settings(None)?;
    let recording = Recording::open(&directory, options.as_recorded)?;
    say(&format!(
        "A year of weather, from MQTT to a report.\n\ndata       {}\n",
        directory.path().display()
    ))?;
    let found = show::count(&directory, &settings).await?;
    if found < TOTAL {
        say(&recording.describe())?;
        let missing = recording.missing(&show::keys(&directory, &settings).await?)?;
        if found > 0 {
            let (found, rest) = (HumanCount(found), HumanCount(missing.readings));
            say(&format!(
                "found      {found} of them in the table, of a demo that was cut short: only the other {rest} are published\n"
            ))?;
        }
        let summary = publish(&directory, directory.settings(None)?, &missing, stop.clone()).await?;
        if stop.is_cancelled() {
            say(
                "stopped; what was acknowledged is in the table, and the next `demo` on this directory publishes the rest\n",
            )?;
            return Ok(ExitCode::from(STOPPED));
        }
        say(&format!("{summary}\n"))?;
    } else {
        say(&format!(
            "found      all {} readings of an earlier demo: nothing is published again\n",
            HumanCount(TOTAL)
        ))?;
    }
    let stored = show::count(&directory, &settings).await?;
    ensure!(stored == TOTAL, "the table has {stored} readings, and {TOTAL} were published");
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
    let config = directory.config();
    if !config.exists() {
        std::fs::create_dir_all(directory.path())
            .with_context(|| format!("failed to make {}", directory.path().display()))?;
        std::fs::write(&config, CONFIG).with_context(|| format!("failed to write {}", config.display()))?;
    }
    Ok(directory)
}

/// Runs all stages while the readings are published, and until all of them are in the ingestion bucket and the reports know them.
async fn publish(
    directory: &Directory,
    mut settings: Settings,
    missing: &Missing,
    stop: CancellationToken,
) -> anyhow::Result<Summary> {
    // Any free port: a demonstration must not meet the user's own broker.
    settings.listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let mut pipeline = Pipeline::start(&settings, directory, Arc::new(())).await?;
    let address = pipeline.address();
    say(&format!("gateway    mqtt://{address}, MQTT 5, QoS 1, one client per station\n\n"))?;
    let replayed = tokio::select! {
        replayed = replay::run(replay_settings(address, missing)?, observers(), stop) => replayed.map_err(anyhow::Error::new),
        failure = pipeline.failed() => Err(failure),
    };
    say("waiting until all of it is in the bucket, and in the reports ...\n")?;
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
