//! What `millstream config` prints is what the program reads.

use super::parse;
use crate::config::DEFAULTS;
use crate::config::log::LogChoice;
use std::collections::HashSet;

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
    let fields = include_str!("../raw.rs")
        .lines()
        .filter_map(|line| line.trim().strip_prefix("pub(crate) ")?.split_once(": "));
    let keys: Vec<&str> = fields.map(|(key, _)| if key == "kind" { "type" } else { key }).collect();
    assert!(keys.len() > 80, "{keys:?}");
    let words: HashSet<&str> = DEFAULTS.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    let silent: Vec<_> = keys.iter().filter(|key| !words.contains(**key)).collect();
    assert!(silent.is_empty(), "{silent:?}");
}
