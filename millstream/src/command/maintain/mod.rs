//! `millstream maintain`: what the janitor does on schedule, at once, or what it would do.

mod told;

use super::{STOPPED, say};
use crate::cli::Maintain;
use crate::config::Settings;
use crate::directory::Directory;
use crate::shutdown::Signals;
use crate::telemetry::chain;
use anyhow::{Context, bail};
use bytesize::ByteSize;
use chrono::Utc;
use indicatif::{ProgressBar, ProgressStyle};
use millstream_lake::Bucket;
use millstream_lake::LakeError;
use millstream_lake::upkeep::{Compacted, Depth, Others, Rules, Tended, Upkeep};
use std::process::ExitCode;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How often the progress on a terminal moves.
const DRAWN_EVERY: Duration = Duration::from_millis(100);

/// One table that is to be looked after.
#[derive(Debug)]
struct Chosen {
    /// As SQL has it: `ingestion.telemetry`.
    name: String,
    bucket: Bucket,
    table: String,
    rules: Rules,
}

/// Looks after the tables; a first signal ends it after what is being done.
pub(super) async fn run(options: Maintain) -> anyhow::Result<ExitCode> {
    let directory = Directory::new(options.place.data);
    let settings = directory.settings(options.place.config.as_deref())?;
    let signals = Signals::take().context("failed to take over signals")?;
    let stop = CancellationToken::new();
    tokio::select! {
        ended = maintain(&directory, &settings, &options.tables, options.dry_run, &stop) => ended,
        () = signals.watch(stop.clone()) => Ok(ExitCode::from(STOPPED)),
    }
}

async fn maintain(
    directory: &Directory,
    settings: &Settings,
    named: &[String],
    dry_run: bool,
    stop: &CancellationToken,
) -> anyhow::Result<ExitCode> {
    let chosen = chosen(directory, settings, named, dry_run).await?;
    if chosen.is_empty() {
        say("there are no tables yet: the first commit of a stream makes its table\n")?;
    }
    let mut failed = Vec::new();
    for table in chosen {
        if stop.is_cancelled() {
            return Ok(ExitCode::from(STOPPED));
        }
        let begun = one(&table, dry_run, stop);
        match begun.await {
            Ok(Some((tended, error))) => {
                let failure = error.map(|error| chain(&error.into()));
                say(&told::told(&table.name, &tended, failure.as_deref(), dry_run))?;
                failed.extend(failure.map(|_| table.name));
            }
            // Another program's.
            Ok(None) => say(&format!("{}: not made by Millstream, left alone\n", table.name))?,
            Err(error) => {
                say(&format!("{}: failed, {}\n", table.name, chain(&error)))?;
                failed.push(table.name);
            }
        }
    }
    if !failed.is_empty() {
        bail!("failed to look after {}; the others are done, and to do it again is safe", failed.join(", "));
    }
    Ok(if stop.is_cancelled() { ExitCode::from(STOPPED) } else { ExitCode::SUCCESS })
}

/// The tables that are named, or else all.
async fn chosen(
    directory: &Directory,
    settings: &Settings,
    named: &[String],
    dry_run: bool,
) -> anyhow::Result<Vec<Chosen>> {
    let lakehouse = directory.lakehouse(settings)?;
    let mut all = Vec::new();
    for (schema, bucket) in [("ingestion", lakehouse.ingestion), ("reporting", lakehouse.reporting)] {
        let tables = bucket.table_names().await?;
        if !dry_run && !tables.is_empty() {
            bucket.probe().await.with_context(|| format!("failed to probe the bucket {}", bucket.url()))?;
        }
        for table in tables {
            let rules = match schema {
                "ingestion" => settings.upkeep.ingestion(&table, &settings.streams),
                _ => settings.upkeep.reporting(),
            };
            let name = format!("{schema}.{table}");
            all.push(Chosen { name, bucket: bucket.clone(), table, rules });
        }
    }
    for name in named {
        if !all.iter().any(|chosen| chosen.is(name)) {
            let known: Vec<&str> = all.iter().map(|chosen| chosen.name.as_str()).collect();
            bail!("there is no table {name}; there are {}", known.join(", "));
        }
    }
    all.retain(|chosen| named.is_empty() || named.iter().any(|name| chosen.is(name)));
    Ok(all)
}

impl Chosen {
    fn is(&self, name: &str) -> bool {
        self.name == name || self.table == name
    }
}

/// What was done with a table, and what could not be.
type Done = (Tended, Option<LakeError>);

async fn one(chosen: &Chosen, dry_run: bool, stop: &CancellationToken) -> anyhow::Result<Option<Done>> {
    let bar = ProgressBar::new_spinner().with_message(chosen.name.clone());
    bar.set_style(
        ProgressStyle::with_template("{spinner} {wide_msg}")
            .unwrap_or_else(|_| ProgressStyle::default_spinner()),
    );
    bar.enable_steady_tick(DRAWN_EVERY);
    let tended = look_after(chosen, dry_run, stop, &bar).await;
    bar.finish_and_clear();
    tended
}

async fn look_after(
    chosen: &Chosen,
    dry_run: bool,
    stop: &CancellationToken,
    bar: &ProgressBar,
) -> anyhow::Result<Option<Done>> {
    let Some(mut upkeep) = Upkeep::open(&chosen.bucket, &chosen.table, chosen.rules).await? else {
        return Ok(None);
    };
    let now = Utc::now();
    if dry_run {
        return Ok(Some((upkeep.foresee(now).await?, None)));
    }
    let tell = |so_far: Compacted| {
        let (name, files, bytes) = (&chosen.name, so_far.merged, ByteSize(so_far.bytes_read));
        bar.set_message(format!("{name}: {files} files merged, {bytes}"));
    };
    match upkeep.tend(Depth::Folder, Others::Overruled, now, stop, tell).await {
        Ok(tended) => Ok(Some((tended, None))),
        Err(unfinished) => match (unfinished.done, unfinished.error) {
            (Some(done), error) => Ok(Some((done, Some(error)))),
            (None, error) => Err(error.into()),
        },
    }
}
