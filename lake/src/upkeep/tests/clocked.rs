//! A store whose clock is set by hand: what is put has the age that a test wants it to have.

use super::*;
use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result,
};
use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::Mutex;

#[derive(Debug)]
pub(super) struct Clocked {
    inner: Arc<dyn ObjectStore>,
    state: Arc<Mutex<State>>,
}

struct State {
    now: DateTime<Utc>,
    put_at: HashMap<Path, DateTime<Utc>>,
    /// What happens just before something below a folder is read.
    meanwhile: Option<(String, BoxFuture<'static, ()>)>,
    reading: usize,
    most_at_once: usize,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("now", &self.now).finish_non_exhaustive()
    }
}

impl Clocked {
    pub(super) fn new(inner: Arc<dyn ObjectStore>, now: DateTime<Utc>) -> Self {
        Self {
            inner,
            state: Arc::new(Mutex::new(State {
                now,
                put_at: HashMap::new(),
                meanwhile: None,
                reading: 0,
                most_at_once: 0,
            })),
        }
    }

    pub(super) fn set(&self, now: DateTime<Utc>) {
        self.state.lock().unwrap().now = now;
    }

    /// Gives an object another age.
    pub(super) fn date(&self, location: &str, at: DateTime<Utc>) {
        self.state.lock().unwrap().put_at.insert(Path::from(location), at);
    }

    /// Others do this just before the next time that something below the folder is read.
    pub(super) fn meanwhile(&self, folder: &str, others: impl Future<Output = ()> + Send + 'static) {
        self.state.lock().unwrap().meanwhile = Some((folder.to_owned(), others.boxed()));
    }

    /// How many read columns of files at the same time, at most.
    pub(super) fn most_at_once(&self) -> usize {
        self.state.lock().unwrap().most_at_once
    }

    async fn before_read(&self, location: &Path) {
        let others = self
            .state
            .lock()
            .unwrap()
            .meanwhile
            .take_if(|(folder, _)| location.as_ref().starts_with(folder.as_str()));
        if let Some((_, others)) = others {
            others.await;
        }
    }

    fn put(&self, location: &Path) {
        let mut state = self.state.lock().unwrap();
        let now = state.now;
        state.put_at.insert(location.clone(), now);
    }
}

fn dated(state: &Mutex<State>, mut meta: ObjectMeta) -> ObjectMeta {
    if let Some(at) = state.lock().unwrap().put_at.get(&meta.location) {
        meta.last_modified = *at;
    }
    meta
}

impl fmt::Display for Clocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clocked({})", self.inner)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for Clocked {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let put = self.inner.put_opts(location, payload, opts).await?;
        self.put(location);
        Ok(put)
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.put(location);
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.before_read(location).await;
        let mut got = self.inner.get_opts(location, options).await?;
        got.meta = dated(&self.state, got.meta);
        Ok(got)
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        {
            let mut state = self.state.lock().unwrap();
            state.reading += 1;
            state.most_at_once = state.most_at_once.max(state.reading);
        }
        // Whoever else wants to read begins by now.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        let got = self.inner.get_ranges(location, ranges).await;
        self.state.lock().unwrap().reading -= 1;
        got
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let state = self.state.clone();
        self.inner.list(prefix).map(move |meta| Ok(dated(&state, meta?))).boxed()
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let state = self.state.clone();
        self.inner.list_with_offset(prefix, offset).map(move |meta| Ok(dated(&state, meta?))).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await?;
        self.put(to);
        Ok(())
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.inner.rename_opts(from, to, options).await?;
        self.put(to);
        Ok(())
    }
}
