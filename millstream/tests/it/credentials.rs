//! Who devices are: `millstream init` and `millstream device` make it known, and clients that are not ours are let in or not.

use crate::foreign::{mosquitto, python, script};
use crate::program::{Ended, Home, Running, Up, eventually, run};
use millstream_ingest::identity::authority::{Authority, Issued};
use millstream_model::time::Micros;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};

/// Both listeners, nobody anonymous, and files that close soon.
const CONFIG: &str = r#"
[gateway.tls]
listen = "127.0.0.1:0"
certificate = "identity/server.pem"
key = "identity/server.key"
client_ca = "identity/ca.pem"
[gateway.access]
anonymous = false
[http]
listen = ""
[[stream]]
name = "telemetry"
topic = "devices/{device_id}/telemetry"
files = { close_idle = "100ms" }
"#;

const VERSIONS: [&str; 2] = ["mqttv311", "mqttv5"];

/// A Millstream with an authority of its own.
struct Fleet {
    home: Home,
}

impl Fleet {
    fn new() -> Self {
        let home = Home::with(CONFIG);
        home.run(&["init"]).good();
        Self { home }
    }

    /// The TLS listener's address.
    fn secure(up: &Up) -> SocketAddr {
        eventually("`up` says where devices connect through TLS", || {
            up.out().split("mqtts://").nth(1)?.split_whitespace().next()?.parse().ok()
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path(name)
    }

    fn ca(&self) -> PathBuf {
        self.home.data().join("identity/ca.pem")
    }

    /// The password of a new device.
    fn password(&self, name: &str) -> String {
        let said = self.home.run(&["device", "add", name]).good().out;
        let line = said.lines().map(str::trim).skip_while(|line| !line.contains("password")).nth(2);
        line.unwrap_or_else(|| panic!("no password: {said}")).to_owned()
    }

    /// A new device with a certificate by our own authority, in `<name>.pem` and `<name>.key`.
    fn certificate(&self, name: &str) {
        self.home.run(&["device", "add", name, "--certificate", "--out", "."]).good();
    }

    /// Files of a certificate that was made elsewhere.
    fn write(&self, name: &str, issued: &Issued) {
        self.home.file(&format!("{name}.pem"), &issued.certificate);
        self.home.file(&format!("{name}.key"), &issued.key);
    }

    /// What mosquitto_pub is told to show a certificate.
    fn shows(&self, name: &str) -> Vec<String> {
        let file = |suffix: &str| self.path(&format!("{name}.{suffix}")).display().to_string();
        ["--cert".to_owned(), file("pem"), "--key".to_owned(), file("key")].into()
    }
}

fn user(name: &str, password: &str) -> Vec<String> {
    ["-u", name, "-P", password].map(str::to_owned).into()
}

/// Publishes once with mosquitto_pub: over TLS if there is an authority to trust.
fn publish(
    (program, version): (&Path, &str),
    address: SocketAddr,
    ca: Option<&Path>,
    credential: &[String],
    (client_id, device): (&str, &str),
) -> Ended {
    let mut command = Command::new(program);
    command.args(["-h", "localhost", "-p", &address.port().to_string(), "-V", version, "-q", "1"]);
    if let Some(ca) = ca {
        command.arg("--cafile").arg(ca);
    }
    command.args(credential).args([
        "-i",
        client_id,
        "-t",
        &format!("devices/{device}/telemetry"),
        "-m",
        "{\"n\":1}",
    ]);
    run(&mut command, b"")
}

fn micros_days_ago(days: i64) -> Micros {
    Micros(Micros::from(chrono::Utc::now()).0 - days * 24 * 3600 * 1_000_000)
}

/// Certificates that `device add` has not made: of our authority, expired or in no list, and of another.
fn issue_elsewhere(fleet: &Fleet) {
    let (certificate, key) = (fleet.ca(), fleet.home.data().join("identity/ca.key"));
    let own = Authority::read(
        &std::fs::read_to_string(certificate).unwrap(),
        &std::fs::read_to_string(key).unwrap(),
    );
    let own = own.unwrap();
    fleet.write("c3", &own.device(&"c3".parse().unwrap(), 5, micros_days_ago(10)).unwrap());
    for name in ["c4", "c5"] {
        fleet.write(name, &own.device(&name.parse().unwrap(), 365, micros_days_ago(1)).unwrap());
    }
    let said = fleet.home.run(&["device", "revoke", "c5"]).good().out;
    assert!(said.contains("c5 is revoked") && said.contains("in no list"), "{said}");
    let (stranger, _) = Authority::create(micros_days_ago(1)).unwrap();
    for file in ["foreign", "aws1", "aws2"] {
        let name = if file == "foreign" { "c1" } else { "AWS" };
        fleet.write(file, &stranger.device(&name.parse().unwrap(), 365, micros_days_ago(1)).unwrap());
    }
}

#[test]
fn mosquitto_is_let_in_with_the_right_credential_only() {
    let Some(mosquitto_pub) = mosquitto("mosquitto_pub") else { return };
    let fleet = Fleet::new();
    let right = fleet.password("d1");
    fleet.password("d2");
    fleet.certificate("c1");
    fleet.certificate("c2");
    fleet.home.run(&["device", "revoke", "c2"]).good();
    issue_elsewhere(&fleet);
    for (name, file) in [("a1", "aws1.pem"), ("a2", "aws2.pem")] {
        fleet.home.run(&["device", "add", name, "--known-certificate", file]).good();
    }
    let up = fleet.home.up();
    let (secure, ca) = (Fleet::secure(&up), fleet.ca());
    for version in VERSIONS {
        let check = |what: &str, credential: &[String], client_id: &str, is_let_in: bool| {
            let ended =
                publish((&mosquitto_pub, version), secure, Some(&ca), credential, (client_id, client_id));
            assert_eq!(ended.status.success(), is_let_in, "{what}, {version}: {ended:?}");
        };
        check("the right password", &user("d1", &right), "d1", true);
        check("a wrong password", &user("d1", "wrong"), "d1", false);
        check("another device's password", &user("d2", &right), "d2", false);
        check("an unknown user", &user("d9", &right), "d9", false);
        check("the name of another device", &user("d1", &right), "d2", false);
        check("no credential", &[], "d1", false);
        check("a certificate of our authority", &fleet.shows("c1"), "c1", true);
        check("a revoked certificate", &fleet.shows("c2"), "c2", false);
        check("an expired certificate", &fleet.shows("c3"), "c3", false);
        check("a certificate of our authority that is in no list", &fleet.shows("c4"), "c4", true);
        check("one that is in no list but as revoked", &fleet.shows("c5"), "c5", false);
        check("a certificate of another authority", &fleet.shows("foreign"), "c1", false);
        check("a certificate by its fingerprint", &fleet.shows("aws1"), "a1", true);
        check("another of the same common name", &fleet.shows("aws2"), "a2", true);
        check("one that is taken for the other", &fleet.shows("aws1"), "a2", false);
        let plain = publish((&mosquitto_pub, version), secure, None, &user("d1", &right), ("d1", "d1"));
        assert!(!plain.status.success(), "plain text to the TLS port: {plain:?}");
        let tls =
            publish((&mosquitto_pub, version), up.address(), Some(&ca), &user("d1", &right), ("d1", "d1"));
        assert!(!tls.status.success(), "TLS to the plain port: {tls:?}");
        publish((&mosquitto_pub, version), up.address(), None, &user("d1", &right), ("d1", "d1")).good();
    }
    let errors = up.err().lines().filter(|line| line.contains("ERROR")).count();
    assert_eq!(errors, 0, "{}", up.err());
    up.drain();
    let rows = fleet.home.rows("select device_id, count(*) as n from telemetry group by 1 order by 1", 5);
    let expected = json!([
        {"device_id": "a1", "n": 2}, {"device_id": "a2", "n": 2}, {"device_id": "c1", "n": 2}, {"device_id": "c4", "n": 2}, {"device_id": "d1", "n": 4},
    ]);
    assert_eq!(Value::from_iter(rows), expected);
    let refusals = fleet
        .home
        .sql("select reason, count(*) as n from lifecycle where event = 'refused' group by 1 order by 1");
    let expected = json!([
        {"reason": "certificate_expired", "n": 2}, {"reason": "client_identifier_not_its_own", "n": 4},
        {"reason": "device_revoked", "n": 4}, {"reason": "no_credential", "n": 2},
        {"reason": "unknown_certificate", "n": 2}, {"reason": "unknown_user", "n": 2}, {"reason": "wrong_password", "n": 4},
    ]);
    assert_eq!(Value::from_iter(refusals), expected);
}

/// The script's command, for a device with a password on the listener for plain text or, with an authority to trust, for TLS.
fn paho(
    python: &Path,
    action: &str,
    address: SocketAddr,
    version: &str,
    name: &str,
    more: &[&str],
) -> Command {
    let mut command = Command::new(python);
    command.arg(script("publish.py")).args([action, "--mqtt", version, "--client-id", name]);
    command
        .args(["--port", &address.port().to_string(), "--topic", &format!("devices/{name}/telemetry")])
        .args(more);
    command
}

fn said(ended: Ended) -> Value {
    let ended = ended.good();
    serde_json::from_str(ended.out.lines().last().unwrap()).unwrap()
}

#[test]
fn paho_is_told_why_and_stays_connected_where_the_protocol_can_say_it() {
    let Some(python) = python() else { return };
    let fleet = Fleet::new();
    let password = fleet.password("d1");
    let up = fleet.home.up();
    let address = Fleet::secure(&up);
    let ca = fleet.ca().display().to_string();
    for (version, wrong, answers) in [
        ("3.1.1", 134, json!({"acks": [0], "disconnected": true})),
        ("5", 134, json!({"acks": [0, 135, 0], "disconnected": false})),
    ] {
        let as_user = ["--cafile", &ca, "--user", "d1", "--password"];
        let with = |password: &'static str| [&as_user[..], &[password]].concat();
        let refused = said(run(&mut paho(&python, "refused", address, version, "d1", &with("wrong")), b""));
        assert_eq!(refused, json!({"refused": wrong}), "{version}");
        let more = [&as_user[..], &[password.as_str(), "--foreign-topic", "devices/d2/telemetry"]].concat();
        let denied = said(run(&mut paho(&python, "denied", address, version, "d1", &more), b""));
        let disconnected = !denied["disconnects"].as_array().unwrap().is_empty();
        assert_eq!(json!({"acks": denied["acks"], "disconnected": disconnected}), answers, "{version}");
    }
    up.drain();
    let rows = fleet.home.rows("select device_id, count(*) as n from telemetry group by 1", 1);
    assert_eq!(Value::from_iter(rows), json!([{"device_id": "d1", "n": 3}]));
}

/// A paho client that publishes what it is given, line by line.
struct Stays {
    running: Running,
    input: ChildStdin,
    out: BufReader<ChildStdout>,
}

impl Stays {
    fn start(mut command: Command) -> Self {
        let mut running = Running::start(command.stdin(Stdio::piped()).stdout(Stdio::piped()));
        let (input, out) = (running.child.stdin.take().unwrap(), running.child.stdout.take().unwrap());
        let mut stays = Self { running, input, out: BufReader::new(out) };
        assert_eq!(stays.line(), "connected");
        stays
    }

    fn publish(&mut self, n: u32) {
        writeln!(self.input, "{{\"n\":{n}}}").unwrap();
        assert_eq!(self.line(), "acknowledged");
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }
}

#[test]
fn a_device_that_is_revoked_is_disconnected_and_another_goes_on_publishing() {
    let Some(python) = python() else { return };
    let fleet = Fleet::new();
    let passwords = ["d1", "d2"].map(|name| fleet.password(name));
    let up = fleet.home.up();
    let address = Fleet::secure(&up);
    let ca = fleet.ca().display().to_string();
    let start = |name: &str, password: &str| {
        let more = ["--cafile", &ca, "--user", name, "--password", password];
        Stays::start(paho(&python, "stay", address, "5", name, &more))
    };
    let (mut one, mut two) = (start("d1", &passwords[0]), start("d2", &passwords[1]));
    one.publish(1);
    two.publish(1);
    // A file that is broken changes nothing, and is said with its line.
    let file = fleet.home.data().join("credentials.toml");
    let good = std::fs::read(&file).unwrap();
    // At once, as editors do: a file that is cut short for a moment knows no device.
    let replace = |content: &[u8]| std::fs::rename(fleet.home.file("edited", content), &file).unwrap();
    replace(b"[device.d2\n");
    eventually("the broken file is told", || {
        (up.err().contains("of no use") && up.err().contains("line 1")).then_some(())
    });
    one.publish(2);
    replace(&good);
    fleet.home.run(&["device", "revoke", "d1"]).good();
    let end: Value = serde_json::from_str(&one.line()).unwrap();
    assert_eq!(end, json!({"disconnects": [0x98]}));
    assert!(one.running.wait().success());
    two.publish(2);
    assert!(two.running.ended().is_none());
    // A device that is made known meanwhile can connect at once.
    let new = fleet.password("d3");
    let more = ["--cafile", &ca, "--user", "d3", "--password", new.as_str(), "--messages", "1"];
    eventually("the new device is known", || {
        run(&mut paho(&python, "messages", address, "5", "d3", &more), b"").status.success().then_some(())
    });
    two.publish(3);
    drop(two);
    up.drain();
    let count = |device: &str| {
        fleet.home.value(&format!("select count(*) from telemetry where device_id = '{device}'"))
    };
    assert_eq!([count("d1"), count("d2"), count("d3")], [2, 3, 1]);
}

#[test]
fn what_the_commands_print_can_be_pasted() {
    let Some(_) = mosquitto("mosquitto_pub") else { return };
    let fleet = Fleet::new();
    let port = millstream_services::free_port();
    let config = fleet.home.data().join("millstream.toml");
    std::fs::write(&config, CONFIG.replace("127.0.0.1:0", &format!("127.0.0.1:{port}"))).unwrap();
    let line = |ended: Ended| {
        let out = ended.good().out;
        out.lines()
            .map(str::trim)
            .find(|line| line.starts_with("mosquitto_pub "))
            .unwrap_or_else(|| panic!("{out}"))
            .to_owned()
    };
    let lines = [
        line(fleet.home.run(&["device", "add", "d1"])),
        line(fleet.home.run(&["device", "add", "d2", "--certificate", "--out", "certificates"])),
        line(fleet.home.run(&[
            "device",
            "add",
            "d3",
            "--topic",
            "devices/${device}/telemetry",
            "--client-id",
            "d3-*",
        ])),
    ];
    let up = fleet.home.up();
    for line in lines {
        run(Command::new("sh").args(["-c", &line]).current_dir(fleet.path(".")), b"").good();
    }
    up.drain();
    let rows = fleet.home.rows("select device_id from telemetry order by 1", 3);
    assert_eq!(
        Value::from_iter(rows),
        json!([{"device_id": "d1"}, {"device_id": "d2"}, {"device_id": "d3"}])
    );
}

#[test]
fn init_and_device_never_overwrite_and_say_what_is_there() {
    use std::os::unix::fs::PermissionsExt;
    let fleet = Fleet::new();
    let identity = fleet.home.data().join("identity");
    let content = |name: &str| std::fs::read(identity.join(name)).unwrap();
    let before = ["ca.pem", "ca.key", "server.pem", "server.key"].map(content);
    let again = fleet.home.run(&["init"]).good().out;
    assert_eq!(again.matches("is there already").count(), 2, "{again}");
    assert_eq!(["ca.pem", "ca.key", "server.pem", "server.key"].map(content), before);
    let named = fleet.home.run(&["init", "--name", "gateway.example"]).refused();
    assert!(named.contains("has its names already"), "{named}");

    fleet.password("d1");
    fleet.certificate("c1");
    for secret in [
        identity.join("ca.key"),
        identity.join("server.key"),
        fleet.path("c1.key"),
        fleet.home.data().join("credentials.toml"),
    ] {
        let mode = std::fs::metadata(&secret).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", secret.display());
    }
    let twice = fleet.home.run(&["device", "add", "d1"]).refused();
    assert!(twice.contains("has a password already") && twice.contains("--replace"), "{twice}");
    let there = fleet.home.run(&["device", "add", "c1", "--certificate", "--out", "."]).refused();
    assert!(there.contains("c1.pem is there already") && there.contains("--out DIR"), "{there}");
    fleet.home.run(&["device", "revoke", "d1"]).good();
    let said = fleet.home.run(&["device", "revoke", "no name!"]).refused();
    assert!(said.contains("there is no device"), "{said}");
    let listed = fleet.home.run(&["device", "list"]).good().out;
    let kinds: Vec<Vec<&str>> =
        listed.lines().map(|line| line.split_whitespace().take(2).collect()).collect();
    assert_eq!(kinds, [["NAME", "KIND"], ["c1", "certificate"], ["d1", "password"]], "{listed}");
    let listed: Value =
        serde_json::from_str(&fleet.home.run(&["device", "list", "--json"]).good().out).unwrap();
    assert_eq!(
        (&listed[0]["name"], &listed[0]["revoked"], &listed[1]["password"]),
        (&json!("c1"), &json!(false), &json!(true))
    );
    assert!(listed[1]["revoked"].is_string());
    fleet.home.run(&["device", "add", "d1"]).refused();
    fleet.home.run(&["device", "add", "d1", "--replace"]).good();
    // The authority would let an old certificate in again, if it was not known as revoked.
    fleet.home.run(&["device", "add", "c1", "--replace", "--password-file", "password"]).refused();
    fleet.home.file("password", "correct horse battery\n");
    fleet.home.run(&["device", "add", "c1", "--replace", "--password-file", "password"]).good();
    let listed: Value =
        serde_json::from_str(&fleet.home.run(&["device", "list", "--json"]).good().out).unwrap();
    assert!(listed[0]["certificates"][0]["revoked"].is_string() && listed[0]["revoked"] == false, "{listed}");
    let short = fleet.home.file("short", "secret\n");
    let refused =
        fleet.home.run(&["device", "add", "d4", "--password-file", short.to_str().unwrap()]).refused();
    assert!(refused.contains("shorter than 8 bytes"), "{refused}");
}

#[test]
fn a_certificate_that_cannot_be_made_known_leaves_no_files() {
    let fleet = Fleet::new();
    // Where the register writes its next version, so that it cannot.
    let obstacle = fleet.home.data().join("credentials.toml.new");
    std::fs::create_dir(&obstacle).unwrap();
    let add = ["device", "add", "c1", "--certificate", "--out", "."];
    let refused = fleet.home.run(&add).refused();
    assert!(refused.contains("credentials.toml"), "{refused}");
    for file in ["c1.pem", "c1.key"] {
        assert!(!fleet.path(file).exists(), "{file}");
    }
    std::fs::remove_dir(obstacle).unwrap();
    fleet.home.run(&add).good();
    // A second certificate, as for a renewal, beside the first.
    fleet.home.run(&["device", "add", "c1", "--certificate", "--out", "renewed"]).good();
    assert!(fleet.path("renewed/c1.key").exists());
}

#[test]
fn replay_publishes_over_tls_with_a_password_or_a_certificate() {
    let fleet = Fleet::new();
    let password = fleet.home.file("password", "correct horse battery\n");
    let password = password.to_str().unwrap();
    let rules = ["--client-id", "replay-*", "--topic", "devices/+/telemetry"];
    fleet.home.run(&[&["device", "add", "p1", "--password-file", password][..], &rules].concat()).good();
    fleet.home.run(&[&["device", "add", "c1", "--certificate"][..], &rules].concat()).good();
    let file = fleet.home.file("readings.ndjson", "{\"n\":1}\n{\"n\":2}\n");
    let up = fleet.home.up();
    let (secure, ca) = (Fleet::secure(&up), fleet.ca());
    let replay = |more: &[&str]| {
        let broker = format!("mqtts://localhost:{}", secure.port());
        let common =
            ["replay", file.to_str().unwrap(), "--broker", &broker, "--topic", "devices/r/telemetry", "-q"];
        fleet.home.run(&[&common[..], more].concat())
    };
    let ca = ca.to_str().unwrap();
    replay(&["--ca", ca, "--user", "p1", "--password-file", password]).good();
    replay(&["--ca", ca, "--certificate", "c1.pem", "--key", "c1.key", "--mqtt", "3.1.1"]).good();
    assert!(replay(&["--ca", ca]).refused().contains("are required here"));
    // Our own authority is none of the system's.
    assert!(replay(&["--user", "p1", "--password-file", password]).refused().contains("certificate"));
    up.drain();
    assert_eq!(fleet.home.value("select count(*) from telemetry"), 4);
}
