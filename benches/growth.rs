//! What a table costs its readers as its files become many, before and after upkeep.
//!
//! A firehose carries readings from a log to a table, one commit and one file for each minute, as for a stream whose files close after a minute: 20 devices, a
//! reading each every ten seconds, from 2026-01-01 on. At 1, 100, 1,000 and 10,000 files (a week of minutes) the table is copied to a directory and to MinIO;
//! there it is opened by a reader that has never seen it, and asked for the last reading of one device. Then `millstream maintain` runs, and it is asked again.
//!
//! `just bench growth [--files N,N] [--place directory|minio]`

use anyhow::{Context, bail, ensure};
use arrow::array::{Array, Float64Array};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use millstream_benches::{Figures, Program, machine, print};
use millstream_lake::s3::S3Settings;
use millstream_lake::{Bucket, Table};
use millstream_log::embedded::{EmbeddedLog, EmbeddedSettings};
use millstream_log::{Log, ReadLimit};
use millstream_model::arrival::Arrival;
use millstream_model::record::Record;
use millstream_model::secret::Secret;
use millstream_model::stream::{CloseRule, DatePartition, Misfit, Start, Stream, TimeField, TimeUnit};
use millstream_model::time::Micros;
use millstream_query::{Lakehouse, Limits, Session};
use millstream_services::{Service, Services};
use millstream_transform::firehose::{self, TrimRule};
use object_store::{ObjectStoreExt, PutPayload};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const TABLE: &str = "telemetry";
const DEVICES: usize = 20;
/// Readings of one device in one minute.
const EACH: usize = 6;
/// 2026-01-01, in seconds since 1970.
const BEGIN: i64 = 1_767_225_600;
/// How often each time is taken.
const ROUNDS: usize = 5;
/// How many objects are copied at a time.
const COPIES: usize = 16;

const QUERY: &str = "select seq from telemetry where device_id = 'd7' order by ts desc limit 1";

const HEAD: [&str; 8] =
    ["files", "where", "upkeep", "files now", "MiB", "open", "last reading, first query", "again"];

#[derive(Debug)]
struct Settings {
    files: Vec<usize>,
    places: Vec<Kind>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Directory,
    Minio,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let settings = settings()?;
    let mut out = std::io::stdout();
    writeln!(out, "{}", machine())?;
    writeln!(
        out,
        "{DEVICES} devices, a reading every ten seconds, a file a minute; the middle of {ROUNDS} rounds; {QUERY}\n"
    )?;
    let home = tempfile::Builder::new().prefix("millstream-bench-").tempdir()?;
    let services = match settings.places.contains(&Kind::Minio) {
        true => Services::own("growth on MinIO", &[Service::Minio]),
        false => None,
    };
    let mut source = Source::open(home.path()).await?;
    let mut rows = Vec::new();
    for files in settings.files {
        source.grow(files).await?;
        for kind in &settings.places {
            let place = match (kind, &services) {
                (Kind::Directory, _) => Place::directory(home.path(), files)?,
                (Kind::Minio, Some(services)) => Place::minio(home.path(), files, services)?,
                // It has said why.
                (Kind::Minio, None) => continue,
            };
            place.copy(&source).await?;
            let last = (source.minutes * EACH - 1) as f64;
            for upkeep in ["before", "after"] {
                if upkeep == "after" {
                    place.maintain(home.path())?;
                }
                let mut row = vec![files.to_string(), place.name.to_owned(), upkeep.to_owned()];
                row.extend(place.measure(last).await?);
                rows.push(row);
            }
            place.remove()?;
        }
    }
    print(&HEAD, &rows)
}

/// The log and the table that a firehose fills from it.
#[derive(Debug)]
struct Source {
    directory: PathBuf,
    bucket: Bucket,
    log: EmbeddedLog,
    stream: Arc<Stream>,
    minutes: usize,
}

impl Source {
    async fn open(home: &Path) -> anyhow::Result<Self> {
        let directory = home.join("source");
        std::fs::create_dir(&directory)?;
        let bucket = Bucket::local(&directory)?;
        let log = EmbeddedLog::open(&home.join("log"), EmbeddedSettings::default()).await?;
        Ok(Self { directory, bucket, log, stream: Arc::new(definition()?), minutes: 0 })
    }

