//! `millstream demo`: the README's first command.

use crate::mqtt::{Device, Version};
use crate::program::Home;
use serde_json::json;

/// All of the recording.
const READINGS: usize = 26_115;

fn demo(home: &Home, more: &[&str]) -> String {
    let data = home.data();
    let arguments = [&["demo", "--data", data.to_str().unwrap()], more].concat();
    home.run(&arguments).good().out
}

#[test]
fn it_shows_a_year_of_weather_and_a_second_run_doubles_nothing() {
    let home = Home::new();
    let said = demo(&home, &[]);
    for part in ["2013", "monthly_weather", "parquet", "JFK", " sql --data ", " up --data ", "mosquitto_pub "]
    {
        assert!(said.to_lowercase().contains(&part.to_lowercase()), "no {part:?} in\n{said}");
    }
    check_readings(&home);
    let recent =
        home.value("select count(*) from weather where ts > now() - interval '1 day'").as_u64().unwrap();
    assert!((60..=72).contains(&recent), "{recent} of three stations within a day of now");
    let ahead = home.value("select count(*) from weather where ts > now()");
    assert_eq!(ahead, 0);

    let again = demo(&home, &[]);
    assert!(again.contains("all 26,115 readings") && again.contains("nothing is published again"), "{again}");
    check_readings(&home);
}

#[test]
fn as_recorded_it_leaves_the_times_and_up_goes_on_with_its_directory() {
    let home = Home::new();
    demo(&home, &["--as-recorded"]);
    check_readings(&home);
    let times =
        home.sql("select cast(min(ts) as string) as first, cast(max(ts) as string) as last from weather");
    let (first, last) = (times[0]["first"].as_str().unwrap(), times[0]["last"].as_str().unwrap());
    assert!(first.starts_with("2013-01-01T06:00:00") && last.starts_with("2013-12-30T23:00:00"), "{times:?}");
    let months = home.sql("select date_part('month', date) as month, sum(readings) as n from reporting.monthly_weather group by 1 order by 1");
    assert_eq!(months.len(), 12);
    assert_eq!(months.iter().map(|row| row["n"].as_u64().unwrap()).sum::<u64>(), READINGS as u64);

    let up = home.up();
    Device::connect(up.address(), Version::V5, "c").publish("devices/d1/telemetry", r#"{"temp":21.5}"#);
    up.drain();
    assert_eq!(home.value("select temp from telemetry where device_id = 'd1'"), json!(21.5));
    check_readings(&home);
}

/// All of it, each reading once, and nothing quarantined; the report says the same.
fn check_readings(home: &Home) {
    let counts = home.sql(
        "select count(*) as n, (select count(*) from (select distinct device_id, ts from weather)) as different, \
         (select sum(readings) from reporting.monthly_weather) as reported from weather",
    );
    assert_eq!(
        counts,
        [json!({"n": READINGS, "different": READINGS, "reported": READINGS}).as_object().unwrap().clone()]
    );
    let tables = home.run(&["sql", "--format", "csv", "-c", "show tables"]).good().out;
    assert!(!tables.contains("quarantine") || home.value("select count(*) from quarantine") == 0, "{tables}");
}
