//! Messages whose readings go through a transform.

use super::{
    ColumnType, PARTITION, Range, Stream, arrival, coherent, column, decode, decoder, outcome, stored, with,
};
use millstream_model::name::Offset;
use millstream_model::time::Micros;

fn transforming(sql: &str) -> Stream {
    with(|stream| {
        stream.columns = vec![
            column("temp", ColumnType::Double),
            column("n", ColumnType::Long),
            column("s", ColumnType::String),
        ];
        stream.transform = Some(sql.to_owned());
    })
}

#[test]
fn rows_are_computed_and_chosen() {
    let decoded = decode(
        transforming("select *, temp * 9 / 5 + 32 as temp_f from input where temp > -90"),
        &[
            r#"{"temp":20,"new":true}"#,
            r#"{"temp":-99}"#,
            r#"[{"temp":0},{"temp":-99},{"temp":100}]"#,
            r#"{"n":1}"#,
            "x",
        ],
    );
    let outcomes: Vec<_> = (0..5).map(|offset| outcome(&decoded, offset)).collect();
    assert_eq!(
        outcomes,
        [
            "temp=20.0 new=true temp_f=68.0",
            "",
            "temp=0.0 temp_f=32.0 | temp=100.0 temp_f=212.0",
            "",
            "!not_json"
        ]
    );
    let range =
        Range { first: Offset(0), last: Offset(4), messages: 5, readings: 3, quarantined: 1, dropped: 2 };
    assert_eq!(decoded.ranges[&PARTITION], range);
    assert_eq!(super::positions(&decoded.readings), [(3, 0, 0), (3, 2, 0), (3, 2, 2)]);
}

#[test]
fn a_transform_that_fails_on_a_row_costs_that_message_only() {
    let payloads: Vec<_> =
        (0..50)
            .map(|i| {
                if i % 17 == 5 {
                    r#"[{"s":"1"},{"s":"one"}]"#.to_owned()
                } else {
                    format!("{{\"s\":\"{i}\"}}")
                }
            })
            .collect();
    let decoded = decode(transforming("select cast(s as bigint) + 1 as next from input"), &payloads);
    let refused: Vec<_> =
        decoded.quarantined.iter().map(|message| (message.offset.0, message.reason.as_str())).collect();
    assert_eq!(refused, [(5, "transform_failed"), (22, "transform_failed"), (39, "transform_failed")]);
    assert!(decoded.quarantined[0].detail.contains("one"), "{}", decoded.quarantined[0].detail);
    assert_eq!(decoded.quarantined[0].payload, payloads[5]);
    assert_eq!((outcome(&decoded, 4).as_str(), outcome(&decoded, 49).as_str()), ("next=5", "next=50"));
}

#[test]
fn many_failures_in_many_chunks_leave_the_others_in_their_order() {
    let message = |i: usize| match i % 3 {
        0 => "{\"s\":\"bad\"}".to_owned(),
        1 => format!("[{{\"s\":\"{i}\"}},{{\"s\":\"{i}\"}}]"),
        _ => format!("{{\"s\":\"{i}\"}}"),
    };
    let payloads: Vec<_> = (0..20_000).map(message).collect();
    let decoded = decode(transforming("select cast(s as bigint) as n2 from input"), &payloads);
    let range = decoded.ranges[&PARTITION];
    assert_eq!((range.messages, range.quarantined, range.readings), (20_000, 6_667, 2 * 6_667 + 6_666));
    assert_eq!(
        (outcome(&decoded, 19_999).as_str(), outcome(&decoded, 8_191).as_str()),
        ("n2=19999 | n2=19999", "n2=8191 | n2=8191")
    );
}

#[test]
fn division_by_zero_is_a_failure_too() {
    let decoded =
        decode(transforming("select 10 / n as q from input"), &[r#"{"n":5}"#, r#"{"n":0}"#, r#"{"n":2}"#]);
    assert_eq!(
        (outcome(&decoded, 0), outcome(&decoded, 1), outcome(&decoded, 2)),
        ("q=2".into(), "!transform_failed".into(), "q=5".into())
    );
}

#[test]
fn a_field_that_has_the_name_of_a_computed_column_goes_to_extra() {
    let sql = "select *, u + 1 as v from (select *, temp * 2 as u from input)";
    let decoded = decode(transforming(sql), &[r#"{"temp":1,"U":7,"v":8,"w":9}"#]);
    assert_eq!(outcome(&decoded, 0), r#"temp=1.0 w=9.0 u=2.0 v=3.0 _extra={"U":7,"v":8}"#);
}

#[test]
fn the_schema_grows_between_batches() {
    let mut decoder = decoder(transforming("select * exclude (s) from input"));
    decoder.push(PARTITION, &stored(0, arrival(), "d1", r#"{"temp":1,"s":"x"}"#), Micros(0));
    let first = decoder.finish();
    decoder.push(PARTITION, &stored(1, arrival(), "d1", r#"{"temp":1,"late":true}"#), Micros(0));
    let second = decoder.finish();
    coherent(&first);
    coherent(&second);
    assert_eq!(
        (outcome(&first, 0).as_str(), outcome(&second, 1).as_str()),
        ("temp=1.0", "temp=1.0 late=true")
    );
    assert_eq!(second.schema.columns().len(), 4);
    assert_eq!(decoder.finish().table_schema, second.table_schema);
}
