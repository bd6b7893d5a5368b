//! Somebody else's broker: collectors that share what it has, and the recipe of deploy/README.md.

use crate::foreign::mosquitto;
use crate::http::{get, http, sample, sql};
use crate::mqtt::{Device, Version};
use crate::program::{Ended, Home, Running, Up, eventually, package, run};
use crate::stage::Stage;
use millstream_log::kafka::{KafkaLog, KafkaSettings};
use millstream_log::{Log, ReadLimit};
use millstream_model::arrival::DUP;
use millstream_model::name::{Offset, StreamName};
use millstream_services::{Service, Services, free_port};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Messages of one test.
const MESSAGES: usize = 5_000;

/// What a collector has from the broker.
const RECEIVED: &str = "millstream_subscriber_received_messages_total{subscriber=\"plant\"}";

/// A Millstream in parts behind a broker, on services of its own.
struct Plant {
    services: Services,
    home: Home,
}

impl Plant {
    /// With more lines for its subscriber.
    fn new(test: &str, subscriber: &str) -> Option<Self> {
        let services = Services::own(test, &[Service::Kafka, Service::Mosquitto])?;
        let home = Home::with(&format!(
            "[gateway]\nlisten = \"\"\n[lake]\ningestion = \"../lake/ingestion\"\nreporting = \"../lake/reporting\"\n\
             [kafka]\nbrokers = {:?}\npartitions = 4\nkeep = \"all\"\n\
             [[stream]]\nname = \"telemetry\"\ntopic = \"devices/{{device_id}}/telemetry\"\n\
             columns = {{ seq = \"long\" }}\nfiles = {{ close_idle = \"200ms\", close_after = \"1s\" }}\n\
             [[subscriber]]\nname = \"plant\"\nbroker = \"mqtt://{}\"\nfilters = [\"devices/#\"]\n{subscriber}\n",
            services.kafka, services.mqtt
        ));
        Some(Self { services, home })
    }

    /// A stage with a data directory of its own.
    fn start(&self, stage: &str, number: usize) -> Stage {
        let mut command = self.home.command([stage]);
        command
            .env("MILLSTREAM_DATA", self.home.path(&format!("{stage}-{number}")))
            .env("MILLSTREAM_CONFIG", self.home.data().join("millstream.toml"));
        Stage::start(&mut command)
    }

    fn collect(&self, number: usize) -> Stage {
        let collect = self.start("collect", number);
        collect.ready();
        collect
    }

    /// Begins to publish numbered readings of ten devices.
    fn publish(&self, rate: &str) -> Running {
        let lines: String =
            (0..MESSAGES).map(|seq| format!("{{\"device\":\"d{}\",\"seq\":{seq}}}\n", seq % 10)).collect();
        let readings = self.home.file("readings.ndjson", lines);
        let mut command = self.home.command(["replay", "--quiet", "--json", "--qos", "1", "--rate", rate]);
        command
            .args(["--broker", &self.services.mqtt, "--topic", "devices/{device}/telemetry"])
            .arg(readings);
        Running::start(command.stdin(Stdio::null()).stdout(Stdio::piped()))
    }

    /// How often each number is in the log, and how often of that the broker said that it sent it before.
    fn log(&self) -> BTreeMap<u64, Copies> {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let log = KafkaLog::open(KafkaSettings::new(&self.services.kafka)).await.unwrap();
            let mut copies: BTreeMap<u64, Copies> = BTreeMap::new();
            let topic = "telemetry".parse::<StreamName>().unwrap().log_topic();
            for partition in log.partitions(&topic).await.unwrap() {
                let (end, mut next) = (log.bounds(&partition).await.unwrap().next, Offset::ZERO);
                let mut reader = log.reader(&partition, next).await.unwrap();
                while next < end {
                    for stored in reader.next(ReadLimit { records: 4096, bytes: 4 << 20 }).await.unwrap() {
                        next = stored.offset.next();
                        let reading: Value = serde_json::from_slice(&stored.record.value).unwrap();
                        let copies = copies.entry(reading["seq"].as_u64().unwrap()).or_default();
                        let is_again =
                            stored.record.headers.iter().any(|(name, value)| name == DUP && *value == "1");
                        copies.all += 1;
                        copies.sent_again += u64::from(is_again);
                    }
                }
            }
            log.close().await.unwrap();
            copies
        })
    }
}

