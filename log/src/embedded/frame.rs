//! The frame around a batch of records, and how a file of frames is read. It neither writes files nor knows how they are named.
//!
//! A frame is a header of 32 bytes and a body; numbers are little endian:
//!
//! | bytes | what |
//! | --- | --- |
//! | 0..8 | the log's marker: random, so that no payload can pretend to be a frame |
//! | 8..16 | offset of the first record |
//! | 16..20 | records; 0 in a seal, which ends a segment that has a successor |
//! | 20..24 | bytes of the body |
//! | 24..28 | CRC32C of the body |
//! | 28..32 | CRC32C of bytes 0 to 28 |
//!
//! A record is the lengths of key and value and the number of headers, 4 bytes each; key; value; and for each header the lengths of name
//! and value, 4 bytes each; name; value.

use crate::error::LogError;
use bytes::{Buf, Bytes};
use millstream_model::name::Offset;
use millstream_model::record::{Record, Stored};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// Bytes of a frame's header.
pub(crate) const HEADER_BYTES: u64 = 32;

/// How much of a file is fetched at once: small batches then cost a fraction of a system call each, and a reader's memory stays small.
const CHUNK_BYTES: u64 = 256 * 1024;

/// What `millstream log repair` does about a damaged segment.
pub(crate) const REPAIR: &str = "keep every batch that can still be read, put a marked empty record in the place of each lost one, and leave a copy of the file beside it";

/// Eight random bytes that every frame of one log begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Marker(pub(crate) [u8; 8]);

/// What a frame says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) first: Offset,
    pub(crate) count: u32,
    pub(crate) length: u32,
    pub(crate) body_crc: u32,
}

impl Header {
    /// The frame that ends a segment: the following one begins at `next`.
    pub(crate) fn seal(next: Offset) -> Self {
        Self { first: next, count: 0, length: 0, body_crc: crc32c::crc32c(&[]) }
    }

    pub(crate) fn is_seal(&self) -> bool {
        self.count == 0
    }

    /// The offset behind the frame's records.
    pub(crate) fn next(&self) -> Offset {
        Offset(self.first.0 + i64::from(self.count))
    }

    /// Bytes of header and body.
    pub(crate) fn frame_bytes(&self) -> u64 {
        HEADER_BYTES + u64::from(self.length)
    }

    pub(crate) fn encode(&self, marker: Marker) -> [u8; HEADER_BYTES as usize] {
        let mut bytes = [0; HEADER_BYTES as usize];
        bytes[0..8].copy_from_slice(&marker.0);
        bytes[8..16].copy_from_slice(&self.first.0.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.count.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.length.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.body_crc.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[0..28]);
        bytes[28..32].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads a header.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn decode(marker: Marker, bytes: &[u8]) -> Result<Self, &'static str> {
        let (Some(head), true) = (bytes.get(0..28), bytes.starts_with(&marker.0)) else {
            return Err("no batch begins here");
        };
        let mut fields = &bytes[8..];
        let cut = "a batch's header is cut short";
        let first = Offset(fields.try_get_i64_le().or(Err(cut))?);
        let count = fields.try_get_u32_le().or(Err(cut))?;
        let length = fields.try_get_u32_le().or(Err(cut))?;
        let body_crc = fields.try_get_u32_le().or(Err(cut))?;
        if fields.try_get_u32_le().or(Err(cut))? != crc32c::crc32c(head) {
            return Err("a batch's header does not match its checksum");
        }
        Ok(Self { first, count, length, body_crc })
    }
}

/// A batch being put together.
#[derive(Debug)]
pub(crate) struct Batch {
    frame: Vec<u8>,
    count: u32,
}

impl Default for Batch {
    fn default() -> Self {
        Self { frame: vec![0; HEADER_BYTES as usize], count: 0 }
    }
}

impl Batch {
    /// More than this much memory is not kept from one batch to the next.
    const KEPT_BYTES: usize = 1024 * 1024;

    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// Bytes of the frame so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.frame.len() as u64
    }

    /// Adds a record. The lengths fit 32 bits because an append is limited to far less.
    pub(crate) fn push(&mut self, record: &Record) {
        for length in [record.key.len(), record.value.len(), record.headers.len()] {
            self.frame.extend_from_slice(&(length as u32).to_le_bytes());
        }
        self.frame.extend_from_slice(&record.key);
        self.frame.extend_from_slice(&record.value);
        for (name, value) in &record.headers {
            self.frame.extend_from_slice(&(name.len() as u32).to_le_bytes());
            self.frame.extend_from_slice(&(value.len() as u32).to_le_bytes());
            self.frame.extend_from_slice(name.as_bytes());
            self.frame.extend_from_slice(value);
        }
        self.count += 1;
    }

    /// The whole frame, its first record at `first`.
    pub(crate) fn finish(&mut self, marker: Marker, first: Offset) -> &[u8] {
        let body = &self.frame[HEADER_BYTES as usize..];
        let header =
            Header { first, count: self.count, length: body.len() as u32, body_crc: crc32c::crc32c(body) };
        self.frame[..HEADER_BYTES as usize].copy_from_slice(&header.encode(marker));
        &self.frame
    }

    /// Empties the batch.
    pub(crate) fn clear(&mut self) {
        self.frame.truncate(HEADER_BYTES as usize);
        self.frame.shrink_to(Self::KEPT_BYTES);
        self.count = 0;
    }
}

