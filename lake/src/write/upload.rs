//! From the encoder, which blocks, to the store, which does not: in parts, so that no file is ever whole in memory.

use super::{WriteOptions, encode};
use crate::LakeError;
use crate::table::Table;
use arrow::array::RecordBatch;
use bytes::{Bytes, BytesMut};
use object_store::buffered::BufWriter;
use object_store::path::Path;
use std::io::{self, Write};
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

/// The size of a part: above the least that S3 takes, and a file below it is one simple put.
const PART_BYTES: usize = 8 << 20;

/// So many parts of one file are on their way at once.
const PARTS_IN_FLIGHT: usize = 2;

/// What the encoder hands over at once.
const CHUNK_BYTES: usize = 1 << 20;

/// So many chunks may wait for the store before the encoder does.
const CHUNKS_WAITING: usize = 4;

/// Encodes and uploads the rows; says how many bytes the file has.
pub(super) async fn upload(
    table: &Table,
    path: &Path,
    rows: RecordBatch,
    options: &WriteOptions,
) -> Result<u64, LakeError> {
    let (sender, chunks) = mpsc::channel::<Bytes>(CHUNKS_WAITING);
    let options = options.clone();
    let encoder =
        table.blocking(move || encode::encode(&rows, &options, Chunks { sender, buffer: BytesMut::new() }));
    let mut store = BufWriter::with_capacity(table.store(), path.clone(), PART_BYTES)
        .with_max_concurrency(PARTS_IN_FLIGHT);
    let send = async {
        // Moved in here, so that it is gone when the store has failed: that is how the encoder learns of it.
        let mut chunks = chunks;
        let mut size = 0;
        while let Some(chunk) = chunks.recv().await {
            size += chunk.len() as u64;
            store.put(chunk).await?;
        }
        Ok::<u64, object_store::Error>(size)
    };
    let (sent, encoded) = futures::join!(send, encoder);
    let failure = match (sent, encoded) {
        (Ok(size), Ok(Ok(()))) => {
            return store
                .shutdown()
                .await
                .map(|()| size)
                .map_err(|error| upload_failed(table, of_store(error)));
        }
        (Err(source), _) => upload_failed(table, source),
        (Ok(_), Err(interrupted)) => interrupted,
        (Ok(_), Ok(Err(source))) => LakeError::Parquet { table: table.name().to_owned(), source },
    };
    if let Err(error) = store.abort().await {
        tracing::debug!(table = table.name(), %path, %error, "left the parts of an upload behind");
    }
    Err(failure)
}

/// What the store said, out of the wrapping that `AsyncWrite` needs.
fn of_store(error: io::Error) -> object_store::Error {
    let wrap = |error| object_store::Error::Generic { store: "upload", source: Box::new(error) };
    error.downcast::<object_store::Error>().unwrap_or_else(wrap)
}

fn upload_failed(table: &Table, source: object_store::Error) -> LakeError {
    LakeError::Store { action: "upload a file of", place: format!("table {}", table.name()), source }
}

/// What the encoder writes to: it waits here while the store is slower.
struct Chunks {
    sender: mpsc::Sender<Bytes>,
    buffer: BytesMut,
}

impl Chunks {
    fn send(&mut self) -> io::Result<()> {
        let chunk = self.buffer.split().freeze();
        self.sender.blocking_send(chunk).map_err(|error| io::Error::new(io::ErrorKind::BrokenPipe, error))
    }
}

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= CHUNK_BYTES {
            self.send()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() { Ok(()) } else { self.send() }
    }
}
