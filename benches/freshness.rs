//! How soon a reading is seen in SQL after its acknowledgement, while thousands a second come and files close once a minute.
//!
//! Devices publish at QoS 1, each on a connection of its own, at a steady pace. Meanwhile one client asks over HTTP, again and again as fast as it is answered, what
//! there is of each device. A reading is visible when the first answer is complete that has it, so its time has the whole query in it, and what was left of the one
//! before. Each answer is checked: as many readings of a device as its numbers say, never fewer than before, and at the end all of them.
//!
//! `just bench freshness [--rate N] [--devices N] [--seconds N] [--log embedded|kafka]`

use anyhow::{Context, bail, ensure};
use millstream_benches::{Acks, Device, Figures, Program, SqlClient, machine, print};
use millstream_services::{Service, Services};
use serde_json::Value;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long after the last acknowledgement everything must have been seen.
const SEEN_WITHIN: Duration = Duration::from_secs(60);

/// What the program is told beside where it listens.
const CONFIG: &str = r#"
[[stream]]
name  = "telemetry"
topic = "devices/{device_id}/telemetry"
files = { close_after = "60s", close_idle = "1h" }
[stream.columns]
seq  = "long"
temp = "double"
"#;

/// What there is of each device. `seq` counts a device's readings from 0.
const QUERY: &str =
    "select device_id, max(seq) as seq, count(*) as readings from telemetry group by device_id";

#[derive(Debug)]
struct Settings {
    /// Readings a second, of all devices together.
    rate: usize,
    devices: usize,
    seconds: usize,
    logs: Vec<LogKind>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LogKind {
    Embedded,
    Kafka,
}

impl LogKind {
    fn name(self) -> &'static str {
        match self {
            Self::Embedded => "the embedded log",
            Self::Kafka => "Kafka",
        }
    }
}

fn main() -> anyhow::Result<()> {
    let settings = settings()?;
    let mut out = std::io::stdout();
    writeln!(out, "{}", machine())?;
    writeln!(
        out,
        "{} readings/s of {} devices for {} s at QoS 1, one reading a message; files close after 60 s; one client asks all the time: {QUERY}\n",
        settings.rate, settings.devices, settings.seconds
    )?;
    let (mut head, mut rows) = (vec![""], ROWS.map(|name| vec![name.to_owned()]));
    for log in &settings.logs {
        if let Some(cells) = on(*log, &settings).with_context(|| format!("on {}", log.name()))? {
            head.push(log.name());
            rows.iter_mut().zip(cells).for_each(|(row, cell)| row.push(cell));
        }
    }
    print(&head, &rows)
}

/// The figures on one log; `None` where what it needs is not installed.
fn on(log: LogKind, settings: &Settings) -> anyhow::Result<Option<Vec<String>>> {
    let home = tempfile::Builder::new().prefix("millstream-bench-").tempdir()?;
    let data = home.path().join("data");
    std::fs::create_dir(&data)?;
    std::fs::write(data.join("millstream.toml"), CONFIG)?;
    let mut command = Program::command(&data)?;
    let _services = match log {
        LogKind::Embedded => None,
        LogKind::Kafka => match Services::own("freshness on Kafka", &[Service::Kafka]) {
            Some(services) => {
                command.envs(services.environment());
                Some(services)
            }
            None => return Ok(None),
        },
    };
    run(command, home.path(), settings).map(Some)
}

fn run(command: Command, home: &Path, settings: &Settings) -> anyhow::Result<Vec<String>> {
    let program = Program::up(command, &home.join("log"))?;
    let mut client = SqlClient::connect(program.http)?;
    while client.get("/readyz")?.0 != 200 {
        std::thread::sleep(Duration::from_millis(50));
    }
    let each = settings.rate * settings.seconds / settings.devices;
    let is_published = AtomicBool::new(false);
    let (published, seen) = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| watch(&mut client, settings.devices, each, &is_published));
        let published = publish(&program, settings, each);
        is_published.store(true, Ordering::Release);
        let seen = watcher.join().map_err(|_panic| anyhow::anyhow!("the client that asks failed"))?;
        anyhow::Ok((published?, seen?))
    })?;
    let commits = client.sample("millstream_firehose_commits_total{stream=\"telemetry\"}")?;
    let memory = program.memory_peak()?;
    program.drain()?;
    figures(&published, &seen, commits, memory)
}

/// What a device published: when each message was given to the connection, and when it was acknowledged.
#[derive(Debug)]
struct Published {
    sent: Vec<Instant>,
    acknowledged: Vec<Instant>,
}

/// Publishes everything, and returns when all of it is acknowledged.
fn publish(program: &Program, settings: &Settings, each: usize) -> anyhow::Result<Vec<Published>> {
    let mut devices = Vec::with_capacity(settings.devices);
    for number in 0..settings.devices {
        let name = format!("d{number}");
        devices.push(Device::connect(program.devices, &name, format!("devices/{name}/telemetry"), each)?);
    }
    let start = Instant::now();
    std::thread::scope(|scope| {
        let publishers = devices.into_iter().enumerate().map(|(number, (device, acks))| {
            // Evenly dealt out: the devices take turns.
            let due = move |message: usize| {
                let turn = (message * settings.devices + number) as f64;
                start + Duration::from_secs_f64(turn / settings.rate as f64)
            };
            scope.spawn(move || publish_one(device, acks, each, due))
        });
        let publishers: Vec<_> = publishers.collect();
        let ended = publishers
            .into_iter()
            .map(|publisher| publisher.join().map_err(|_panic| anyhow::anyhow!("a device failed"))?);
        ended.collect()
    })
}

