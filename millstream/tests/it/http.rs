//! What the program answers over HTTP: health, metrics, SQL; and to whom.

use crate::mqtt::{Device, Version};
use crate::program::{DEADLINE, Home, Up, eventually};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

/// Sends a request, and returns the status and the body of the answer.
pub(crate) fn ask(address: SocketAddr, line: &str, headers: &[&str], body: &str) -> (u16, String) {
    ask_as("localhost", address, line, headers, body)
}

/// The same of a server that is known by another name.
fn ask_as(host: &str, address: SocketAddr, line: &str, headers: &[&str], body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    write!(
        stream,
        "{line} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer}"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap();
    let is_chunked = head.to_lowercase().contains("transfer-encoding: chunked");
    (status, if is_chunked { joined(body) } else { body.to_owned() })
}

/// The chunks of a body as one text.
fn joined(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((length, rest)) = body.split_once("\r\n") {
        let length = usize::from_str_radix(length, 16).unwrap();
        whole.push_str(&rest[..length]);
        body = rest[length..].trim_start_matches("\r\n");
    }
    whole
}

pub(crate) fn get(address: SocketAddr, path: &str) -> (u16, String) {
    ask(address, &format!("GET {path}"), &[], "")
}

/// The rows of an answer.
#[track_caller]
pub(crate) fn sql(address: SocketAddr, query: &str) -> Value {
    let (status, body) = ask(address, "POST /v1/sql", &["accept: application/json"], query);
    assert_eq!(status, 200, "{query}\n{body}");
    serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}\n{body}"))
}

/// The value of a sample; `None` if there is none.
pub(crate) fn sample(address: SocketAddr, name: &str) -> Option<f64> {
    let (status, text) = get(address, "/metrics");
    assert_eq!(status, 200);
    let line = text.lines().find(|line| line.rsplit_once(' ').is_some_and(|(own, _)| own == name))?;
    line.rsplit_once(' ')?.1.parse().ok()
}

pub(crate) fn http(up: &Up) -> SocketAddr {
    let out = up.out();
    let address = out.split("http://").nth(1).and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    address.unwrap_or_else(|| panic!("no address of HTTP in {out}"))
}

#[test]
fn the_program_says_that_it_lives_that_it_is_ready_and_what_it_does() {
    let home = Home::with(
        "[[stream]]\nname = \"telemetry\"\ntopic = \"#\"\nfiles = { close_idle = \"100ms\" }\n\
         [[report]]\nname = \"daily\"\nsql = \"select date, count(*) as n from telemetry group by 1\"\n",
    );
    let up = home.up();
    let http = http(&up);
    assert_eq!(get(http, "/healthz"), (200, "ok\n".to_owned()));
    let ready = eventually("it is ready", || Some(get(http, "/readyz")).filter(|(status, _)| *status == 200));
    let ready: Value = serde_json::from_str(&ready.1).unwrap();
    for stage in ["collect", "firehose", "process", "serve"] {
        assert_eq!(ready["stages"][stage]["ready"], true, "{ready}");
    }

    let mut device = Device::connect(up.address(), Version::V5, "d1");
    for temp in 0..3 {
        device.publish("plant/d1", format!("{{\"temp\":{temp}}}"));
    }
    device.publish("plant/d1", "not json");
    assert_eq!(sample(http, "millstream_gateway_acknowledged_messages_total"), Some(4.0));
    assert_eq!(sample(http, "millstream_gateway_open_connections"), Some(1.0));
    let of = |name: &str| format!("millstream_firehose_{name}{{stream=\"telemetry\",partition=\"0\"}}");
    eventually("all are committed", || (sample(http, &of("messages_total")) == Some(4.0)).then_some(()));
    assert_eq!(sample(http, &of("committed_rows_total")), Some(3.0));
    assert_eq!(sample(http, &of("quarantined_messages_total")), Some(1.0));
    // Three times `{"temp":0}`, and one text.
    assert_eq!(sample(http, &of("message_bytes_total")), Some(3.0 * 10.0 + 8.0));
    assert!(sample(http, &of("partition_commits_total")) >= Some(1.0));
    assert_eq!(sample(http, &of("partition_errors_total")), Some(0.0));
    assert_eq!(sample(http, &of("in_flight_messages")), Some(0.0));
    eventually("nothing waits", || (sample(http, &of("lag_messages")) == Some(0.0)).then_some(()));
    assert_eq!(sample(http, &of("freshness_seconds")), Some(0.0));
    eventually("the report knows", || {
        (sample(http, "millstream_report_runs_total{report=\"daily\"}") >= Some(1.0)).then_some(())
    });

    for bucket in ["ingestion", "reporting"] {
        let runs = format!("millstream_upkeep_runs_total{{bucket=\"{bucket}\"}}");
        assert!(sample(http, &runs).is_some(), "nobody looks after the tables of {bucket}");
    }

    assert_eq!(sql(http, "select count(*) as n from telemetry"), serde_json::json!([{ "n": 3 }]));
    assert_eq!(sample(http, "millstream_sql_requests_total{outcome=\"answered\"}"), Some(1.0));
    assert_eq!(ask(http, "POST /v1/sql", &[], "selec 1").0, 400);
    assert_eq!(get(http, "/nowhere").0, 404);
    up.drain();
}

