//! The data directory: where everything of one Millstream lies.

mod beacon;
mod instance;
mod spill;

pub(crate) use beacon::{Beacon, Found};
pub(crate) use instance::Instance;
pub(crate) use spill::Spill;

use crate::config::lake::Location;
use crate::config::load::{PREFIX, load};
use crate::config::log::LogChoice;
use crate::config::problem::{Problem, Weight};
use crate::config::{DEFAULTS, Settings};
use crate::telemetry::{chain, is_colored};
use anyhow::Context;
use beacon::Sources;
use millstream_lake::Bucket;
use millstream_query::Lakehouse;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Names of the buckets, and of their directories in the data directory.
const INGESTION: &str = "ingestion";
const REPORTING: &str = "reporting";

/// A data directory.
#[derive(Debug, Clone)]
pub(crate) struct Directory(PathBuf);

impl Directory {
    /// The directory at a path; it need not exist.
    pub(crate) fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// The embedded log.
    pub(crate) fn log(&self) -> PathBuf {
        self.0.join("log")
    }

    /// The gateway's sessions.
    pub(crate) fn sessions(&self) -> PathBuf {
        self.0.join("sessions.redb")
    }

    /// Says that the broker of this subscriber has given it a session.
    pub(crate) fn session_mark(&self, subscriber: &str) -> PathBuf {
        self.0.join("subscribers").join(subscriber)
    }

    /// The configuration that is used when no other is given.
    pub(crate) fn config(&self) -> PathBuf {
        self.0.join("millstream.toml")
    }

    /// The credentials of devices.
    pub(crate) fn credentials(&self, settings: &Settings) -> PathBuf {
        settings.gateway.access.credentials.clone().unwrap_or_else(|| self.0.join("credentials.toml"))
    }

    /// Which one of several processes this is; the directory is made if it is not there.
    ///
    /// # Errors
    /// If another process has the same directory, or it cannot be written to.
    pub(crate) fn instance(&self) -> anyhow::Result<Instance> {
        Instance::take(&self.0)
    }

    /// Says in it that a server listens there; `None` where nothing of it lies in the directory, which is not made for this.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(crate) fn announce(
        &self,
        settings: &Settings,
        listening: SocketAddr,
        id: String,
    ) -> anyhow::Result<Option<Beacon>> {
        if !self.0.is_dir() {
            return Ok(None);
        }
        Beacon::set(&self.0, Found::new(listening, id, Sources::of(self, settings))).map(Some)
    }

    /// The server that was announced last, and may be no more.
    pub(crate) fn server(&self) -> Option<Found> {
        Found::read(&self.0)
    }

    /// Whether a server that was found answers from what these settings say.
    pub(crate) fn is_source_of(&self, settings: &Settings, found: &Found) -> bool {
        found.sources == Sources::of(self, settings)
    }

    /// Where queries of this process may spill, and how much: no more than is configured, and than half of what is free. Where there is no data directory, or this
    /// user may not write to it, it is in the system's directory for temporary files; `None` where even that is somebody else's.
    pub(crate) fn spill(&self, settings: &Settings) -> (Option<Spill>, u64) {
        let configured = settings.sql.spill_bytes();
        let own = Some(&self.0).filter(|path| path.is_dir()).and_then(|path| Spill::take(path).ok());
        let taken = own.map_or_else(|| Spill::take_among_others(&std::env::temp_dir()), Ok);
        let spill = match taken {
            Ok(spill) => spill,
            Err(error) => {
                tracing::warn!(
                    error = chain(&error),
                    "what queries spill stays in the system's directory for temporary files if this process is killed"
                );
                return (None, configured);
            }
        };
        let bytes = spill.room().map_or(configured, |room| configured.min(room));
        if bytes < configured {
            tracing::info!(
                bytes,
                configured,
                "queries may spill no more than half of what is free on the disk"
            );
        }
        (Some(spill), bytes)
    }

    /// Both buckets' places.
    fn locations(&self, settings: &Settings) -> (Location, Location) {
        let (ingestion, reporting) = (settings.lake.ingestion.as_ref(), settings.lake.reporting.as_ref());
        (self.location(ingestion, INGESTION), self.location(reporting, REPORTING))
    }

    /// Whether anything that answers a question lies in it: the log or a bucket.
    pub(crate) fn holds_data(&self, settings: &Settings) -> bool {
        matches!(settings.log, LogChoice::Embedded(_))
            || settings.lake.ingestion.is_none()
            || settings.lake.reporting.is_none()
    }

    /// The ingestion bucket; a directory is made if it is not there.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub(crate) fn ingestion(&self, settings: &Settings) -> anyhow::Result<Bucket> {
        self.bucket(settings, settings.lake.ingestion.as_ref(), INGESTION)
    }

    /// The reporting bucket; a directory is made if it is not there.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub(crate) fn reporting(&self, settings: &Settings) -> anyhow::Result<Bucket> {
        self.bucket(settings, settings.lake.reporting.as_ref(), REPORTING)
    }

    /// Both buckets as a question needs them: a directory that is not there is empty, and is not made.
    ///
    /// # Errors
    /// If a bucket is there and cannot be opened.
    pub(crate) fn lakehouse(&self, settings: &Settings) -> anyhow::Result<Lakehouse> {
        let there = |configured: Option<&Location>, name: &str| match self.location(configured, name) {
            Location::Directory(path) if !path.exists() => Ok(Bucket::memory(name)),
            _ => self.bucket(settings, configured, name),
        };
        let ingestion = there(settings.lake.ingestion.as_ref(), INGESTION)?;
        let reporting = there(settings.lake.reporting.as_ref(), REPORTING)?;
        Ok(Lakehouse::new(ingestion, reporting).with_definitions(settings.definitions()))
    }

    fn location(&self, configured: Option<&Location>, name: &str) -> Location {
        configured.cloned().unwrap_or_else(|| Location::Directory(self.0.join(name)))
    }

    fn bucket(
        &self,
        settings: &Settings,
        configured: Option<&Location>,
        name: &str,
    ) -> anyhow::Result<Bucket> {
        let location = self.location(configured, name);
        let opened = match &location {
            Location::Directory(path) => Bucket::local(path),
            Location::Store(url) => Bucket::open(url.as_str(), &settings.lake.s3.settings()?),
        };
        opened.with_context(|| format!("failed to open the {name} bucket {location}"))
    }

    /// The settings: of the file that was named, else of the one in this directory, else the defaults; and of the environment.
    ///
    /// # Errors
    /// If the file cannot be read, or is wrong: then the message shows where.
    pub(crate) fn settings(&self, named: Option<&Path>) -> anyhow::Result<Settings> {
        let own = self.config();
        match named {
            Some(path) => read_settings(path),
            None if own.exists() => read_settings(&own),
            None => load("", Path::new(""), &environment())
                .map_err(|problems| anyhow::anyhow!(render(&problems, Path::new("the environment"), ""))),
        }
    }
}

