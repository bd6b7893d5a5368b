//! A running server, and a client that shows what a connection really carried.

use crate::fixture::lakehouse;
use millstream_query::server::{Counters, Counts, PATH, Settings, router};
use millstream_query::{Lakehouse, Limits, Session};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Longer than anything here takes; ends a test that would hang.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server on a port of its own, until it is dropped.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) counters: Counters,
    _task: JoinSet<()>,
}

pub(crate) async fn serve(settings: Settings) -> Running {
    serve_over(settings, &lakehouse().await, Limits { parallelism: Some(2), ..Limits::default() }).await
}

pub(crate) async fn serve_over(settings: Settings, lakehouse: &Lakehouse, limits: Limits) -> Running {
    let session = Arc::new(Session::open(lakehouse, limits).await.unwrap());
    let counters = Counters::default();
    let router = router(settings, session, counters.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut task = JoinSet::new();
    task.spawn(async move { axum::serve(listener, router).await.unwrap() });
    Running { address, counters, _task: task }
}

impl Running {
    /// Sends a request as it stands, and keeps the connection.
    pub(crate) async fn send(&self, request: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }

    /// Asks, without waiting for the answer.
    pub(crate) async fn begin(&self, sql: &str) -> TcpStream {
        self.send(&request(&[], sql)).await
    }

    /// Asks, and reads everything until the server closes.
    pub(crate) async fn ask(&self, headers: &[(&str, &str)], sql: &str) -> Reply {
        read(self.send(&request(headers, sql)).await).await
    }

    /// Waits until the counters are as expected.
    pub(crate) async fn until(&self, expected: impl Fn(Counts) -> bool) {
        let reached = async {
            while !expected(self.counters.read()) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let reached = tokio::time::timeout(PATIENCE, reached).await;
        assert!(reached.is_ok(), "it stays at {:?}", self.counters.read());
    }
}

/// The text of a request after which the connection is closed.
pub(crate) fn request(headers: &[(&str, &str)], sql: &str) -> String {
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let length = sql.len();
    format!(
        "POST {PATH} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}content-length: {length}\r\n\r\n{sql}"
    )
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: Vec<u8>,
    /// What stood behind the last chunk.
    trailers: String,
    /// Whether the last chunk, or all of the announced length, was there.
    pub(crate) whole: bool,
}

impl Reply {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        headers.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// What stood behind the body.
    pub(crate) fn trailer(&self, name: &str) -> Option<serde_json::Value> {
        let mut trailers = self.trailers.lines().filter_map(|line| line.split_once(": "));
        let (_, value) = trailers.find(|(found, _)| found.eq_ignore_ascii_case(name))?;
        Some(serde_json::from_str(value).unwrap())
    }

    /// The error that it carries.
    pub(crate) fn error(&self) -> serde_json::Value {
        assert!(self.whole && self.header("content-type") == Some("application/json"), "{self:?}");
        let mut reply: serde_json::Value = serde_json::from_slice(&self.body).unwrap();
        reply["error"].take()
    }
}

pub(crate) async fn read(mut stream: TcpStream) -> Reply {
    let mut bytes = Vec::new();
    // A connection that is reset has ended, too; what it carried until then is what counts.
    let ended = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.unwrap();
    let split = bytes.windows(4).position(|four| four == b"\r\n\r\n");
    let split = split.unwrap_or_else(|| panic!("no answer: {ended:?} {:?}", String::from_utf8_lossy(&bytes)));
    let head = String::from_utf8(bytes[..split].to_vec()).unwrap();
    let rest = &bytes[split + 4..];
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let mut reply = Reply { status, head, body: Vec::new(), trailers: String::new(), whole: false };
    match reply.header("transfer-encoding") {
        Some(_) => {
            let (body, end) = dechunked(rest);
            reply.body = body;
            reply.whole = end.is_some();
            reply.trailers = end.unwrap_or_default();
        }
        None => {
            let length: usize = reply.header("content-length").unwrap().parse().unwrap();
            (reply.body, reply.whole) = (rest.to_vec(), rest.len() == length);
        }
    }
    reply
}

/// The body, and what stands behind the last chunk, if that was there.
fn dechunked(mut rest: &[u8]) -> (Vec<u8>, Option<String>) {
    let mut body = Vec::new();
    while let Some(line) = rest.windows(2).position(|two| two == b"\r\n") {
        let length = usize::from_str_radix(std::str::from_utf8(&rest[..line]).unwrap(), 16).unwrap();
        if length == 0 {
            return (body, Some(String::from_utf8(rest[line + 2..].to_vec()).unwrap()));
        }
        let chunk = &rest[line + 2..];
        if chunk.len() < length + 2 {
            body.extend_from_slice(&chunk[..chunk.len().min(length)]);
            return (body, None);
        }
        body.extend_from_slice(&chunk[..length]);
        rest = &chunk[length + 2..];
    }
    (body, None)
}
