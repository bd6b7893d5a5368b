//! The power is cut again and again in the middle of a replay; then every acknowledged message is where it belongs, exactly once.

use crate::program::{Home, Row, Running, Up, eventually, testdata};
use millstream_services::free_port;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

/// How often the program is killed.
const KILLS: usize = 20;

/// Messages in all: so many between two kills that files are written, committed and trimmed meanwhile.
pub(crate) const MESSAGES: usize = 16_000;

/// Messages a second: slow enough that a kill hits the middle, also where the machine is busy and the test late.
const RATE: &str = "2000";

/// Every so many messages the device id is one that cannot be.
const BAD_DEVICE: usize = 97;

/// Every so many messages the temperature is no number.
const BAD_TEMP: usize = 89;

/// Several partitions, so that each has its own offsets.
const LOG: &str = r#"
[log]
partitions = 3
segment_size = "1MiB"
"#;

/// Files close so often that every kill has a good chance to hit a commit.
pub(crate) const STREAM: &str = r#"
[[stream]]
name = "weather"
topic = "weather/{device_id}"
time = "time_hour"
partition = "month"
on_mismatch = "quarantine"
columns = { seq = "long", temp = "double" }
files = { close_after = "250ms", close_idle = "100ms" }
"#;

fn config() -> String {
    format!("{LOG}{STREAM}")
}

