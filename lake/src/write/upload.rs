//! From the encoder, which blocks, to the store, which does not: in parts, so that no file is ever whole in memory.

use crate::LakeError;
use crate::table::Table;
use bytes::{Bytes, BytesMut};
use object_store::path::Path;
use object_store::{
    Error, MultipartUpload, ObjectStore, ObjectStoreExt, PutMultipartOptions, PutPayload, Result,
};
use parquet::errors::Result as Encoded;
use std::io::{self, Write};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// The size of a part: above the least that S3 takes, and a file below it is one simple put.
const PART_BYTES: usize = 8 << 20;

/// So many parts of one file are on their way at once.
const PARTS_IN_FLIGHT: usize = 2;

/// What the encoder hands over at once.
const CHUNK_BYTES: usize = 1 << 20;

/// So many chunks may wait for the store before the encoder does.
const CHUNKS_WAITING: usize = 4;

/// Uploads what `encode` writes, and says how many bytes the file has, and what `encode` said.
pub(super) async fn upload<T: Send + 'static>(
    table: &Table,
    path: &Path,
    encode: impl FnOnce(Chunks) -> Encoded<T> + Send + 'static,
) -> std::result::Result<(u64, T), LakeError> {
    let (sender, chunks) = mpsc::channel::<Bytes>(CHUNKS_WAITING);
    let encoder = table.blocking(move || encode(Chunks { sender, buffer: BytesMut::new() }));
    let store = table.store();
    let mut upload = Upload::new(store.as_ref(), path);
    let send = async {
        // Moved in here, so that it is gone when the store has failed: that is how the encoder learns of it.
        let mut chunks = chunks;
        while let Some(chunk) = chunks.recv().await {
            upload.put(chunk).await?;
        }
        Ok::<(), Error>(())
    };
    let (sent, encoded) = futures::join!(send, encoder);
    let whole = match (sent, encoded) {
        (Ok(()), Ok(Ok(said))) => match upload.finish().await {
            Ok(bytes) => Ok((bytes, said)),
            Err(source) => Err(failed(table, source)),
        },
        (Err(source), _) => Err(failed(table, source)),
        (Ok(()), Err(interrupted)) => Err(interrupted),
        (Ok(()), Ok(Err(source))) => Err(LakeError::Parquet { table: table.name().to_owned(), source }),
    };
    if whole.is_err()
        && let Err(error) = upload.abort().await
    {
        tracing::debug!(table = table.name(), %path, %error, "left the parts of an upload behind");
    }
    whole
}

fn failed(table: &Table, source: Error) -> LakeError {
    LakeError::Store { action: "upload a file of", place: format!("table {}", table.name()), source }
}

/// A file on its way. Nobody sees it before `finish`; where that does not succeed, `abort` has the store forget its parts.
///
/// `object_store` has such a writer, but it keeps the parts when the last of them fails.
struct Upload<'a> {
    store: &'a dyn ObjectStore,
    path: &'a Path,
    /// What is not yet a whole part.
    rest: BytesMut,
    bytes: u64,
    /// From the first whole part on.
    parts: Option<Box<dyn MultipartUpload>>,
    in_flight: JoinSet<Result<()>>,
}

impl<'a> Upload<'a> {
    fn new(store: &'a dyn ObjectStore, path: &'a Path) -> Self {
        Self { store, path, rest: BytesMut::new(), bytes: 0, parts: None, in_flight: JoinSet::new() }
    }

    /// Takes more of the file. Waits while enough of it is on its way.
    async fn put(&mut self, chunk: Bytes) -> Result<()> {
        self.bytes += chunk.len() as u64;
        self.rest.extend_from_slice(&chunk);
        while self.rest.len() >= PART_BYTES {
            let part = self.rest.split_to(PART_BYTES).freeze();
            self.send(part).await?;
        }
        Ok(())
    }

    async fn send(&mut self, part: Bytes) -> Result<()> {
        if self.parts.is_none() {
            let opened = self.store.put_multipart_opts(self.path, PutMultipartOptions::default()).await?;
            self.parts = Some(opened);
        }
        self.wait_below(PARTS_IN_FLIGHT).await?;
        if let Some(parts) = &mut self.parts {
            self.in_flight.spawn(parts.put_part(PutPayload::from(part)));
        }
        Ok(())
    }

    async fn wait_below(&mut self, most: usize) -> Result<()> {
        while self.in_flight.len() >= most {
            match self.in_flight.join_next().await {
                Some(sent) => sent??,
                None => break,
            }
        }
        Ok(())
    }

    /// Makes it a file; says how many bytes it has.
    async fn finish(&mut self) -> Result<u64> {
        let rest = self.rest.split().freeze();
        if self.parts.is_none() {
            self.store.put(self.path, rest.into()).await?;
            return Ok(self.bytes);
        }
        if !rest.is_empty() {
            self.send(rest).await?;
        }
        self.wait_below(1).await?;
        if let Some(parts) = &mut self.parts {
            parts.complete().await?;
        }
        Ok(self.bytes)
    }

    async fn abort(&mut self) -> Result<()> {
        self.in_flight.shutdown().await;
        match &mut self.parts {
            Some(parts) => parts.abort().await,
            None => Ok(()),
        }
    }
}

/// What the encoder writes to: it waits here while the store is slower.
pub(super) struct Chunks {
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
