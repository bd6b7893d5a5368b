//! An object store that fails on purpose, for tests of what stands on one.
//!
//! Commits (`_delta_log/<version>.json` being put) follow a script, then chance; reads of the log and uploads can be made to fail a number of times. It also counts
//! what was asked of it.

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};
use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What happens to the put of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFault {
    /// It is done and answered truly.
    None,
    /// An error; nothing was done.
    FailBefore,
    /// An error, although it was done.
    FailAfter,
    /// An error; it will be done just before the next operation on the log, as by a request that was late on the way.
    FailThenApply,
    /// "Already exists", because it was done, and then sent again.
    ExistsAfter,
    /// It is done after a while.
    Delay(Duration),
}

/// The store.
#[derive(Debug)]
pub struct FaultyStore {
    inner: Arc<dyn ObjectStore>,
    broken_create: bool,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    script: VecDeque<LogFault>,
    chance: Option<Chance>,
    reads_to_fail: u32,
    uploads_to_fail: u32,
    /// How many parts arrive before one fails, if one shall.
    parts_to_pass: Option<u32>,
    completions_to_fail: u32,
    creates_to_lose: u32,
    late: Option<(Path, PutPayload)>,
    log_puts: u64,
    requests: u64,
    bytes_read: u64,
    listed: u64,
    uploads_open: u64,
}

#[derive(Debug)]
struct Chance {
    random: fastrand::Rng,
    per_mille: u32,
}

impl FaultyStore {
    /// A store that does what `inner` does, until told otherwise.
    #[must_use]
    pub fn new(inner: Arc<dyn ObjectStore>) -> Self {
        Self { inner, broken_create: false, state: Arc::default() }
    }

    /// Conditional creates overwrite, and everyone is told to have won.
    #[must_use]
    pub fn with_broken_create(mut self) -> Self {
        self.broken_create = true;
        self
    }

    /// The next commits meet these, one each.
    pub fn script(&self, faults: impl IntoIterator<Item = LogFault>) {
        self.state().script.extend(faults);
    }

    /// Commits for which the script has nothing meet a fault with this probability, which one and when decided by the seed alone.
    pub fn randomly(&self, seed: u64, per_mille: u32) {
        self.state().chance = Some(Chance { random: fastrand::Rng::with_seed(seed), per_mille });
    }

    /// The next so many reads of the log fail.
    pub fn fail_reads(&self, count: u32) {
        self.state().reads_to_fail = count;
    }

    /// The next so many puts of anything but a commit fail, and nothing of them is done.
    pub fn fail_uploads(&self, count: u32) {
        self.state().uploads_to_fail = count;
    }

    /// Of an upload in parts, the one after so many more fails.
    pub fn fail_part_after(&self, parts: u32) {
        self.state().parts_to_pass = Some(parts);
    }

    /// The next so many uploads in parts fail when they are to be completed.
    pub fn fail_completions(&self, count: u32) {
        self.state().completions_to_fail = count;
    }

    /// The next so many conditional creates of anything but a commit are done, and answered with "already exists".
    pub fn lose_creates(&self, count: u32) {
        self.state().creates_to_lose = count;
    }

    /// From now on everything succeeds; a request that is late on the way arrives before the next operation nevertheless.
    pub fn heal(&self) {
        let mut state = self.state();
        state.script.clear();
        state.chance = None;
        state.reads_to_fail = 0;
        state.uploads_to_fail = 0;
        state.parts_to_pass = None;
        state.completions_to_fail = 0;
        state.creates_to_lose = 0;
    }

    /// How many commits were sent, whatever became of them.
    #[must_use]
    pub fn log_puts(&self) -> u64 {
        self.state().log_puts
    }

    /// How many requests were made, of whatever kind.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.state().requests
    }

    /// How many bytes of objects were handed out.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        self.state().bytes_read
    }

    /// How many objects and folders listings have named.
    #[must_use]
    pub fn listed(&self) -> u64 {
        self.state().listed
    }

    /// How many uploads in parts were begun, and neither completed nor given up.
    #[must_use]
    pub fn uploads_open(&self) -> u64 {
        self.state().uploads_open
    }

    fn counted(
        &self,
        listing: BoxStream<'static, Result<ObjectMeta>>,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let state = self.state.clone();
        listing.inspect(move |_| lock(&state).listed += 1).boxed()
    }

    fn count(&self) {
        self.state().requests += 1;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    async fn deliver_late(&self) {
        let late = self.state().late.take();
        if let Some((location, payload)) = late {
            // Whether it still finds its place free is nobody's concern any more.
            self.inner.put_opts(&location, payload, PutMode::Create.into()).await.ok();
        }
    }

    async fn before_read(&self, location: &Path) -> Result<()> {
        if !is_log(location) {
            return Ok(());
        }
        self.deliver_late().await;
        let mut state = self.state();
        if state.reads_to_fail > 0 {
            state.reads_to_fail -= 1;
            return Err(failure("a read failed on purpose"));
        }
        Ok(())
    }

    fn before_upload(&self) -> Result<()> {
        let mut state = self.state();
        if state.uploads_to_fail > 0 {
            state.uploads_to_fail -= 1;
            return Err(failure("an upload failed on purpose"));
        }
        Ok(())
    }

    async fn put_commit(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.deliver_late().await;
        let fault = self.state().next();
        match fault {
            LogFault::None => self.inner.put_opts(location, payload, opts).await,
            LogFault::Delay(time) => {
                tokio::time::sleep(time).await;
                self.inner.put_opts(location, payload, opts).await
            }
            LogFault::FailBefore => Err(failure("a commit failed on purpose")),
            LogFault::FailThenApply => {
                self.state().late = Some((location.clone(), payload));
                Err(failure("a commit is late on purpose"))
            }
            LogFault::FailAfter => {
                self.inner.put_opts(location, payload, opts).await?;
                Err(failure("a commit was applied and failed on purpose"))
            }
            LogFault::ExistsAfter => {
                self.inner.put_opts(location, payload, opts).await?;
                Err(exists(location))
            }
        }
    }
}

