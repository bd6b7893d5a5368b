//! Rows of one partition that come in their order, batch by batch, and become one file: what a compaction writes.
//!
//! Memory is bounded by one row group as it is encoded, a few batches, and the parts of one upload, however many rows there are.

use super::{WriteOptions, encode, measure, new_path, upload};
use crate::table::Table;
use crate::{LakeError, NewFile};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use chrono::Utc;
use futures::{Stream, StreamExt};
use parquet::errors::ParquetError;
use std::collections::{BTreeMap, HashSet};
use tokio::sync::mpsc;

/// So many batches may wait for the encoder.
const BATCHES_WAITING: usize = 4;

/// Rows on their way to one file.
pub(crate) struct Inflow<S> {
    /// The partition to which all of them belong.
    pub(crate) partition_values: BTreeMap<String, Option<String>>,
    /// The columns of each batch: the table's, without those of the partition.
    pub(crate) schema: SchemaRef,
    /// Columns of floats that may hold NaN: they get no bounds in the file.
    pub(crate) unbounded: HashSet<String>,
    /// The rows, in the order of the file.
    pub(crate) rows: S,
}

impl Table {
    /// Uploads the rows as one file. Nobody sees it until it is committed; when the rows or the upload fail, nothing is left of it.
    ///
    /// # Errors
    /// What the rows end with; `Parquet` when they cannot be encoded, `Store` when the upload fails.
    pub(crate) async fn write_inflow<S>(
        &self,
        inflow: Inflow<S>,
        options: &WriteOptions,
    ) -> Result<NewFile, LakeError>
    where
        S: Stream<Item = Result<RecordBatch, LakeError>>,
    {
        let Inflow { partition_values, schema, unbounded, rows } = inflow;
        let path = new_path(&partition_values);
        let (sender, mut batches) = mpsc::channel::<Option<RecordBatch>>(BATCHES_WAITING);
        let how = options.clone();
        let encode = move |out: upload::Chunks| {
            let mut encoder = encode::Encoder::new(&schema, &unbounded, &how, out)?;
            let mut measured = measure::Measured::default();
            loop {
                match batches.blocking_recv() {
                    Some(Some(batch)) => {
                        measured.add(&batch);
                        encoder.add(&batch)?;
                    }
                    Some(None) => break,
                    // The rows have failed: without a footer it will be no file, and is given up.
                    None => {
                        return Err(ParquetError::General("the rows did not come to their end".to_owned()));
                    }
                }
            }
            encoder.finish()?;
            Ok((measured.rows(), measured.to_stats()))
        };
        let uploaded = upload::upload(self, &path, encode);
        let fed = async {
            // Moved in here, so that it is gone when the rows have failed: that is how the encoder learns of it.
            let sender = sender;
            let mut rows = std::pin::pin!(rows);
            while let Some(batch) = rows.next().await {
                // Whoever encodes says himself why he takes no more.
                if sender.send(Some(batch?)).await.is_err() {
                    return Ok(());
                }
            }
            sender.send(None).await.ok();
            Ok(())
        };
        let (fed, uploaded) = futures::join!(fed, uploaded);
        fed?;
        let (size, (count, stats)) = uploaded?;
        Ok(NewFile {
            path: path.to_string(),
            size,
            rows: count,
            partition_values,
            stats: stats.to_string(),
            tags: options.tags.clone(),
            modified_ms: Utc::now().timestamp_millis(),
        })
    }
}
