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
        "[[report]]\nname = \"r\"\nsql = \"select 1\"\npartition_by = \"day\"\n",
        &[("report[0].partition_by", (4, 16), "`date` only", "partition_by")],
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
