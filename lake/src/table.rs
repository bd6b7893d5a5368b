//! One Delta table of a bucket, and the ways to look at it.

mod origin;

use crate::refresh::{Latest, hinted};
use crate::{Bucket, CommitSummary, LakeError, Snapshot, bucket};
use bytes::Bytes;
use deltalake_core::kernel::Action;
use deltalake_core::logstore::{LogStoreRef, StorageConfig, default_logstore, get_actions};
use deltalake_core::{DeltaTable, DeltaTableError, checkpoints};
use futures::{StreamExt, TryStreamExt, stream};
use millstream_model::fault::Fault;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, PutResult};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Mutex;
use url::Url;

/// After so many commits a checkpoint is due: without one, every opening replays all of them.
pub const CHECKPOINT_EVERY: i64 = 100;

/// How many commits are read at a time.
pub(crate) const READ_AHEAD: usize = 16;

/// One Delta table. Cheap to clone; clones share the snapshot that was last seen.
#[derive(Clone)]
pub struct Table {
    inner: Arc<Inner>,
}

struct Inner {
    bucket: Bucket,
    name: String,
    store: Arc<dyn ObjectStore>,
    log: LogStoreRef,
    /// The last version that this handle saw. Whoever looks whether it still is holds the lock meanwhile.
    latest: Mutex<Seen>,
    /// How many looks were begun. Raised by whoever holds the lock, read by whoever comes to wait for it.
    looks: AtomicU64,
}

/// What a handle saw last.
#[derive(Default)]
struct Seen {
    latest: Option<Latest>,
    /// The number of the look that last succeeded.
    look: u64,
}

impl Table {
    /// The table, if there is one of this name.
    ///
    /// # Errors
    /// `Name` for what cannot be a table, `Protocol` for one that is beyond us, `Store` and `Log` when it cannot be read.
    pub async fn open(bucket: &Bucket, name: &str) -> Result<Option<Self>, LakeError> {
        let table = Self::at(bucket, name)?;
        Ok(table.exists().await?.then_some(table))
    }

