//! Readers that are not ours find in the tables what our SQL finds, and what the data has.

use crate::foreign::{python, script};
use crate::mqtt::{Device, Version};
use crate::program::{Home, run, testdata};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

const CONFIG: &str = r#"
[[stream]]
name = "weather"
topic = "weather/{device_id}"
time = "time_hour"
partition = "month"

[[stream]]
name = "grown"
topic = "grown/{device_id}"
files = { close_idle = "100ms" }
"#;

fn read(python: &Path, arguments: &[&Path]) -> Value {
    let ended = run(Command::new(python).arg(script("read.py")).args(arguments), b"").good();
    serde_json::from_str(&ended.out).unwrap()
}

#[test]
fn all_agree_on_a_year_of_weather() {
    let Some(python) = python() else { return };
    let home = Home::with(CONFIG);
    let up = home.up();
    let file = testdata("weather/weather.csv.gz");
    let mut replay =
        home.command(["replay", "--topic", "weather/{origin}", "--clients", "3", "--json", "--quiet"]);
    let summary = run(replay.args(["--broker", &up.address().to_string()]).arg(&file), b"").good();
    let summary: Value = serde_json::from_str(&summary.out).unwrap();
    assert_eq!((&summary["acknowledged"], &summary["resent"]), (&26_115.into(), &0.into()), "{summary}");
    up.drain();

    let ours = home.sql(
        "select device_id, count(*) as rows, count(temp) as temps, sum(temp) as temp, count(pressure) as pressures, sum(pressure) as pressure, \
         count(wind_gust) as gusts, sum(wind_gust) as gust, sum(cast(extract(epoch from ts) as bigint)) as seconds \
         from weather group by 1 order by 1",
    );
    let ours: Value =
        ours.into_iter().map(|row| row.into_iter().map(|(_, value)| value).collect::<Value>()).collect();
    let others = read(&python, &["weather".as_ref(), &home.data().join("ingestion/weather"), &file]);
    for reader in ["csv", "duckdb", "deltalake"] {
        check(reader, &ours, &others[reader]);
    }
    assert_eq!(others["csv"].as_array().unwrap().len(), 3);
    assert_eq!(home.value("select count(distinct date) from weather"), 12);
}

/// Counts must be the same; sums may differ by the order of adding.
pub(crate) fn check(reader: &str, ours: &Value, theirs: &Value) {
    match (ours, theirs) {
        (Value::Array(ours), Value::Array(theirs)) => {
            assert_eq!(ours.len(), theirs.len(), "{reader}: {theirs:?}");
            ours.iter().zip(theirs).for_each(|(ours, theirs)| check(reader, ours, theirs));
        }
        (Value::Number(our), Value::Number(their)) if our.is_f64() || their.is_f64() => {
            let (our, their) = (our.as_f64().unwrap(), their.as_f64().unwrap());
            assert!((our - their).abs() <= our.abs() * 1e-12, "{reader}: {their} instead of {our}");
        }
        _ => assert_eq!(ours, theirs, "{reader}"),
    }
}

#[test]
fn all_agree_on_a_table_that_grew_and_on_quarantine() {
    let Some(python) = python() else { return };
    let home = Home::with(CONFIG);
    let up = home.up();
    let mut device = Device::connect(up.address(), Version::V5, "c");
    device.publish("grown/d1", r#"{"ts":"2024-02-28T23:30:00Z","temp":1.5}"#);
    home.rows("select 1 from grown", 1);
    device.publish("grown/d2", r#"{"ts":"2024-02-29T00:30:00Z","temp":"warm","label":"später","on":true}"#);
    device.publish("grown/d2", "\u{0}\u{1}");
    home.rows("select 1 from grown", 2);
    device.publish("nowhere", r#"{"temp":1}"#);
    up.drain();

    let queries = [
        (
            "grown",
            r#"select device_id, temp, label, "on", _extra, cast("date" as varchar), _offset from {table} order by _offset"#,
        ),
        (
            "quarantine",
            "select reason, stream, topic, {payload}, _partition, _offset from {table} order by reason",
        ),
    ];
    for (table, query) in queries {
        let ours = home.sql(&query.replace("{table}", table).replace("{payload}", "encode(payload, 'hex')"));
        let ours: Value =
            ours.into_iter().map(|row| row.into_iter().map(|(_, value)| value).collect::<Value>()).collect();
        let query = query.replace("{payload}", "payload");
        let others =
            read(&python, &["rows".as_ref(), &home.data().join("ingestion").join(table), query.as_ref()]);
        assert_eq!(ours.as_array().unwrap().len(), 2);
        for reader in ["duckdb", "deltalake"] {
            check(reader, &ours, &others[reader]);
        }
    }
}
