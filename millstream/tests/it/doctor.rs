//! `millstream doctor` on a real MinIO and a real Kafka: it names exactly what is missing.

use crate::program::{Ended, Home, package, run};
use axum::http::Request;
use millstream_services::{Services, free_port, services};
use object_store::ClientOptions;
use object_store::aws::{AwsAuthorizer, AwsCredential};
use object_store::client::{HttpConnector, ReqwestConnector};
use std::collections::BTreeMap;
use std::process::Command;
use tempfile::TempDir;
use url::form_urlencoded;

const ALL: [&str; 5] =
    ["s3:ListBucket", "s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"];

/// Credentials that allow these actions and nothing else.
fn allowed(services: &Services, actions: &[&str]) -> BTreeMap<&'static str, String> {
    let actions = actions.iter().map(|action| format!("{action:?}")).collect::<Vec<_>>().join(",");
    let policy = format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Action":[{actions}],"Resource":["arn:aws:s3:::*"]}}]}}"#
    );
    session(services, &policy)
}

/// Temporary credentials with a policy of their own, by the store's security token service.
fn session(services: &Services, policy: &str) -> BTreeMap<&'static str, String> {
    let form = form_urlencoded::Serializer::new(String::new())
        .extend_pairs([("Action", "AssumeRole"), ("Version", "2011-06-15"), ("DurationSeconds", "3600")])
        .append_pair("Policy", policy)
        .finish();
    let mut request = Request::builder()
        .method("POST")
        .uri(format!("{}/", services.s3_endpoint))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(form.into())
        .unwrap();
    let root = AwsCredential {
        key_id: services.s3_access_key.clone(),
        secret_key: services.s3_secret_key.clone(),
        token: None,
    };
    AwsAuthorizer::new(&root, "sts", &services.s3_region).authorize(&mut request, None);
    let client = ReqwestConnector::default().connect(&ClientOptions::new().with_allow_http(true)).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let answer = runtime.block_on(async {
        let response = client.execute(request).await.unwrap();
        String::from_utf8(response.into_body().bytes().await.unwrap().into()).unwrap()
    });
    let element = |name: &str| {
        let (_, rest) = answer.split_once(&format!("<{name}>")).unwrap_or_else(|| panic!("{answer}"));
        rest.split_once("</").unwrap().0.to_owned()
    };
    BTreeMap::from([
        ("AWS_ACCESS_KEY_ID", element("AccessKeyId")),
        ("AWS_SECRET_ACCESS_KEY", element("SecretAccessKey")),
        ("AWS_SESSION_TOKEN", element("SessionToken")),
    ])
}

/// A configuration on a store, and its data directory.
struct Patient {
    dir: TempDir,
    ingestion: String,
    reporting: String,
}

impl Patient {
    fn new(services: &Services, rest: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ingestion = services.bucket(&services.unique("doctor"));
        let reporting = services.bucket(&services.unique("doctor"));
        let text = format!(
            "[gateway]\nlisten = \"127.0.0.1:{}\"\n[http]\nlisten = \"127.0.0.1:{}\"\n\
             [s3]\nendpoint = \"{}\"\nallow_http = true\n\
             [lake]\ningestion = \"s3://{ingestion}/plant\"\nreporting = \"s3://{reporting}\"\n{rest}",
            free_port(),
            free_port(),
            services.s3_endpoint
        );
        std::fs::write(dir.path().join("millstream.toml"), text).unwrap();
        Self { dir, ingestion, reporting }
    }

    fn examined(&self, credentials: &BTreeMap<&str, String>, arguments: &[&str]) -> Ended {
        let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
        command.arg("doctor").arg("--data").arg(self.dir.path()).args(arguments);
        command.env_remove("AWS_PROFILE").envs(credentials);
        let ended = run(&mut command, b"");
        // An id is no secret; the test services' own is a word that stands everywhere.
        for (_, secret) in credentials.iter().filter(|(name, _)| **name != "AWS_ACCESS_KEY_ID") {
            assert!(!ended.out.contains(secret) && !ended.err.contains(secret), "{}{}", ended.out, ended.err);
        }
        ended
    }
}

