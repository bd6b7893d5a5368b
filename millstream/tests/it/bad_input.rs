//! The table of bad input, each row of it through the whole program: published, then looked for in table, `_extra` and quarantine.
//!
//! Every case stands between two good messages of its own device, and all of a stream go to its table in one batch.
//!
//! Longer than other files on purpose: it is one table, and a reader compares its rows.

use crate::mqtt::{Device, Version};
use crate::program::{Home, Row};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Nothing closes a file but the end, so that everything is in one batch.
const STREAMS: &str = r#"
[[stream]]
name = "lenient"
topic = "lenient/{device_id}"
files = { close_after = "1h", close_idle = "1h" }

[[stream]]
name = "strict"
topic = "strict/{device_id}"
on_mismatch = "quarantine"
on_bad_time = "quarantine"
columns = { temp = "double", count = "long", serial = { type = "string", required = true } }
files = { close_after = "1h", close_idle = "1h" }

[[stream]]
name = "wide"
topic = "wide/{device_id}"
files = { close_after = "1h", close_idle = "1h" }

[[stream]]
name = "words"
topic = "words/{device_id}"
files = { close_after = "1h", close_idle = "1h" }

[[stream]]
name = "serial"
topic = "serial"
device = "serial"
files = { close_after = "1h", close_idle = "1h" }

[[stream]]
name = "client"
topic = "client"
files = { close_after = "1h", close_idle = "1h" }

[[stream]]
name = "transformed"
topic = "transformed/{device_id}"
transform = "select *, 100 / cast(temp as bigint) as share from input where temp > -90"
columns = { temp = "double" }
files = { close_after = "1h", close_idle = "1h" }
"#;

/// What is good in every stream.
const GOOD: &str = r#"{"temp":20.5,"serial":"s"}"#;

