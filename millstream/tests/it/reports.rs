//! `millstream report`: what each shows, and keeping them by hand.

use crate::mqtt::{Device, Version};
use crate::program::Home;
use serde_json::{Value, json};

const CONFIG: &str = r#"
[[stream]]
name = "telemetry"
topic = "devices/{device_id}/telemetry"

[[report]]
name = "devices"
sql  = "select count(*) as devices, sum(readings) as readings from counts"

[[report]]
name = "counts"
sql  = "select date, device_id, count(*) as readings from telemetry group by 1, 2"
partition_by = "date"

[[report]]
name = "hourly"
sql  = "select date, count(*) as readings from telemetry group by 1"
partition_by = "date"
when = "complete"
lateness = "0s"

[[report]]
name = "broken"
sql  = "select nonsense from telemetry"
"#;

fn publish(home: &Home, payloads: &[&str]) {
    let up = home.up();
    let mut device = Device::connect(up.address(), Version::V5, "c");
    for (number, payload) in payloads.iter().enumerate() {
        device.publish(&format!("devices/d{number}/telemetry"), payload);
    }
    up.drain();
}

fn listed(home: &Home) -> Vec<Value> {
    let out = home.run(&["report", "list", "--json"]).good().out;
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
}

#[test]
fn reports_are_listed_run_and_rebuilt_by_hand() {
    let home = Home::with(CONFIG);
    // Of an hour that is over, so that it is complete.
    let past = r#"{"temp":1,"ts":"2026-01-01T00:30:00Z"}"#;
    publish(&home, &[past, past]);
    let [devices] = &home.rows("select devices, readings from reporting.devices", 1)[..] else {
        unreachable!("one row was asked for")
    };
    assert_eq!((&devices["devices"], &devices["readings"]), (&json!(2), &json!(2)));

    let said = home.run(&["report", "list"]).good().out;
    // Short enough for most terminals; what is long stands below.
    assert!(
        said.lines().take_while(|line| !line.starts_with("broken")).all(|line| line.chars().count() < 140),
        "{said}"
    );
    assert!(
        ["counts", "by date", "whole: it is not partitioned"].iter().all(|word| said.contains(word)),
        "{said}"
    );
    let last = said.lines().last().unwrap_or_default();
    assert!(
        last.starts_with("broken fails since 2") && last.ends_with("no column is named nonsense"),
        "{said}"
    );
    let listed = listed(&home);
    let names: Vec<_> = listed.iter().map(|report| report["report"].as_str().unwrap()).collect();
    assert_eq!(names, ["broken", "counts", "devices", "hourly"]);
    assert_eq!(listed[0]["state"], "failing");
    assert!(listed[0]["last_error"].as_str().unwrap().contains("nonsense"), "{listed:#?}");
    assert_eq!((&listed[1]["state"], &listed[1]["recompute"]), (&json!("current"), &json!("by date")));
    assert_eq!((&listed[2]["sources"], &listed[2]["recompute"]), (&json!("counts"), &json!("whole")));
    assert!(listed[3]["mark"].is_string() && listed[1]["mark"].is_null(), "{listed:#?}");

    // The others are done although one fails; by hand as well as beside what runs.
    let ran = home.run(&["report", "run"]);
    assert_eq!(ran.code(), Some(1), "{}", ran.err);
    assert!(ran.out.contains("counts: is up to date\ndevices: is up to date\n"), "{}", ran.out);
    assert!(ran.out.contains("broken: failed, its SQL failed"), "{}", ran.out);
    assert!(ran.err.contains("broken") && !ran.err.contains("counts"), "{}", ran.err);
    let up = home.up();
    let rebuilt = home.run(&["report", "rebuild", "counts"]).good().out;
    assert!(rebuilt.starts_with("counts: recomputed all of it: 2 rows, 1 file; version "), "{rebuilt}");
    up.drain();
    let ran = home.run(&["report", "run", "reporting.devices"]).good().out;
    assert_eq!(ran, "counts: is up to date\ndevices: is up to date\n");
    assert_eq!(home.rows("select readings from hourly", 1)[0]["readings"], 2);

    let unknown = home.run(&["report", "run", "nothing"]).refused();
    assert!(
        unknown.contains("there is no report nothing; there are devices, counts, hourly, broken"),
        "{unknown}"
    );
}
