//! Rows become files: split by date, sorted, encoded as Parquet, measured and uploaded under names that nobody has seen before.
//!
//! What is uploaded here is invisible until [`Table::commit`]; if that never comes, it is an orphan that costs space and nothing else.

mod arrange;
mod encode;
mod inflow;
mod measure;
mod upload;

pub(crate) use inflow::Inflow;

use crate::table::Table;
use crate::{LakeError, NewFile, Snapshot};
use arrow::array::RecordBatch;
use chrono::Utc;
use futures::{StreamExt, stream};
use millstream_model::column::reserved;
use object_store::path::Path;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use uuid::Uuid;

/// So many files of one batch are on their way at once: enough that a store's latency does not add up over the dates of a flush, few enough that their parts
/// (`upload`) stay within some 100 MiB.
const FILES_IN_FLIGHT: usize = 4;

/// How the files of one batch are written.
#[derive(Debug, Clone)]
pub struct WriteOptions {
    /// Rows are sorted by these columns, in this order; a column that the batch lacks is left out.
    pub sort_by: Vec<String>,
    /// Columns that get a bloom filter; a column that the batch lacks is left out.
    pub bloom: Vec<String>,
    /// What every file says about itself, for the audit.
    pub tags: BTreeMap<String, String>,
    /// At most so many rows in a row group.
    pub row_group_rows: usize,
}

impl Default for WriteOptions {
    /// By device and time, a bloom filter on the device, a million rows.
    fn default() -> Self {
        Self {
            sort_by: vec![reserved::DEVICE_ID.to_owned(), reserved::TS.to_owned()],
            bloom: vec![reserved::DEVICE_ID.to_owned()],
            tags: BTreeMap::new(),
            row_group_rows: 1 << 20,
        }
    }
}

impl Table {
    /// Uploads the rows, one file for each date among them; none for no rows. Nobody sees them until they are committed.
    ///
    /// Values are written as they are: each column must have the type that it has in the table. Memory beyond the batch and its sorted copy is bounded by a few parts
    /// of each of a few uploads. When one file fails, those that
    /// are on their way come to their end, and nobody will ever see them. Let the future come to its end too: what is dropped leaves parts in the store.
    ///
    /// # Errors
    /// `Refused` when a column is not the table's, `Rows` and `Parquet` when the rows cannot be encoded, `Store` when the upload fails.
    pub async fn write(&self, batch: RecordBatch, options: &WriteOptions) -> Result<Vec<NewFile>, LakeError> {
        if batch.num_rows() == 0 {
            return Ok(Vec::new());
        }
        let mut snapshot = self.seen().await?;
        if misfit(&snapshot, &batch).is_some() {
            snapshot = self.snapshot().await?;
        }
        if let Some(reason) = misfit(&snapshot, &batch) {
            return Err(LakeError::Refused { what: "batch", table: self.name().to_owned(), reason });
        }
        let partition_by = snapshot.partition_by().to_vec();
        let sort_by = options.sort_by.clone();
        let slices = self
            .blocking(move || arrange::arrange(&batch, &partition_by, &sort_by))
            .await?
            .map_err(|source| LakeError::Rows { table: self.name().to_owned(), source })?;
        // A file that is dropped on its way leaves its parts in the store: those that are begun come to their end, and after a failure no others are begun.
        let failed = AtomicBool::new(false);
        let files = stream::iter(slices).map(|slice| async {
            if failed.load(Ordering::Relaxed) {
                return None;
            }
            let written = self.write_file(slice, options).await;
            failed.fetch_or(written.is_err(), Ordering::Relaxed);
            Some(written)
        });
        let ended: Vec<_> = files.buffered(FILES_IN_FLIGHT).collect().await;
        ended.into_iter().flatten().collect()
    }

    async fn write_file(&self, slice: arrange::Slice, options: &WriteOptions) -> Result<NewFile, LakeError> {
        let arrange::Slice { partition_values, rows } = slice;
        let path = new_path(&partition_values);
        let measured = rows.clone();
        let stats = self.blocking(move || measure::measure(&measured)).await?;
        let count = rows.num_rows() as u64;
        let how = options.clone();
        let encode = move |out: upload::Chunks| encode::encode(&rows, &how, out);
        let (size, ()) = upload::upload(self, &path, encode).await?;
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

/// What the names of our files begin and end with; a UUID is between them.
const NAME: (&str, &str) = ("part-", ".zstd.parquet");

/// A name that no file has, in the folder of its partition.
fn new_path(partition_values: &BTreeMap<String, Option<String>>) -> Path {
    let (begin, end) = NAME;
    Path::from(format!("{}{begin}{}{end}", arrange::folder(partition_values), Uuid::new_v4()))
}

/// Whether a file has a name, and lies in a folder, that [`Table::write`] may have given it.
pub(crate) fn is_ours(path: &str, partition_by: &[String]) -> bool {
    let mut folders = path.split('/');
    let name = folders.next_back().and_then(|name| name.strip_prefix(NAME.0)?.strip_suffix(NAME.1));
    let placed = partition_by.len() == folders.clone().count()
        && folders.all(|folder| {
            folder.split_once('=').is_some_and(|(column, _)| partition_by.iter().any(|known| known == column))
        });
    placed && name.is_some_and(|name| name.len() == 36 && Uuid::try_parse(name).is_ok())
}

/// What of the batch is not the table's, if anything.
fn misfit(snapshot: &Snapshot, batch: &RecordBatch) -> Option<String> {
    let schema = snapshot.schema();
    let missing =
        snapshot.partition_by().iter().find(|column| batch.schema_ref().field_with_name(column).is_err());
    if let Some(column) = missing {
        return Some(format!("it lacks the partition column {column}"));
    }
    batch.schema_ref().fields().iter().find_map(|field| match schema.field_with_name(field.name()) {
        Ok(known) if known.data_type() == field.data_type() => None,
        Ok(known) => {
            let (name, theirs, ours) = (field.name(), field.data_type(), known.data_type());
            Some(format!("column {name} is {theirs} there and {ours} in the table"))
        }
        Err(_) => Some(format!("the table has no column {}", field.name())),
    })
}

#[cfg(test)]
mod tests;
