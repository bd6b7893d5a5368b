//! What a user of the configuration relies on. One file, because it is one long table of what is wrong and what is said of it.

use super::load::load;
use super::log::LogChoice;
use super::problem::{Problem, Weight};
use super::{DEFAULTS, Settings};
use millstream_query::When;
use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::time::Duration;

fn parse(text: &str) -> Result<Settings, Vec<Problem>> {
    load(text, Path::new("/etc/millstream"), &BTreeMap::new())
}

fn from_environment(text: &str, variables: &[(&str, &str)]) -> Result<Settings, Vec<Problem>> {
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    load(text, Path::new("/etc/millstream"), &variables)
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
            Some(rest) if rest.contains(" = ") || rest.starts_with('[') => {
                rest.split("   # ").next().unwrap()
            }
            _ => line,
        })
        // One broker stands for both kinds.
        .map(|line| if line.starts_with("broker ") { "broker = \"mqtts://host\"" } else { line })
        .flat_map(|line| [line, "\n"])
        .collect();
    let embedded = parse(&uncommented).unwrap();
    assert_eq!((embedded.reports.len(), embedded.subscribers.len()), (1, 1));
    assert_eq!(embedded.streams[0].columns.len(), 2);
    assert!(embedded.lake.ingestion.is_some() && embedded.gateway.access.credentials.is_some());
    let kafka = uncommented
        .replace("brokers     = \"\"", "brokers = \"kafka:9092\"")
        .replace("tls         = false", "tls = true")
        .replace("listen = \"\"", "listen = \"0.0.0.0:8883\"")
        .replace("notices = \"firehose\"", "notices = \"store\"");
    let settings = parse(&kafka).unwrap();
    let LogChoice::Kafka(kafka) = settings.log else { panic!("{:?}", settings.log) };
    assert_eq!((kafka.brokers(), kafka.group.as_str()), ("kafka:9092", "millstream"));
    assert!(settings.gateway.tls.is_some());
}

