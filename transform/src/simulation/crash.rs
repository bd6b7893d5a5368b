//! A store as a process sees it that dies in the middle: from a chosen call on nothing it does has an effect any more.
//!
//! Calls of the dead fail instead of hanging, because the Delta library makes some of them on a thread that is waited for. Whoever runs the process
//! drops it as soon as it is told.

use async_trait::async_trait;
use bytes::Bytes;
use fastrand::Rng;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result,
};
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Notify;

/// Passes on a number of calls; the one after that is still carried out or not, by choice, but neither it nor any later one is answered.
///
/// Between the calls it lets others run, and uploads may take long or fail, as its seed will have it.
#[derive(Debug)]
pub(crate) struct CrashStore {
    inner: Arc<dyn ObjectStore>,
    left: AtomicI64,
    last_one_lands: bool,
    weather: Mutex<Option<Rng>>,
    pause: Option<Arc<Pause>>,
    pub(crate) dead: Arc<Notify>,
}

/// A call that waits until it may go on.
#[derive(Debug)]
pub(crate) struct Pause {
    left: AtomicI64,
    pub(crate) reached: Notify,
    pub(crate) go_on: Notify,
}

impl Pause {
    /// The call after so many.
    pub(crate) fn after(calls: i64) -> Arc<Self> {
        Arc::new(Self { left: AtomicI64::new(calls), reached: Notify::new(), go_on: Notify::new() })
    }

    /// From now on it is the call after so many.
    pub(crate) fn set(&self, calls: i64) {
        self.left.store(calls, Ordering::SeqCst);
    }

    /// Before a call: waits if it is the one.
    pub(crate) async fn wait(&self) {
        if self.left.fetch_sub(1, Ordering::SeqCst) == 0 {
            self.reached.notify_one();
            self.go_on.notified().await;
        }
    }
}

impl CrashStore {
    pub(crate) fn new(inner: Arc<dyn ObjectStore>, calls: i64, last_one_lands: bool) -> Self {
        Self {
            inner,
            left: AtomicI64::new(calls),
            last_one_lands,
            weather: Mutex::new(None),
            pause: None,
            dead: Arc::new(Notify::new()),
        }
    }

    /// Calls yield to other tasks, and uploads of data are slow or fail, now and then.
    pub(crate) fn with_weather(self, seed: u64) -> Self {
        Self { weather: Mutex::new(Some(Rng::with_seed(seed))), ..self }
    }

    /// One of its calls waits before it is carried out.
    pub(crate) fn with_pause(self, pause: Arc<Pause>) -> Self {
        Self { pause: Some(pause), ..self }
    }

    fn draw(&self, below: u32) -> Option<u32> {
        self.weather.lock().unwrap().as_mut().map(|rng| rng.u32(0..below))
    }

    async fn blow(&self) {
        if let Some(pause) = &self.pause {
            pause.wait().await;
        }
        for _ in 0..self.draw(4).unwrap_or(0) {
            tokio::task::yield_now().await;
        }
    }

    async fn storm(&self) -> Result<()> {
        match self.draw(20) {
            Some(0..4) => {
                tokio::time::sleep(Duration::from_millis(self.draw(3000).unwrap_or(0).into())).await
            }
            Some(4) => {
                return Err(object_store::Error::Generic { store: "crash", source: "bad weather".into() });
            }
            _ => {}
        }
        Ok(())
    }

    /// Before a call: says whether it is the last one, and refuses it if the process is dead already or dies before it.
    fn before(&self) -> Result<bool> {
        let left = self.left.fetch_sub(1, Ordering::SeqCst);
        let dies_here = left == 0;
        if left < 0 || (dies_here && !self.last_one_lands) {
            self.die()?
        }
        Ok(dies_here)
    }

    fn after<T>(&self, dies_here: bool, result: Result<T>) -> Result<T> {
        if dies_here {
            self.die()?
        }
        result
    }

    fn die(&self) -> Result<()> {
        self.dead.notify_one();
        Err(object_store::Error::Generic { store: "crash", source: "the process is dead".into() })
    }
}

impl fmt::Display for CrashStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CrashStore({})", self.inner)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for CrashStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.blow().await;
        self.storm().await?;
        let dies_here = self.before()?;
        let result = self.inner.put_opts(location, payload, opts).await;
        self.after(dies_here, result)
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.blow().await;
        let dies_here = self.before()?;
        let result = self.inner.get_opts(location, options).await;
        self.after(dies_here, result)
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let Some(pause) = self.pause.clone() else { return self.inner.list(prefix) };
        let (inner, prefix) = (Arc::clone(&self.inner), prefix.cloned());
        let listed = async move {
            pause.wait().await;
            inner.list(prefix.as_ref())
        };
        stream::once(listed).flatten().boxed()
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.inner.rename_opts(from, to, options).await
    }
}
