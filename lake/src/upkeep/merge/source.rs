//! A data file of a table, as the Parquet reader asks for it.

use crate::LakeError;
use crate::table::Table;
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use std::ops::Range;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Footers are mostly shorter: then one request reads one.
const FOOTER_BYTES: usize = 64 << 10;

/// The file.
pub(super) struct Source {
    store: Arc<dyn ObjectStore>,
    path: Path,
    size: u64,
    /// Whoever reads has one of these meanwhile; shared with the other files of the merge, all of which begin to read at the same moment.
    turns: Arc<Semaphore>,
}

impl Source {
    /// The file at a path within the table's folder, and its size in bytes. As many are read at once as there are turns.
    pub(super) fn new(
        table: &Table,
        path: &str,
        size: u64,
        turns: &Arc<Semaphore>,
    ) -> std::result::Result<Self, LakeError> {
        let store = table.store();
        let path = Path::parse(path).map_err(|source| LakeError::Store {
            action: "read a file of",
            place: format!("table {}", table.name()),
            source: source.into(),
        })?;
        Ok(Self { store, path, size, turns: Arc::clone(turns) })
    }
}

fn unread(error: object_store::Error) -> ParquetError {
    ParquetError::External(Box::new(error))
}

impl AsyncFileReader for Source {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes>> {
        async move {
            let _turn = self.turns.acquire().await;
            self.store.get_range(&self.path, range).await.map_err(unread)
        }
        .boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, Result<Vec<Bytes>>> {
        async move {
            let _turn = self.turns.acquire().await;
            self.store.get_ranges(&self.path, &ranges).await.map_err(unread)
        }
        .boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>>> {
        let size = self.size;
        let reader = ParquetMetaDataReader::new()
            .with_prefetch_hint(Some(FOOTER_BYTES))
            .with_arrow_reader_options(options);
        async move { Ok(Arc::new(reader.load_and_finish(self, size).await?)) }.boxed()
    }
}
