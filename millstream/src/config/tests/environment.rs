//! What the environment says, beside the file or in place of it.

use super::{check, check_warnings, from_environment, parse};
use crate::config::Settings;
use crate::config::log::LogChoice;
use crate::config::problem::Weight;
use std::path::Path;

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
