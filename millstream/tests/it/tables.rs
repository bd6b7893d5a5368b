//! `millstream tables`: what there is, and DuckDB told of it in its own words.

use crate::foreign::{python, script};
use crate::mqtt::{Device, Version};
use crate::program::{Home, run};
use serde_json::{Value, json};
use std::process::Command;

const CONFIG: &str = r#"
[[stream]]
name = "telemetry"
topic = "devices/{device_id}/telemetry"

[[report]]
name = "counts"
sql  = "select device_id, count(*) as readings from telemetry group by 1"
"#;

/// Two devices with three readings, and one message in quarantine.
fn filled() -> Home {
    let home = Home::with(CONFIG);
    let up = home.up();
    let mut device = Device::connect(up.address(), Version::V5, "c");
    for (id, payload) in
        [("d1", "{\"temp\":1.5}"), ("d1", "{\"temp\":2.5}"), ("d2", "{\"temp\":4}"), ("d2", "{")]
    {
        device.publish(&format!("devices/{id}/telemetry"), payload);
    }
    up.drain();
    home
}

#[test]
fn tables_are_listed_with_what_is_in_them() {
    let home = Home::new();
    std::fs::create_dir(home.data()).unwrap();
    let said = home.run(&["tables"]).good();
    assert!(said.out.is_empty() && said.err.contains("no tables yet"), "{} {}", said.out, said.err);

    let home = filled();
    let said = home.run(&["tables"]).good().out;
    for (table, kind, rows) in [
        ("ingestion.telemetry", "stream", "3"),
        ("ingestion.quarantine", "quarantine", "1"),
        ("ingestion.lifecycle", "lifecycle", "2"),
        ("reporting.counts", "report", "2"),
    ] {
        let line =
            said.lines().find(|line| line.contains(table)).unwrap_or_else(|| panic!("no {table} in\n{said}"));
        let cells: Vec<&str> = line.split(['│', '┆']).map(str::trim).collect();
        assert_eq!((cells[1], cells[2], cells[3]), (table, kind, rows), "{said}");
        assert!(
            cells[7].starts_with("file:///") && cells[7].ends_with(&format!("{}/", &table[10..])),
            "{said}"
        );
    }
}

#[test]
fn duckdb_is_told_of_the_tables() {
    let Some(python) = python() else { return };
    let home = filled();
    let statements = home.file("tables.sql", home.run(&["tables", "--ddl", "duckdb"]).good().out);
    let ask = |query: &str| -> Value {
        let mut command = Command::new(&python);
        let answer = run(command.arg(script("ddl.py")).arg(&statements).arg(query), b"").good();
        serde_json::from_str(&answer.out).unwrap()
    };
    assert_eq!(ask("select sum(temp), count(*) from ingestion.telemetry"), json!([[8.0, 3]]));
    assert_eq!(ask("select * from reporting.counts order by 1"), json!([["d1", 2], ["d2", 1]]));
    assert_eq!(ask("select reason from ingestion.quarantine"), json!([["not_json"]]));
}

#[test]
fn athena_is_not_told_of_a_directory() {
    let said = filled().run(&["tables", "--ddl", "athena"]).refused();
    assert!(said.contains("Athena reads S3 only"), "{said}");
}
