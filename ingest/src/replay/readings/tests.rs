//! Files in, messages out.

use super::{Item, Readings, Survey};
use crate::replay::error::ReplayError;
use crate::replay::message::Rules;
use crate::replay::settings::{Broker, Input, OnBadLine, Rebase, ReplaySettings, WriteMissing};
use millstream_model::time::Micros;
use std::path::PathBuf;
use tempfile::TempDir;

const WEATHER: &str = "origin,temp,wind_speed,gust,note,ts\n\
    EWR,39.02,10.357019999999999,NA,,2013-01-01T06:00:00Z\n\
    JFK,39.0,007,1,\"a \"\"b\"\", c\",2013-01-01T07:30:00Z\n";

struct Files {
    directory: TempDir,
}

impl Files {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }
}

fn input(files: Vec<PathBuf>, topic: &str) -> Input {
    let broker = Broker { host: String::new(), port: 0 };
    ReplaySettings::new(files, topic.parse().unwrap(), broker).input
}

/// `topic payload` of each message, `line code` of each bad line.
fn read(input: &Input, shift: i64) -> Vec<String> {
    let items = Readings::new(input, Rules::new(input, false, shift)).map(Result::unwrap);
    let shown = items.map(|item| match item {
        Item::Reading(reading) => {
            let payload = str::from_utf8(&reading.message.payload).unwrap();
            format!("{} {payload}", reading.message.topic)
        }
        Item::Bad(place, reason) => format!("{} {}", place.line, reason.code()),
    });
    shown.collect()
}

#[test]
fn rows_become_objects_without_their_missing_values() {
    let files = Files::new();
    let mut input = input(vec![files.write("a.csv", WEATHER)], "devices/{origin}/t");
    let ewr = r#"devices/EWR/t {"origin":"EWR","temp":39.02,"wind_speed":10.357019999999999,"ts":"2013-01-01T06:00:00Z"}"#;
    let jfk = r#"devices/JFK/t {"origin":"JFK","temp":39.0,"wind_speed":"007","gust":1,"note":"a \"b\", c","ts":"2013-01-01T07:30:00Z"}"#;
    assert_eq!(read(&input, 0), [ewr, jfk]);

    input.write_missing = WriteMissing::Null;
    input.missing = vec!["NA".to_owned()];
    input.limit = Some(1);
    let nulls = r#"devices/EWR/t {"origin":"EWR","temp":39.02,"wind_speed":10.357019999999999,"gust":null,"note":"","ts":"2013-01-01T06:00:00Z"}"#;
    assert_eq!(read(&input, 0), [nulls]);
}

#[test]
fn lines_are_sent_byte_for_byte() {
    let files = Files::new();
    let lines = "{ \"tags\" : {\"name\":\"a b\"}, \"x\": 1.50 }\r\n\n{\"tags\":{\"name\":7}}\n{\"tags\":{\"name\":true}}";
    let input = input(vec![files.write("a.ndjson", lines)], "{tags.name}");
    assert_eq!(
        read(&input, 0),
        [
            r#"a b { "tags" : {"name":"a b"}, "x": 1.50 }"#,
            r#"7 {"tags":{"name":7}}"#,
            r#"true {"tags":{"name":true}}"#
        ]
    );
}

#[test]
fn a_template_without_fields_takes_any_json() {
    let files = Files::new();
    let input = input(vec![files.write("a.ndjson", "1\n[{\"a\":1}]\n\"x\"\n")], "test/a");
    assert_eq!(read(&input, 0), ["test/a 1", "test/a [{\"a\":1}]", "test/a \"x\""]);
}

