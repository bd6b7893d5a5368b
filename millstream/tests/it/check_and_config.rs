//! `millstream check` and `millstream config`.

use crate::program::{Home, package};

#[test]
fn what_config_prints_passes_check() {
    let home = Home::new();
    let printed = home.run(&["config"]).good().out;
    assert!(
        printed.contains("[gateway]") && printed.lines().filter(|line| line.contains(" # ")).count() > 10,
        "{printed}"
    );
    let file = home.file("millstream.toml", printed);
    let said = home.run(&["check", file.to_str().unwrap()]).good().out;
    assert!(said.contains("telemetry") && said.contains("devices/{device_id}/telemetry"), "{said}");
}

/// What is said of a file: the place as `line:column`, the key, what is wrong, what would be right.
#[test]
fn check_says_where_and_what_is_wrong_and_what_would_be_right() {
    let home = Home::new();
    let check = |text: &str, expected: &[&str]| {
        let file = home.file("bad.toml", text);
        let said = home.run(&["check", file.to_str().unwrap()]).refused();
        for part in expected {
            assert!(said.contains(part), "{text}\nno {part:?} in\n{said}");
        }
    };
    check("[gateway]\nlitsen = \"127.0.0.1:0\"\n", &["bad.toml:2:", "gateway.litsen", "unknown", "`listen`"]);
    check("[gateway]\nlisten = 1883\n", &["bad.toml:2:10", "gateway.listen", "integer"]);
    check(
        "[lake]\nnotices = \"store\"\n",
        &["bad.toml:2:11", "lake.notices", "does not notify", "s3://bucket/prefix"],
    );
    check(
        "[kafka]\nbrokers = \"localhost\"\n",
        &["bad.toml:2:11", "kafka.brokers", "no host and port", "host:9092"],
    );
    check(
        "[gateway]\n\nconnect_timeout = \"10 parsecs\"\n",
        &["bad.toml:3:", "gateway.connect_timeout", "parsecs"],
    );
    check("[[stream]\n", &["bad.toml:1:", "not TOML"]);
    check("[[stream]]\nname = \"a\"\n", &["stream[0]", "`topic`"]);
    check(
        "[[stream]]\nname = \"a\"\ntopic = \"a/#/b\"\n",
        &["bad.toml:3:9", "stream[0].topic", "last level", "devices/{device_id}"],
    );
    check(
        "[[stream]]\nname = \"a\"\ntopic = \"#\"\ntransform = \"select max(temp) from input\"\n",
        &["bad.toml:4:", "stream[0].transform"],
    );
    check(
        "[[stream]]\nname = \"a\"\ntopic = \"#\"\n[stream.columns]\ntemp = \"float\"\n",
        &["bad.toml:5:", "stream[0].columns.temp", "`double`"],
    );
    check(
        "[log]\npartitions = 0\n[[stream]]\nname = \"A\"\ntopic = \"\"\n",
        &["log.partitions", "stream[0].name", "stream[0].topic"],
    );
}

/// What works and may not be wanted is said, too, and a secret is never shown.
#[test]
fn check_warns_and_shows_no_secret() {
    let home = Home::new();
    let text = "[gateway]\nlisten = \"0.0.0.0:1883\"\n[kafka]\nbrokers = \"k:9092\"\nsasl = \"plain\"\nuser = \"u\"\npassword = \"hunter2\"\n";
    let file = home.file("exposed.toml", text);
    let said = home.run(&["check", file.to_str().unwrap()]).good();
    for part in [
        "warning: `gateway.listen`",
        "in plain text",
        "[gateway.tls]",
        "`kafka.password`",
        "MILLSTREAM__KAFKA__PASSWORD",
    ] {
        assert!(said.err.contains(part), "no {part:?} in\n{}", said.err);
    }
    assert!(!said.err.contains("hunter2") && !said.out.contains("hunter2"), "{}", said.err);
}

#[test]
fn the_example_in_deploy_is_what_config_prints() {
    let example = std::fs::read_to_string(package().join("../deploy/millstream.example.toml")).unwrap();
    let printed = Home::new().run(&["config"]).good().out;
    assert!(example == printed, "write it anew: millstream config > deploy/millstream.example.toml");
}

#[test]
fn up_refuses_what_check_refuses() {
    let home = Home::with("[gateway]\nlitsen = \"127.0.0.1:0\"\n");
    let said = home.run(&["up"]).refused();
    assert!(said.contains("millstream.toml:2:") && said.contains("gateway.litsen"), "{said}");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let home = Home::new();
    let said = home.run(&["check", "no-such.toml"]).refused();
    assert!(said.contains("no-such.toml"), "{said}");
}