fn root(services: &Services) -> BTreeMap<&'static str, String> {
    BTreeMap::from([
        ("AWS_ACCESS_KEY_ID", services.s3_access_key.clone()),
        ("AWS_SECRET_ACCESS_KEY", services.s3_secret_key.clone()),
    ])
}

/// The lines that begin with `failed`, as what they say is missing.
fn missing(ended: &Ended) -> Vec<String> {
    let failed = ended.out.lines().filter(|line| line.starts_with("failed"));
    let said = failed.map(|line| line.split_once(": ").map_or(line, |(_, said)| said));
    said.map(|said| said.split(" is missing").next().unwrap_or(said).to_owned()).collect()
}

#[test]
fn the_policy_for_compose_allows_what_is_needed_in_its_buckets_and_nothing_elsewhere() {
    let Some(services) = services("the_policy_for_compose") else { return };
    let patient = Patient::new(services, "");
    let policy = std::fs::read_to_string(package().join("../deploy/compose/policy.json")).unwrap();
    let own = policy
        .replace(":::ingestion", &format!(":::{}", patient.ingestion))
        .replace(":::reporting", &format!(":::{}", patient.reporting));
    let healthy = patient.examined(&session(services, &own), &[]).good();
    assert!(healthy.out.ends_with("all is well\n"), "{}", healthy.out);
    let elsewhere = patient.examined(&session(services, &policy), &[]);
    assert_eq!(elsewhere.code(), Some(1), "{}", elsewhere.out);
    assert!(missing(&elsewhere).iter().any(|right| right.contains("s3:ListBucket")), "{}", elsewhere.out);
}

#[test]
fn each_right_that_is_missing_is_named() {
    let Some(services) = services("each_right_that_is_missing_is_named") else { return };
    let patient = Patient::new(services, "");
    let healthy = patient.examined(&allowed(services, &ALL), &[]).good();
    assert!(healthy.out.ends_with("all is well\n"), "{}", healthy.out);
    for action in ALL {
        let rest: Vec<&str> = ALL.into_iter().filter(|other| *other != action).collect();
        let ended = patient.examined(&allowed(services, &rest), &[]);
        assert_eq!(ended.code(), Some(1), "{}", ended.out);
        // Once for each bucket.
        assert_eq!(missing(&ended), [action, action], "{}", ended.out);
    }
}