/// One message in the log.
#[derive(Debug, Default)]
struct Copies {
    all: u64,
    sent_again: u64,
}

/// All was published, each message once.
fn finish(client: &mut Running) {
    let mut summary = String::new();
    client.child.stdout.take().unwrap().read_to_string(&mut summary).unwrap();
    assert!(client.wait().success(), "{summary}");
    let summary: Value = serde_json::from_str(&summary).unwrap();
    assert_eq!((&summary["acknowledged"], &summary["resent"]), (&json!(MESSAGES), &json!(0)), "{summary}");
}

fn received(collect: &Stage) -> f64 {
    sample(collect.http(), RECEIVED).unwrap_or_default()
}

const COUNT: &str = "select count(*) as rows, count(distinct seq) as messages from telemetry";

#[test]
fn two_collectors_of_a_group_share_what_a_broker_has() {
    const TEST: &str = "brokers::two_collectors_of_a_group_share_what_a_broker_has";
    let Some(plant) = Plant::new(TEST, "group = \"millstream\"") else { return };
    let collects = [plant.collect(0), plant.collect(1)];
    let firehose = plant.start("firehose", 0);
    finish(&mut plant.publish("5000"));
    eventually("all is received", || {
        (collects.iter().map(received).sum::<f64>() >= MESSAGES as f64).then_some(())
    });
    let shares = collects.each_ref().map(received);
    assert_eq!(shares.iter().sum::<f64>(), MESSAGES as f64, "{shares:?}");
    assert!(shares.iter().all(|share| *share > 0.0), "{shares:?}");
    collects.into_iter().chain([firehose]).for_each(Stage::drain);
    assert_eq!(json!(plant.home.sql(COUNT)), json!([{ "rows": MESSAGES, "messages": MESSAGES }]));
}

#[test]
fn a_killed_collector_comes_back_to_what_the_broker_gave_it() {
    const TEST: &str = "brokers::a_killed_collector_comes_back_to_what_the_broker_gave_it";
    let Some(plant) = Plant::new(TEST, "group = \"millstream\"") else { return };
    let stays = plant.collect(0);
    let mut killed = plant.collect(1);
    let firehose = plant.start("firehose", 0);
    let mut client = plant.publish("1000");
    eventually("it is in the middle of it", || (received(&killed) >= 500.0).then_some(()));
    assert_eq!(client.ended(), None, "the client ended before the kill");
    killed.kill();
    finish(&mut client);
    // mosquitto deals to those that are away, too: this waits for the one that it was given to, and nobody else gets it.
    assert!(plant.log().len() < MESSAGES);

    let returned = plant.collect(1);
    eventually("all is in the log", || (plant.log().len() == MESSAGES).then_some(()));
    assert!(received(&returned) > 0.0);
    [stays, returned, firehose].into_iter().for_each(Stage::drain);
    let log = plant.log();
    for (seq, copies) in &log {
        assert!(copies.all <= 1 + copies.sent_again, "{seq} is there without being sent again: {copies:?}");
    }
    let rows: u64 = log.values().map(|copies| copies.all).sum();
    assert_eq!(json!(plant.home.sql(COUNT)), json!([{ "rows": rows, "messages": MESSAGES }]));
}

