//! Streams and reports.

use super::{check, check_warnings, parse};
use millstream_query::When;
use std::time::Duration;

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
fn a_sequence_is_counted_in_a_column_of_numbers() {
    let stream = |keys: &str| format!("[[stream]]\nname = \"a\"\ntopic = \"#\"\nsequence = {keys}\n");
    let check_sequence = |keys: &str, what: &str, hint: &str| {
        check(&stream(keys), &[("stream[0].sequence", (4, 12), what, hint)]);
    };
    check_sequence("\"\"", "cannot be empty", "leave `sequence` out");
    check_sequence("\"my seq\"", "cannot have ' ' in it", "name the column");
    check_sequence("\"_offset\"", "`_offset` is a column of the table's own", "");
    check_sequence("\"n\"\ncolumns = { n = \"string\" }", "`n` is declared string", "declare it long");
    for (keys, column) in [
        ("\"n\"", "n"),
        ("\"n\"\ncolumns = { n = \"long\" }", "n"),
        ("\"n\"\ncolumns = { n = \"double\" }", "n"),
        // What a transform makes of it may be a number.
        (
            "\"n\"\ncolumns = { n = \"string\" }\ntransform = \"select cast(n as bigint) as n from input\"",
            "n",
        ),
    ] {
        let settings = parse(&stream(keys)).unwrap();
        assert_eq!(settings.streams[0].sequence.as_deref(), Some(column));
    }
    assert_eq!(parse("").unwrap().streams[0].sequence, None);
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
    check(
        "select * from reporting.s",
        &[("report[0].sql", (3, 7), "no report is named `s`", "the reports are `r`")],
    );
    check(
        "select * from r",
        &[("report[0].sql", (3, 7), "in a circle: `r` reads `r`", "let one of them read the streams")],
    );
}

/// A report of a name, and what more its table says.
fn report(name: &str, sql: &str, more: &str) -> String {
    format!("[[report]]\nname = \"{name}\"\nsql = \"{sql}\"\n{more}")
}

#[test]
fn reports_may_read_reports_but_not_in_a_circle() {
    let base = report("base", "select date, device_id from telemetry", "partition_by = \"date\"\n");
    let settings = parse(&format!("{}{base}", report("top", "select count(*) as n from base", ""))).unwrap();
    assert_eq!(settings.reports.len(), 2);
    let circle = [
        report("a", "select * from reporting.b join telemetry on true", ""),
        report("b", "select * from c", ""),
        report("c", "select * from b", ""),
    ];
    check(
        &circle.concat(),
        &[("report[1].sql", (6, 7), "in a circle: `b` reads `c` reads `b`", "read the streams")],
    );
}

#[test]
fn a_report_that_waits_for_completeness_reads_streams_and_says_how_late_they_are() {
    let when = |more: &str| {
        let settings = parse(&report("r", "select date from telemetry", more)).unwrap();
        settings.reports[0].when
    };
    let complete = |seconds| When::Complete { lateness: Duration::from_secs(seconds) };
    assert_eq!(when(""), When::Always);
    assert_eq!(when("when = \"always\"\n"), When::Always);
    assert_eq!(when("when = \"complete\"\n"), complete(3600));
    assert_eq!(when("when = \"complete\"\nlateness = \"2h\"\n"), complete(7200));
    check(
        &report("r", "select date from telemetry", "lateness = \"2h\"\n"),
        &[("report[0].lateness", (4, 12), "only a report that waits", "when = \"complete\"")],
    );
    check(
        &report("r", "select reason from quarantine", "when = \"complete\"\n"),
        &[(
            "report[0].when",
            (4, 8),
            "only streams are ever complete, and it reads `quarantine`",
            "leave out",
        )],
    );
    check(
        &report("r", "select date from telemetry", "when = \"soon\"\n"),
        &[("report[0].when", (4, 8), "unknown variant `soon`", "")],
    );
}

#[test]
fn a_report_that_forgets_with_its_stream_is_warned_of() {
    let stream = "[[stream]]\nname = \"a\"\ntopic = \"#\"\nkeep = \"30d\"\n";
    let lost = [("report[0].sql", "loses the rows that `a` does not keep")];
    check_warnings(&format!("{stream}{}", report("r", "select device_id from a", "")), &lost);
    let by_date = report("r", "select date from a", "partition_by = \"date\"\n");
    check_warnings(&format!("{stream}{by_date}"), &[]);
    check_warnings(&report("r", "select device_id from telemetry", ""), &[]);
}
