//! `millstream tables`: what there is, and DuckDB told of it in its own words.

use crate::foreign::{python, script};
use crate::mqtt::{Device, Version};
use crate::program::{Home, Up, run};
use millstream_services::services;
use serde_json::{Value, json};
use std::collections::BTreeMap;
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
    fill(home.up());
    home
}

fn fill(up: Up) {
    let mut device = Device::connect(up.address(), Version::V5, "c");
    for (id, payload) in
        [("d1", "{\"temp\":1.5}"), ("d1", "{\"temp\":2.5}"), ("d2", "{\"temp\":4}"), ("d2", "{")]
    {
        device.publish(&format!("devices/{id}/telemetry"), payload);
    }
    up.drain();
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

/// DuckDB runs the statements as they were printed, in an environment, and then finds what is in the tables.
fn check_duckdb(home: &Home, printed: String, environment: &BTreeMap<String, String>) {
    let Some(python) = python() else { return };
    let statements = home.file("tables.sql", printed);
    let ask = |query: &str| -> Value {
        let mut command = Command::new(&python);
        command.arg(script("ddl.py")).arg(&statements).arg(query).envs(environment);
        serde_json::from_str(&run(&mut command, b"").good().out).unwrap()
    };
    assert_eq!(ask("select sum(temp), count(*) from ingestion.telemetry"), json!([[8.0, 3]]));
    assert_eq!(ask("select * from reporting.counts order by 1"), json!([["d1", 2], ["d2", 1]]));
    assert_eq!(ask("select reason from ingestion.quarantine"), json!([["not_json"]]));
}

#[test]
fn duckdb_is_told_of_the_tables() {
    let home = filled();
    let printed = home.run(&["tables", "--ddl", "duckdb"]).good().out;
    check_duckdb(&home, printed, &BTreeMap::new());
}

#[test]
fn duckdb_is_told_of_tables_on_s3_and_finds_the_credentials_itself() {
    let Some(services) = services("tables::duckdb_is_told_of_tables_on_s3_and_finds_the_credentials_itself")
    else {
        return;
    };
    let [ingestion, reporting] =
        ["ingestion", "reporting"].map(|name| services.bucket(&services.unique(name)));
    let places = format!("ingestion = \"s3://{ingestion}\"\nreporting = \"s3://{reporting}/below\"");
    let home = Home::with(&format!("[lake]\n{places}\n[s3]\npath_style = true\nallow_http = true\n{CONFIG}"));
    // The store and who asks; not the log, which is the program's own here.
    let mut environment = services.environment().clone();
    environment.retain(|name, _| name.starts_with("AWS_"));
    let command = |name| {
        let mut command = home.command([name]);
        command.envs(&environment);
        command
    };
    fill(Up::start(command("up").env("MILLSTREAM__GATEWAY__LISTEN", "127.0.0.1:0")));
    let printed = run(command("tables").args(["--ddl", "duckdb"]), b"").good().out;
    assert!(!printed.contains(&services.s3_secret_key), "{printed}");
    check_duckdb(&home, printed, &environment);
}

#[test]
fn athena_is_not_told_of_a_directory() {
    let said = filled().run(&["tables", "--ddl", "athena"]).refused();
    assert!(said.contains("Athena reads S3 only"), "{said}");
}