    pub(crate) fn at(bucket: &Bucket, name: &str) -> Result<Self, LakeError> {
        let bad_name = || LakeError::Name { name: name.to_owned() };
        if !bucket::is_table_name(name) {
            return Err(bad_name());
        }
        let store = bucket.table_store(name);
        // The library finds files by the path of this URL in the root store; the bucket's own URL has more in its path than its store.
        let url = Url::parse(&format!("bucket:///{name}/")).ok().ok_or_else(bad_name)?;
        let log = default_logstore(store.clone(), bucket.store(), &url, &StorageConfig::default());
        let inner = Inner {
            bucket: bucket.clone(),
            name: name.to_owned(),
            store,
            log,
            latest: Mutex::default(),
            looks: AtomicU64::new(0),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Its name, which is its folder.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Where it lies.
    #[must_use]
    pub fn bucket(&self) -> &Bucket {
        &self.inner.bucket
    }

    /// The store, rooted at the table's folder: paths of data files are relative to it.
    #[must_use]
    pub fn store(&self) -> Arc<dyn ObjectStore> {
        self.inner.store.clone()
    }

    /// The fence that every commit with removes must expect and raise.
    #[must_use]
    pub fn maintenance_app(&self) -> String {
        format!("millstream/{}/maint", self.inner.name)
    }

    pub(crate) fn log(&self) -> &LogStoreRef {
        &self.inner.log
    }

    pub(crate) fn log_failed(&self, action: &'static str, source: DeltaTableError) -> LakeError {
        LakeError::Log { action, table: self.inner.name.clone(), source: Box::new(source) }
    }

    /// Whether there is a table; remembers its version if so.
    pub(crate) async fn exists(&self) -> Result<bool, LakeError> {
        let mut seen = self.inner.latest.lock().await;
        if seen.latest.is_none() {
            seen.latest = Latest::load(self).await?;
        }
        Ok(seen.latest.is_some())
    }

    /// The latest version. Costs two small requests, made at once, when nothing has happened since this handle last looked. A table that was made anew in this
    /// one's place is noticed. Who asks while others look shares the next look with all who do.
    ///
    /// # Errors
    /// `Store`, `Log`, `Json` when the log cannot be read, `Protocol` when somebody raised the table beyond us.
    pub async fn snapshot(&self) -> Result<Arc<Snapshot>, LakeError> {
        let begun_before = self.inner.looks.load(Ordering::SeqCst);
        let mut seen = self.inner.latest.lock().await;
        // A look that began after we asked, and succeeded while we waited, saw all that we would see.
        if seen.look <= begun_before {
            let look = self.inner.looks.fetch_add(1, Ordering::SeqCst) + 1;
            self.look(&mut seen.latest).await?;
            seen.look = look;
        }
        let gone = || LakeError::Gone { table: self.inner.name.clone(), version: 0 };
        seen.latest.as_ref().map(|latest| latest.snapshot.clone()).ok_or_else(gone)
    }

    async fn look(&self, latest: &mut Option<Latest>) -> Result<(), LakeError> {
        let looked = match latest.as_mut() {
            Some(known) => known.refresh(self).await,
            None => Latest::load(self).await.map(|loaded| *latest = loaded),
        };
        // What the log says is not understood: a later caller reads everything anew. After a mere silence of the store, what is known remains true.
        if looked.as_ref().is_err_and(|error| error.fault() != Fault::Retry) {
            *latest = None;
        }
        looked
    }

    /// Takes what this handle committed itself into account, so that nobody has to read it back.
    pub(crate) async fn committed(
        &self,
        version: i64,
        bytes: &Bytes,
        put: PutResult,
    ) -> Result<(), LakeError> {
        let mut seen = self.inner.latest.lock().await;
        let Some(latest) = seen.latest.as_mut() else { return Ok(()) };
        latest.committed(self, version, bytes, put)
    }

    /// The version that this handle last saw, or else the latest.
    pub(crate) async fn seen(&self) -> Result<Arc<Snapshot>, LakeError> {
        let seen = self.inner.latest.lock().await.latest.as_ref().map(|latest| latest.snapshot.clone());
        match seen {
            Some(snapshot) => Ok(snapshot),
            None => self.snapshot().await,
        }
    }

    /// The version of the newest checkpoint that this handle knows of.
    async fn known_checkpoint(&self) -> Option<i64> {
        self.inner.latest.lock().await.latest.as_ref()?.checkpoint
    }

    /// What the commit of this version did.
    ///
    /// # Errors
    /// `Gone` when it is not, or no longer, in the log; `Store`, `Log` when that cannot be read.
    pub async fn commit_info(&self, version: i64) -> Result<CommitSummary, LakeError> {
        let schema = self.seen().await?.schema();
        let actions = self.require_actions(version).await?;
        CommitSummary::new(&self.inner.name, version, actions, &schema)
    }

    /// What the commits after `from_exclusive` up to and with `to` did, in their order.
    ///
    /// # Errors
    /// `Gone` when one of them is not, or no longer, in the log; `Store`, `Log` when that cannot be read.
    pub async fn changes(&self, from_exclusive: i64, to: i64) -> Result<Vec<CommitSummary>, LakeError> {
        let schema = self.seen().await?.schema();
        let summaries =
            stream::iter(from_exclusive.saturating_add(1)..=to).map(|version| {
                let schema = schema.clone();
                async move {
                    CommitSummary::new(self.name(), version, self.require_actions(version).await?, &schema)
                }
            });
        summaries.buffered(READ_AHEAD).try_collect().await
    }

    /// The version whose commit last moved this fence; none if it never was, or if that commit is no longer in the log.
    ///
    /// # Errors
    /// As [`Table::versions_of_txns`].
    pub async fn version_of_txn(&self, app: &str) -> Result<Option<i64>, LakeError> {
        Ok(self.versions_of_txns(&[app]).await?.remove(app))
    }

    /// The versions whose commits last moved these fences, without those that never were moved, or by a commit that is no longer in the log.
    ///
    /// Where the commits after the last checkpoint do not say it, the log is read backward from there, once for all of them, until the last one is found. That has no
    /// other bound than the log: whoever asks must not take a commit for gone that is only old.
    ///
    /// # Errors
    /// `Store`, `Log`, `Json` when the log cannot be read.
    pub async fn versions_of_txns(&self, apps: &[&str]) -> Result<BTreeMap<String, i64>, LakeError> {
        let snapshot = self.snapshot().await?;
        let mut found = BTreeMap::new();
        let mut wanted = HashMap::new();
        for &app in apps {
            if let Some(version) = snapshot.txn_commit(app) {
                found.insert(app.to_owned(), version);
            } else if let Some(value) = snapshot.txn(app) {
                wanted.insert(app, value);
            }
        }
        if wanted.is_empty() {
            return Ok(found);
        }
        // They stand in a checkpoint, which does not say where they came from; what was moved after it is known.
        let checkpoint = self.known_checkpoint().await;
        let newest = checkpoint.map_or(snapshot.version(), |version| version.min(snapshot.version()));
        origin::find(self, newest, wanted, &mut found).await?;
        Ok(found)
    }

    /// Writes a checkpoint of the latest version, so that opening the table need not replay every commit. The log is not cleaned.
    ///
    /// # Errors
    /// `Log` when the log cannot be read or the checkpoint not be written.
    pub async fn checkpoint(&self) -> Result<(), LakeError> {
        let mut table = DeltaTable::new(self.inner.log.clone());
        table.load().await.map_err(|source| self.log_failed("checkpoint", source))?;
        checkpoints::create_checkpoint(&table, None)
            .await
            .map_err(|source| self.log_failed("checkpoint", source))?;
        let version = table.version().and_then(|version| i64::try_from(version).ok());
        if let (Some(version), Some(latest)) = (version, self.inner.latest.lock().await.latest.as_mut()) {
            latest.checkpoint = latest.checkpoint.max(Some(version));
        }
        Ok(())
    }

    /// Writes a checkpoint if this handle has seen [`CHECKPOINT_EVERY`] commits since the last one, whoever wrote that, and says whether it did. Costs no request while
    /// none is due.
    ///
    /// # Errors
    /// As [`Table::checkpoint`] and [`Table::snapshot`].
    pub async fn checkpoint_if_due(&self) -> Result<bool, LakeError> {
        if !self.checkpoint_is_due(0).await? {
            return Ok(false);
        }
        self.checkpoint().await.map(|()| true)
    }

    /// Whether [`Table::checkpoint_if_due`] would write one after so many further commits.
    pub(crate) async fn checkpoint_is_due(&self, further: i64) -> Result<bool, LakeError> {
        let version = self.seen().await?.version().saturating_add(further);
        let is_due = |known: Option<i64>| version - known.unwrap_or(0) >= CHECKPOINT_EVERY;
        if !is_due(self.known_checkpoint().await) {
            return Ok(false);
        }
        // All who have the table open come to this at about the same time: whoever is first does it for all.
        let hinted = hinted(self).await?;
        if let Some(latest) = self.inner.latest.lock().await.latest.as_mut() {
            latest.checkpoint = latest.checkpoint.max(hinted);
        }
        Ok(is_due(self.known_checkpoint().await))
    }

    /// Work that would hold up the runtime.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, LakeError> {
        let interrupted = |source| LakeError::Interrupted { table: self.name().to_owned(), source };
        tokio::task::spawn_blocking(work).await.map_err(interrupted)
    }

    /// The actions of a version; none if it is not in the log.
    pub(crate) async fn actions(&self, version: i64) -> Result<Option<Vec<Action>>, LakeError> {
        Ok(self.commit_file(version).await?.map(|(_, actions)| actions))
    }

    /// The file of a version's commit, and what it says; none if it is not in the log.
    pub(crate) async fn commit_file(
        &self,
        version: i64,
    ) -> Result<Option<(ObjectMeta, Vec<Action>)>, LakeError> {
        let Ok(number) = u64::try_from(version) else { return Ok(None) };
        let file = match self.inner.store.get(&commit_path(version)).await {
            Ok(file) => file,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(source) => return Err(self.log_unread(source)),
        };
        let meta = file.meta.clone();
        let bytes = file.bytes().await.map_err(|source| self.log_unread(source))?;
        Ok(Some((meta, self.decode(number, &bytes)?)))
    }

    /// What the bytes of a commit say.
    pub(crate) fn decode(&self, version: u64, bytes: &Bytes) -> Result<Vec<Action>, LakeError> {
        get_actions(version, bytes).map_err(|source| self.log_failed("read the log of", source))
    }

    /// The file of a version's commit; none if it is not in the log.
    pub(crate) async fn commit_meta(&self, version: i64) -> Result<Option<ObjectMeta>, LakeError> {
        match self.inner.store.head(&commit_path(version)).await {
            Ok(meta) => Ok(Some(meta)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(source) => Err(self.log_unread(source)),
        }
    }

    pub(crate) fn log_unread(&self, source: object_store::Error) -> LakeError {
        LakeError::Store { action: "read the log of", place: format!("table {}", self.inner.name), source }
    }

    pub(crate) async fn require_actions(&self, version: i64) -> Result<Vec<Action>, LakeError> {
        let gone = || LakeError::Gone { table: self.inner.name.clone(), version };
        self.actions(version).await?.ok_or_else(gone)
    }
}

/// Where the commit of a version lies in its table.
pub(crate) fn commit_path(version: i64) -> Path {
    Path::from(format!("_delta_log/{version:020}.json"))
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table")
            .field("bucket", &self.inner.bucket)
            .field("name", &self.inner.name)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