#[test]
fn a_shift_changes_only_the_time() {
    let files = Files::new();
    let lines = "{\"ts\": \"2013-01-01T23:00:00.5+01:00\", \"x\":1e2}\n{\"x\":1,\"ts\":1357020000}\n{\"ts\":\"1357020000000\"}\n";
    let mut ndjson = input(vec![files.write("a.ndjson", lines)], "t");
    ndjson.time_field = Some("ts".to_owned());
    ndjson.rebase = Rebase::EndAt(Micros(0));
    let expected = [
        r#"t {"ts": "2013-01-02T01:00:00.5+01:00", "x":1e2}"#,
        r#"t {"x":1,"ts":1357027200}"#,
        r#"t {"ts":"1357027200000"}"#,
    ];
    assert_eq!(read(&ndjson, 2), expected);

    let mut csv = input(vec![files.write("a.csv", "a,ts\n1,1357020000\n2,2013-01-01 00:00\n")], "t");
    csv.time_field = Some("ts".to_owned());
    csv.rebase = Rebase::EndAt(Micros(0));
    assert_eq!(read(&csv, -1), [r#"t {"a":1,"ts":1357016400}"#, r#"t {"a":2,"ts":"2012-12-31 23:00"}"#]);
}

#[test]
fn bad_lines_are_named_and_the_others_are_read() {
    let files = Files::new();
    let csv = b"id,x,ts\na,1,2013-01-01T00:00:00Z\nb,1\nNA,1,2013-01-01T00:00:00Z\nc/#,1,2013-01-01T00:00:00Z\n\xff,1,2013-01-01T00:00:00Z\nd,1,noon\ne,1,\nf,1,2013-01-01T00:00:00Z\n";
    let mut rows = input(vec![files.write("a.csv", csv)], "d/{id}");
    rows.time_field = Some("ts".to_owned());
    rows.rebase = Rebase::EndAt(Micros(0));
    let good = |id: &str| format!(r#"d/{id} {{"id":"{id}","x":1,"ts":"2013-01-01T00:00:00Z"}}"#);
    let expected = [
        good("a"),
        "3 cells".into(),
        "4 no_topic_field".into(),
        "5 bad_topic".into(),
        "6 not_utf8".into(),
        "7 not_a_time".into(),
        "8 no_time".into(),
        good("f"),
    ];
    assert_eq!(read(&rows, 0), expected);

    let ndjson =
        b"{\"id\":\"a\"}\n{\"id\":\n\xff\n{\"id\":null}\n{\"id\":{}}\n{}\n{\"id\":\"+\"}\n{\"id\":\"b\"}\n";
    let lines = input(vec![files.write("a.ndjson", ndjson)], "{id}");
    let expected = [
        r#"a {"id":"a"}"#,
        "2 not_json",
        "3 not_utf8",
        "4 no_topic_field",
        "5 no_topic_field",
        "6 no_topic_field",
        "7 bad_topic",
        r#"b {"id":"b"}"#,
    ];
    assert_eq!(read(&lines, 0), expected);
}

#[test]
fn errors_say_the_file_and_what_is_wrong() {
    let files = Files::new();
    let check = |change: &dyn Fn(&mut Input), content: &str, expected: &str| {
        let mut input = input(vec![files.write("a.csv", content)], "d/{id}");
        change(&mut input);
        let error: ReplayError =
            Readings::new(&input, Rules::new(&input, true, 0)).find_map(Result::err).unwrap();
        let shown = format!("{error}").replace(files.directory.path().to_str().unwrap(), "");
        assert_eq!(shown, expected);
    };
    check(
        &|_| (),
        "a,b\n1,2\n",
        r#"the header of /a.csv does not fit: there is no column "id"; there are a, b"#,
    );
    check(
        &|_| (),
        "id,b,b\n1,2,3\n",
        r#"the header of /a.csv does not fit: the name "b" stands twice, the second time in column 3"#,
    );
    check(
        &|i| i.time_field = Some("ts".to_owned()),
        "id\n1\n",
        r#"the header of /a.csv does not fit: there is no column "ts"; there are id"#,
    );
    check(&|i| i.on_bad_line = OnBadLine::Fail, "id,b\n1,2\n3\n", "/a.csv:3: the line cannot be published");
    check(&|i| i.files = vec!["/nowhere/a.csv".into()], "", "cannot read /nowhere/a.csv");
    let open_quote = format!("id,b\n1,\"{}\n", "x\n".repeat(9 * 1024 * 1024));
    check(&|_| (), &open_quote, "cannot read /a.csv");
}

#[test]
fn a_truncated_gzip_file_is_an_error_and_not_an_end() {
    use std::io::Write;
    let files = Files::new();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    for line in 0..10_000 {
        writeln!(encoder, "{{\"id\":{line}}}").unwrap();
    }
    let mut compressed = encoder.finish().unwrap();
    compressed.truncate(compressed.len() / 2);
    let input = input(vec![files.write("a.ndjson.gz", compressed)], "t");
    let last = Readings::new(&input, Rules::new(&input, false, 0)).last().unwrap();
    assert!(matches!(last, Err(ReplayError::Read { .. })), "{last:?}");
}

#[test]
fn a_first_pass_counts_and_finds_the_newest_of_what_would_be_published() {
    let files = Files::new();
    let later = files.write("b.ndjson", "{\"origin\":1,\"ts\":\"2013-01-01T09:00:00+01:00\"}\n{\"origin\":2,\"ts\":0}\n{\"ts\":\"2030-01-01T00:00:00Z\"}\n");
    let mut input = input(vec![files.write("a.csv", WEATHER), later], "{origin}");
    input.time_field = Some("ts".to_owned());
    input.rebase = Rebase::EndAt(Micros(0));
    let check = |input: &Input, messages, newest: &str| {
        let survey = Survey::of(input, Rules::new(input, false, 0), |_| true).unwrap();
        assert_eq!(survey, Survey { messages, newest: Micros::from_rfc3339(newest) });
    };
    check(&input, 4, "2013-01-01T08:00:00Z");
    input.limit = Some(2);
    check(&input, 2, "2013-01-01T07:30:00Z");
    input.limit = Some(1);
    check(&input, 1, "2013-01-01T06:00:00Z");
}

#[test]
fn the_weather_file_reads_to_its_last_row() {
    let file = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/weather/weather.csv.gz"));
    let mut input = input(vec![file], "devices/{origin}/telemetry");
    input.time_field = Some("time_hour".to_owned());
    input.rebase = Rebase::EndAt(Micros(0));
    let survey = Survey::of(&input, Rules::new(&input, false, 0), |_| true).unwrap();
    assert_eq!(survey, Survey { messages: 26_115, newest: Micros::from_rfc3339("2013-12-30T23:00:00Z") });
    input.limit = Some(1);
    let first = r#"devices/EWR/telemetry {"origin":"EWR","year":2013,"month":1,"day":1,"hour":1,"temp":39.02,"dewp":26.06,"humid":59.37,"wind_dir":270,"wind_speed":10.357019999999999,"precip":0,"pressure":1012,"visib":10,"time_hour":"2013-01-01T06:00:00Z"}"#;
    assert_eq!(read(&input, 0), [first]);
}