/// Reads and checks a configuration file.
///
/// # Errors
/// If it cannot be read, or is wrong: then the message shows where.
pub(crate) fn read_settings(path: &Path) -> anyhow::Result<Settings> {
    read(path, &environment())
}

/// As [`read_settings`], whatever the environment says.
///
/// # Errors
/// As there.
pub(crate) fn read_file(path: &Path) -> anyhow::Result<Settings> {
    read(path, &BTreeMap::new())
}

fn read(path: &Path, environment: &BTreeMap<String, String>) -> anyhow::Result<Settings> {
    let text = read_text(path)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    load(&text, folder, environment).map_err(|problems| anyhow::anyhow!(render(&problems, path, &text)))
}

/// What may not be wanted in a configuration file, as a person reads it; nothing if nothing.
///
/// # Errors
/// If the file cannot be read.
pub(crate) fn render_warnings(settings: &Settings, path: &Path) -> anyhow::Result<String> {
    let (text, name) = (read_text(path)?, path.display().to_string());
    let mut rendered = String::new();
    for warning in &settings.warnings {
        rendered.push_str(&warning.render(&name, &text, Weight::Warning, is_colored()));
        rendered.push('\n');
    }
    Ok(rendered)
}

fn read_text(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| {
        let path = path.display();
        format!("failed to read the configuration {path} (`millstream config > {path}` writes one with the defaults)")
    })
}

/// Variables of ours. Those of others may hold anything, and are left alone.
fn environment() -> BTreeMap<String, String> {
    let ours = |(variable, value): (OsString, OsString)| {
        let variable = variable.into_string().ok().filter(|variable| variable.starts_with(PREFIX))?;
        Some((variable, value.to_string_lossy().into_owned()))
    };
    std::env::vars_os().filter_map(ours).collect()
}

fn render(problems: &[Problem], path: &Path, text: &str) -> String {
    let name = path.display().to_string();
    let color = is_colored();
    let count = match problems.len() {
        1 => "one problem".to_owned(),
        many => format!("{many} problems"),
    };
    let mut rendered = format!("{name} has {count}\n");
    for problem in problems {
        if let Some((line, column)) = problem.place(text) {
            rendered.push_str(&format!("\n{name}:{line}:{column}"));
        }
        rendered.push('\n');
        rendered.push_str(&problem.render(&name, text, Weight::Error, color));
        rendered.push('\n');
    }
    rendered.push_str("\n`millstream config` prints every key with its default.");
    rendered
}

/// The default configuration, as `millstream config` prints it.
pub(crate) fn defaults() -> &'static str {
    DEFAULTS
}
