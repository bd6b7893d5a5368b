//! Event time, and the day it belongs to.

use super::{DatePartition, Misfit, TimeUnit, cell, check_in, decode, outcome, with};

/// `ts`, `date` and what is left of the reading.
fn check(payload: &str, unit: TimeUnit, expected: (&str, &str, &str)) {
    let stream = with(|stream| {
        stream.time = stream.time.take().map(|time| millstream_model::stream::TimeField { unit, ..time })
    });
    let decoded = decode(stream, &[payload]);
    let batch = &decoded.readings;
    assert_eq!(
        (cell(batch, "ts", 0).as_str(), cell(batch, "date", 0).as_str(), outcome(&decoded, 0).as_str()),
        expected,
        "{payload}"
    );
    let bad = u64::from(expected.2.contains("_extra"));
    assert_eq!(
        decoded.mismatches.get(&("ts".to_owned(), "bad_time")).copied().unwrap_or_default(),
        bad,
        "{payload}"
    );
}

#[test]
fn event_time_is_rfc_3339_or_counts_from_1970() {
    let auto = TimeUnit::Auto;
    check(r#"{"ts":"2026-01-02T03:04:05Z"}"#, auto, ("2026-01-02T03:04:05Z", "2026-01-02", ""));
    check(r#"{"ts":"2026-01-01T00:30:00+01:00"}"#, auto, ("2025-12-31T23:30:00Z", "2025-12-31", ""));
    check(
        r#"{"ts":"2026-01-02T03:04:05.123456789Z"}"#,
        auto,
        ("2026-01-02T03:04:05.123456Z", "2026-01-02", ""),
    );
    check(r#"{"ts":1700000000}"#, auto, ("2023-11-14T22:13:20Z", "2023-11-14", ""));
    check(r#"{"ts":1700000000.25}"#, auto, ("2023-11-14T22:13:20.250Z", "2023-11-14", ""));
    check(r#"{"ts":1700000000123}"#, auto, ("2023-11-14T22:13:20.123Z", "2023-11-14", ""));
    check(r#"{"ts":1700000000123456}"#, auto, ("2023-11-14T22:13:20.123456Z", "2023-11-14", ""));
    check(r#"{"ts":1.7e9}"#, TimeUnit::Seconds, ("2023-11-14T22:13:20Z", "2023-11-14", ""));
    check(r#"{"ts":1700000000123.5}"#, TimeUnit::Millis, ("2023-11-14T22:13:20.123500Z", "2023-11-14", ""));
    check(r#"{"ts":1700000000123456}"#, TimeUnit::Micros, ("2023-11-14T22:13:20.123456Z", "2023-11-14", ""));
}

#[test]
fn a_reading_without_event_time_has_its_arrivals() {
    let arrival = ("2026-11-21T06:00:00Z", "2026-11-21");
    let auto = TimeUnit::Auto;
    check("{}", auto, (arrival.0, arrival.1, ""));
    check(r#"{"ts":null}"#, auto, (arrival.0, arrival.1, ""));
    for bad in [
        "\"soon\"",
        "\"\"",
        "true",
        "[1]",
        "{\"s\":1}",
        "{}",
        "1e400",
        "1e300",
        "-1",
        "0",
        "\"1999-12-31T23:59:59Z\"",
        "\"2026-11-21T06:10:00.000001Z\"",
        "\"1700000000\"",
        "\"2026-02-30T00:00:00Z\"",
    ] {
        check(
            &format!("{{\"ts\":{bad}}}"),
            auto,
            (arrival.0, arrival.1, &format!("_extra={{\"ts\":{bad}}}")),
        );
    }
    check(r#"{"ts":"2026-11-21T06:10:00Z"}"#, auto, ("2026-11-21T06:10:00Z", "2026-11-21", ""));
    check(r#"{"ts":"2000-01-01T00:00:00Z"}"#, auto, ("2000-01-01T00:00:00Z", "2000-01-01", ""));
}

#[test]
fn a_stream_may_be_strict_about_time() {
    let strict = || with(|stream| stream.on_bad_time = Misfit::Quarantine);
    check_in(strict(), r#"{"ts":"soon"}"#, "!bad_time");
    check_in(strict(), r#"{"a":1}"#, "a=1.0");
}

#[test]
fn the_time_field_may_have_another_name_or_be_nested() {
    let named = |name: &str| {
        let name = name.to_owned();
        with(|stream| {
            stream.time =
                stream.time.take().map(|time| millstream_model::stream::TimeField { field: name, ..time })
        })
    };
    check_in(named("when"), r#"{"when":1700000000,"ts":5}"#, r#"_extra={"ts":5}"#);
    check_in(named("when"), r#"{"when":"soon"}"#, r#"_extra={"when":"soon"}"#);
    check_in(named("meta.at"), r#"{"meta":{"at":1700000000,"x":1}}"#, "meta_x=1.0");
    check_in(
        named("meta.at"),
        r#"{"meta":{"at":"soon","x":1}}"#,
        r#"meta_x=1.0 _extra={"meta":{"at":"soon"}}"#,
    );
    check_in(with(|stream| stream.time = None), r#"{"ts":1700000000}"#, r#"_extra={"ts":1700000000}"#);
}

#[test]
fn a_slow_stream_is_partitioned_by_month() {
    let decoded = decode(
        with(|stream| stream.date = DatePartition::Month),
        &[r#"{"ts":"2024-02-29T23:00:00Z"}"#, r#"{"ts":"2024-03-01T00:00:00Z"}"#],
    );
    assert_eq!(
        (cell(&decoded.readings, "date", 0).as_str(), cell(&decoded.readings, "date", 1).as_str()),
        ("2024-02-01", "2024-03-01")
    );
}
