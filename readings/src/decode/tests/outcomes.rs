//! The table of bad input, and what else may become of a message.

use super::{
    ARRIVAL, ColumnType, Decoder, InputSchema, Micros, Misfit, PARTITION, Partition, Range, arrival, check,
    check_in, coherent, column, decode, decoder, outcome, required, stored, stream, with,
};
use crate::quarantine::{quarantine_batch, quarantine_schema, unrouted};
use arrow::array::AsArray;
use millstream_model::arrival::{Arrival, LOST};
use millstream_model::name::Offset;
use millstream_model::quarantine::Reason;
use millstream_model::record::{Record, Stored};
use std::sync::Arc;

#[test]
fn what_is_no_reading_at_all_goes_to_quarantine() {
    check("{\"a\":1", "!not_json");
    check(b"\"\xff\"", "!not_json");
    check(r#"{"a":"\ud800"}"#, "!not_json");
    check("NaN", "!not_json");
    check(r#"{"a":Infinity}"#, "!not_json");
    check("\u{feff}{}", "!not_json");
    check("hello", "!not_json");
    check("  ", "!not_json");
    check("", "!empty");
    check("null", "!not_a_reading");
    check("[1,2]", "!not_a_reading");
    check("[{},null]", "!not_a_reading");
    check("[[{}]]", "!not_a_reading");
    check(format!("{{\"a\":{}{}}}", "[".repeat(32), "]".repeat(32)), "!too_deep");
    let wide: Vec<_> = (0..10_001).map(|i| format!("\"f{i}\":1")).collect();
    check(format!("{{{}}}", wide.join(",")), "!too_wide");
    check(r#"{"a":1,"a":1}"#, "!duplicate_key");
    check(r#"{"a":1,"\u0061":1}"#, "!duplicate_key");
}

#[test]
fn what_is_a_reading_becomes_rows() {
    check(r#"{"temp":21.5,"ok":false,"name":"a\nb"}"#, "temp=21.5 ok=false name=a\nb");
    check("[{\"a\":1},{\"a\":2}]", "a=1.0 | a=2.0");
    check("21.5", "value=21.5");
    check("true", "value=true");
    check(r#""ä\u00e4""#, "value=ää");
    check(" 3 ", "value=3.0");
    check("{}", "");
    check("[]", "");
    let decoded = decode(stream(), &["{}", "[]", "[{},{}]", r#"{"a":null}"#]);
    let range =
        Range { first: Offset(0), last: Offset(3), messages: 4, readings: 4, quarantined: 0, dropped: 1 };
    assert_eq!(decoded.ranges[&PARTITION], range);
    assert_eq!(decoded.schema.columns(), [], "a null teaches nothing");
    assert_eq!(super::positions(&decoded.readings), [(3, 0, 0), (3, 2, 0), (3, 2, 1), (3, 3, 0)]);
}

#[test]
fn a_required_field_is_always_strict() {
    let strict = || with(|stream| stream.columns = vec![required("t", ColumnType::Double)]);
    for (payload, expected) in [
        (r#"{"t":1,"u":1}"#, "t=1.0 u=1.0"),
        (r#"{"u":1}"#, "!missing_field"),
        (r#"{"t":null}"#, "!missing_field"),
        (r#"{"t":"x"}"#, "!type_mismatch"),
        (r#"{"t":1e400}"#, "!not_finite"),
        (r#"{"t":{"x":1}}"#, "!missing_field"),
        (r#"[{"t":1},{}]"#, "!missing_field"),
        ("7", "!missing_field"),
    ] {
        let decoded = decode(strict(), &[r#"{"t":0}"#, payload, r#"{"t":0}"#]);
        assert_eq!(outcome(&decoded, 1), expected, "{payload}");
        assert_eq!((outcome(&decoded, 0).as_str(), outcome(&decoded, 2).as_str()), ("t=0.0", "t=0.0"));
    }
}

#[test]
fn a_strict_stream_quarantines_what_does_not_fit() {
    let strict = || {
        with(|stream| {
            stream.on_mismatch = Misfit::Quarantine;
            stream.columns = vec![column("a", ColumnType::Double)];
        })
    };
    check_in(strict(), r#"[{"a":1},{"a":"x"}]"#, "!type_mismatch");
    check_in(strict(), r#"{"a":1e400}"#, "!not_finite");
    check_in(strict(), r#"{"a":9007199254740993}"#, "!not_exact");
    check_in(strict(), r#"{"a b":1,"_c":2}"#, r#"_extra={"a b":1,"_c":2}"#);
    // What was learned says nothing of what others may send.
    check_in(
        strict(),
        r#"[{"b":1},{"b":"x"},{"b":1e400}]"#,
        r#"b=1.0 | _extra={"b":"x"} | _extra={"b":1e400}"#,
    );
}

#[test]
fn a_quarantined_message_leaves_nothing_behind() {
    let strict = with(|stream| {
        stream.on_mismatch = Misfit::Quarantine;
        stream.columns = vec![column("a", ColumnType::Double)];
    });
    let decoded = decode(
        strict,
        &[
            r#"{"a":1}"#,
            r#"[{"new":1,"a":5,"t":"text"},{"a":"x"}]"#,
            r#"{"b":"two"}"#,
            r#"{"new":"text now"}"#,
        ],
    );
    assert_eq!(outcome(&decoded, 1), "!type_mismatch");
    let names: Vec<_> =
        decoded.schema.columns().iter().map(|column| (column.name.as_str(), column.kind)).collect();
    assert_eq!(names, [("a", ColumnType::Double), ("b", ColumnType::String), ("new", ColumnType::String)]);
    assert_eq!(
        (outcome(&decoded, 0), outcome(&decoded, 2), outcome(&decoded, 3)),
        ("a=1.0".into(), "b=two".into(), "new=text now".into())
    );
    let range = decoded.ranges[&PARTITION];
    assert_eq!((range.readings, range.quarantined, range.dropped), (3, 1, 0));
    assert!(decoded.mismatches.is_empty());
}

#[test]
fn a_quarantined_message_keeps_nothing_in_memory_that_was_read_with_it() {
    let failing = with(|stream| {
        stream.columns = vec![column("n", ColumnType::Long)];
        stream.transform = Some("select *, 1 / n as part from input".to_owned());
    });
    for (stream, payload) in [(stream(), "{"), (failing, r#"{"n":0}"#)] {
        let mut decoder = decoder(stream);
        let message = stored(0, arrival(), "d1", payload);
        decoder.push(PARTITION, &message, ARRIVAL);
        let quarantined = decoder.finish().quarantined;
        assert_eq!(quarantined[0].payload, message.record.value);
        assert!(quarantined[0].payload.is_unique(), "{payload}");
    }
}

#[test]
fn a_device_id_must_be_one() {
    let long = "x".repeat(257);
    for (id, expected) in [
        ("d1", "a=1.0"),
        ("", "!bad_device_id"),
        ("a/b", "!bad_device_id"),
        ("..", "!bad_device_id"),
        ("a..b", "!bad_device_id"),
        ("a\u{1}", "!bad_device_id"),
        ("ä b", "a=1.0"),
        (&long, "!bad_device_id"),
        (&long[1..], "a=1.0"),
    ] {
        let mut decoder = decoder(stream());
        decoder.push(PARTITION, &stored(0, arrival(), id, r#"{"a":1}"#), Micros(0));
        let decoded = decoder.finish();
        coherent(&decoded);
        assert_eq!(outcome(&decoded, 0), expected, "{id:?}");
    }
    let mut decoder = decoder(stream());
    let mut bad = stored(0, arrival(), "", "{}");
    bad.record.key = b"\xff".as_slice().into();
    decoder.push(PARTITION, &bad, Micros(0));
    assert_eq!(decoder.finish().quarantined[0].device_id, "\u{fffd}");
}

#[test]
fn a_device_id_may_stand_in_a_field() {
    let by_field = || with(|stream| stream.device_field = Some("meta.id".to_owned()));
    for (payload, id, expected) in [
        (r#"{"meta":{"id":"x7","a":1}}"#, "x7", "meta_a=1.0"),
        (r#"{"meta.id":"x8"}"#, "x8", ""),
        (r#"{"meta":{"id":17}}"#, "17", ""),
        (r#"{"meta":{"id":null}}"#, "d1", ""),
        (r#"{"meta":5}"#, "d1", "meta=5.0"),
    ] {
        let decoded = decode(by_field(), &[payload]);
        assert_eq!(
            (super::cell(&decoded.readings, "device_id", 0).as_str(), outcome(&decoded, 0).as_str()),
            (id, expected),
            "{payload}"
        );
    }
    for payload in [
        r#"{"meta":{"id":"a/b"}}"#,
        r#"{"meta":{"id":true}}"#,
        r#"{"meta":{"id":{}}}"#,
        r#"{"meta":{"id":""}}"#,
    ] {
        check_in(by_field(), payload, "!bad_device_id");
    }
}

#[test]
fn a_device_field_that_is_a_declared_column_is_one_and_may_be_required() {
    let by_field = || {
        with(|stream| {
            stream.device_field = Some("tags.name".to_owned());
            stream.columns = vec![required("tags_name", ColumnType::String)];
        })
    };
    for (payload, expected) in [
        (r#"{"tags":{"name":"t1"}}"#, "tags_name=t1"),
        (r#"{"tags":{"name":null}}"#, "!missing_field"),
        (r#"{"tags":{}}"#, "!missing_field"),
        ("{}", "!missing_field"),
    ] {
        assert_eq!(outcome(&decode(by_field(), &[payload]), 0), expected, "{payload}");
    }
    let decoded = decode(by_field(), &[r#"{"tags":{"name":"t1"}}"#]);
    assert_eq!(super::cell(&decoded.readings, "device_id", 0), "t1");
}

#[test]
fn a_cut_payload_and_an_unclaimed_topic() {
    let mut decoder = decoder(stream());
    let cut = Arrival { truncated_from: Some(200_000), ..arrival() };
    decoder.push(PARTITION, &stored(0, cut, "d1", r#"{"a":1}"#), Micros(0));
    let decoded = decoder.finish();
    assert_eq!(outcome(&decoded, 0), "!too_large");
    assert!(decoded.quarantined[0].detail.starts_with("200000 bytes"), "{}", decoded.quarantined[0].detail);

    let stray = unrouted(Partition(0), &stored(5, arrival(), "d1", "x"), Micros(0));
    assert_eq!(
        (stray.reason, stray.stream.clone(), stray.offset, stray.received_at),
        (Reason::NoStream, None, Offset(5), ARRIVAL)
    );

    let all = [stray, decoded.quarantined[0].clone()];
    let batch = quarantine_batch(&all);
    assert_eq!((batch.schema(), batch.num_rows()), (quarantine_schema(), 2));
    assert_eq!(batch["payload"].as_binary::<i32>().value(1), br#"{"a":1}"#);
    assert_eq!(super::cell(&batch, "stream", 0), "null");
    assert_eq!(
        (super::cell(&batch, "stream", 1).as_str(), super::cell(&batch, "date", 1).as_str()),
        ("telemetry", "2026-11-21")
    );
    assert_eq!(quarantine_batch(&[]).num_rows(), 0);
}

#[test]
fn what_a_repair_of_the_log_could_not_save_is_counted() {
    let lost = || Stored {
        offset: Offset(0),
        appended_at: None,
        record: Record { headers: vec![(LOST.to_owned(), Vec::new().into())], ..Record::default() },
    };
    let mut decoder = decoder(stream());
    decoder.push(PARTITION, &lost(), ARRIVAL);
    let decoded = decoder.finish();
    coherent(&decoded);
    for message in [&decoded.quarantined[0], &unrouted(PARTITION, &lost(), ARRIVAL)] {
        assert_eq!(
            (message.reason, message.detail.as_str(), message.received_at),
            (Reason::Empty, "the log was repaired: this message is lost", ARRIVAL)
        );
    }
}

#[test]
fn a_small_message_that_would_be_a_huge_table_is_too_large() {
    let mut decoder = decoder(stream());
    let long = Arrival { topic: "t".repeat(65_000), ..arrival() };
    decoder.push(PARTITION, &stored(0, long, "d1", format!("[{}{{}}]", "{},".repeat(40_000))), Micros(0));
    decoder.push(PARTITION, &stored(1, arrival(), "d1", "1"), Micros(0));
    let decoded = decoder.finish();
    coherent(&decoded);
    assert_eq!((outcome(&decoded, 0).as_str(), outcome(&decoded, 1).as_str()), ("!too_large", "value=1.0"));
}

#[test]
fn a_foreign_record_without_headers_is_a_reading() {
    let mut decoder = decoder(stream());
    let record = Record { key: "d9".into(), value: r#"{"a":1}"#.into(), headers: Vec::new() };
    let mut stored = Stored { offset: Offset(7), appended_at: None, record };
    decoder.push(PARTITION, &stored, ARRIVAL);
    // The log may know when it came: then it does not matter who decodes it, and when.
    stored.offset = Offset(8);
    stored.appended_at = Some(Micros(ARRIVAL.0 - 1_000_000));
    decoder.push(PARTITION, &stored, ARRIVAL);
    let decoded = decoder.finish();
    let at = |row| super::cell(&decoded.readings, "_received_at", row);
    assert_ne!(at(0), at(1));
    assert_eq!(super::cell(&decoded.readings, "ts", 1), at(1));
    assert_eq!(outcome(&decoded, 7), "a=1.0");
    assert_eq!(super::cell(&decoded.readings, "ts", 0), super::cell(&decoded.readings, "_received_at", 0));
    assert_eq!(decoded.ranges[&PARTITION].first, Offset(7));
}

#[test]
fn partitions_are_counted_apart_and_the_schema_outlives_a_batch() {
    let stream = Arc::new(stream());
    let mut decoder = Decoder::new(Arc::clone(&stream), InputSchema::declared(&stream)).unwrap();
    decoder.push(Partition(0), &stored(10, arrival(), "d1", r#"{"a":1}"#), Micros(0));
    decoder.push(Partition(1), &stored(4, arrival(), "d2", "x"), Micros(0));
    decoder.push(Partition(0), &stored(11, arrival(), "d1", "[]"), Micros(0));
    assert!(decoder.bytes() > 0);
    let first = decoder.finish();
    coherent(&first);
    assert_eq!(
        first.ranges[&Partition(0)],
        Range { first: Offset(10), last: Offset(11), messages: 2, readings: 1, quarantined: 0, dropped: 1 }
    );
    assert_eq!(
        first.ranges[&Partition(1)],
        Range { first: Offset(4), last: Offset(4), messages: 1, readings: 0, quarantined: 1, dropped: 0 }
    );

    assert_eq!((decoder.bytes(), decoder.messages()), (0, 0));
    decoder.push(Partition(0), &stored(12, arrival(), "d1", r#"{"b":1}"#), Micros(0));
    let second = decoder.finish();
    assert_eq!(second.schema.columns().len(), 2);
    assert!(second.quarantined.is_empty() && second.ranges.len() == 1);

    let kept = InputSchema::restore(&stream, &second.schema.to_json()).unwrap();
    assert_eq!(kept, second.schema);
    let empty = decoder.finish();
    assert_eq!((empty.readings.num_rows(), empty.table_schema), (0, second.table_schema));
}
