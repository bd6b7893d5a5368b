//! What a user of the configuration relies on.

use super::load::load;
use super::problem::Problem;
use super::{DEFAULTS, Settings};
use std::collections::BTreeMap;

fn parse(text: &str) -> Result<Settings, Vec<Problem>> {
    load(text, &BTreeMap::new())
}

fn from_environment(text: &str, variables: &[(&str, &str)]) -> Result<Settings, Vec<Problem>> {
    load(text, &variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
}

#[test]
fn the_printed_defaults_are_the_programs() {
    let (printed, built_in) = (parse(DEFAULTS).unwrap(), parse("").unwrap());
    assert_eq!(format!("{printed:#?}"), format!("{built_in:#?}"));
}

/// What is commented out is also a key that exists: an example that was never parsed is not one.
#[test]
fn the_commented_keys_exist() {
    let uncommented: String = DEFAULTS
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(rest) if rest.contains(" = ") || rest.starts_with('[') => rest.split(" # ").next().unwrap(),
            _ => line,
        })
        .flat_map(|line| [line, "\n"])
        .collect();
    let settings = parse(&uncommented).unwrap();
    assert_eq!(settings.reports.len(), 1);
    assert_eq!(settings.streams[0].columns.len(), 2);
    assert!(settings.ingestion.is_some());
}

/// Key, line and column, what is wrong, and the hint.
fn check(text: &str, expected: &[(&str, (usize, usize), &str, &str)]) {
    let problems = parse(text).unwrap_err();
    assert_eq!(problems.len(), expected.len(), "{problems:#?}");
    for (problem, (key, place, what, hint)) in problems.iter().zip(expected) {
        assert_eq!((problem.key.as_str(), problem.place(text)), (*key, Some(*place)), "{problem:#?}");
        assert!(problem.what.contains(what), "{problem:#?}");
        assert!(problem.hint.as_deref().unwrap_or_default().contains(hint), "{problem:#?}");
    }
}

#[test]
fn problems_say_where_what_and_what_would_be_right() {
    check("[gateway]\nlisten = 1883\n", &[("gateway.listen", (2, 10), "invalid type: integer", "")]);
    check(
        "[gateway]\nlisten = \"1883\"\n",
        &[("gateway.listen", (2, 10), "invalid socket address", "127.0.0.1:1883")],
    );
    check(
        "[gateway]\nlisten = \"0.0.0.0:1883\"\n",
        &[("gateway.listen", (2, 10), "loopback only", "127.0.0.1:1883")],
    );
    check(
        "[gateway]\nlisten = \"127.0.0.1:1\"\nlitsen = 3\n",
        &[("gateway.litsen", (3, 10), "unknown field", "listen")],
    );
    check(
        "[gateway]\nconnect_timeout = \"10 parsecs\"\n",
        &[("gateway.connect_timeout", (2, 19), "unknown time unit", "")],
    );
    check(
        "[gateway]\nconnect_timeout = \"0s\"\n",
        &[("gateway.connect_timeout", (2, 19), "at least 1s", "")],
    );
    check(
        "[gateway]\nkeep_alive_max = \"999ms\"\n",
        &[("gateway.keep_alive_max", (2, 18), "at least 1s", "")],
    );
    check(
        "[gateway]\nsession_expiry_max = \"0s\"\n",
        &[("gateway.session_expiry_max", (2, 22), "at least 1s", "")],
    );
    check(
        "[gateway]\npacket_max = true\n",
        &[("gateway.packet_max", (2, 14), "expected a size like \"128MiB\"", "")],
    );
    check("[log]\npartitions = 0\n", &[("log.partitions", (2, 14), "at least 1", "")]);
    check("[log\n", &[("", (1, 5), "not TOML", "")]);
    check("[[stream]]\nname = \"a\"\n", &[("stream[0]", (1, 1), "missing field `topic`", "")]);
    check(
        "[[stream]]\nname = \"A b\"\ntopic = \"a/#/b\"\n",
        &[
            ("stream[0].name", (2, 8), "not of the form", ""),
            ("stream[0].topic", (3, 9), "`#` must be the whole last level", "devices/{device_id}"),
        ],
    );
    check(
        "[[stream]]\nname = \"a\"\ntopic = \"#\"\ntransform = \"select count(*) from input\"\n",
        &[("stream[0].transform", (4, 13), "", "")],
    );
    check(
        "[[stream]]\nname = \"a\"\ntopic = \"#\"\ncolumns = { ts = \"double\" }\n",
        &[("stream[0].columns.ts", (4, 18), "a column of its own", "`time`")],
    );
    check(
        "[[stream]]\nname = \"lifecycle\"\ntopic = \"#\"\n",
        &[("stream[0].name", (2, 8), "Millstream's own", "")],
    );
    check(
        "[[report]]\nname = \"r\"\nsql = \"select date from telemetry\"\npartition_by = \"day\"\n",
        &[("report[0].partition_by", (4, 16), "`date` only", "partition_by")],
    );
}