#[test]
fn two_collectors_of_a_group_need_two_data_directories() {
    const TEST: &str = "brokers::two_collectors_of_a_group_need_two_data_directories";
    let Some(plant) = Plant::new(TEST, "group = \"millstream\"") else { return };
    let first = plant.collect(0);
    let mut second = plant.home.command(["collect"]);
    second
        .env("MILLSTREAM_DATA", plant.home.path("collect-0"))
        .env("MILLSTREAM_CONFIG", plant.home.data().join("millstream.toml"));
    let said = run(&mut second, b"").refused();
    assert!(said.contains("another process has the data directory") && said.contains("--data"), "{said}");
    first.drain();
}

/// The configuration in a section of deploy/README.md.
fn recipe(section: &str) -> String {
    let text = std::fs::read_to_string(package().join("../deploy/README.md")).unwrap();
    let block = || {
        let section = text.split_once(&format!("\n## {section}\n"))?.1.split("\n## ").next()?;
        Some(section.split_once("```toml\n")?.1.split_once("```")?.0.to_owned())
    };
    block().unwrap_or_else(|| panic!("no TOML in the section {section:?}"))
}

/// A broker as people have it: TLS, users with passwords, sessions that it keeps.
struct Broker {
    _running: Running,
    port: u16,
    authority: PathBuf,
}

/// Who the broker knows.
const USERS: [&str; 3] = ["millstream", "d1", "operator"];

/// What they may: Millstream reads what it subscribes to, and nothing else.
const RIGHTS: &str = "user millstream\ntopic read devices/+/telemetry\ntopic read devices/+/events\n\
                      user d1\ntopic readwrite devices/d1/#\nuser operator\ntopic write devices/+/commands\n";