fn publish_one(
    mut device: Device,
    acks: Acks,
    each: usize,
    due: impl Fn(usize) -> Instant,
) -> anyhow::Result<Published> {
    let mut sent = Vec::with_capacity(each);
    for number in 0..each {
        std::thread::sleep(due(number).saturating_duration_since(Instant::now()));
        let temp = 20.0 + (number % 100) as f64 / 10.0;
        sent.push(Instant::now());
        device.publish(number, format!("{{\"seq\":{number},\"temp\":{temp:.1}}}").as_bytes())?;
    }
    Ok(Published { sent, acknowledged: acks.all()? })
}

/// What the client that asks has seen.
#[derive(Debug)]
struct Seen {
    /// Of each device, when each of its readings was seen first.
    times: Vec<Vec<Instant>>,
    queries: Figures,
}

/// Asks until all readings are seen.
fn watch(
    client: &mut SqlClient,
    devices: usize,
    each: usize,
    is_published: &AtomicBool,
) -> anyhow::Result<Seen> {
    let mut seen = Seen { times: vec![Vec::with_capacity(each); devices], queries: Figures::new()? };
    let mut last_of_all = None;
    loop {
        let count: usize = seen.times.iter().map(Vec::len).sum();
        if count == devices * each {
            return Ok(seen);
        }
        if is_published.load(Ordering::Acquire) {
            let since = last_of_all.get_or_insert_with(Instant::now);
            ensure!(since.elapsed() < SEEN_WITHIN, "{count} of {} readings were seen", devices * each);
        }
        let asked = Instant::now();
        let rows = client.ask(QUERY)?;
        let answered = Instant::now();
        seen.queries.add(answered - asked)?;
        for row in rows {
            let number = |name: &str| row.get(name).and_then(Value::as_f64).map(|number| number as usize);
            let (Some(seq), Some(readings)) = (number("seq"), number("readings")) else {
                bail!("not what was asked for: {row:?}");
            };
            let device = row.get("device_id").and_then(Value::as_str).unwrap_or_default();
            let place = device.strip_prefix('d').and_then(|place| place.parse::<usize>().ok());
            let times = place.and_then(|place| seen.times.get_mut(place)).context("an unknown device")?;
            ensure!(readings == seq + 1, "{device} has {readings} readings, the last of them number {seq}");
            ensure!(readings >= times.len(), "{device} had {} readings, and now {readings}", times.len());
            times.resize(readings, answered);
        }
    }
}

const ROWS: [&str; 10] = [
    "readings acknowledged",
    "readings/s reached",
    "acknowledged after p50 / p99 / max",
    "visible after acknowledgement p50",
    "visible after acknowledgement p99",
    "visible after acknowledgement max",
    "visible before their acknowledgement came",
    "queries",
    "query p50 / p99 / max",
    "commits meanwhile; most memory of the program",
];

fn figures(published: &[Published], seen: &Seen, commits: f64, memory: u64) -> anyhow::Result<Vec<String>> {
    let (mut acknowledged, mut visible, mut early) = (Figures::new()?, Figures::new()?, 0);
    for (device, times) in published.iter().zip(&seen.times) {
        for ((sent, at), seen) in device.sent.iter().zip(&device.acknowledged).zip(times) {
            acknowledged.add(*at - *sent)?;
            early += usize::from(seen < at);
            visible.add(seen.saturating_duration_since(*at))?;
        }
    }
    let first =
        published.iter().filter_map(|device| device.sent.first()).min().context("nothing was sent")?;
    let last = published.iter().filter_map(|device| device.acknowledged.last()).max().context("no ack")?;
    let rate = acknowledged.count() as f64 / (*last - *first).as_secs_f64();
    Ok(vec![
        acknowledged.count().to_string(),
        format!("{rate:.0}"),
        acknowledged.in_words(),
        visible.below(0.5),
        visible.below(0.99),
        visible.longest(),
        early.to_string(),
        seen.queries.count().to_string(),
        seen.queries.in_words(),
        format!("{commits}; {} MiB", memory / 1024 / 1024),
    ])
}

fn settings() -> anyhow::Result<Settings> {
    let mut settings =
        Settings { rate: 5_000, devices: 50, seconds: 130, logs: vec![LogKind::Embedded, LogKind::Kafka] };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        // Cargo says it to every benchmark.
        if word == "--bench" {
            continue;
        }
        let value = words.next().with_context(|| format!("{word} needs a value"))?;
        match word.as_str() {
            "--rate" => settings.rate = number(&value)?,
            "--devices" => settings.devices = number(&value)?,
            "--seconds" => settings.seconds = number(&value)?,
            "--log" if value == "embedded" => settings.logs = vec![LogKind::Embedded],
            "--log" if value == "kafka" => settings.logs = vec![LogKind::Kafka],
            _ => bail!("{word} {value}: there are --rate, --devices, --seconds and --log embedded|kafka"),
        }
    }
    Ok(settings)
}

fn number(text: &str) -> anyhow::Result<usize> {
    let number = usize::from_str(text).with_context(|| format!("{text:?} is no number"))?;
    ensure!(number > 0, "a number above 0 is needed");
    Ok(number)
}