#[test]
fn who_is_not_known_and_what_is_not_there_is_said_without_repeating_a_key() {
    let Some(services) = services("who_is_not_known_and_what_is_not_there_is_said_without_repeating_a_key")
    else {
        return;
    };
    let patient = Patient::new(services, "");
    let stranger = BTreeMap::from([
        ("AWS_ACCESS_KEY_ID", "AKIANOBODYKNOWS".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "open-sesame".to_owned()),
    ]);
    let ended = patient.examined(&stranger, &[]);
    assert_eq!(ended.code(), Some(1), "{}", ended.out);
    assert!(ended.out.contains("InvalidAccessKeyId"), "{}", ended.out);
    assert!(!ended.out.contains("AKIANOBODYKNOWS"), "{}", ended.out);
    let path = patient.dir.path().join("millstream.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace(&patient.ingestion, "no-such-bucket")).unwrap();
    let ended = patient.examined(&root(services), &[]);
    assert_eq!(ended.code(), Some(1), "{}", ended.out);
    assert!(ended.out.contains("NoSuchBucket"), "{}", ended.out);
}

#[test]
fn notices_of_the_store_are_seen_where_there_is_a_rule_and_missed_where_there_is_none() {
    let test = "notices_of_the_store_are_seen_where_there_is_a_rule_and_missed_where_there_is_none";
    let Some(services) = services(test) else { return };
    let kafka = format!("notices = \"store\"\n[kafka]\nbrokers = \"{}\"\n", services.kafka);
    let patient = Patient::new(services, &kafka);
    let ended = patient.examined(&root(services), &["--notice-wait", "2s"]);
    assert_eq!(ended.code(), Some(1), "{}{}", ended.out, ended.err);
    assert!(
        ended.out.contains("failed   notices: no event of the store arrived within 2 s"),
        "{}",
        ended.out
    );
    assert!(ended.out.contains("arn:minio:sqs::PRIMARY:kafka"), "{}", ended.out);

    services.notify(&patient.ingestion);
    let ended = patient.examined(&root(services), &["--notice-wait", "120s"]).good();
    assert!(ended.out.contains("ok       notices: an event of the store arrived after"), "{}", ended.out);
}

/// What a start would stumble over is found, whatever it is.
#[test]
fn what_cannot_start_is_not_well() {
    let config = |rest: &str| format!("[http]\nlisten = \"\"\n{rest}");
    let check = |rest: &str, subject: &str, expected: &str| {
        let home = Home::with(&config(rest));
        let mut command = home.command(["doctor"]);
        let ended = run(
            command.env_remove("MILLSTREAM__HTTP__LISTEN").env("MILLSTREAM__GATEWAY__LISTEN", "127.0.0.1:0"),
            b"",
        );
        let line = ended.out.lines().find(|line| line.starts_with(&format!("failed   {subject}")));
        assert!(
            line.is_some_and(|line| line.contains(expected)),
            "no {expected:?}\n{}\n{}",
            ended.out,
            ended.err
        );
        assert_eq!(ended.code(), Some(1), "{}", ended.out);
    };
    let tls = "[gateway.tls]\nlisten = \"127.0.0.1:0\"\ncertificate = \"none.pem\"\nkey = \"none.key\"\n";
    check(tls, "devices", "none.pem");
    check(tls, "gateway.tls.certificate", "none.pem");
    check("[gateway.access]\ncredentials = \"millstream.toml\"\n", "devices", "millstream.toml");
    let plant =
        |rest: &str| format!("[[subscriber]]\nname = \"plant\"\nbroker = \"mqtt://127.0.0.1:1\"\n{rest}");
    check(&plant(""), "subscriber plant", "Connection refused");
    check(&plant("user = \"u\"\npassword_file = \"none\"\n"), "subscriber plant", "none");

    let home = Home::with("[http]\nlisten = \"127.0.0.1:0\"\ntoken_file = \"none\"\n");
    let mut command = home.command(["doctor"]);
    let ended = run(command.env("MILLSTREAM__GATEWAY__LISTEN", "127.0.0.1:0"), b"");
    assert!(ended.out.contains("failed   http.token: ") && ended.out.contains("none"), "{}", ended.out);
}

#[test]
fn a_broker_that_lets_us_in_is_well() {
    let test = "a_broker_that_lets_us_in_is_well";
    let Some(services) = services(test) else { return };
    let check = |mqtt: &str, expected: &str| {
        let home = Home::with(&format!(
            "[[subscriber]]\nname = \"plant\"\nbroker = \"mqtt://{}\"\nmqtt = {mqtt:?}\n",
            services.mqtt
        ));
        let mut command = home.command(["doctor"]);
        let ended = run(command.env("MILLSTREAM__GATEWAY__LISTEN", "127.0.0.1:0"), b"").good();
        assert!(ended.out.contains(expected), "{}", ended.out);
    };
    check("5", "ok       subscriber plant: ");
    check("3.1.1", "ok       subscriber plant: ");
}

#[test]
fn a_broker_that_keeps_our_session_for_too_short_a_time_is_a_warning() {
    // A gateway of ours is a broker, as far as its CONNACK.
    let broker = Home::with("[gateway]\nsession_expiry_max = \"1h\"\n[http]\nlisten = \"\"\n");
    let up = broker.up();
    let home =
        Home::with(&format!("[[subscriber]]\nname = \"plant\"\nbroker = \"mqtt://{}\"\n", up.address()));
    let mut command = home.command(["doctor"]);
    let ended = run(command.env("MILLSTREAM__GATEWAY__LISTEN", "127.0.0.1:0"), b"").good();
    let expected = "lets us in, and keeps our session for 1h, not for the 7d that session_expiry asks for";
    let line = ended.out.lines().find(|line| line.starts_with("warning  subscriber plant: "));
    assert!(line.is_some_and(|line| line.contains(expected)), "{}", ended.out);
    up.drain();
}
