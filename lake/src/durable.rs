//! The local disk as an object store that survives the loss of power.
//!
//! `object_store`'s own `LocalFileSystem` never syncs: a commit could be visible and, after a power cut, empty. Here everything is written to `_staging/` first,
//! synced, and only then renamed (or hard-linked, where it must not exist yet) to its place, whose directory is synced before the call returns.
//! Deleting is not synced: a deletion that is undone by a power cut harms nobody.

mod rooted;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyMode, CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    RenameOptions, RenameTargetMode, Result, UploadPart,
};
use rooted::Rooted;
use std::fs::File;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use std::{fmt, io};
use uuid::Uuid;

/// Where unfinished writes are kept, beside the tables: on the same file system, and no table can have this name.
const STAGING: &str = "_staging";

/// What was staged and not touched for so long has no writer any more.
const ABANDONED: Duration = Duration::from_secs(24 * 60 * 60);

/// A local directory, synced.
#[derive(Debug, Clone)]
pub(crate) struct Durable {
    inner: LocalFileSystem,
    disk: Arc<Disk>,
}

/// What syncs, and how often it did.
#[derive(Debug)]
struct Disk {
    rooted: Rooted,
    files_synced: AtomicU64,
    directories_synced: AtomicU64,
}

impl Durable {
    pub(crate) fn open(dir: &std::path::Path) -> io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let root = dir.canonicalize()?;
        // The directory and those above it may be new; above what we may open, they are somebody else's and old.
        for directory in root.ancestors() {
            if File::open(directory).and_then(|handle| handle.sync_all()).is_err() {
                break;
            }
        }
        let inner = LocalFileSystem::new_with_prefix(&root)?;
        sweep(&root.join(STAGING));
        let disk = Disk {
            rooted: Rooted::new(root),
            files_synced: AtomicU64::new(0),
            directories_synced: AtomicU64::new(0),
        };
        Ok(Self { inner, disk: Arc::new(disk) })
    }

    pub(crate) fn root(&self) -> &std::path::Path {
        self.disk.rooted.root()
    }

    fn staged() -> Path {
        Path::from_iter([STAGING, &Uuid::new_v4().to_string()])
    }

    /// Makes what is staged durable, then visible under `to`, then makes that durable.
    async fn publish(&self, staged: &Path, to: &Path, mode: CopyMode) -> Result<()> {
        self.sync_file(staged).await?;
        match mode {
            CopyMode::Overwrite => self.inner.rename(staged, to).await?,
            CopyMode::Create => {
                self.inner.copy_if_not_exists(staged, to).await?;
                self.discard(staged).await;
            }
        }
        self.sync_directory_of(to).await
    }

    /// What is left in staging is a matter of space, not of truth.
    async fn discard(&self, staged: &Path) {
        if let Err(error) = self.inner.delete(staged).await {
            tracing::debug!(%staged, %error, "left a staged file behind");
        }
    }

    async fn sync_file(&self, location: &Path) -> Result<()> {
        let path = self.inner.path_to_filesystem(location)?;
        self.blocking(move |disk| disk.sync_file(&path)).await
    }

    async fn sync_directory_of(&self, location: &Path) -> Result<()> {
        let path = self.inner.path_to_filesystem(location)?;
        self.blocking(move |disk| disk.sync_directory_of(&path)).await
    }

    async fn blocking(&self, work: impl FnOnce(&Disk) -> io::Result<()> + Send + 'static) -> Result<()> {
        let disk = self.disk.clone();
        tokio::task::spawn_blocking(move || work(&disk)).await?.map_err(unsynced)
    }
}

/// Removes what writers left behind that were killed. A writer that still lives touches its file with every part.
fn sweep(staging: &std::path::Path) {
    let Ok(entries) = std::fs::read_dir(staging) else { return };
    for entry in entries.flatten() {
        let age = entry.metadata().and_then(|metadata| metadata.modified()).map(|time| time.elapsed());
        if matches!(age, Ok(Ok(age)) if age > ABANDONED)
            && let Err(error) = std::fs::remove_file(entry.path())
        {
            tracing::debug!(path = %entry.path().display(), %error, "left an abandoned file behind");
        }
    }
}

