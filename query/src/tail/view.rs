//! What one look at a table and its tail found: a version of the table, and exactly the rows that the log has beyond it.

use super::chunk::Chunk;
use super::standing::{Seen, Standing};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use millstream_lake::Snapshot;
use millstream_model::name::{Offset, Partition};
use millstream_model::time::Micros;
use std::sync::Arc;

/// A table and its tail at one moment. It never changes.
#[derive(Debug)]
pub(crate) struct View {
    /// The table's name.
    pub(super) table: String,
    /// `None`: there is no table yet, and all of it is tail.
    pub(super) seen: Option<Seen>,
    pub(super) standing: Standing,
    /// The columns of what the log has beyond it.
    pub(super) columns: SchemaRef,
    pub(super) pieces: Vec<Piece>,
    /// When the newest message of the tail was received; `None` if nothing waits.
    pub(super) newest: Option<Micros>,
    /// Everything that was acknowledged before is in it.
    pub(super) as_of: Micros,
}

/// A piece of the tail.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    pub(super) chunk: Arc<Chunk>,
    pub(super) partition: Partition,
    /// The first offset of it that is part of the tail.
    pub(super) from: Offset,
}

/// Rows of a tail, and the pieces that they are parts of: who holds the rows holds the pieces, too, so that their memory counts as taken for as long.
#[derive(Debug, Default)]
pub(super) struct Rows {
    pub(super) batches: Vec<RecordBatch>,
    chunks: Vec<Arc<Chunk>>,
}

impl Rows {
    pub(super) fn append(&mut self, mut more: Self) {
        self.batches.append(&mut more.batches);
        self.chunks.append(&mut more.chunks);
    }
}

impl FromIterator<(RecordBatch, Arc<Chunk>)> for Rows {
    fn from_iter<I: IntoIterator<Item = (RecordBatch, Arc<Chunk>)>>(parts: I) -> Self {
        let (batches, chunks) = parts.into_iter().unzip();
        Self { batches, chunks }
    }
}

impl View {
    /// The table's version; `None` if there is no table.
    pub(super) fn snapshot(&self) -> Option<&Arc<Snapshot>> {
        self.seen.as_ref().map(|(_, snapshot)| snapshot)
    }

    /// The readings beyond the table's version.
    pub(super) fn readings(&self) -> Rows {
        let part = |piece: &Piece| Some((piece.chunk.readings(piece.from)?, Arc::clone(&piece.chunk)));
        self.pieces.iter().filter_map(part).collect()
    }

    /// The rows of quarantine beyond the table's version, without those that quarantine has: of each partition up to and with this offset.
    pub(super) fn quarantined(&self, repeated: impl Fn(Partition) -> Option<Offset>) -> Rows {
        let part = |piece: &Piece| {
            let from = repeated(piece.partition).map_or(piece.from, |last| piece.from.max(last.next()));
            Some((piece.chunk.quarantined(from)?, Arc::clone(&piece.chunk)))
        };
        self.pieces.iter().filter_map(part).collect()
    }
}
