//! What one look at a table and its tail found: a version of the table, and exactly the rows that the log has beyond it.

use super::chunk::Chunk;
use super::standing::{Seen, Standing};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use millstream_lake::Snapshot;
use millstream_model::name::Offset;
use millstream_model::time::Micros;
use millstream_readings::Quarantined;
use std::sync::Arc;

/// A table and its tail at one moment. It never changes.
#[derive(Debug)]
pub(crate) struct View {
    /// The table's name.
    pub(super) table: String,
    /// `None`: there is no table yet, and all of it is tail.
    pub(super) seen: Option<Seen>,
    pub(super) standing: Standing,
    /// The columns of what the log has beyond it; `None` where that can only be quarantine.
    pub(super) columns: Option<SchemaRef>,
    /// The pieces of the tail, each with the first offset of it that is part of it.
    pub(super) pieces: Vec<(Arc<Chunk>, Offset)>,
    /// When the newest message of the tail was received; `None` if nothing waits.
    pub(super) newest: Option<Micros>,
    /// When the log's end was looked up.
    pub(super) as_of: Micros,
}

impl View {
    /// The table's version; `None` if there is no table.
    pub(super) fn snapshot(&self) -> Option<&Arc<Snapshot>> {
        self.seen.as_ref().map(|(_, snapshot)| snapshot)
    }

    /// The readings beyond the table's version.
    pub(super) fn readings(&self) -> Vec<RecordBatch> {
        self.pieces.iter().filter_map(|(chunk, from)| chunk.readings(*from)).collect()
    }

    /// The messages beyond the table's version that go to quarantine.
    pub(super) fn quarantined(&self) -> impl Iterator<Item = &Quarantined> {
        self.pieces.iter().flat_map(|(chunk, from)| chunk.quarantined(*from))
    }

    /// The same table, whose rows come from elsewhere, too.
    pub(super) fn at(&self, newest: Option<Micros>, as_of: Micros) -> Self {
        Self {
            table: self.table.clone(),
            seen: self.seen.clone(),
            standing: self.standing.clone(),
            columns: self.columns.clone(),
            pieces: Vec::new(),
            newest,
            as_of,
        }
    }
}
