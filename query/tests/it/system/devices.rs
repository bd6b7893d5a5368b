//! `system.devices`.

use super::*;

#[tokio::test]
async fn devices_say_when_they_were_heard_of() {
    let mut river = two_flushes().await;
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros()).unwrap();
    let session = river.session().await;
    check(
        &session,
        "select * from system.devices order by device_id",
        "stream,device_id,first_seen,last_seen,last_ts,readings,missing,restarts,clock_skew_seconds,bad_times\n\
         plant,d1,2026-11-19T00:00:10Z,2026-11-19T00:00:20Z,2026-11-19T00:00:11Z,2,0,0,,0\n\
         plant,d2,2026-11-19T00:00:40Z,2026-11-19T00:00:50Z,2026-11-19T00:00:31Z,2,0,0,,0",
    )
    .await;
    let silent =
        "select device_id from system.devices where last_seen < now() - interval '1 hour' order by 1";
    // d2's clock is 90 seconds behind; a reading that it had kept for an hour says nothing of that. d3's is 5 seconds ahead.
    let behind = format!(r#"{{"ts": {}, "seq": 9}}"#, now - 90 * SECOND);
    let kept = format!(r#"{{"ts": {}, "seq": 11}}"#, now - 3600 * SECOND);
    let ahead = format!(r#"{{"ts": {}, "seq": 1}}"#, now + 5 * SECOND);
    river.publish("d2", Micros(now), &behind).await;
    river.publish("d2", Micros(now), &kept).await;
    river.publish("d3", Micros(now), &ahead).await;
    river.carry(Closed::Age).await;
    check(&session, silent, "device_id\nd1").await;
    check(
        &session,
        "select device_id, readings, missing, clock_skew_seconds from system.devices where device_id <> 'd1' order by 1",
        "device_id,readings,missing,clock_skew_seconds\nd2,4,1,90.0\nd3,1,0,-5.0",
    )
    .await;
}

/// What has the time of its arrival says nothing of a clock: neither one that is so wrong that it is not believed, nor a reading without a time among others.
#[tokio::test]
async fn a_time_that_is_not_believed_is_no_right_clock() {
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros()).unwrap();
    let (ahead, behind) = (now + 3600 * SECOND, now - 90 * SECOND);
    let cases: &[(&str, &[&str], &str)] = &[
        ("ahead", &[&format!(r#"{{"ts": {ahead}}}"#)], ",1"),
        (
            "early",
            &[r#"{"ts": "1970-01-01T00:00:07Z"}"#, r#"{"ts": "1970-01-01T00:00:08Z", "temp": "cold"}"#],
            ",2",
        ),
        ("mixed", &[&format!(r#"{{"ts": {behind}}}"#), r#"{"temp": 1}"#, r#"{"ts": "now"}"#], "90.0,1"),
        ("odd", &[r#"{"temp": "ts", "note": ""ts":"}"#, r#"{"ts": null}"#], ",0"),
        ("plain", &[&format!(r#"{{"ts": {behind}}}"#)], "90.0,0"),
    ];
    for counted in [None, Some("seq".to_owned())] {
        let mut river = River::of(|stream| stream.sequence = counted, 0).await;
        let mut expected = "device_id,clock_skew_seconds,bad_times\n".to_owned();
        for (device, payloads, row) in cases {
            for payload in *payloads {
                river.publish(device, Micros(now), &payload.replace('}', r#", "seq": 1}"#)).await;
            }
            expected.push_str(&format!("{device},{row}\n"));
        }
        river.carry(Closed::Age).await;
        let sql = "select device_id, clock_skew_seconds, bad_times from system.devices order by 1";
        check(&river.session().await, sql, &expected).await;
    }
}

/// In an object of the reading, the time's key is the last of its path; a key that has the dots itself is one, too.
#[tokio::test]
async fn a_time_that_is_not_believed_is_counted_wherever_its_field_is() {
    let payloads =
        [r#"{"at": {"ts": "now"}}"#, r#"{"at.ts": "now"}"#, r#"{"at": {"ts": "2026-11-19T00:00:00Z"}}"#];
    for (field, expected) in [(Some("at.ts"), "2"), (None, "")] {
        let edit = |stream: &mut Stream| match field {
            Some(field) => stream.time.as_mut().unwrap().field = field.to_owned(),
            None => stream.time = None,
        };
        let mut river = River::of(edit, 0).await;
        for payload in payloads {
            river.publish("d1", at(10), payload).await;
        }
        river.carry(Closed::Age).await;
        let expected = format!("readings,bad_times\n3,{expected}");
        check(&river.session().await, "select readings, bad_times from system.devices", &expected).await;
    }
}

/// Each case is a device; null is a reading without a number.
#[tokio::test]
async fn a_gap_is_what_a_sequence_leaves_out_going_up() {
    let cases: &[(&str, &str)] = &[
        ("1 2 3", "0,0"),
        ("7", "0,0"),
        ("null", "0,0"),
        ("1 4", "2,0"),
        ("1 4 6", "3,0"),
        ("5 6 6 6 7", "0,0"),
        ("5 6 7 6 7 8", "0,1"),
        ("8 9 0 1 5", "3,1"),
        ("1 null 2 null null 4", "1,0"),
        ("-3 -1", "1,0"),
        ("9007199254740991 9007199254740992", "0,0"),
        // What no counter sends must not make the question fail.
        ("1 \"x\" 3", "1,0"),
        ("0.5 1.5 3.25", "0,0"),
    ];
    let mut river = River::new().await;
    for (device, (numbers, _)) in cases.iter().enumerate() {
        for number in numbers.split(' ') {
            let payload = format!(r#"[{{"seq": {number}}}]"#);
            river.publish(&format!("{device:02}"), at(10), &payload).await;
        }
    }
    river
        .publish("99", at(10), r#"[{"seq": 1}, {"seq": 2}, {"seq": 4}, {"seq": -1e300}, {"seq": 1e300}]"#)
        .await;
    river.carry(Closed::Age).await;
    let mut expected = "device_id,missing,restarts\n".to_owned();
    for (device, (_, counted)) in cases.iter().enumerate() {
        expected.push_str(&format!("{device:02},{counted}\n"));
    }
    // More than can be counted is unknown, not wrong.
    expected.push_str("99,,1");
    let sql = "select device_id, missing, restarts from system.devices order by device_id";
    check(&river.session().await, sql, &expected).await;
}

/// Offsets begin at 0 again in another log: there only the time of arrival tells the order.
#[tokio::test]
async fn in_a_table_of_two_logs_readings_follow_each_other_as_they_came() {
    let sql = "select missing, restarts from system.devices";
    for (epoch, expected) in [(0, "missing,restarts\n0,1"), (1, "missing,restarts\n0,0")] {
        let mut river = River::of(|_| {}, epoch).await;
        river.publish("d1", at(20), r#"{"seq": 2}"#).await;
        river.publish("d1", at(10), r#"{"seq": 1}"#).await;
        river.carry(Closed::Age).await;
        check(&river.session().await, sql, expected).await;
    }
}

#[tokio::test]
async fn without_a_numeric_sequence_gaps_are_unknown() {
    let sql = "select device_id, missing, restarts from system.devices";
    for sequence in [None, Some("hall"), Some("never"), Some("a\"b")] {
        let mut river = River::of(|stream| stream.sequence = sequence.map(str::to_owned), 0).await;
        river.publish("d1", at(10), r#"{"seq": 1}"#).await;
        river.carry(Closed::Age).await;
        check(&river.session().await, sql, "device_id,missing,restarts\nd1,,").await;
    }
    let mut river = River::of(|stream| stream.sequence = Some("Number \" of".replace(' ', "_")), 0).await;
    river.publish("d1", at(10), r#"[{"Number_\"_of": 1}, {"Number_\"_of": 3}]"#).await;
    river.carry(Closed::Age).await;
    check(&river.session().await, sql, "device_id,missing,restarts\nd1,1,0").await;
}

/// A question about one stream reads no file of another, and one about arrival does not sort.
#[tokio::test]
async fn a_question_about_devices_reads_only_what_it_needs() {
    let river = two_flushes().await;
    let session = river.session().await;
    let plan = async |sql: &str| csv(&session, &format!("explain {sql}")).await.unwrap();
    let other = plan("select * from system.devices where stream = 'other'").await;
    assert!(other.contains("EmptyExec") && !other.contains("DataSourceExec"), "{other}");
    let seen = plan("select device_id, last_seen from system.devices where last_seen < now()").await;
    assert!(seen.contains("projection=[_received_at, device_id]") && !seen.contains("SortExec"), "{seen}");
    assert!(plan("select missing from system.devices").await.contains("SortExec"));
}