/// And there is no key that the printed file does not name.
#[test]
fn every_key_is_printed() {
    let fields = include_str!("raw.rs")
        .lines()
        .filter_map(|line| line.trim().strip_prefix("pub(crate) ")?.split_once(": "));
    let keys: Vec<&str> = fields.map(|(key, _)| if key == "kind" { "type" } else { key }).collect();
    assert!(keys.len() > 80, "{keys:?}");
    let words: HashSet<&str> = DEFAULTS.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    let silent: Vec<_> = keys.iter().filter(|key| !words.contains(**key)).collect();
    assert!(silent.is_empty(), "{silent:?}");
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

fn partitions(settings: &Settings) -> u16 {
    let LogChoice::Embedded(embedded) = &settings.log else { panic!("{:?}", settings.log) };
    embedded.settings.partitions
}

#[test]
fn the_environment_overrides_the_file() {
    let file = "[gateway]\nlisten = \"127.0.0.1:1\"\n";
    let settings = from_environment(
        file,
        &[("MILLSTREAM__GATEWAY__LISTEN", "127.0.0.1:2"), ("MILLSTREAM__LOG__PARTITIONS", "3")],
    )
    .unwrap();
    assert_eq!((settings.gateway.listen.unwrap().port(), partitions(&settings)), (2, 3));
    let problems = from_environment(file, &[("MILLSTREAM__GATEWAY__LITSEN", "x")]).unwrap_err();
    assert_eq!(
        (problems[0].key.as_str(), &problems[0].hint),
        ("gateway.litsen", &Some("did you mean `listen`?".to_owned()))
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
fn beyond_loopback_devices_need_credentials() {
    let anonymous = |text: &str| parse(text).unwrap().gateway.access.anonymous;
    assert!(anonymous(""));
    assert!(anonymous("[gateway.access]\nanonymous = true\n"));
    assert!(!anonymous("[gateway]\nlisten = \"0.0.0.0:1883\"\n"));
    let tls = "[gateway.tls]\nlisten = \"[::]:8883\"\ncertificate = \"s.pem\"\nkey = \"s.key\"\n";
    assert!(!anonymous(tls));
    assert!(anonymous(&tls.replace("[::]", "[::1]")));
    check_warnings(tls, &[]);
    check_warnings("[gateway]\nlisten = \"0.0.0.0:1883\"\n", &[("gateway.listen", "in plain text")]);
    check_warnings(
        &format!("{tls}[gateway.access]\nanonymous = true\n"),
        &[("gateway.access.anonymous", "everyone who reaches [::]:8883 can publish")],
    );
}

#[test]
fn problems_of_tls_and_access_say_what_would_be_right() {
    check(
        "[gateway.tls]\ncertificate = \"s.pem\"\n",
        &[("gateway.tls", (1, 1), "no `listen`", "0.0.0.0:8883")],
    );
    check(
        "[gateway.tls]\nlisten = \"127.0.0.1:0\"\n",
        &[
            ("gateway.tls", (1, 1), "no `certificate`", "millstream init"),
            ("gateway.tls", (1, 1), "no `key`", "PEM"),
        ],
    );
    check(
        "[gateway.tls]\nlisten = \"8883\"\ncertificate = \"\"\nkey = \"k\"\n",
        &[
            ("gateway.tls.listen", (2, 10), "invalid socket address", "0.0.0.0:8883"),
            ("gateway.tls.certificate", (3, 15), "cannot be empty", ""),
        ],
    );
    check(
        "[gateway.tls]\nclient_certificates = \"mandatory\"\n",
        &[("gateway.tls.client_certificates", (2, 23), "unknown variant", "")],
    );
    check(
        "[gateway.access]\ntopics = [\"a\", \"b/${name}\"]\n",
        &[("gateway.access.topics[1]", (2, 16), "no placeholder ${name}", "${client_id}")],
    );
    check(
        "[gateway.access]\ntopics = []\n",
        &[("gateway.access.topics", (2, 10), "no device could publish", "[\"#\"]")],
    );
}

#[test]
fn problems_of_kafka_say_what_would_be_right() {
    let check_kafka = |rest: &str, expected| {
        check(&format!("[kafka]\nbrokers = \"k:9092\"\n{rest}\n"), expected);
    };
    check("[kafka]\ngroup = \"g\"\n", &[("kafka", (1, 1), "no `brokers`", "for the embedded log")]);
    check(
        "[kafka]\nbrokers = \"a:9092,b\"\n",
        &[("kafka.brokers", (2, 11), "\"b\" is no host and port", "host:9092")],
    );
    check_kafka(
        "partitions = 0\nreplication = 0",
        &[("kafka.partitions", (3, 14), "at least 1", ""), ("kafka.replication", (4, 15), "at least 1", "")],
    );
    check_kafka("group = \"a b\"", &[("kafka.group", (3, 9), "letters, digits", "")]);
    check_kafka("ca = \"ca.pem\"", &[("kafka.ca", (3, 6), "without TLS", "tls = true")]);
    check_kafka("tls = true\nkey = \"k\"", &[("kafka.key", (4, 7), "no `certificate`", "neither")]);
    check_kafka("user = \"u\"", &[("kafka.user", (3, 8), "no `sasl`", "scram-sha-512")]);
    check_kafka(
        "sasl = \"plain\"",
        &[
            ("kafka.sasl", (3, 8), "no `user`", ""),
            ("kafka.sasl", (3, 8), "no password", "MILLSTREAM__KAFKA__PASSWORD"),
        ],
    );
    check_kafka("sasl = \"gssapi\"", &[("kafka.sasl", (3, 8), "unknown variant `gssapi`", "")]);
    check_kafka("properties = { a = [1] }", &[("kafka.properties.a", (3, 20), "a text, a number", "")]);
    check_kafka("[log]\nkeep = \"all\"", &[("log.keep", (4, 8), "the log is Kafka", "retention.ms")]);
    // What it is without being said may stand there.
    parse("[kafka]\nbrokers = \"k:9092\"\n[log]\nkeep = \"uncommitted\"\npartitions = 1\n").unwrap();
    parse("[kafka]\nbrokers = \"k:9092\"\n[kafka.properties]\n\"linger.ms\" = 5\n\"a\" = true\n").unwrap();
}

#[test]
fn problems_of_subscribers_say_what_would_be_right() {
    let check_subscriber = |rest: &str, expected| {
        check(&format!("[[subscriber]]\nname = \"plant\"\n{rest}\n"), expected);
    };
    check_subscriber("", &[("subscriber[0]", (1, 1), "missing field `broker`", "")]);
    check_subscriber(
        "broker = \"host:1883\"",
        &[("subscriber[0].broker", (3, 10), "mqtt://host:port", "mqtts://")],
    );
    check_subscriber(
        "broker = \"mqtt://h\"\nmqtt = \"4\"",
        &[("subscriber[0].mqtt", (4, 8), "\"3.1.1\"", "")],
    );
    check_subscriber(
        "broker = \"mqtt://h\"\nfilters = [\"a\", \"#/b\"]",
        &[("subscriber[0].filters[1]", (4, 17), "the whole last level", "")],
    );
    check_subscriber(
        "broker = \"mqtt://h\"\nca = \"ca.pem\"",
        &[("subscriber[0].ca", (4, 6), "without TLS", "mqtts://")],
    );
    check_subscriber(
        "broker = \"mqtt://h\"\nreceive_max = 0\ngroup = \"a/b\"",
        &[
            ("subscriber[0].group", (5, 9), "a group has", ""),
            ("subscriber[0].receive_max", (4, 15), "at least 1", ""),
        ],
    );
    let twice = "[[subscriber]]\nname = \"a\"\nbroker = \"mqtt://h\"\n".repeat(2);
    check(&twice, &[("subscriber[1].name", (5, 8), "two subscribers named `a`", "")]);
}

#[test]
fn problems_of_places_say_what_would_be_right() {
    check(
        "[lake]\ningestion = \"gs://b\"\n",
        &[("lake.ingestion", (2, 13), "only s3:// and file://", "s3://bucket")],
    );
    check("[lake]\ningestion = \"s3:///x\"\n", &[("lake.ingestion", (2, 13), "names no bucket", "")]);
    check(
        "[lake]\ningestion = \"s3://k:s@b/x\"\n",
        &[("lake.ingestion", (2, 13), "credentials do not belong", "")],
    );
    check(
        "[lake]\ningestion = \"s3://b/x\"\nreporting = \"s3://b/x\"\n",
        &[("lake.reporting", (3, 13), "the same place", "")],
    );
    check(
        "[lake]\nnotices = \"store\"\n",
        &[
            ("lake.notices", (2, 11), "does not notify", "firehose"),
            ("lake.notices", (2, 11), "the log is embedded", "[kafka]"),
        ],
    );
    check(
        "[s3]\naccess_key = \"a\"\n",
        &[("s3.access_key", (2, 14), "no `secret_key`", "AWS_ACCESS_KEY_ID")],
    );
    check(
        "[s3]\nendpoint = \"http://h:9000\"\n",
        &[("s3.endpoint", (2, 12), "plain text", "allow_http = true")],
    );
    check(
        "[s3]\nendpoint = \"h:9000\"\n",
        &[("s3.endpoint", (2, 12), "no address", "http://127.0.0.1:9000")],
    );
    check(
        "[http]\nlisten = \"0.0.0.0:8474\"\n",
        &[("http.listen", (2, 10), "could read every reading", "token_file")],
    );
    check_warnings(
        "[http]\nlisten = \"0.0.0.0:8474\"\ntoken_file = \"t\"\n",
        &[("http.listen", "in plain text")],
    );
}

#[test]
fn secrets_are_read_from_the_environment_and_seen_by_nobody() {
    let kafka = "[kafka]\nbrokers = \"127.0.0.1:9092\"\nsasl = \"plain\"\nuser = \"u\"\n";
    // It would read as a number.
    let settings = from_environment(kafka, &[("MILLSTREAM__KAFKA__PASSWORD", "12345")]).unwrap();
    assert!(settings.warnings.is_empty() && !format!("{settings:?}").contains("12345"), "{settings:?}");
    let LogChoice::Kafka(log) = &settings.log else { panic!() };
    assert_eq!(log.settings().unwrap().sasl.unwrap().password.expose(), "12345");
    check_warnings(
        &format!("{kafka}password = \"hunter2\"\n"),
        &[("kafka.password", "stands in the configuration")],
    );
    let text = format!("{kafka}password = \"hunter2\"\npassword_file = \"p\"\n");
    check(
        &text,
        &[
            ("kafka.password_file", (6, 17), "`kafka.password` is given, too", "keep one"),
            ("kafka.sasl", (3, 8), "no password", ""),
        ],
    );
    for text in [
        format!("{kafka}password = [\"hunter2\"]\n"),
        format!("{kafka}password = \"hunter2\"\nuser = 1\n"),
        text,
    ] {
        for problem in parse(&text).unwrap_err() {
            let shown = problem.render("m.toml", &text, Weight::Error, false);
            assert!(!shown.contains("hunter2"), "{shown}");
        }
    }
}

#[test]
fn the_environment_can_set_what_no_file_says() {
    let settings = from_environment(
        "[[subscriber]]\nname = \"Plant\"\nbroker = \"mqtt://h\"\nuser = \"u\"\n",
        &[
            ("MILLSTREAM__KAFKA__BROKERS", "127.0.0.1:9092"),
            ("MILLSTREAM__KAFKA__GROUP", "g"),
            ("MILLSTREAM__GATEWAY__TLS__LISTEN", "127.0.0.1:0"),
            ("MILLSTREAM__GATEWAY__TLS__CERTIFICATE", "s.pem"),
            ("MILLSTREAM__GATEWAY__TLS__KEY", "s.key"),
            ("MILLSTREAM__SUBSCRIBER__PLANT__PASSWORD", "p"),
        ],
    )
    .unwrap();
    let LogChoice::Kafka(kafka) = &settings.log else { panic!("{:?}", settings.log) };
    assert_eq!((kafka.brokers(), kafka.group.as_str()), ("127.0.0.1:9092", "g"));
    assert_eq!(settings.gateway.tls.unwrap().settings.certificate, Path::new("s.pem"));
    assert_eq!(settings.subscribers[0].settings().unwrap().password.unwrap().expose(), "p");
    let wrong = from_environment(
        "[[subscriber]]\nname = \"a\"\nbroker = \"mqtt://h\"\n",
        &[("MILLSTREAM__SUBSCRIBER__B__USER", "u")],
    );
    let problem = wrong.unwrap_err().remove(0);
    assert!(problem.what.contains("none of the name \"b\"") && problem.hint.unwrap().contains("there are a"));
}

#[test]
fn relative_paths_begin_at_the_file() {
    let settings = parse(
        "[gateway.tls]\nlisten = \"127.0.0.1:0\"\ncertificate = \"s.pem\"\nkey = \"/k.pem\"\n\
         [gateway.access]\ncredentials = \"c.toml\"\n[lake]\ningestion = \"lake\"\nreporting = \"file:///r\"\n",
    )
    .unwrap();
    let tls = settings.gateway.tls.unwrap().settings;
    assert_eq!(
        (tls.certificate.as_path(), tls.key.as_path()),
        (Path::new("/etc/millstream/s.pem"), Path::new("/k.pem"))
    );
    assert_eq!(settings.gateway.access.credentials.unwrap(), Path::new("/etc/millstream/c.toml"));
    assert_eq!(settings.lake.ingestion.unwrap().to_string(), "/etc/millstream/lake");
    assert_eq!(settings.lake.reporting.unwrap().to_string(), "/r");
}

#[test]
fn a_variable_that_the_file_has_no_place_for_is_named() {
    let check = |text: &str, variable: &str, value: &str, expected: &[&str]| {
        let problems = from_environment(text, &[(variable, value)]).unwrap_err();
        let said = format!("{problems:?}");
        for part in [&[variable], expected].concat() {
            assert!(said.contains(part), "no {part:?} in {said}");
        }
        assert!(!said.contains("expected a sequence"), "{said}");
    };
    let subscriber = "MILLSTREAM__SUBSCRIBER__LOCAL__BROKER";
    check("", subscriber, "mqtt://b", &["no [[subscriber]] of the name", "local", "unset the variable"]);
    let plant = "[[subscriber]]\nname = \"plant\"\nbroker = \"mqtt://b\"\n";
    check(plant, subscriber, "mqtt://b", &["none of the name", "local", "there are plant"]);
    check("", "MILLSTREAM__SUBSCRIBER", "x", &["list of tables", "__NAME__KEY"]);
    check("", "MILLSTREAM__STREAM__T__TIME", "ts", &["no [[stream]] of the name"]);
    check("", "MILLSTREAM__LOG__PARTITIONS", "-1", &["integer `-1`"]);
    check("", "MILLSTREAM__GATEWAY__LISTEN", "12", &["12", "invalid socket address"]);
}

#[test]
fn a_variable_is_a_text_where_a_text_is_wanted() {
    let kafka = "[kafka]\nbrokers = \"h:9092\"\nsasl = \"scram-sha-512\"\npassword_file = \"p\"\n";
    for text in ["12345", "true", "2026-11-21", "[x]", "robert"] {
        let settings = from_environment(
            kafka,
            &[("MILLSTREAM__KAFKA__USER", text), ("MILLSTREAM__KAFKA__CLIENT_ID", text)],
        )
        .unwrap();
        let said = format!("{settings:?}");
        assert!(said.contains(&format!("user: {text:?}")), "{said}");
        assert!(said.contains(&format!("client_id: {text:?}")), "{said}");
    }
}

#[test]
fn kafka_is_trimmed_unless_it_is_to_keep_all() {
    use super::raw::Keep;
    let check = |text: &str, expected: Keep| {
        let LogChoice::Kafka(kafka) = parse(&format!("[kafka]\nbrokers = \"h:9092\"\n{text}")).unwrap().log
        else {
            panic!("not Kafka")
        };
        assert_eq!(kafka.keep, expected, "{text}");
    };
    check("", Keep::Uncommitted);
    check("keep = \"uncommitted\"", Keep::Uncommitted);
    check("keep = \"all\"", Keep::All);
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