#[test]
fn problems_of_the_log_the_lake_and_telemetry_say_what_would_be_right() {
    check("[log]\nreserve = \"2TiB\"\n", &[("log.reserve", (2, 11), "at most 1TiB", "")]);
    check("[log]\nreserve = \"much\"\n", &[("log.reserve", (2, 11), "written like \"128MiB\"", "")]);
    check("[log]\nreserve = -1\n", &[("log.reserve", (2, 11), "written like \"128MiB\"", "")]);
    check("[log]\nsegment_size = \"17GiB\"\n", &[("log.segment_size", (2, 16), "1MiB to 16GiB", "")]);
    check(
        "[lake]\ningestion = \"\"\nreporting = \"\"\n",
        &[
            ("lake.ingestion", (2, 13), "cannot be empty", "leave it out"),
            ("lake.reporting", (3, 13), "cannot be empty", "leave it out"),
        ],
    );
    check(
        "[telemetry]\nlevel = \"nonsense=foo\"\n",
        &[("telemetry.level", (2, 9), "level", "\"info,millstream_log=debug\"")],
    );
}

#[test]
fn problems_of_streams_say_what_would_be_right() {
    check("stream = []\n", &[("stream", (1, 10), "no streams", "[[stream]]")]);
    check(
        "[[stream]]\nname = \"a\"\ntopic = \"#\"\ncolumns = { temp = { type = \"double\", requird = true } }\n",
        &[("stream[0].columns.temp.requird", (4, 49), "unknown field `requird`", "did you mean `required`?")],
    );
    check(
        "[[stream]]\nname = \"a\"\ntopic = \"#\"\ncolumns = { temp = \"duble\" }\n",
        &[("stream[0].columns.temp", (4, 20), "unknown variant `duble`", "did you mean `double`?")],
    );
    check(
        "[[stream]]\nname = \"a\"\ntopic = \"#\"\ncolumns = { temp = 1 }\n",
        &[("stream[0].columns.temp", (4, 20), "{ type = \"double\", required = true }", "")],
    );
    check(
        "[[stream]]\nname = \"a\"\ntopic = \"#\"\ndevice = \"\"\ntransform = \" \"\n",
        &[
            ("stream[0].device", (4, 10), "cannot be empty", "leave `device` out"),
            ("stream[0].transform", (5, 13), "cannot be empty", "leave `transform` out"),
        ],
    );
    check(
        "[[stream]]\nname = \"a\"\ntopic = \"#\"\nfiles = { close_after = 5 }\n",
        &[("stream[0].files.close_after", (4, 25), "expected a length of time like \"60s\"", "")],
    );
    let a = "[[stream]]\nname = \"a\"\ntopic = [\"x\", \"#\"]\n";
    check(
        &format!("{a}[[stream]]\nname = \"b\"\ntopic = \"y\"\n"),
        &[("stream[1].topic", (6, 9), "`a` before it claims every topic", "put `a` last")],
    );
    parse(&format!("{a}[[stream]]\nname = \"b\"\ntopic = \"$y/+\"\n")).unwrap();
    parse(&format!("[[stream]]\nname = \"b\"\ntopic = \"y/#\"\n{a}")).unwrap();
}

#[test]
fn problems_of_reports_say_what_would_be_right() {
    let check =
        |sql: &str, expected| check(&format!("[[report]]\nname = \"r\"\nsql = \"{sql}\"\n"), expected);
    check("selec foo", &[("report[0].sql", (3, 7), "found: selec", "did you mean select")]);
    check("select 1", &[("report[0].sql", (3, 7), "reads no stream", "telemetry")]);
    check(
        "select * from telemetri, lifecycle, quarantine",
        &[("report[0].sql", (3, 7), "no stream is named `telemetri`", "`telemetry`")],
    );
}

#[test]
fn the_environment_overrides_the_file() {
    let file = "[gateway]\nlisten = \"127.0.0.1:1\"\n";
    let settings = from_environment(
        file,
        &[("MILLSTREAM__GATEWAY__LISTEN", "127.0.0.1:2"), ("MILLSTREAM__LOG__PARTITIONS", "3")],
    )
    .unwrap();
    assert_eq!((settings.listen.port(), settings.log.partitions), (2, 3));
    let problems = from_environment(file, &[("MILLSTREAM__GATEWAY__LITSEN", "x")]).unwrap_err();
    assert_eq!(
        (problems[0].key.as_str(), &problems[0].hint),
        ("gateway.litsen", &Some("did you mean `listen`?".to_owned()))
    );
}
