//! How a handle comes to know the latest version: by replaying the log once, and from then on commit by commit.
//!
//! `checkpoint` finds where replaying may begin.

mod checkpoint;

use crate::snapshot::Txn;
use crate::table::{READ_AHEAD, Table, commit_path};
use crate::{DataFile, LakeError, Snapshot};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use bytes::Bytes;
pub(crate) use checkpoint::hinted;
use checkpoint::{Checkpoint, ask_store, newest_checkpoint};
use chrono::{DateTime, Utc};
use deltalake_core::DeltaTableError;
use deltalake_core::kernel::{Action, EagerSnapshot};
use futures::{StreamExt, TryStreamExt, stream};
use object_store::{ObjectMeta, ObjectStoreExt, PutResult};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// A handle that has not looked for so long reads everything anew. A missing next commit means "nothing new" only as long as nobody can have cleaned the log
/// behind our back; Delta's writers keep at least an hour, and by default 30 days.
const TRUSTED: Duration = Duration::from_secs(15 * 60);

/// What a handle knows.
pub(crate) struct Latest {
    pub(crate) snapshot: Arc<Snapshot>,
    /// The version of the newest checkpoint that is known of.
    pub(crate) checkpoint: Option<i64>,
    /// The file of the commit that made `snapshot`, while it is in the log: a table that is made anew in this one's place has another there, or none.
    last: Option<ObjectMeta>,
    /// When the log was last seen to end with `snapshot`.
    looked: Instant,
}

impl Latest {
    /// Replays the log; none if there is none.
    pub(crate) async fn load(table: &Table) -> Result<Option<Self>, LakeError> {
        let looked = Instant::now();
        let failed = |source| table.log_failed("read the log of", source);
        let replayed = match EagerSnapshot::try_new(table.log().as_ref(), None).await {
            Ok(replayed) => replayed,
            Err(DeltaTableError::NotATable(_)) => return Ok(None),
            Err(source) => {
                // The library says of a store's failure only that there was one: asked by ourselves, it says whether it is worth another try.
                ask_store(table).await?;
                return Err(failed(source));
            }
        };
        let version = i64::try_from(replayed.version()).unwrap_or(i64::MAX);
        let checkpoint = newest_checkpoint(table, version).await?;
        let txns = read_txns(table, checkpoint.as_ref(), version).await?;
        let metadata = replayed.metadata().clone();
        let mut snapshot = Snapshot::new(table.name(), version, replayed.protocol(), metadata, txns)?;
        let schema = snapshot.schema();
        for view in replayed.try_log_data().map_err(failed)?.iter() {
            #[expect(deprecated, reason = "the one public way to a file's tags")]
            let add = view.add_action();
            snapshot.insert_file(DataFile::added(add, &schema));
        }
        let checkpoint = checkpoint.map(|checkpoint| checkpoint.version);
        let last = table.commit_meta(version).await?;
        Ok(Some(Self { snapshot: Arc::new(snapshot), checkpoint, last, looked }))
    }

    /// Applies the commits that were made since. After an error that is worth a retry, it still is the version that it last reached.
    pub(crate) async fn refresh(&mut self, table: &Table) -> Result<(), LakeError> {
        if self.looked.elapsed() > TRUSTED {
            return self.reload(table).await;
        }
        let mut looked = Instant::now();
        let version = self.snapshot.version();
        let (last, mut following) =
            futures::try_join!(table.commit_meta(version), table.commit_file(version + 1))?;
        if !self.ends_with(last.as_ref()) {
            return self.reload(table).await;
        }
        while let Some((file, actions)) = following {
            let next = self.snapshot.version() + 1;
            // Copies only while somebody else still holds the version before.
            Arc::make_mut(&mut self.snapshot).advance(next, actions)?;
            self.last = Some(file);
            looked = Instant::now();
            following = table.commit_file(next + 1).await?;
        }
        self.looked = looked;
        Ok(())
    }