impl State {
    fn next(&mut self) -> LogFault {
        const FAULTS: [LogFault; 5] = [
            LogFault::FailBefore,
            LogFault::FailAfter,
            LogFault::FailThenApply,
            LogFault::ExistsAfter,
            LogFault::Delay(Duration::from_millis(1)),
        ];
        self.log_puts += 1;
        if let Some(fault) = self.script.pop_front() {
            return fault;
        }
        let Some(Chance { random, per_mille }) = &mut self.chance else { return LogFault::None };
        match random.u32(0..1000) < *per_mille {
            true => FAULTS[random.usize(0..FAULTS.len())],
            false => LogFault::None,
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn failure(what: &'static str) -> Error {
    Error::Generic { store: "faulty", source: what.into() }
}

fn exists(location: &Path) -> Error {
    Error::AlreadyExists { path: location.to_string(), source: "answered on purpose".into() }
}

fn is_log(location: &Path) -> bool {
    location.as_ref().contains("_delta_log/")
}

fn is_commit(location: &Path) -> bool {
    is_log(location) && location.filename().is_some_and(|name| name.ends_with(".json"))
}

impl fmt::Display for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultyStore({})", self.inner)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for FaultyStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.count();
        if self.broken_create {
            let overwrite = PutOptions { mode: PutMode::Overwrite, ..opts };
            return self.inner.put_opts(location, payload, overwrite).await;
        }
        if is_commit(location) {
            return self.put_commit(location, payload, opts).await;
        }
        self.before_upload()?;
        let is_create = opts.mode == PutMode::Create;
        let put = self.inner.put_opts(location, payload, opts).await?;
        let mut state = self.state();
        if is_create && state.creates_to_lose > 0 {
            state.creates_to_lose -= 1;
            return Err(exists(location));
        }
        Ok(put)
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.count();
        self.before_upload()?;
        let inner = self.inner.put_multipart_opts(location, opts).await?;
        self.state().uploads_open += 1;
        Ok(Box::new(FaultyUpload { inner, state: self.state.clone() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.count();
        self.before_read(location).await?;
        let head = options.head;
        let got = self.inner.get_opts(location, options).await?;
        if !head {
            self.state().bytes_read += got.range.end - got.range.start;
        }
        Ok(got)
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.count();
        self.before_read(location).await?;
        let got = self.inner.get_ranges(location, ranges).await?;
        self.state().bytes_read += got.iter().map(|bytes| bytes.len() as u64).sum::<u64>();
        Ok(got)
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.count();
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.count();
        self.counted(self.inner.list(prefix))
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.count();
        self.counted(self.inner.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.count();
        let listed = self.inner.list_with_delimiter(prefix).await?;
        self.state().listed += (listed.objects.len() + listed.common_prefixes.len()) as u64;
        Ok(listed)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.count();
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.count();
        self.inner.rename_opts(from, to, options).await
    }
}

/// A file in parts, one of which may fail.
#[derive(Debug)]
struct FaultyUpload {
    inner: Box<dyn MultipartUpload>,
    state: Arc<Mutex<State>>,
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl MultipartUpload for FaultyUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let mut state = lock(&self.state);
        state.requests += 1;
        if state.parts_to_pass == Some(0) {
            state.parts_to_pass = None;
            return Box::pin(std::future::ready(Err(failure("a part failed on purpose"))));
        }
        state.parts_to_pass = state.parts_to_pass.map(|parts| parts - 1);
        self.inner.put_part(data)
    }

    async fn complete(&mut self) -> Result<PutResult> {
        {
            let mut state = lock(&self.state);
            state.requests += 1;
            if state.completions_to_fail > 0 {
                state.completions_to_fail -= 1;
                return Err(failure("an upload was not completed on purpose"));
            }
        }
        let put = self.inner.complete().await?;
        lock(&self.state).uploads_open -= 1;
        Ok(put)
    }

    async fn abort(&mut self) -> Result<()> {
        lock(&self.state).requests += 1;
        self.inner.abort().await?;
        lock(&self.state).uploads_open -= 1;
        Ok(())
    }
}
