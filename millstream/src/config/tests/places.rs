//! Where things come from and where they go: devices, brokers, Kafka, buckets.

use super::{check, check_warnings, parse};
use crate::config::log::LogChoice;

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
fn kafka_is_trimmed_unless_it_is_to_keep_all() {
    use crate::config::raw::Keep;
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
