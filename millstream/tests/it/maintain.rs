//! `millstream maintain`, and the janitor of `up`: fewer files, the same rows, for everyone who reads them.

use crate::foreign::{python, script};
use crate::mqtt::{Device, Version};
use crate::program::{Home, eventually, run};
use crate::readers::check;
use chrono::{Days, Utc};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// By hand alone; a file for each message.
const BY_HAND: &str = r#"
[upkeep]
every = ""

[[stream]]
name = "grown"
topic = "grown/{device_id}"
keep = "400d"
files = { close_after = "40ms", close_idle = "20ms" }
"#;

/// All files below a directory, and what is in them.
fn contents(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![directory.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else {
                found.insert(entry.path(), std::fs::read(entry.path()).unwrap());
            }
        }
    }
    found
}

fn data_files(home: &Home) -> usize {
    let table = home.data().join("ingestion/grown");
    let is_data = |path: &&PathBuf| path.extension().is_some_and(|extension| extension == "parquet");
    let is_log = |path: &Path| path.components().any(|part| part.as_os_str() == "_delta_log");
    if !table.exists() {
        return 0;
    }
    contents(&table).keys().filter(is_data).filter(|path| !is_log(path)).count()
}

/// Publishes a message a file; the later ones have a further column. All are of one day, whenever this runs.
fn publish(home: &Home, device: &mut Device, messages: std::ops::Range<usize>) {
    let yesterday = (Utc::now() - Days::new(1)).date_naive();
    for number in messages {
        let before = data_files(home);
        let more = if number % 2 == 0 { "" } else { r#","label":"odd""# };
        device.publish(
            &format!("grown/d{}", number % 3),
            format!(r#"{{"ts":"{yesterday}T12:00:00Z","temp":{number}.5{more}}}"#),
        );
        eventually("a file", || (data_files(home) > before).then_some(()));
    }
}

const QUERY: &str = r#"select device_id, temp, label, _offset from {table} order by _offset"#;

fn ours(home: &Home) -> Value {
    let rows = home.sql(&QUERY.replace("{table}", "grown"));
    rows.into_iter().map(|row| row.into_iter().map(|(_, value)| value).collect::<Value>()).collect()
}

#[test]
fn small_files_become_one_for_every_reader_and_a_dry_run_changes_nothing() {
    let home = Home::with(BY_HAND);
    let up = home.up();
    let mut device = Device::connect(up.address(), Version::V5, "c");
    publish(&home, &mut device, 0..12);
    // Long before anything is kept: it leaves.
    device.publish("grown/d9", r#"{"ts":"2020-02-29T00:30:00Z","temp":-1}"#);
    up.drain();
    let before = ours(&home);
    assert_eq!(before.as_array().unwrap().len(), 13);

    let untouched = contents(&home.data());
    let said = home.run(&["maintain", "--dry-run"]).good().out;
    assert!(said.contains("would retire 1 row of 2020-02-29 in 1 file"), "{said}");
    assert!(said.contains("would merge 12 files"), "{said}");
    assert_eq!(contents(&home.data()), untouched, "a dry run changes nothing");

    let said = home.run(&["maintain", "grown"]).good().out;
    assert!(said.contains("merged 12 files") && said.contains("retired 1 row of 2020-02-29"), "{said}");
    assert!(!said.contains("lifecycle"), "{said}");
    let after = ours(&home);
    assert_eq!(after.as_array().unwrap()[..], before.as_array().unwrap()[..12]);
    let again = home.run(&["maintain", "ingestion.grown"]).good().out;
    assert!(again.contains("1 file") && again.contains("nothing to do"), "{again}");
    let refused = home.run(&["maintain", "nowhere"]).refused();
    assert!(refused.contains("there is no table nowhere; there are ingestion.grown"), "{refused}");

    check_others(&home, &after);
}

/// Other readers find the same.
fn check_others(home: &Home, expected: &Value) {
    let Some(python) = python() else { return };
    let table = home.data().join("ingestion/grown");
    let arguments = ["rows".as_ref(), table.as_os_str(), QUERY.as_ref()];
    let read = run(Command::new(python).arg(script("read.py")).args(arguments), b"").good();
    let others: Value = serde_json::from_str(&read.out).unwrap();
    for reader in ["duckdb", "deltalake"] {
        check(reader, expected, &others[reader]);
    }
}

#[test]
fn a_table_whose_log_was_cleaned_is_read_by_everyone_and_written_on() {
    let home = Home::with(BY_HAND);
    let up = home.up();
    let mut device = Device::connect(up.address(), Version::V5, "c");
    // As many commits as it takes to a checkpoint.
    publish(&home, &mut device, 0..101);
    up.drain();
    let log = home.data().join("ingestion/grown/_delta_log");
    let first = log.join("00000000000000000001.json");
    let commit = std::fs::read(&first).unwrap();
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(60 * 86_400);
    for path in contents(&log).keys() {
        std::fs::File::options().append(true).open(path).unwrap().set_modified(long_ago).unwrap();
    }
    let before = ours(&home);
    let would = home.run(&["maintain", "grown", "--dry-run"]).good().out;
    let said = home.run(&["maintain", "grown"]).good().out;
    let removed = said.lines().find_map(|line| line.trim().strip_prefix("removed 100 commits")).unwrap();
    assert!(would.contains(&format!("would remove 100 commits{removed}")), "{would}{said}");
    // A single old commit stays where it is the last about a partition of the log: nobody must stumble over it.
    std::fs::write(&first, commit).unwrap();
    assert_eq!(ours(&home), before);
    check_others(&home, &before);

    let up = home.up();
    let mut device = Device::connect(up.address(), Version::V5, "c");
    publish(&home, &mut device, 101..103);
    up.drain();
    assert_eq!(home.value("select count(distinct _offset) from grown"), 103);
    check_others(&home, &ours(&home));
}

#[test]
fn what_runs_looks_after_its_tables_by_itself_and_beside_a_person_who_does() {
    let home = Home::with(&BY_HAND.replace("every = \"\"", "every = \"1s\""));
    let up = home.up();
    let mut device = Device::connect(up.address(), Version::V5, "c");
    publish(&home, &mut device, 0..16);
    for _ in 0..3 {
        home.run(&["maintain"]).good();
    }
    let rows = ours(&home);
    assert_eq!(rows.as_array().unwrap().len(), 16);
    let merged = || {
        let log = contents(&home.data().join("ingestion/grown/_delta_log"));
        log.values().any(|commit| String::from_utf8_lossy(commit).contains("OPTIMIZE")).then_some(())
    };
    eventually("a merge", merged);
    publish(&home, &mut device, 16..20);
    assert_eq!(home.value("select count(*) from grown"), 20);
    up.drain();
    assert_eq!(home.value("select count(distinct _offset) from grown"), 20);
}