#[test]
fn metrics_and_sql_need_the_token_and_probes_do_not() {
    let home = Home::with("[http]\ntoken_file = \"token\"\n");
    std::fs::write(home.data().join("token"), "open sesame\n").unwrap();
    let up = home.up();
    let http = http(&up);
    let token = "authorization: Bearer open sesame";
    assert_eq!(get(http, "/healthz").0, 200);
    assert_ne!(get(http, "/readyz").0, 401);
    for line in ["GET /metrics", "POST /v1/sql"] {
        assert_eq!(ask(http, line, &[], "select 1").0, 401, "{line}");
        assert_eq!(ask(http, line, &["authorization: Bearer sesame"], "select 1").0, 401, "{line}");
        assert_eq!(ask(http, line, &[token], "select 1").0, 200, "{line}");
    }
    assert!(!up.out().contains("sesame") && !up.err().contains("sesame"));
    up.drain();
}

/// Neither a page's own request nor one under a name that was made to lead here; without a token nothing else tells them from a user of this machine.
#[test]
fn no_page_in_a_browser_reads_what_needs_no_token() {
    let home = Home::new();
    let up = home.up();
    let http = http(&up);
    for line in ["GET /metrics", "POST /v1/sql"] {
        assert_eq!(ask(http, line, &[], "select 1").0, 200, "{line}");
        let (status, said) = ask(http, line, &["origin: http://evil.example"], "select 1");
        assert!(
            status == 403 && said.contains("a page in a browser") && said.contains("http.token_file"),
            "{said}"
        );
        let (status, said) = ask_as("evil.example:8474", http, line, &[], "select 1");
        assert!(status == 403 && said.contains("as localhost") && said.contains("http.token_file"), "{said}");
    }
    assert_eq!(
        ask_as("cluster.example", http, "GET /healthz", &[], "").0,
        200,
        "a probe may say what it likes"
    );
    up.drain();
}

#[test]
fn a_secret_that_cannot_be_read_is_named_by_its_key() {
    let home = Home::with("[http]\ntoken_file = \"no-such-token\"\n");
    let said = home.run(&["up"]).refused();
    assert!(said.contains("http.token_file") && said.contains("no-such-token"), "{said}");
}

#[test]
fn a_port_that_is_taken_is_named_with_the_way_out() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let home = Home::new();
    let address = taken.local_addr().unwrap().to_string();
    let mut command = home.command(["up"]);
    command.env("MILLSTREAM__GATEWAY__LISTEN", "127.0.0.1:0").env("MILLSTREAM__HTTP__LISTEN", &address);
    let said = crate::program::run(&mut command, b"").refused();
    assert!(said.contains(&address) && said.contains("MILLSTREAM__HTTP__LISTEN=127.0.0.1:0"), "{said}");
}