    /// Carries minutes to the table until it has this many files.
    async fn grow(&mut self, files: usize) -> anyhow::Result<()> {
        loop {
            let count = match Table::open(&self.bucket, TABLE).await? {
                Some(table) => table.snapshot().await?.files().len(),
                None => 0,
            };
            if count >= files {
                return Ok(());
            }
            for _ in count..files {
                let records = (0..EACH).flat_map(|turn| reading(self.minutes * EACH + turn)).collect();
                self.log.append(&self.stream.name.log_topic(), records).await?.await?;
                self.minutes += 1;
            }
            // One read is a minute, and after each the files have the size at which they close.
            let settings = firehose::Settings {
                trim: TrimRule::AfterCommit,
                read: ReadLimit { records: DEVICES * EACH, bytes: 1024 * 1024 },
                ..firehose::Settings::default()
            };
            // It carries what the log holds, and ends.
            let stop = CancellationToken::new();
            stop.cancel();
            let (log, bucket) = (Arc::new(self.log.clone()), self.bucket.clone());
            firehose::run(settings, Arc::clone(&self.stream), log, bucket, stop, watch::Sender::default())
                .await?;
        }
    }
}

/// One reading of each device.
fn reading(seq: usize) -> impl Iterator<Item = Record> {
    let seconds = BEGIN + i64::try_from(seq * 60 / EACH).unwrap_or(i64::MAX);
    (0..DEVICES).map(move |device| {
        let temp = 20.0 + ((seq + device) % 100) as f64 / 10.0;
        let payload =
            format!("{{\"ts\":{seconds},\"seq\":{seq},\"temp\":{temp:.1},\"humidity\":{}}}", seq % 60);
        let arrival = Arrival {
            topic: format!("devices/d{device}/telemetry"),
            qos: 1,
            retain: false,
            dup: false,
            received_at: Micros(seconds * 1_000_000),
            content_type: None,
            user_properties: Vec::new(),
            truncated_from: None,
        };
        arrival.into_record(&format!("d{device}"), Bytes::from(payload))
    })
}

fn definition() -> anyhow::Result<Stream> {
    let hour = Duration::from_secs(3600);
    Ok(Stream {
        name: TABLE.parse()?,
        topics: vec!["devices/{device_id}/telemetry".parse()?],
        time: Some(TimeField {
            field: "ts".to_owned(),
            unit: TimeUnit::Auto,
            earliest: Micros(0),
            ahead_max: hour,
        }),
        device_field: None,
        columns: Vec::new(),
        transform: None,
        on_mismatch: Misfit::Extra,
        on_bad_time: Misfit::Extra,
        column_limit: 256,
        date: DatePartition::Day,
        files: CloseRule { after: hour, size: 1, idle: hour },
        start: Start::Refuse,
        sequence: None,
        keep: None,
    })
}

/// Where a copy of the table lies.
#[derive(Debug)]
struct Place {
    name: &'static str,
    /// What the program is told of it.
    config: String,
    environment: Vec<(String, String)>,
    bucket: Bucket,
    /// If it is a directory.
    directory: Option<PathBuf>,
}

impl Place {
    fn directory(home: &Path, files: usize) -> anyhow::Result<Self> {
        let directory = home.join(format!("copy-{files}"));
        std::fs::create_dir_all(directory.join(TABLE))?;
        Ok(Self {
            name: "directory",
            config: format!("[lake]\ningestion = {:?}\n", directory.display().to_string()),
            environment: Vec::new(),
            bucket: Bucket::local(&directory)?,
            directory: Some(directory),
        })
    }

    fn minio(home: &Path, files: usize, services: &Services) -> anyhow::Result<Self> {
        let place = format!("s3://{}", services.bucket(&format!("growth-{files}")));
        let settings = S3Settings {
            endpoint: Some(services.s3_endpoint.clone()),
            region: Some(services.s3_region.clone()),
            path_style: Some(true),
            allow_http: Some(true),
            access_key: Some(Secret::new(services.s3_access_key.clone())),
            secret_key: Some(Secret::new(services.s3_secret_key.clone())),
            ..S3Settings::default()
        };
        let reporting = home.join("reporting").display().to_string();
        Ok(Self {
            name: "MinIO",
            config: format!(
                "[lake]\ningestion = {place:?}\nreporting = {reporting:?}\n[s3]\npath_style = true\nallow_http = true\n"
            ),
            environment: services
                .environment()
                .iter()
                .filter(|(name, _)| name.starts_with("AWS_"))
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
            bucket: Bucket::open(&place, &settings)?,
            directory: None,
        })
    }

