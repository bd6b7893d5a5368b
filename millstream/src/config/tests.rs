//! What a user of the configuration relies on: what is wrong, and what is said of it. Here is how that is asked, and what belongs to no part alone.

mod definitions;
mod environment;
mod places;
mod printed;

use super::Settings;
use super::load::load;
use super::problem::Problem;
use std::collections::BTreeMap;
use std::path::Path;

fn parse(text: &str) -> Result<Settings, Vec<Problem>> {
    load(text, Path::new("/etc/millstream"), &BTreeMap::new())
}

fn from_environment(text: &str, variables: &[(&str, &str)]) -> Result<Settings, Vec<Problem>> {
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    load(text, Path::new("/etc/millstream"), &variables)
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

/// What works and may not be wanted: key and text.
fn check_warnings(text: &str, expected: &[(&str, &str)]) {
    let settings = parse(text).unwrap();
    assert_eq!(settings.warnings.len(), expected.len(), "{:#?}", settings.warnings);
    for (warning, (key, what)) in settings.warnings.iter().zip(expected) {
        assert_eq!(warning.key, *key);
        assert!(
            warning.what.contains(what) && warning.hint.is_some() && warning.span.is_some(),
            "{warning:#?}"
        );
    }
}

#[test]
fn a_word_that_is_no_level_is_refused() {
    let check_level = |level: &str, what: &str| {
        check(
            &format!("[telemetry]\nlevel = \"{level}\"\n"),
            &[("telemetry.level", (2, 9), what, "\"info\"")],
        );
    };
    check_level("wran", "\"wran\" is no level; there are off, error, warn");
    check_level("info,millstream_log", "\"millstream_log\" is no level");
    check_level("", "\"\" is no level");
    for good in ["INFO", "off", "warn,millstream_log=debug", "info,[span]=trace"] {
        parse(&format!("[telemetry]\nlevel = \"{good}\"\n")).unwrap();
    }
}

#[test]
fn what_questions_may_take_makes_sense() {
    check("[sql]\nmemory = \"1MiB\"\n", &[("sql.memory", (2, 10), "at least 64 MiB", "")]);
    check("[sql]\ntail_memory = 0\n", &[("sql.tail_memory", (2, 15), "at least 1 MiB", "")]);
    check("[sql]\nrunning = 0\n", &[("sql.running", (2, 11), "at least 1", "")]);
    check("[sql]\nscan = 0\n", &[("sql.scan", (2, 8), "no query could read", "no limit")]);
    check("[sql]\nscan = \"much\"\n", &[("sql.scan", (2, 8), "a size is written like", "")]);
    check("[sql]\ntime = \"1ms\"\n", &[("sql.time", (2, 8), "at least 1s", "")]);
    let check = |text: &str, expected: Option<u64>| {
        let sql = parse(&format!("[sql]\n{text}\n")).unwrap().sql;
        assert_eq!(sql.limits(None, sql.spill_bytes()).scan_bytes, expected, "{text}");
    };
    check("", None);
    check("scan = \"\"", None);
    check("scan = \"1GiB\"", Some(1 << 30));
    check("scan = 5", Some(5));
}