impl Broker {
    fn start(home: &Home) -> Option<Self> {
        let [program, _, _] =
            [mosquitto("mosquitto")?, mosquitto("mosquitto_pub")?, mosquitto("mosquitto_sub")?];
        home.run(&["init", "--data", "broker"]).good();
        let identity = home.path("broker/identity");
        let users = home.file("users", USERS.map(|user| format!("{user}:secret-of-{user}\n")).concat());
        run(Command::new(mosquitto("mosquitto_passwd")?).arg("-U").arg(&users), b"").good();
        let port = free_port();
        let config = format!(
            "user root\nlistener {port} 127.0.0.1\npersistence true\npersistence_location {}/\n\
             certfile {}\nkeyfile {}\nallow_anonymous false\npassword_file {}\nacl_file {}\n",
            home.path("broker").display(),
            identity.join("server.pem").display(),
            identity.join("server.key").display(),
            users.display(),
            home.file("rights", RIGHTS).display()
        );
        let config = home.file("mosquitto.conf", config);
        let mut command = Command::new(program);
        command.arg("-c").arg(config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut running = Running::start(&mut command);
        eventually("the broker listens", || {
            assert_eq!(running.ended(), None, "mosquitto ended");
            TcpStream::connect(("127.0.0.1", port)).ok()
        });
        Some(Self { _running: running, port, authority: identity.join("ca.pem") })
    }

    /// One of mosquitto's clients, for one of the users.
    fn client(&self, program: &str, user: &str, arguments: &[&str]) -> Ended {
        let mut command = Command::new(mosquitto(program).unwrap());
        command.args(["-h", "localhost", "-p", &self.port.to_string(), "-u", user, "-P"]);
        command.arg(format!("secret-of-{user}")).arg("--cafile").arg(&self.authority).args(["-q", "1"]);
        run(command.args(arguments), b"").good()
    }

    /// The device says how it does.
    fn readings(&self, numbers: std::ops::Range<usize>) {
        for seq in numbers {
            let payload = format!("{{\"seq\":{seq}}}");
            self.client("mosquitto_pub", "d1", &["-t", "devices/d1/telemetry", "-m", &payload]);
        }
    }

    /// The operator tells the device something, and the device hears it. It has a session, so nothing depends on who is first.
    fn command(&self, text: &str) {
        let device = ["-i", "d1", "-c", "-t", "devices/d1/commands"];
        self.client("mosquitto_sub", "d1", &[device.as_slice(), &["-E"]].concat());
        self.client("mosquitto_pub", "operator", &["-t", "devices/d1/commands", "-m", text]);
        let heard = self.client("mosquitto_sub", "d1", &[device.as_slice(), &["-C", "1"]].concat());
        assert_eq!(heard.out.trim(), text);
    }
}

/// Lets the program find what the recipe names.
fn place(recipe: &str, home: &Home, broker: &Broker) -> PathBuf {
    let address = "broker.example.org:8883";
    assert!(recipe.contains(address), "{recipe}");
    let put = |name: &str, content: &[u8]| {
        assert!(recipe.contains(name), "the recipe says nothing of {name}");
        std::fs::write(home.data().join(name), content).unwrap();
    };
    put("plant.password", b"secret-of-millstream\n");
    put("plant-ca.pem", &std::fs::read(&broker.authority).unwrap());
    let config = home.data().join("millstream.toml");
    std::fs::write(&config, recipe.replace(address, &format!("localhost:{}", broker.port))).unwrap();
    config
}

#[test]
fn the_recipe_for_a_broker_in_front_keeps_commands_and_readings() {
    let recipe = recipe("A broker in front");
    let home = Home::with("");
    let Some(broker) = Broker::start(&home) else { return };
    let config = place(&recipe, &home, &broker);
    checks(&home, &config);

    let start = || {
        let up = Stage::start(&mut home.command(["up"]));
        up.ready();
        up
    };
    let rows = |count: usize| {
        let rows = home.rows("select distinct device_id, seq from telemetry", count);
        let found: BTreeSet<_> = rows
            .iter()
            .map(|row| (row["device_id"].as_str().unwrap(), row["seq"].as_f64().unwrap() as usize))
            .collect();
        assert_eq!(found, (0..count).map(|seq| ("d1", seq)).collect());
    };
    let up = start();
    broker.command("reboot");
    broker.readings(0..5);
    rows(5);
    // An ordinary restart, and then a power cut: the broker keeps what comes meanwhile.
    up.drain();
    broker.readings(5..10);
    let mut up = start();
    broker.readings(10..12);
    up.kill();
    broker.command("wake up");
    broker.readings(12..20);
    let up = start();
    rows(20);
    let commands = "select count(*) from telemetry where _topic like '%/commands'";
    assert_eq!(home.value(commands), 0, "commands are between the device and its broker");
    up.drain();
}

fn checks(home: &Home, config: &Path) {
    let said = home.run(&["check", config.to_str().unwrap()]).good();
    assert!(!said.err.contains("warning"), "{}", said.err);
}

#[test]
fn a_set_of_local_services_has_a_configuration_that_runs_as_it_is() {
    let all = [Service::Kafka, Service::Minio, Service::Mosquitto];
    let Some(services) = Services::own("a_set_of_local_services_has_a_configuration", &all) else { return };
    let home = Home::new();
    let config = services.directory.join("millstream.toml");
    let config = config.to_str().unwrap();
    let up = Up::start(home.command(["up", "--config", config]).env_remove("MILLSTREAM__HTTP__LISTEN"));
    let http = http(&up);
    eventually("it is ready", || (get(http, "/readyz").0 == 200).then_some(()));
    // One by the broker, one by the gateway.
    for (device, address) in [("d1", services.mqtt.parse().unwrap()), ("d2", up.address())] {
        let mut connection = Device::connect(address, Version::V5, device);
        connection.publish(&format!("devices/{device}/telemetry"), r#"{"value":1}"#);
    }
    let count = "select count(distinct device_id) as devices from telemetry";
    eventually("both are in the answer", || (sql(http, count) == json!([{ "devices": 2 }])).then_some(()));
    up.drain();
    let committed =
        home.run(&["sql", "--config", config, "--no-tail", "--format", "csv", "-c", count]).good();
    assert_eq!(committed.out, "devices\n2\n");
}
