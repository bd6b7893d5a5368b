//! A store whose clock is set by hand: what is put has the age that a simulation wants it to have.
//!
//! It keeps an index of what is there, so that a listing costs what it names, as on S3, and not a look at every object of a year. Uploads in parts are refused: nothing
//! that is simulated is so large.

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::stream::BoxStream;
use futures::{StreamExt, stream};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result,
};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The store.
#[derive(Debug)]
pub struct Dated {
    inner: Arc<dyn ObjectStore>,
    state: Arc<Mutex<State>>,
}

/// Set by whoever simulates, read by whoever uses the store.
#[derive(Debug)]
struct State {
    now: DateTime<Utc>,
    there: BTreeMap<Path, ObjectMeta>,
}

impl Dated {
    /// What `inner` has, which has nothing yet, with the ages of a clock that stands at `now`.
    #[must_use]
    pub fn new(inner: Arc<dyn ObjectStore>, now: DateTime<Utc>) -> Self {
        Self { inner, state: Arc::new(Mutex::new(State { now, there: BTreeMap::new() })) }
    }

    /// What is put from here on is of this time.
    pub fn set(&self, now: DateTime<Utc>) {
        lock(&self.state).now = now;
    }

    fn listed(&self, prefix: Option<&Path>, behind: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let begin = behind.map_or_else(|| prefix.map_or(Unbounded, Included), Excluded);
        let state = lock(&self.state);
        let there = state.there.range::<Path, _>((begin, Unbounded)).map(|(_, meta)| meta);
        let (folder, prefix) = (prefix.map_or("", Path::as_ref), prefix.cloned().unwrap_or_default());
        let named = there.take_while(|meta| meta.location.as_ref().starts_with(folder));
        let named: Vec<_> = named.filter(|meta| meta.location.prefix_matches(&prefix)).cloned().collect();
        stream::iter(named.into_iter().map(Ok)).boxed()
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn not_simulated(operation: &str) -> Error {
    Error::NotImplemented { operation: operation.to_owned(), implementer: "Dated".to_owned() }
}

impl fmt::Display for Dated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dated({})", self.inner)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for Dated {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let size = payload.content_length() as u64;
        let put = self.inner.put_opts(location, payload, opts).await?;
        let mut state = lock(&self.state);
        let meta = ObjectMeta {
            location: location.clone(),
            last_modified: state.now,
            size,
            e_tag: put.e_tag.clone(),
            version: put.version.clone(),
        };
        state.there.insert(location.clone(), meta);
        Ok(put)
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Err(not_simulated("an upload in parts"))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let mut got = self.inner.get_opts(location, options).await?;
        if let Some(known) = lock(&self.state).there.get(location) {
            got.meta.last_modified = known.last_modified;
        }
        Ok(got)
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let state = Arc::clone(&self.state);
        let deleted = self.inner.delete_stream(locations);
        deleted
            .inspect(move |deleted| {
                if let Ok(location) = deleted {
                    lock(&state).there.remove(location);
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.listed(prefix, None)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.listed(prefix, Some(offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let (mut objects, mut common_prefixes) = (Vec::new(), Vec::new());
        let folder = prefix.cloned().unwrap_or_default();
        let state = lock(&self.state);
        let mut next = state.there.range(folder.clone()..).next();
        while let Some((location, meta)) = next.filter(|(path, _)| path.as_ref().starts_with(folder.as_ref()))
        {
            let begin = match location.prefix_match(&folder).map(|mut rest| (rest.next(), rest.next())) {
                Some((Some(below), Some(_))) => {
                    let below = folder.clone().join(below);
                    // Behind everything in that folder: what comes after a slash.
                    let behind = Included(Path::from(format!("{below}0")));
                    common_prefixes.push(below);
                    behind
                }
                Some((Some(_), None)) => {
                    objects.push(meta.clone());
                    Excluded(location.clone())
                }
                _ => Excluded(location.clone()),
            };
            next = state.there.range((begin, Unbounded)).next();
        }
        Ok(ListResult { common_prefixes, objects })
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(not_simulated("a copy"))
    }

    async fn rename_opts(&self, _: &Path, _: &Path, _: RenameOptions) -> Result<()> {
        Err(not_simulated("a change of name"))
    }
}
