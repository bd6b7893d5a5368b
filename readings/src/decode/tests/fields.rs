//! Which field becomes which column.

use super::{
    ColumnType, Micros, PARTITION, arrival, check, check_in, coherent, column, decode, decoder, outcome,
    required, stored, stream, with,
};
use millstream_model::arrival::Arrival;
use millstream_model::stream::Misfit;
use std::collections::BTreeMap;

#[test]
fn nested_objects_flatten_and_arrays_stay_text() {
    check(r#"{"a":{"b":1,"c":{"d":true}}}"#, "a_b=1.0 a_c_d=true");
    check(r#"{"a":[1, {"b" : 1e400}]}"#, r#"a=[1, {"b" : 1e400}]"#);
    check(r#"{"a":{},"b":{"c":{}}}"#, r#"_extra={"a":{},"b":{"c":{}}}"#);
    check(r#"{"PM2.5":3,"Ähre":1}"#, "PM2.5=3.0 Ähre=1.0");
    check(r#"{"\u0061":{"\u0062":"\u0063"}}"#, "a_b=c");
}

#[test]
fn names_that_cannot_be_columns_go_to_extra() {
    for name in [
        "",
        "a b",
        "a,b",
        "a;b",
        "a{",
        "a}",
        "a(",
        "a)",
        "a=b",
        "_private",
        "_offset",
        "date",
        "Date",
        "DEVICE_ID",
        "TS",
    ] {
        check(format!("{{\"{name}\":1,\"ok\":2}}"), &format!("ok=2.0 _extra={{\"{name}\":1}}"));
    }
    check("{\"a\\tb\":1,\"a\\u0001\":2}", "_extra={\"a\\tb\":1,\"a\\u0001\":2}");
    let long = "x".repeat(256);
    check(format!("{{\"{long}\":1}}"), &format!("_extra={{\"{long}\":1}}"));
    check(r#"{"device":{"id":1,"x":2}}"#, r#"device_x=2.0 _extra={"device":{"id":1}}"#);
}

#[test]
fn of_names_that_meet_the_first_keeps_the_column() {
    check(r#"{"a_b":1,"a":{"b":2}}"#, r#"a_b=1.0 _extra={"a":{"b":2}}"#);
    check(r#"{"a":{"b":2},"a_b":1}"#, r#"a_b=2.0 _extra={"a_b":1}"#);
    check(r#"{"Temp":1,"temp":2,"TEMP":3}"#, r#"Temp=1.0 _extra={"temp":2,"TEMP":3}"#);
    check(r#"{"a":{"x":1,"X":2},"b":0,"A":{"x":3}}"#, r#"a_x=1.0 b=0.0 _extra={"a":{"X":2},"A":{"x":3}}"#);
}

#[test]
fn a_value_that_does_not_fit_goes_to_extra_as_it_came() {
    let payloads = [
        r#"{"t":1,"ok":true,"s":"x"}"#,
        r#"{"t":"21.5","ok":1,"s":2}"#,
        r#"{"t":1e400,"ok":null,"s":[1, 2]}"#,
        r#"{"t":9007199254740993,"s":{"deep":{"x":"y"}}}"#,
        r#"{"t":-0.1}"#,
    ];
    let decoded = decode(stream(), &payloads);
    let outcomes: Vec<_> = (0..5).map(|offset| outcome(&decoded, offset)).collect();
    assert_eq!(
        outcomes,
        [
            "t=1.0 ok=true s=x",
            r#"_extra={"t":"21.5","ok":1,"s":2}"#,
            r#"s=[1, 2] _extra={"t":1e400}"#,
            r#"s_deep_x=y _extra={"t":9007199254740993}"#,
            "t=-0.1",
        ]
    );
    let count = |name: &str, why| ((name.to_owned(), why), 1);
    let expected = [
        count("ok", "type_mismatch"),
        count("s", "type_mismatch"),
        count("t", "not_exact"),
        count("t", "not_finite"),
        count("t", "type_mismatch"),
    ];
    assert_eq!(decoded.mismatches, BTreeMap::from(expected));
}

#[test]
fn declared_columns_have_their_type_from_the_start() {
    let declared = || {
        with(|stream| {
            stream.columns = vec![
                column("n", ColumnType::Long),
                column("at", ColumnType::Timestamp),
                column("d", ColumnType::Double),
                column("b", ColumnType::Boolean),
                column("s", ColumnType::String),
            ];
        })
    };
    check_in(declared(), r#"{"n":9007199254740993,"d":1}"#, "n=9007199254740993 d=1.0");
    check_in(declared(), r#"{"n":1.0}"#, "n=1");
    check_in(declared(), r#"{"n":1.9}"#, r#"_extra={"n":1.9}"#);
    check_in(declared(), r#"{"n":9223372036854775808}"#, r#"_extra={"n":9223372036854775808}"#);
    check_in(declared(), r#"{"n":"1"}"#, r#"_extra={"n":"1"}"#);
    check_in(declared(), r#"{"at":"2026-01-02T03:04:05.1234567+01:00"}"#, "at=2026-01-02T02:04:05.123456Z");
    check_in(declared(), r#"{"at":1700000000}"#, "at=2023-11-14T22:13:20Z");
    check_in(declared(), r#"{"at":300000000000000000}"#, r#"_extra={"at":300000000000000000}"#);
    check_in(declared(), r#"{"at":"soon"}"#, r#"_extra={"at":"soon"}"#);
    check_in(declared(), r#"{"b":0,"s":5,"d":[1]}"#, r#"_extra={"b":0,"s":5,"d":[1]}"#);
    let decoded = decode(declared(), &["{}"]);
    let names: Vec<_> = decoded.table_schema.fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(
        names,
        [
            "ts",
            "device_id",
            "_partition",
            "_offset",
            "_index",
            "_received_at",
            "_topic",
            "date",
            "n",
            "at",
            "d",
            "b",
            "s",
            "_extra"
        ]
    );
}

#[test]
fn beyond_the_column_limit_fields_go_to_extra() {
    let narrow = with(|stream| {
        stream.column_limit = 2;
        stream.columns = vec![column("a", ColumnType::Double)];
    });
    let decoded = decode(narrow, &[r#"{"b":1,"c":2,"a":3}"#, r#"{"c":1,"b":{"x":1}}"#]);
    assert_eq!(outcome(&decoded, 0), r#"a=3.0 b=1.0 _extra={"c":2}"#);
    assert_eq!(outcome(&decoded, 1), r#"_extra={"c":1,"b":{"x":1}}"#);
    assert_eq!(decoded.schema.columns().len(), 2);
}

#[test]
fn levels_of_the_topic_are_columns_and_win() {
    let levelled = |kind, misfit| {
        with(|stream| {
            stream.topics = vec!["{site}/{line}/{device_id}".parse().unwrap()];
            stream.columns = vec![column("line", kind)];
            stream.on_mismatch = misfit;
        })
    };
    for (topic, kind, misfit, payload, expected) in [
        ("berlin/7/d1", ColumnType::Long, Misfit::Extra, r#"{"a":1}"#, "line=7 site=berlin a=1.0"),
        ("berlin/7/d1", ColumnType::Double, Misfit::Extra, "5", "line=7.0 site=berlin value=5.0"),
        (
            "berlin/7/d1",
            ColumnType::String,
            Misfit::Extra,
            r#"{"site":"x","line":3}"#,
            r#"line=7 site=berlin _extra={"site":"x","line":3}"#,
        ),
        ("berlin/x/d1", ColumnType::Long, Misfit::Extra, r#"{"line":3}"#, r#"site=berlin _extra={"line":3}"#),
        ("berlin/x/d1", ColumnType::Long, Misfit::Quarantine, "{}", "!type_mismatch"),
        (
            "berlin/2026-01-01T00:00:00Z/d1",
            ColumnType::Timestamp,
            Misfit::Extra,
            "{}",
            "line=2026-01-01T00:00:00Z site=berlin",
        ),
        ("berlin/+12026-01-01T00:00:00Z/d1", ColumnType::Timestamp, Misfit::Extra, "{}", "site=berlin"),
        ("berlin/0000-01-01T00:00:00Z/d1", ColumnType::Timestamp, Misfit::Extra, "{}", "site=berlin"),
        ("elsewhere", ColumnType::Long, Misfit::Extra, r#"{"site":"x"}"#, "site=x"),
    ] {
        let mut decoder = decoder(levelled(kind, misfit));
        let arrival = Arrival { topic: topic.to_owned(), ..arrival() };
        decoder.push(PARTITION, &stored(0, arrival, "d1", payload), Micros(0));
        let decoded = decoder.finish();
        coherent(&decoded);
        assert_eq!(outcome(&decoded, 0), expected, "{topic} {payload}");
    }
}

/// A transform that is gone, or another tool, left columns in the table.
#[test]
fn a_field_becomes_a_column_of_the_table_with_its_type_or_not_at_all() {
    use arrow::datatypes::{DataType, Field, Schema};
    let left = [
        ("temp_f", DataType::Float64),
        ("level", DataType::Utf8),
        ("count", DataType::Int64),
        ("day", DataType::Date32),
    ];
    let table = Schema::new(left.map(|(name, kind)| Field::new(name, kind, true)).to_vec());
    let payloads = [
        r#"{"temp_f":"n/a","Level":"x","day":"2026-01-01","new":1}"#,
        r#"{"temp_f":70,"level":5,"count":1.5}"#,
        r#"{"Temp_F":70,"level":"low","count":2,"COUNT":3}"#,
    ];
    let mut decoder = decoder(stream()).for_table(&table);
    for (offset, payload) in payloads.iter().enumerate() {
        decoder.push(PARTITION, &stored(offset as i64, arrival(), "d1", payload), Micros(0));
    }
    let decoded = decoder.finish();
    coherent(&decoded);
    let outcomes: Vec<_> = (0..3).map(|offset| outcome(&decoded, offset)).collect();
    assert_eq!(
        outcomes,
        [
            r#"new=1.0 _extra={"temp_f":"n/a","Level":"x","day":"2026-01-01"}"#,
            r#"temp_f=70.0 _extra={"level":5,"count":1.5}"#,
            r#"level=low count=2 _extra={"Temp_F":70,"COUNT":3}"#,
        ]
    );
    let mismatched = ["count", "level", "temp_f"].map(|name| ((name.to_owned(), "type_mismatch"), 1));
    assert_eq!(decoded.mismatches, BTreeMap::from(mismatched));
}

#[test]
fn what_is_kept_of_a_schema_goes_with_the_definition_or_says_why() {
    use crate::schema::{InputSchema, SchemaError};
    let learned = decode(stream(), &[r#"{"a":1,"B":"x"}"#]).schema.to_json();
    let restore =
        |edit: fn(&mut millstream_model::stream::Stream)| InputSchema::restore(&with(edit), &learned);

    let grown = restore(|stream| {
        stream.columns = vec![column("c", ColumnType::Long), required("a", ColumnType::Double)];
        stream.topics = vec!["{site}/#".parse().unwrap()];
    });
    let columns = grown.unwrap().columns().to_vec();
    assert_eq!(
        columns,
        [
            required("a", ColumnType::Double),
            column("B", ColumnType::String),
            column("c", ColumnType::Long),
            column("site", ColumnType::String)
        ]
    );

    assert!(matches!(
        restore(|stream| stream.columns = vec![column("a", ColumnType::Long)]),
        Err(SchemaError::TypeChanged { .. })
    ));
    assert!(matches!(
        restore(|stream| stream.columns = vec![column("b", ColumnType::String)]),
        Err(SchemaError::CaseChanged { .. })
    ));
    assert!(matches!(InputSchema::restore(&stream(), "[]"), Err(SchemaError::Unreadable { .. })));
}