#[test]
fn twenty_kills_lose_nothing_and_double_nothing() {
    let seed =
        std::env::var("MILLSTREAM_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    // Not by a macro: the seed is wanted of runs that pass, too.
    writeln!(std::io::stderr(), "twenty kills: MILLSTREAM_SEED={seed}").unwrap();
    let mut random = fastrand::Rng::with_seed(seed);

    let home = Home::with(&config());
    let readings = home.path("readings.csv");
    write_readings(&readings);
    let port = free_port();
    let mut up = home.up_at(port);
    let mut client = replay(&home, &readings, port, RATE);
    let mut acknowledged = Acknowledged::open(&home.path("acknowledged"));
    for kill in 0..KILLS {
        // Somewhere in its own part of the messages, and never without some progress since the last kill. The client has seconds of work left after the last.
        let planned = (MESSAGES * kill + random.usize(MESSAGES / 10..MESSAGES)) / (KILLS + 8);
        let target = planned.max(acknowledged.count() + random.usize(1..100));
        eventually("messages are acknowledged", || {
            assert_eq!(client.ended(), None, "the client ended before kill {kill}");
            (acknowledged.count() >= target).then_some(())
        });
        std::thread::sleep(Duration::from_micros(random.u64(0..50_000)));
        up.kill();
        up = home.up_at(port);
    }
    let mut summary = String::new();
    client.child.stdout.take().unwrap().read_to_string(&mut summary).unwrap();
    assert!(client.wait().success(), "{summary}");
    up.drain();

    let summary: Value = serde_json::from_str(&summary).unwrap();
    assert!(summary["reconnects"].as_u64() >= Some(KILLS as u64), "a kill that no client felt: {summary}");
    let resent = usize::try_from(summary["resent"].as_u64().unwrap()).unwrap();
    Outcome::read(|query| home.sql(query)).check(&acknowledged.keys(), resent);
    check_lifecycle(&home);
}

/// Weather with a number of its own for every message, and some poison in it.
pub(crate) fn write_readings(path: &Path) {
    let file = File::open(testdata("weather/weather.csv.gz")).unwrap();
    let mut weather = csv::Reader::from_reader(flate2::read::GzDecoder::new(file));
    let mut records: Vec<BTreeMap<String, String>> = weather.deserialize().map(Result::unwrap).collect();
    records.sort_by(|a, b| (&a["time_hour"], &a["origin"]).cmp(&(&b["time_hour"], &b["origin"])));
    let mut readings = csv::Writer::from_path(path).unwrap();
    readings.write_record(["origin", "seq", "temp", "humid", "time_hour"]).unwrap();
    for (seq, record) in records[..MESSAGES].iter().enumerate() {
        let origin = if seq.is_multiple_of(BAD_DEVICE) { ".." } else { &record["origin"] };
        let temp = if seq.is_multiple_of(BAD_TEMP) { "warm" } else { &record["temp"] };
        readings
            .write_record([origin, &seq.to_string(), temp, &record["humid"], &record["time_hour"]])
            .unwrap();
    }
    readings.flush().unwrap();
}

/// One client through all kills.
pub(crate) fn replay(home: &Home, readings: &Path, port: u16, rate: &str) -> Running {
    let mut command = home.command([
        "replay",
        "--topic",
        "weather/{origin}",
        "--clients",
        "3",
        "--rate",
        rate,
        "--json",
        "--quiet",
    ]);
    command
        .args(["--broker", &format!("127.0.0.1:{port}"), "--acknowledged"])
        .arg(home.path("acknowledged"))
        .arg(readings);
    Running::start(command.stdin(Stdio::null()).stdout(Stdio::piped()))
}

/// The file in which the client writes down what was acknowledged.
pub(crate) struct Acknowledged {
    file: File,
    text: Vec<u8>,
}

impl Acknowledged {
    pub(crate) fn open(path: &Path) -> Self {
        let file = eventually("the client makes its file", || File::open(path).ok());
        Self { file, text: Vec::new() }
    }

    /// Messages acknowledged so far.
    pub(crate) fn count(&mut self) -> usize {
        self.file.read_to_end(&mut self.text).unwrap();
        self.text.iter().filter(|byte| **byte == b'\n').count()
    }

    /// The numbers of all that were acknowledged.
    pub(crate) fn keys(mut self) -> BTreeSet<usize> {
        let count = self.count();
        let text = String::from_utf8(self.text).unwrap();
        let keys: BTreeSet<usize> = text
            .lines()
            .map(|line| {
                let message: Value = serde_json::from_str(line).unwrap();
                key(message["payload"].as_str().unwrap())
            })
            .collect();
        assert_eq!(keys.len(), count, "the client wrote down a message twice");
        keys
    }
}

/// The number of a message.
fn key(payload: &str) -> usize {
    let payload: Value = serde_json::from_str(payload).unwrap();
    usize::try_from(payload["seq"].as_u64().unwrap()).unwrap()
}

/// A place in the log.
type Place = (i64, i64);

fn place(row: &Row) -> Place {
    (row["_partition"].as_i64().unwrap(), row["_offset"].as_i64().unwrap())
}

/// What became of the messages.
pub(crate) struct Outcome {
    /// Rows: place and index.
    rows: Vec<(Place, i64)>,
    /// Places of quarantined messages.
    quarantined: Vec<Place>,
    /// Message numbers of the rows.
    row_keys: Vec<usize>,
    /// Message numbers and reasons of the quarantined.
    quarantined_keys: Vec<(usize, String)>,
}

impl Outcome {
    /// As a way to ask tells it.
    pub(crate) fn read(sql: impl Fn(&str) -> Vec<Row>) -> Self {
        let rows = sql("select _partition, _offset, _index, seq from weather");
        let quarantined = sql(
            "select _partition, _offset, reason, encode(payload, 'hex') as payload from quarantine where stream = 'weather'",
        );
        let payload = |row: &Row| {
            let hex = row["payload"].as_str().unwrap().as_bytes().chunks(2);
            let bytes =
                hex.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect();
            key(&String::from_utf8(bytes).unwrap())
        };
        Self {
            rows: rows.iter().map(|row| (place(row), row["_index"].as_i64().unwrap())).collect(),
            row_keys: rows.iter().map(|row| usize::try_from(row["seq"].as_u64().unwrap()).unwrap()).collect(),
            quarantined: quarantined.iter().map(place).collect(),
            quarantined_keys: quarantined
                .iter()
                .map(|row| (payload(row), row["reason"].as_str().unwrap().to_owned()))
                .collect(),
        }
    }

    pub(crate) fn check(&self, acknowledged: &BTreeSet<usize>, resent: usize) {
        let triples: BTreeSet<_> = self.rows.iter().collect();
        assert_eq!(triples.len(), self.rows.len(), "a row is in the table twice");
        let places: Vec<Place> =
            self.rows.iter().map(|(place, _)| *place).chain(self.quarantined.iter().copied()).collect();
        check_places(&places);

        let poison = |key: &usize| key.is_multiple_of(BAD_DEVICE) || key.is_multiple_of(BAD_TEMP);
        assert!(!self.row_keys.iter().any(poison), "poison became a row");
        assert!(self.quarantined_keys.iter().all(|(key, _)| poison(key)), "a good message was quarantined");
        let reasons: BTreeSet<&str> =
            self.quarantined_keys.iter().map(|(_, reason)| reason.as_str()).collect();
        assert_eq!(reasons, BTreeSet::from(["bad_device_id", "type_mismatch"]));

        let mut times: BTreeMap<usize, usize> = BTreeMap::new();
        for key in self.row_keys.iter().chain(self.quarantined_keys.iter().map(|(key, _)| key)) {
            *times.entry(*key).or_default() += 1;
        }
        let lost: Vec<&usize> = acknowledged.iter().filter(|key| !times.contains_key(key)).collect();
        assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
        assert_eq!(acknowledged.len(), MESSAGES, "the client ended well without all acknowledgements");
        assert_eq!(times.len(), MESSAGES);
        let again = places.len() - MESSAGES;
        assert!(again <= resent, "{again} messages are there again, but only {resent} were sent again");
        // A message is sent once a connection.
        assert!(times.values().all(|times| *times <= KILLS + 1), "{times:?}");
    }
}

/// Every place once, and none missing: from 0 on in every partition.
fn check_places(places: &[Place]) {
    let mut partitions: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    for (partition, offset) in places {
        partitions.entry(*partition).or_default().push(*offset);
    }
    for (partition, offsets) in &mut partitions {
        offsets.sort_unstable();
        for (expected, offset) in (0..).zip(offsets.iter()) {
            assert_eq!(*offset, expected, "partition {partition} has a gap or a double");
        }
    }
}

/// Connects and disconnects are a stream like any other.
fn check_lifecycle(home: &Home) {
    let rows = home.sql("select _partition, _offset from lifecycle");
    assert!(rows.len() >= KILLS, "{} events", rows.len());
    check_places(&rows.iter().map(place).collect::<Vec<_>>());
}

/// Without a client between: what was acknowledged before a kill is committed by the next life, once.
#[test]
fn a_kill_right_after_an_acknowledgement_loses_nothing() {
    let home = Home::with(&config());
    for life in 0..3 {
        let up = home.up();
        publish_one(&up, life);
        up.kill();
    }
    home.up().drain();
    let rows = home.sql("select seq from weather order by seq");
    let keys: Vec<i64> = rows.iter().map(|row| row["seq"].as_i64().unwrap()).collect();
    assert_eq!(keys, [0, 1, 2]);
}

fn publish_one(up: &Up, seq: i32) {
    use crate::mqtt::{Device, Version};
    Device::connect(up.address(), Version::V5, "c").publish("weather/d", format!(r#"{{"seq":{seq}}}"#));
}
