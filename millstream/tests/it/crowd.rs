//! Many who connect and say nothing: whoever asks is answered all the same.

use crate::http::{get, http};
use crate::program::Home;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
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
