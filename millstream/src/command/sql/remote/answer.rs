//! Rows on their way from a server.

use super::link::Connection;
use crate::command::sql::failure::Failure;
use anyhow::{Context as _, anyhow, ensure};
use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::StreamDecoder;
use axum::body::{Bytes, HttpBody};
use axum::http::HeaderMap;
use hyper::body::{Frame, Incoming};
use millstream_query::server::trailer;
use millstream_query::{QueryError, ScanMetrics};
use std::future::poll_fn;
use std::pin::Pin;

/// The rows of one statement. Dropping it ends the query.
#[derive(Debug)]
pub(in crate::command::sql) struct Answer {
    body: Incoming,
    decoder: StreamDecoder,
    /// What was received and not decoded yet.
    received: Buffer,
    schema: SchemaRef,
    /// Decoded while the schema was looked for.
    first: Option<RecordBatch>,
    metrics: Option<ScanMetrics>,
    server: String,
    _connection: Connection,
}

impl Answer {
    /// Reads up to the schema, which the server sends with the first rows.
    pub(super) async fn begin(
        body: Incoming,
        connection: Connection,
        server: String,
    ) -> Result<Self, Failure> {
        let mut answer = Self {
            body,
            decoder: StreamDecoder::new(),
            received: Buffer::from(Bytes::new()),
            schema: SchemaRef::new(arrow::datatypes::Schema::empty()),
            first: None,
            metrics: None,
            server,
            _connection: connection,
        };
        answer.first = answer.receive().await?;
        answer.schema = answer.decoder.schema().with_context(|| answer.broken("without its columns"))?;
        Ok(answer)
    }

    /// Names and types of the columns.
    pub(in crate::command::sql) fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.schema)
    }

    /// What the server says it cost; nothing before the end, and from one that says nothing.
    pub(in crate::command::sql) fn metrics(&self) -> ScanMetrics {
        self.metrics.unwrap_or_default()
    }

    /// The next rows; `None` at the end.
    pub(in crate::command::sql) async fn next(&mut self) -> Result<Option<RecordBatch>, Failure> {
        match self.first.take() {
            Some(first) => Ok(Some(first)),
            None => self.receive().await,
        }
    }

    async fn receive(&mut self) -> Result<Option<RecordBatch>, Failure> {
        loop {
            let decoded = self.decoder.decode(&mut self.received);
            if let Some(batch) = decoded.with_context(|| self.broken("with what is no Arrow"))? {
                return Ok(Some(batch));
            }
            match next_frame(&mut self.body).await {
                Some(frame) => self.take(
                    frame.with_context(|| format!("{}; its log says why", self.broken("before its end")))?,
                )?,
                None if self.is_whole() => return Ok(None),
                None => return Err(anyhow!("{}; its log says why", self.broken("before its end")).into()),
            }
        }
    }

    fn take(&mut self, frame: Frame<Bytes>) -> Result<(), Failure> {
        let trailers = match frame.into_data() {
            Ok(bytes) => {
                self.received = Buffer::from(bytes);
                return Ok(());
            }
            Err(frame) => frame.into_trailers().unwrap_or_default(),
        };
        self.metrics = text(&trailers, &trailer::SUMMARY).and_then(trailer::read_summary);
        match text(&trailers, &trailer::ERROR) {
            None => Ok(()),
            Some(error) => {
                let error = serde_json::from_str(error).unwrap_or_default();
                let told = || Failure::Other(anyhow!("{}: {error}", self.broken("before its end")));
                Err(QueryError::from_json(&error).map_or_else(told, Failure::Query))
            }
        }
    }

    /// Whether the stream's own mark of its end was there. The decoder takes nothing behind it.
    fn is_whole(&mut self) -> bool {
        self.decoder.finish().is_ok() && self.decoder.decode(&mut Buffer::from([0_u8])).is_err()
    }

    fn broken(&self, how: &str) -> String {
        format!("the answer of the server at {} broke off {how}", self.server)
    }
}

fn text<'t>(trailers: &'t HeaderMap, name: &axum::http::HeaderName) -> Option<&'t str> {
    trailers.get(name)?.to_str().ok()
}

async fn next_frame(body: &mut Incoming) -> Option<Result<Frame<Bytes>, hyper::Error>> {
    poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await
}

/// All of a short body.
pub(super) async fn all(mut body: Incoming, most: usize) -> anyhow::Result<Vec<u8>> {
    let mut all = Vec::new();
    while let Some(frame) = next_frame(&mut body).await {
        let Ok(bytes) = frame?.into_data() else { break };
        ensure!(all.len() + bytes.len() <= most, "the answer is longer than {most} bytes");
        all.extend_from_slice(&bytes);
    }
    Ok(all)
}
