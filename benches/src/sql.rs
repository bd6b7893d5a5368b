//! Questions over HTTP, one after another on one connection.

use anyhow::{Context, ensure};
use serde_json::{Map, Value};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Longer than any query may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(600);

/// A connection on which SQL is asked.
#[derive(Debug)]
pub struct SqlClient {
    stream: BufReader<TcpStream>,
}

impl SqlClient {
    /// Connects.
    ///
    /// # Errors
    /// If nobody listens there.
    pub fn connect(http: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(http).context("failed to connect to ask SQL")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_WITHIN))?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// The rows of an answer, once it is complete.
    ///
    /// # Errors
    /// If the query is refused, or fails midway.
    pub fn ask(&mut self, sql: &str) -> anyhow::Result<Vec<Map<String, Value>>> {
        let head = format!(
            "POST /v1/sql HTTP/1.1\r\nhost: localhost\r\naccept: application/x-ndjson\r\ncontent-length: {}\r\n\r\n",
            sql.len()
        );
        let (status, body) = self.exchange(&(head + sql))?;
        ensure!(status == 200, "{sql}: {status} {body}");
        body.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }

    /// What stands at a path, as text.
    ///
    /// # Errors
    /// If the connection ended.
    pub fn get(&mut self, path: &str) -> anyhow::Result<(u16, String)> {
        self.exchange(&format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n"))
    }

    /// The value of a sample of the metrics, named as it stands there with its labels; 0 if there is none.
    ///
    /// # Errors
    /// If the metrics cannot be read.
    pub fn sample(&mut self, name: &str) -> anyhow::Result<f64> {
        let (status, text) = self.get("/metrics")?;
        ensure!(status == 200, "/metrics: {status}");
        let mut samples = text.lines().filter_map(|line| line.rsplit_once(' '));
        let own = samples.find(|(sample, _)| *sample == name);
        Ok(own.map(|(_, value)| value.parse()).transpose()?.unwrap_or_default())
    }

    fn exchange(&mut self, request: &str) -> anyhow::Result<(u16, String)> {
        self.stream.get_mut().write_all(request.as_bytes())?;
        let status = self.line()?.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.context("the answer has no status")?;
        let (mut length, mut is_chunked) = (0, false);
        loop {
            let line = self.line()?.to_ascii_lowercase();
            match line.split_once(": ") {
                None => break,
                Some(("content-length", value)) => length = value.parse()?,
                Some(("transfer-encoding", value)) => is_chunked = value == "chunked",
                Some(_) => {}
            }
        }
        let mut body = Vec::new();
        if is_chunked {
            while self.chunk(&mut body)? {}
            while !self.line()?.is_empty() {}
        } else {
            self.bytes(length, &mut body)?;
        }
        Ok((status, String::from_utf8(body)?))
    }

    /// Reads a chunk; false after the last one. An answer that failed midway has no last chunk: the connection ends instead.
    fn chunk(&mut self, body: &mut Vec<u8>) -> anyhow::Result<bool> {
        let line = self.line()?;
        let length =
            usize::from_str_radix(&line, 16).with_context(|| format!("a chunk of {line:?} bytes"))?;
        if length == 0 {
            return Ok(false);
        }
        self.bytes(length, body)?;
        self.line()?;
        Ok(true)
    }

    fn bytes(&mut self, length: usize, body: &mut Vec<u8>) -> anyhow::Result<()> {
        let from = body.len();
        body.resize(from + length, 0);
        Ok(self.stream.read_exact(&mut body[from..])?)
    }

    /// The next line without its end.
    fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        ensure!(self.stream.read_line(&mut line)? > 0, "the connection ended before the answer did");
        line.truncate(line.trim_end().len());
        Ok(line)
    }
}
