//! Many who connect and say nothing, or ask for what keeps every thread busy: everybody else is served all the same.

use crate::http::{get, http, sample};
use crate::mqtt::{Device, Version};
use crate::program::{Home, Up, eventually};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io::Write;
use std::net::TcpStream;

/// More than there are places.
const SILENT: usize = 520;

#[test]
fn silent_connections_do_not_take_health_down() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let home = Home::new();
    let up = home.up();
    let http = http(&up);
    let silent: Vec<TcpStream> = (0..SILENT).map(|_| TcpStream::connect(http).unwrap()).collect();
    assert_eq!(get(http, "/healthz"), (200, "ok\n".to_owned()));
    assert_eq!(get(http, "/metrics").0, 200);
    drop(silent);
    up.drain();
}

/// Waits until all stages have begun.
fn ready(up: &Up) {
    eventually("all stages are ready", || (get(http(up), "/readyz").0 == 200).then_some(()));
}

/// Acknowledges what devices send, and answers probes.
fn serves_everybody_else(up: &Up) {
    let mut device = Device::connect(up.address(), Version::V5, "d1");
    for reading in 0..200 {
        device.publish("devices/d1/telemetry", format!("{{\"value\":{reading}}}"));
    }
    assert_eq!(get(http(up), "/healthz"), (200, "ok\n".to_owned()));
    assert_eq!(get(http(up), "/readyz").0, 200);
}

/// As many as may run at a time, which is more than there are cores.
const HOSTILE: usize = 8;

/// A work that takes days on any machine, and no part of which pauses or hands its thread over: each batch takes seconds at least.
const BUSY: &str = "select count(*) from generate_series(1, 1000000000) where levenshtein(repeat('a', 600) || value, repeat('b', 600)) = 7";

#[test]
fn statements_that_keep_every_thread_busy_hold_up_no_device_and_no_probe() {
    let home = Home::with("[sql]\ntime = \"1h\"\n");
    let up = home.up();
    ready(&up);
    let http = http(&up);
    let request =
        format!("POST /v1/sql HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n{BUSY}", BUSY.len());
    let asked = [(); HOSTILE].map(|()| {
        let mut stream = TcpStream::connect(http).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        stream
    });
    let running = || sample(http, "millstream_sql_running_requests");
    eventually("all of them run", || (running() == Some(HOSTILE as f64)).then_some(()));
    serves_everybody_else(&up);
    assert_eq!(running(), Some(HOSTILE as f64), "they were to last longer than all this");
    drop(asked);
    up.kill();
}

#[test]
fn a_report_that_keeps_every_thread_busy_holds_up_no_device_and_no_probe() {
    let home = Home::new();
    let up = home.up();
    Device::connect(up.address(), Version::V5, "d0").publish("devices/d0/telemetry", r#"{"value":1}"#);
    up.drain();
    // From its first look on there is something to compute.
    home.configure(&format!(
        "[sql]\ntime = \"1h\"\n[[report]]\nname = \"busy\"\nsql = \"select device_id, ({BUSY}) as n from telemetry\"\n"
    ));
    let up = home.up();
    let computing = "millstream_report_phase{report=\"busy\",phase=\"computing\"}";
    eventually("it is computed", || (sample(http(&up), computing) == Some(1.0)).then_some(()));
    ready(&up);
    serves_everybody_else(&up);
    assert_eq!(sample(http(&up), computing), Some(1.0), "it was to last longer than all this");
    up.kill();
}