    /// Applies the commit that this handle made of what it knew: it is the next one, because its put was refused otherwise. A store that does not tag what is put is
    /// asked instead, the next time that somebody looks; so it is where another look came first.
    pub(crate) fn committed(
        &mut self,
        table: &Table,
        version: i64,
        bytes: &Bytes,
        put: PutResult,
    ) -> Result<(), LakeError> {
        let is_next = version == self.snapshot.version() + 1;
        let (Some(e_tag), Ok(number), true) = (put.e_tag, u64::try_from(version), is_next) else {
            return Ok(());
        };
        Arc::make_mut(&mut self.snapshot).advance(version, table.decode(number, bytes)?)?;
        self.last = Some(ObjectMeta {
            location: commit_path(version),
            // Told by the tag alone.
            last_modified: DateTime::<Utc>::UNIX_EPOCH,
            size: bytes.len() as u64,
            e_tag: Some(e_tag),
            version: put.version,
        });
        Ok(())
    }

    async fn reload(&mut self, table: &Table) -> Result<(), LakeError> {
        let gone = || LakeError::Gone { table: table.name().to_owned(), version: self.snapshot.version() };
        *self = Self::load(table).await?.ok_or_else(gone)?;
        Ok(())
    }

    /// Whether this is still the file that `snapshot` was made of; so it is taken to be where there was none.
    fn ends_with(&self, found: Option<&ObjectMeta>) -> bool {
        let Some(known) = &self.last else { return true };
        found.is_some_and(|found| match (&known.e_tag, &found.e_tag) {
            (Some(known), Some(found)) => known == found,
            _ => (known.last_modified, known.size) == (found.last_modified, found.size),
        })
    }
}

/// Every fence at version `until`: from the checkpoint, and from the commits after it.
async fn read_txns(
    table: &Table,
    checkpoint: Option<&Checkpoint>,
    until: i64,
) -> Result<BTreeMap<String, Txn>, LakeError> {
    let mut txns = BTreeMap::new();
    for part in checkpoint.iter().flat_map(|checkpoint| &checkpoint.parts) {
        let file = async { table.store().get(part).await?.bytes().await };
        let file = file.await.map_err(|source| LakeError::Store {
            action: "read a checkpoint of",
            place: format!("table {}", table.name()),
            source,
        })?;
        let read = table.blocking(move || txns_of_checkpoint(file)).await?;
        txns.append(
            &mut read.map_err(|source| LakeError::Parquet { table: table.name().to_owned(), source })?,
        );
    }
    let first = checkpoint.map_or(0, |checkpoint| checkpoint.version + 1);
    let mut commits = stream::iter(first..=until)
        .map(|version| async move { table.require_actions(version).await.map(|actions| (version, actions)) })
        .buffered(READ_AHEAD);
    while let Some((version, actions)) = commits.try_next().await? {
        for action in actions {
            if let Action::Txn(txn) = action {
                txns.insert(txn.app_id, Txn { value: txn.version, commit: Some(version) });
            }
        }
    }
    Ok(txns)
}

fn txns_of_checkpoint(file: Bytes) -> parquet::errors::Result<BTreeMap<String, Txn>> {
    let mut txns = BTreeMap::new();
    let builder = ParquetRecordBatchReaderBuilder::try_new(file)?;
    let Some(column) = builder.schema().fields().iter().position(|field| field.name() == "txn") else {
        return Ok(txns);
    };
    let only_txns = ProjectionMask::roots(builder.parquet_schema(), [column]);
    for batch in builder.with_projection(only_txns).build()? {
        collect_txns(&batch?, &mut txns);
    }
    Ok(txns)
}

/// Of a checkpoint's rows those that are a txn: a struct of `appId` and `version` that is not null.
fn collect_txns(batch: &RecordBatch, txns: &mut BTreeMap<String, Txn>) {
    let Some(rows) = batch.column(0).as_struct_opt() else { return };
    let (Some(apps), Some(versions)) = (
        rows.column_by_name("appId").and_then(|apps| apps.as_string_opt::<i32>()),
        rows.column_by_name("version").and_then(|versions| versions.as_primitive_opt::<Int64Type>()),
    ) else {
        return;
    };
    for row in 0..rows.len() {
        if rows.is_valid(row) && apps.is_valid(row) {
            txns.insert(apps.value(row).to_owned(), Txn { value: versions.value(row), commit: None });
        }
    }
}