    /// Copies the table as it is.
    async fn copy(&self, source: &Source) -> anyhow::Result<()> {
        if let Some(directory) = &self.directory {
            return copy_files(&source.directory.join(TABLE), &directory.join(TABLE));
        }
        let (from, to) = (source.bucket.store(), self.bucket.store());
        let all: Vec<_> = from.list(Some(&TABLE.into())).try_collect().await?;
        let copies = stream::iter(all).map(|object| {
            let (from, to) = (Arc::clone(&from), Arc::clone(&to));
            async move {
                let bytes = from.get(&object.location).await?.bytes().await?;
                to.put(&object.location, PutPayload::from_bytes(bytes)).await
            }
        });
        copies.buffer_unordered(COPIES).try_for_each(|_put| async { Ok(()) }).await?;
        Ok(())
    }

    /// As its owner would.
    fn maintain(&self, home: &Path) -> anyhow::Result<()> {
        let data = home.join("data");
        std::fs::create_dir_all(&data)?;
        let stream = format!("[[stream]]\nname = \"{TABLE}\"\ntopic = \"devices/{{device_id}}/telemetry\"\n");
        std::fs::write(data.join("millstream.toml"), format!("{}{stream}", self.config))?;
        let mut command = Program::command(&data)?;
        let ended = command.arg("maintain").envs(self.environment.iter().cloned()).output()?;
        ensure!(ended.status.success(), "upkeep failed: {}", String::from_utf8_lossy(&ended.stderr));
        Ok(())
    }

    /// What the table has, and how long it takes to find that out.
    async fn measure(&self, last: f64) -> anyhow::Result<Vec<String>> {
        let (mut open, mut first, mut again) = (Figures::new()?, Figures::new()?, Figures::new()?);
        let (mut files, mut bytes) = (0, 0);
        for _ in 0..ROUNDS {
            let began = Instant::now();
            let table = Table::open(&self.bucket, TABLE).await?.context("the table is gone")?;
            let snapshot = table.snapshot().await?;
            open.add(began.elapsed())?;
            files = snapshot.files().len();
            bytes = snapshot.files().iter().map(|file| file.size).sum::<u64>();

            let lakehouse = Lakehouse::new(self.bucket.clone(), self.bucket.clone());
            let session = Session::open(&lakehouse, Limits::default()).await?;
            first.add(ask(&session, last).await?)?;
            again.add(ask(&session, last).await?)?;
        }
        let size = format!("{:.1}", bytes as f64 / 1024.0 / 1024.0);
        Ok(vec![files.to_string(), size, open.below(0.5), first.below(0.5), again.below(0.5)])
    }

    /// A table of ten thousand files is large; the next one comes.
    fn remove(self) -> anyhow::Result<()> {
        Ok(self.directory.map(std::fs::remove_dir_all).transpose().map(drop)?)
    }
}

/// Asks for the last reading, and checks that it is.
async fn ask(session: &Session, last: f64) -> anyhow::Result<Duration> {
    let began = Instant::now();
    let batches = session.query(QUERY).await?.collect().await?;
    let took = began.elapsed();
    let found = batches.iter().find(|batch| batch.num_rows() > 0).context("no reading was found")?;
    let column = found.column(0).as_any().downcast_ref::<Float64Array>().context("not a number")?;
    ensure!(column.value(0) == last, "the last reading is number {last}, found {}", column.value(0));
    Ok(took)
}

fn copy_files(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_files(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

fn settings() -> anyhow::Result<Settings> {
    let mut settings =
        Settings { files: vec![1, 100, 1_000, 10_000], places: vec![Kind::Directory, Kind::Minio] };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        // Cargo says it to every benchmark.
        if word == "--bench" {
            continue;
        }
        let value = words.next().with_context(|| format!("{word} needs a value"))?;
        match word.as_str() {
            "--files" => {
                settings.files = value.split(',').map(str::parse).collect::<Result<_, _>>()?;
                settings.files.sort_unstable();
            }
            "--place" if value == "directory" => settings.places = vec![Kind::Directory],
            "--place" if value == "minio" => settings.places = vec![Kind::Minio],
            _ => bail!("{word} {value}: there are --files N,N and --place directory|minio"),
        }
    }
    Ok(settings)
}