/// The records of one batch, decoded one by one out of its verified body. Their bytes are shared, not copied.
#[derive(Debug)]
pub(crate) struct Records {
    body: Bytes,
    at: u64,
    next: Offset,
    left: u32,
}

impl Iterator for Records {
    type Item = Result<Stored, Flaw>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let Some(record) = decode(&mut self.body) else {
            return Some(Err(Flaw::Found {
                at: self.at,
                detail: "a batch holds fewer records than it says",
            }));
        };
        let offset = self.next;
        self.next = offset.next();
        Some(Ok(Stored { offset, appended_at: None, record }))
    }
}

fn decode(body: &mut Bytes) -> Option<Record> {
    let key = body.try_get_u32_le().ok()? as usize;
    let value = body.try_get_u32_le().ok()? as usize;
    let headers = body.try_get_u32_le().ok()?;
    let key = take(body, key)?;
    let value = take(body, value)?;
    let headers = (0..headers).map(|_| {
        let name = body.try_get_u32_le().ok()? as usize;
        let value = body.try_get_u32_le().ok()? as usize;
        let name = String::from_utf8(take(body, name)?.to_vec()).ok()?;
        Some((name, take(body, value)?))
    });
    let headers = headers.collect::<Option<Vec<_>>>()?;
    Some(Record { key, value, headers })
}

fn take(body: &mut Bytes, length: usize) -> Option<Bytes> {
    (body.len() >= length).then(|| body.split_to(length))
}

/// Why a frame could not be read.
#[derive(Debug)]
pub(crate) enum Flaw {
    /// Something else stands there than was written.
    Found { at: u64, detail: &'static str },
    /// The file could not be read.
    Io(io::Error),
}

impl Flaw {
    pub(crate) fn in_file(self, path: &Path) -> LogError {
        match self {
            Self::Found { at, detail } => damaged(path, at, detail.to_owned()),
            Self::Io(source) => {
                LogError::Io { action: "read", path: path.to_owned(), source: Arc::new(source) }
            }
        }
    }
}

/// Damage that `millstream log repair` can mend.
pub(crate) fn damaged(path: &Path, at: u64, detail: String) -> LogError {
    LogError::Damaged { path: path.to_owned(), at, detail, repair: REPAIR.to_owned() }
}

/// A place in a file of frames. How far the file may be read is said by each call, because the end moves.
#[derive(Debug)]
pub(crate) struct Frames {
    file: File,
    marker: Marker,
    at: u64,
    chunk: Bytes,
    chunk_at: u64,
}

impl Frames {
    pub(crate) fn new(file: File, marker: Marker, at: u64) -> Self {
        Self { file, marker, at, chunk: Bytes::new(), chunk_at: 0 }
    }

    pub(crate) fn at(&self) -> u64 {
        self.at
    }

    /// Goes elsewhere.
    pub(crate) fn seek(&mut self, at: u64) {
        self.at = at;
    }

    /// The header of the frame that begins here; none at the end.
    ///
    /// # Errors
    /// If no whole frame begins here, or the file cannot be read.
    pub(crate) fn header(&mut self, end: u64) -> Result<Option<Header>, Flaw> {
        let left = end.saturating_sub(self.at);
        if left == 0 {
            return Ok(None);
        }
        let at = self.at;
        let flaw = |detail| Flaw::Found { at, detail };
        let bytes = self.fetch(at, HEADER_BYTES.min(left), end)?;
        let header = Header::decode(self.marker, &bytes).map_err(flaw)?;
        if header.frame_bytes() > left {
            return Err(flaw("a batch is cut short"));
        }
        Ok(Some(header))
    }

    /// Steps over the frame of this header.
    pub(crate) fn skip(&mut self, header: &Header) {
        self.at += header.frame_bytes();
    }

    /// The records of this header's frame, verified; steps over the frame.
    ///
    /// # Errors
    /// If the body is not what was written, or the file cannot be read.
    pub(crate) fn records(&mut self, header: &Header, end: u64) -> Result<Records, Flaw> {
        let body = self.fetch(self.at + HEADER_BYTES, u64::from(header.length), end)?;
        if crc32c::crc32c(&body) != header.body_crc {
            return Err(Flaw::Found { at: self.at, detail: "a batch does not match its checksum" });
        }
        let records = Records { body, at: self.at, next: header.first, left: header.count };
        self.skip(header);
        Ok(records)
    }

    /// Bytes of the file, through the chunk that was fetched last.
    pub(crate) fn fetch(&mut self, at: u64, length: u64, end: u64) -> Result<Bytes, Flaw> {
        let chunk_end = self.chunk_at + self.chunk.len() as u64;
        if at < self.chunk_at || at + length > chunk_end {
            let wanted = length.max(CHUNK_BYTES.min(end.saturating_sub(at)));
            let mut chunk = vec![0; wanted as usize];
            self.file.read_exact_at(&mut chunk, at).map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => Flaw::Found { at, detail: "the file is shorter than it was" },
                _ => Flaw::Io(error),
            })?;
            self.chunk = Bytes::from(chunk);
            self.chunk_at = at;
        }
        let from = (at - self.chunk_at) as usize;
        Ok(self.chunk.slice(from..from + length as usize))
    }
}