/// What becomes of a message.
#[derive(Debug)]
enum Outcome {
    /// Quarantined with this reason and its original bytes.
    Quarantine(&'static str),
    /// One row with these values, and this text in `_extra`; null where it is null.
    Row(Value),
    /// So many rows.
    Rows(usize),
    /// Neither row nor quarantine.
    Dropped,
}
use Outcome::{Dropped, Quarantine, Rows};

fn row(values: Value) -> Outcome {
    Outcome::Row(values)
}

/// One message, and what becomes of it.
struct Case {
    stream: &'static str,
    what: &'static str,
    payload: Vec<u8>,
    outcome: Outcome,
}

fn case(stream: &'static str, what: &'static str, payload: impl AsRef<[u8]>, outcome: Outcome) -> Case {
    Case { stream, what, payload: payload.as_ref().to_vec(), outcome }
}

fn nested(depth: usize, open: &str, close: &str) -> String {
    format!("{}1{}", open.repeat(depth), close.repeat(depth))
}

fn fields(count: usize) -> String {
    let fields: Vec<String> = (0..count).map(|field| format!("\"f{field}\":1")).collect();
    format!("{{{}}}", fields.join(","))
}

fn what_is_no_reading() -> Vec<Case> {
    let mut cases = Vec::new();
    let not_json: [(&str, &[u8]); 13] = [
        ("text", b"hello"),
        ("truncated", b"{\"temp\":"),
        ("truncated-text", b"{\"temp\":\"war"),
        ("open", b"{\"temp\":1"),
        ("trailing", b"{\"temp\":1} x"),
        ("trailing-comma", b"{\"temp\":1,}"),
        ("invalid-utf8", b"{\"label\":\"\xff\xfe\"}"),
        ("binary", b"\x00\x01\x02\xff"),
        ("lone-surrogate", br#"{"label":"\ud800"}"#),
        ("nan", b"NaN"),
        ("nan-field", b"{\"temp\":NaN}"),
        ("infinity-field", b"{\"temp\":-Infinity}"),
        ("nan-in-array", b"[{\"temp\":1},{\"temp\":NaN}]"),
    ];
    for stream in ["lenient", "strict"] {
        cases.extend(not_json.map(|(what, payload)| case(stream, what, payload, Quarantine("not_json"))));
        cases.push(case(stream, "empty", "", Quarantine("empty")));
        for (what, payload) in [
            ("numbers", "[1,2]"),
            ("null", "null"),
            ("object-and-number", r#"[{"serial":"s"},2]"#),
            ("nulls", "[null]"),
            ("arrays", "[[{}]]"),
        ] {
            cases.push(case(stream, what, payload, Quarantine("not_a_reading")));
        }
        let (objects, arrays) = (nested(40, r#"{"a":"#, "}"), nested(40, "[", "]"));
        cases.push(case(
            stream,
            "deep-objects",
            format!(r#"{{"serial":"s","deep":{objects}}}"#),
            Quarantine("too_deep"),
        ));
        cases.push(case(
            stream,
            "deep-arrays",
            format!(r#"{{"serial":"s","deep":{arrays}}}"#),
            Quarantine("too_deep"),
        ));
        cases.push(case(
            stream,
            "duplicate",
            r#"{"serial":"s","temp":1,"temp":1}"#,
            Quarantine("duplicate_key"),
        ));
        cases.push(case(
            stream,
            "duplicate-below",
            r#"{"serial":"s","a":{"b":1,"b":2}}"#,
            Quarantine("duplicate_key"),
        ));
        cases.push(case(stream, "empty-array", "[]", Dropped));
    }
    cases.push(case("lenient", "just-too-deep", nested(33, r#"{"a":"#, "}"), Quarantine("too_deep")));
    cases.push(case("wide", "too-wide", fields(10_001), Quarantine("too_wide")));
    cases.push(case("wide", "as-wide-as-allowed", fields(10_000), Rows(1)));
    cases.push(case("lenient", "large", vec![b'x'; (128 << 10) + 1], Quarantine("too_large")));
    cases.push(case(
        "lenient",
        "as-large-as-allowed",
        format!("{{\"label\":\"{}\"}}", "x".repeat((128 << 10) - 12)),
        Rows(1),
    ));
    cases
}

fn what_is_odd_but_a_reading() -> Vec<Case> {
    fn lenient(what: &'static str, payload: impl AsRef<[u8]>, outcome: Outcome) -> Case {
        case("lenient", what, payload, outcome)
    }
    vec![
        lenient("array", r#"[{"temp":1},{"temp":2},{"temp":3}]"#, Rows(3)),
        lenient("broken", "{", Quarantine("not_json")),
        lenient("bare-number", "21.5", row(json!({"value": 21.5}))),
        case("wide", "bare-boolean", "true", row(json!({"value": true}))),
        case("words", "bare-text", r#""Guten \u0054ag""#, row(json!({"value": "Guten Tag"}))),
        lenient("as-deep-as-allowed", nested(32, r#"{"a":"#, "}"), Rows(1)),
        lenient("spaces", " \r\n\t{ \"temp\" : 1 } \n", row(json!({"temp": 1.0}))),
        lenient("null-field", r#"{"temp":null}"#, row(json!({"temp": null}))),
        lenient("empty-object", "{}", row(json!({"temp": null}))),
        lenient(
            "mismatch",
            r#"{"temp":"warm","serial":"m"}"#,
            row(json!({"temp": null, "serial": "m", "_extra": r#"{"temp":"warm"}"#})),
        ),
        lenient(
            "boolean-for-number",
            r#"{"temp":true}"#,
            row(json!({"temp": null, "_extra": r#"{"temp":true}"#})),
        ),
        lenient(
            "number-for-text",
            r#"{"serial":17.50}"#,
            row(json!({"serial": null, "_extra": r#"{"serial":17.50}"#})),
        ),
        lenient(
            "beyond-double",
            r#"{"temp":1e400}"#,
            row(json!({"temp": null, "_extra": r#"{"temp":1e400}"#})),
        ),
        lenient(
            "not-exact",
            r#"{"temp":9007199254740993}"#,
            row(json!({"temp": null, "_extra": r#"{"temp":9007199254740993}"#})),
        ),
        lenient("exact", r#"{"temp":9007199254740992}"#, row(json!({"temp": 9_007_199_254_740_992.0}))),
        lenient("nested", r#"{"gps":{"lat":1.5,"lon":2}}"#, row(json!({"gps_lat": 1.5, "gps_lon": 2.0}))),
        lenient("list", r#"{"list":[1, 2]}"#, Rows(1)),
        lenient("other-case", r#"{"temp":1,"Temp":2}"#, row(json!({"temp": 1.0, "_extra": r#"{"Temp":2}"#}))),
        lenient(
            "reserved",
            r#"{"_offset":7,"device_id":"me"}"#,
            row(json!({"device_id": "reserved", "_extra": r#"{"_offset":7,"device_id":"me"}"#})),
        ),
        case(
            "strict",
            "long",
            r#"{"serial":"s","count":9007199254740993}"#,
            row(json!({"count": 9_007_199_254_740_993_i64})),
        ),
        case("transformed", "kept", r#"{"temp":50}"#, row(json!({"temp": 50.0, "share": 2}))),
        case("transformed", "left-out", r#"{"temp":-99}"#, Dropped),
    ]
}

fn what_a_strict_stream_refuses() -> Vec<Case> {
    let strict = |what, payload: &'static str, reason| case("strict", what, payload, Quarantine(reason));
    vec![
        strict("mismatch", r#"{"serial":"s","temp":"warm"}"#, "type_mismatch"),
        strict("fraction", r#"{"serial":"s","count":1.5}"#, "type_mismatch"),
        strict("beyond-double", r#"{"serial":"s","temp":1e400}"#, "not_finite"),
        strict("not-exact", r#"{"serial":"s","temp":9007199254740993}"#, "not_exact"),
        strict("missing", r#"{"temp":1}"#, "missing_field"),
        strict("required-null", r#"{"temp":1,"serial":null}"#, "missing_field"),
        strict("required-mismatch", r#"{"serial":7}"#, "type_mismatch"),
        strict("missing-in-one-of-two", r#"[{"serial":"s"},{"temp":1}]"#, "missing_field"),
        strict("time", r#"{"serial":"s","ts":"yesterday"}"#, "bad_time"),
        case("transformed", "zero", r#"{"temp":0}"#, Quarantine("transform_failed")),
    ]
}

/// Publishes them all on one connection, and looks where they are when the program has drained.
fn check(cases: Vec<Case>) {
    let home = Home::with(STREAMS);
    let up = home.up();
    let mut device = Device::connect(up.address(), Version::V5, "c");
    for Case { stream, what, payload, .. } in &cases {
        let topic = format!("{stream}/{what}");
        device.send(&topic, GOOD.as_bytes());
        device.send(&topic, payload);
        device.send(&topic, GOOD.as_bytes());
    }
    device.all_acknowledged();
    up.drain();
    let found = Found::read(&home, &cases);
    for Case { stream, what, payload, outcome } in &cases {
        found.check(&format!("{stream}/{what}"), payload, outcome);
    }
    found.check_offsets(&cases);
}

/// Rows and quarantined messages by topic, in the order in which they were published.
struct Found {
    rows: BTreeMap<String, Vec<Row>>,
    quarantined: BTreeMap<String, Vec<Row>>,
}

impl Found {
    fn read(home: &Home, cases: &[Case]) -> Self {
        let mut streams: Vec<&str> = cases.iter().map(|case| case.stream).collect();
        streams.sort_unstable();
        streams.dedup();
        let rows = streams
            .iter()
            .flat_map(|stream| home.sql(&format!("select * from {stream} order by _offset, _index")));
        let quarantined = "select *, encode(payload, 'hex') as bytes from quarantine order by _offset";
        let mut found = Self { rows: BTreeMap::new(), quarantined: BTreeMap::new() };
        for row in rows {
            found.rows.entry(row["_topic"].as_str().unwrap().to_owned()).or_default().push(row);
        }
        for row in home.sql(quarantined) {
            found.quarantined.entry(row["topic"].as_str().unwrap().to_owned()).or_default().push(row);
        }
        found
    }

    /// The rows of a topic that are not those of the good messages around it, which must be there.
    fn between(&self, topic: &str) -> &[Row] {
        let rows = self.rows.get(topic).unwrap_or_else(|| panic!("no row of {topic}"));
        let [first, between @ .., last] = rows.as_slice() else { panic!("{topic}: {rows:?}") };
        let of_one_batch = last["_offset"].as_i64().unwrap() - first["_offset"].as_i64().unwrap();
        assert_eq!(of_one_batch, 2, "{topic}: the good messages around it");
        for good in [first, last] {
            assert!(good["temp"] == 20.5 && good["serial"] == "s", "{topic}: {good:?}");
        }
        between
    }

    fn check(&self, topic: &str, payload: &[u8], outcome: &Outcome) {
        let between = self.between(topic);
        let quarantined = self.quarantined.get(topic).map(Vec::as_slice).unwrap_or_default();
        match outcome {
            Quarantine(reason) => {
                assert!(between.is_empty(), "{topic}: a partial row: {between:?}");
                let [one] = quarantined else { panic!("{topic}: quarantined {} times", quarantined.len()) };
                assert_eq!(one["reason"], *reason, "{topic}: {}", one["detail"]);
                assert_eq!(one["stream"], *topic.split('/').next().unwrap(), "{topic}");
                assert_ne!(one["detail"], "", "{topic}");
                let kept = if *reason == "too_large" { &payload[..64 << 10] } else { payload };
                let hex: String = kept.iter().map(|byte| format!("{byte:02x}")).collect();
                assert!(one["bytes"] == hex, "{topic}: not the original bytes");
            }
            Outcome::Row(values) => {
                let [one] = between else { panic!("{topic}: {between:?} {quarantined:?}") };
                for (name, value) in values.as_object().unwrap() {
                    let found = one.get(name).unwrap_or(&Value::Null);
                    // An integer's text and a float's may be the same number.
                    let same =
                        found == value || (found.as_f64().is_some() && found.as_f64() == value.as_f64());
                    assert!(same, "{topic}: {name} is {found}, not {value}");
                }
                if values.get("_extra").is_none() {
                    assert_eq!(one.get("_extra").unwrap_or(&Value::Null), &Value::Null, "{topic}");
                }
            }
            Rows(count) => assert_eq!(between.len(), *count, "{topic}: {quarantined:?}"),
            Dropped => assert!(between.is_empty(), "{topic}: {between:?}"),
        }
        let expected = usize::from(matches!(outcome, Quarantine(_)));
        assert_eq!(quarantined.len(), expected, "{topic}: {quarantined:?}");
    }

    /// Every offset has exactly one outcome.
    fn check_offsets(&self, cases: &[Case]) {
        let mut outcomes: BTreeMap<(&str, i64), usize> = BTreeMap::new();
        let places = self.rows.iter().chain(&self.quarantined);
        for (topic, row) in places.flat_map(|(topic, rows)| rows.iter().map(move |row| (topic, row))) {
            if row.get("_index").is_none_or(|index| index == 0) {
                let stream = topic.split('/').next().unwrap();
                *outcomes.entry((stream, row["_offset"].as_i64().unwrap())).or_default() += 1;
            }
        }
        assert!(outcomes.values().all(|count| *count == 1), "{outcomes:?}");
        let dropped = cases.iter().filter(|case| matches!(case.outcome, Dropped)).count();
        assert_eq!(outcomes.len(), cases.len() * 3 - dropped);
    }
}

#[test]
fn what_is_no_reading_is_quarantined_and_nothing_else_is() {
    check(what_is_no_reading());
}

#[test]
fn an_odd_field_never_costs_the_reading() {
    check(what_is_odd_but_a_reading());
}

#[test]
fn a_strict_stream_quarantines_what_does_not_fit() {
    check(what_a_strict_stream_refuses());
}

#[test]
fn a_field_beyond_the_columns_is_not_lost() {
    let home = Home::with(STREAMS);
    let up = home.up();
    Device::connect(up.address(), Version::V5, "c").publish("wide/d", fields(10_000));
    up.drain();
    let rows = home.sql("select * from wide");
    let [row] = rows.as_slice() else { panic!("not one row: {rows:?}") };
    let extra: Row = serde_json::from_str(row["_extra"].as_str().unwrap()).unwrap();
    let columns = row.iter().filter(|(name, value)| name.starts_with('f') && **value == 1.0);
    assert_eq!(columns.count(), 256);
    assert!(
        extra.len() == 10_000 - 256 && extra.values().all(|value| *value == 1),
        "{} in _extra",
        extra.len()
    );
}

#[test]
fn an_impossible_event_time_gives_way_to_the_time_of_arrival() {
    let home = Home::with(STREAMS);
    let up = home.up();
    let now = chrono::Utc::now();
    let ahead = (now + chrono::TimeDelta::minutes(30)).to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    let bad = [
        ("unreadable", r#""yesterday""#.to_owned()),
        ("before-2000", r#""1999-12-31T23:59:59Z""#.to_owned()),
        ("before-2000-number", "1".to_owned()),
        ("ahead", format!("{ahead:?}")),
        ("no-time", "true".to_owned()),
    ];
    let good = [
        ("late", r#""2001-02-03T04:05:06Z""#, "2001-02-03"),
        ("offset", r#""2024-02-29T01:00:00.5+02:00""#, "2024-02-28"),
        ("seconds", "1700000000", "2023-11-14"),
        ("millis", "1700000000123", "2023-11-14"),
        ("micros", "1700000000123456", "2023-11-14"),
    ];
    let mut device = Device::connect(up.address(), Version::V3, "c");
    let mut publish = |stream: &str, what: &str, time: &str| {
        device.send(&format!("{stream}/{what}"), format!(r#"{{"serial":"s","ts":{time}}}"#).as_bytes());
    };
    for stream in ["lenient", "strict"] {
        bad.iter().for_each(|(what, time)| publish(stream, what, time));
        good.iter().for_each(|(what, time, _)| publish(stream, what, time));
    }
    device.send("lenient/absent", br#"{"serial":"s"}"#);
    device.all_acknowledged();
    up.drain();

    let by_arrival = "select device_id, _extra, cast(date as string) = cast(cast(ts as date) as string) as dated from lenient where ts = _received_at";
    let rows = home.sql(&format!("{by_arrival} order by _offset"));
    assert_eq!(rows.len(), bad.len() + 1, "{rows:?}");
    for (row, (what, time)) in rows.iter().zip(&bad) {
        assert_eq!(
            (&row["device_id"], &row["_extra"]),
            (&json!(what), &json!(format!(r#"{{"ts":{time}}}"#)))
        );
        assert_eq!(row["dated"], true, "{what}");
    }
    assert_eq!((&rows[bad.len()]["device_id"], &rows[bad.len()]["_extra"]), (&json!("absent"), &Value::Null));
    for stream in ["lenient", "strict"] {
        let rows = home.sql(&format!("select device_id, cast(date as string) as date from {stream} where ts < _received_at order by _offset"));
        let expected: Vec<Row> =
            good.iter().map(|(what, _, date)| row_of(json!({"device_id": what, "date": date}))).collect();
        assert_eq!(rows, expected);
    }
    let refused = home.sql("select device_id, reason from quarantine order by _offset");
    let expected: Vec<Row> =
        bad.iter().map(|(what, _)| row_of(json!({"device_id": what, "reason": "bad_time"}))).collect();
    assert_eq!(refused, expected);
}

fn row_of(value: Value) -> Row {
    value.as_object().unwrap().clone()
}

#[test]
fn a_device_id_that_cannot_be_one_is_quarantined_wherever_it_comes_from() {
    let home = Home::with(STREAMS);
    let up = home.up();
    let long = "x".repeat(257);
    let just = "x".repeat(256);
    // A topic cannot have `/` in one level.
    for name in ["..", "a..b", &long, "fine", &just] {
        let mut device = Device::connect(up.address(), Version::V3, &format!("client-{}", name.len()));
        device.publish(&format!("lenient/{name}"), r#"{"from":"topic"}"#);
    }
    let mut device = Device::connect(up.address(), Version::V3, "c");
    for name in ["..", "../../etc", "a/b", "a\\nb", "", &long, "fine", &just] {
        device.publish("serial", format!(r#"{{"serial":"{name}"}}"#));
    }
    for name in ["../x", "a/b", &long, "fine", &just] {
        Device::connect(up.address(), Version::V3, name).publish("client", r#"{"from":"client"}"#);
    }
    up.drain();
    let refused = home.sql(
        "select stream, count(*) as n from quarantine where reason = 'bad_device_id' and stream <> 'lifecycle' group by 1 order by 1",
    );
    let count = |stream: &str, n: usize| row_of(json!({"stream": stream, "n": n}));
    assert_eq!(refused, [count("client", 3), count("lenient", 3), count("serial", 6)]);
    assert_eq!(home.value("select count(*) from quarantine where stream <> 'lifecycle'"), 12);
    for stream in ["lenient", "serial", "client"] {
        let devices = home.sql(&format!("select device_id from {stream} order by 1"));
        assert_eq!(devices, [row_of(json!({"device_id": "fine"})), row_of(json!({"device_id": just}))]);
    }
}

#[test]
fn a_topic_that_no_stream_claims_is_quarantined() {
    let home = Home::with(STREAMS);
    let up = home.up();
    let mut device = Device::connect(up.address(), Version::V5, "c");
    device.publish("lenient/d", GOOD);
    device.publish("elsewhere/d", GOOD);
    device.publish("lenient/d/deeper", b"\xff");
    device.publish("lenient/d", GOOD);
    up.drain();
    let rows = home.sql("select topic, reason, stream, device_id, encode(payload, 'hex') as payload from quarantine order by _offset");
    let hex: String = GOOD.bytes().map(|byte| format!("{byte:02x}")).collect();
    let expected = |topic: &str, payload: &str| {
        row_of(
            json!({"topic": topic, "reason": "no_stream", "stream": null, "device_id": "c", "payload": payload}),
        )
    };
    assert_eq!(rows, [expected("elsewhere/d", &hex), expected("lenient/d/deeper", "ff")]);
    assert_eq!(home.value("select count(*) from lenient"), 2);
}

#[test]
fn a_topic_that_no_stream_claims_is_dropped_where_the_configuration_says_so() {
    let home = Home::with(&format!("[gateway]\nunclaimed = \"drop\"\n{STREAMS}"));
    let up = home.up();
    let mut device = Device::connect(up.address(), Version::V3, "c");
    for topic in ["lenient/d", "elsewhere/d", "lenient/d"] {
        device.publish(topic, GOOD);
    }
    device.publish("lenient/d", "not json");
    up.drain();
    assert_eq!(home.value("select count(*) from lenient"), 2);
    assert_eq!(home.sql("select topic from quarantine"), [row_of(json!({"topic": "lenient/d"}))]);
}