/// A directory has no order, but whoever reads a Delta log relies on the one that S3 lists in.
fn sorted(listing: BoxStream<'static, Result<ObjectMeta>>) -> BoxStream<'static, Result<ObjectMeta>> {
    let collected = async {
        let mut all: Vec<ObjectMeta> = listing.try_collect().await?;
        all.sort_unstable_by(|a, b| a.location.cmp(&b.location));
        Ok::<_, Error>(stream::iter(all.into_iter().map(Ok)))
    };
    stream::once(collected).try_flatten().boxed()
}

fn unsynced(error: io::Error) -> Error {
    Error::Generic { store: "local disk", source: Box::new(error) }
}

impl Disk {
    fn sync_file(&self, path: &std::path::Path) -> io::Result<()> {
        File::open(path)?.sync_all()?;
        self.files_synced.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// The directory of `path`, and those above it that may be new.
    fn sync_directory_of(&self, path: &std::path::Path) -> io::Result<()> {
        self.rooted.sync_directory_of(path, |directory| {
            File::open(directory)?.sync_all()?;
            self.directories_synced.fetch_add(1, Ordering::Relaxed);
            Ok(())
        })
    }
}

impl fmt::Display for Durable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Durable({})", self.root().display())
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for Durable {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let mode = match opts.mode {
            PutMode::Overwrite => CopyMode::Overwrite,
            PutMode::Create => CopyMode::Create,
            // The file system has nothing to compare with: the inner store says so.
            PutMode::Update(_) => return self.inner.put_opts(location, payload, opts).await,
        };
        let staged = Self::staged();
        let put =
            self.inner.put_opts(&staged, payload, PutOptions { mode: PutMode::Overwrite, ..opts }).await?;
        if let Err(error) = self.publish(&staged, location, mode).await {
            self.discard(&staged).await;
            return Err(error);
        }
        Ok(put)
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let staged = Self::staged();
        let inner = self.inner.put_multipart_opts(&staged, opts).await?;
        Ok(Box::new(DurableUpload { inner, staged, location: location.clone(), store: self.clone() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        sorted(self.inner.list(prefix))
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        sorted(self.inner.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.sync_file(from).await?;
        self.inner.copy_opts(from, to, options).await?;
        self.sync_directory_of(to).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        match options.target_mode {
            RenameTargetMode::Overwrite => self.publish(from, to, CopyMode::Overwrite).await?,
            RenameTargetMode::Create => self.publish(from, to, CopyMode::Create).await?,
        }
        self.sync_directory_of(from).await
    }
}

/// A file in parts: staged like any other, and published when it is complete.
#[derive(Debug)]
struct DurableUpload {
    inner: Box<dyn MultipartUpload>,
    staged: Path,
    location: Path,
    store: Durable,
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl MultipartUpload for DurableUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.inner.put_part(data)
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let put = self.inner.complete().await?;
        if let Err(error) = self.store.publish(&self.staged, &self.location, CopyMode::Overwrite).await {
            self.store.discard(&self.staged).await;
            return Err(error);
        }
        Ok(put)
    }

    async fn abort(&mut self) -> Result<()> {
        self.inner.abort().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::CopyOptions;

    struct Bench {
        _dir: tempfile::TempDir,
        store: Durable,
    }

    impl Bench {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let store = Durable::open(&dir.path().join("bucket")).unwrap();
            Self { _dir: dir, store }
        }

        /// Files and directories synced so far.
        fn synced(&self) -> (u64, u64) {
            let disk = &self.store.disk;
            (disk.files_synced.load(Ordering::Relaxed), disk.directories_synced.load(Ordering::Relaxed))
        }

        async fn read(&self, key: &str) -> Bytes {
            self.store.get(&Path::from(key)).await.unwrap().bytes().await.unwrap()
        }

        fn staged(&self) -> usize {
            std::fs::read_dir(self.store.root().join(STAGING)).unwrap().count()
        }
    }

    #[tokio::test]
    async fn a_put_syncs_the_file_and_every_directory_that_is_new() {
        let bench = Bench::new();
        bench.store.put(&Path::from("t/date=1/a"), "one".into()).await.unwrap();
        assert_eq!(bench.synced(), (1, 3));
        bench.store.put(&Path::from("t/date=1/a"), "two".into()).await.unwrap();
        assert_eq!(bench.synced(), (2, 4));
        assert_eq!(bench.read("t/date=1/a").await, "two");
        assert_eq!(bench.staged(), 0);
    }

    #[tokio::test]
    async fn a_conditional_put_refuses_what_exists_and_changes_nothing() {
        let bench = Bench::new();
        let key = Path::from("t/0.json");
        bench.store.put_opts(&key, "mine".into(), PutMode::Create.into()).await.unwrap();
        let refused = bench.store.put_opts(&key, "other".into(), PutMode::Create.into()).await;
        assert!(matches!(refused, Err(Error::AlreadyExists { .. })), "{refused:?}");
        assert_eq!(bench.read("t/0.json").await, "mine");
        assert_eq!(bench.staged(), 0);
    }

    #[tokio::test]
    async fn an_upload_in_parts_is_synced_when_it_completes_and_leaves_nothing_when_aborted() {
        let bench = Bench::new();
        let mut upload = bench.store.put_multipart(&Path::from("t/big")).await.unwrap();
        upload.put_part("half ".into()).await.unwrap();
        upload.put_part("whole".into()).await.unwrap();
        assert!(bench.store.head(&Path::from("t/big")).await.is_err(), "visible before it is complete");
        upload.complete().await.unwrap();
        assert_eq!(bench.synced(), (1, 2));
        assert_eq!(bench.read("t/big").await, "half whole");
        let mut upload = bench.store.put_multipart(&Path::from("t/never")).await.unwrap();
        upload.put_part("x".into()).await.unwrap();
        upload.abort().await.unwrap();
        assert_eq!(bench.staged(), 0);
    }

    #[tokio::test]
    async fn what_killed_writers_left_is_removed_after_a_day() {
        let bench = Bench::new();
        bench.store.put(&Path::from("t/a"), "x".into()).await.unwrap();
        let staging = bench.store.root().join(STAGING);
        for (name, days) in [("old", 2), ("older#1", 3), ("young", 0)] {
            let file = File::create(staging.join(name)).unwrap();
            file.set_modified(std::time::SystemTime::now() - ABANDONED * days).unwrap();
        }
        Durable::open(bench.store.root()).unwrap();
        let left: Vec<_> =
            std::fs::read_dir(&staging).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["young"]);
        assert_eq!(bench.read("t/a").await, "x");
    }

    #[tokio::test]
    async fn listings_are_sorted() {
        let bench = Bench::new();
        let names: Vec<String> = (0..40).map(|number| format!("t/_delta_log/{number:03}.json")).collect();
        for name in names.iter().rev() {
            bench.store.put(&Path::from(name.as_str()), "x".into()).await.unwrap();
        }
        let folder = Path::from("t/_delta_log");
        let listed = |stream: BoxStream<'static, Result<ObjectMeta>>| {
            stream.map_ok(|meta| meta.location.to_string()).try_collect::<Vec<_>>()
        };
        assert_eq!(listed(bench.store.list(Some(&folder))).await.unwrap(), names);
        let offset = Path::from("t/_delta_log/019.json");
        assert_eq!(listed(bench.store.list_with_offset(Some(&folder), &offset)).await.unwrap(), names[20..]);
    }

    #[tokio::test]
    async fn copies_and_renames_are_synced_too() {
        let bench = Bench::new();
        let (a, b, c) = (Path::from("t/a"), Path::from("t/b"), Path::from("t/c"));
        bench.store.put(&a, "x".into()).await.unwrap();
        let before = bench.synced();
        bench.store.copy_opts(&a, &b, CopyOptions::default()).await.unwrap();
        assert_eq!(bench.synced(), (before.0 + 1, before.1 + 1));
        bench.store.rename(&b, &c).await.unwrap();
        assert_eq!(bench.synced(), (before.0 + 2, before.1 + 3));
        assert!(bench.store.rename_if_not_exists(&a, &c).await.is_err());
        assert_eq!(bench.read("t/c").await, "x");
    }
}
