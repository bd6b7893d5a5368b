//! The decorator that lets no credential out: neither in what a store prints of itself nor in what it says when it fails.
//!
//! S3 answers a refused request with a document that may quote the token, the id of the key and what was signed. Of it only the code and the message are handed on.
//! It also tells by that code what `object_store` takes for something else: a missing bucket for a missing object, a missing right for a general failure, and a clock that
//! is wrong for a missing right. And it remembers whether the store has ever let us in: a denial after that is somebody's change, which may be taken back.

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What errors call the store.
const STORE: &str = "S3";

/// The code of a request whose time is not the store's.
pub(crate) const SKEWED: &str = "RequestTimeTooSkewed";

/// A denial that lasts is told again after so long: requests go on without end meanwhile.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// A store that keeps its credentials to itself.
pub(super) struct Discreet<T> {
    inner: T,
    standing: Arc<Standing>,
}

impl<T> Discreet<T> {
    pub(super) fn new(inner: T, bucket: &str) -> Self {
        let bucket = bucket.to_owned();
        Self {
            inner,
            standing: Arc::new(Standing { bucket, let_in: AtomicBool::new(false), told: Mutex::default() }),
        }
    }
}

/// How we stand with a bucket. Every request of it reads and writes this.
struct Standing {
    bucket: String,
    /// Whether any request ever succeeded.
    let_in: AtomicBool,
    /// When a denial was last told.
    told: Mutex<Option<Instant>>,
}

impl Standing {
    /// What a request came to, as it may be told.
    fn hear<R>(&self, result: Result<R>) -> Result<R> {
        match result {
            Ok(value) => {
                self.let_in.store(true, Ordering::Relaxed);
                Ok(value)
            }
            Err(error) => Err(self.tell(error)),
        }
    }

    fn tell(&self, error: Error) -> Error {
        let let_in = self.let_in.load(Ordering::Relaxed);
        let error = retell(error, let_in);
        let is_denial = matches!(error, Error::PermissionDenied { .. } | Error::Unauthenticated { .. });
        if is_denial && let_in && self.is_to_be_told() {
            let error = std::error::Error::source(&error).map(ToString::to_string);
            tracing::error!(
                bucket = self.bucket,
                error,
                "the store denies what it allowed; requests go on until the policy or the credentials are mended"
            );
        }
        error
    }

    fn is_to_be_told(&self) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = told.is_none_or(|told| told.elapsed() >= TOLD_EVERY);
        if is_due {
            *told = Some(Instant::now());
        }
        is_due
    }
}

/// What the store said, as far as it may be repeated.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
struct Said {
    text: String,
    code: Option<String>,
    /// Whether the store had let us in before.
    let_in: bool,
}

fn said(error: &Error) -> Option<&Said> {
    std::error::Error::source(error)?.downcast_ref()
}

/// The code by which the store said what is wrong, if it gave one.
pub(crate) fn code_of(error: &Error) -> Option<&str> {
    said(error)?.code.as_deref()
}

/// Whether the store had answered before it said this.
pub(crate) fn had_let_in(error: &Error) -> bool {
    said(error).is_some_and(|said| said.let_in)
}

/// The error with nothing in it that must not be seen.
pub(super) fn tell(error: Error) -> Error {
    retell(error, false)
}

fn retell(error: Error, let_in: bool) -> Error {
    let text = whole(&error);
    let code = code(&text);
    let said = || Box::new(Said { text: repeatable(&text), code: code.map(short), let_in });
    match error {
        Error::NotFound { .. } if code == Some("NoSuchBucket") => {
            Error::Generic { store: STORE, source: said() }
        }
        Error::NotFound { path, .. } => Error::NotFound { path, source: said() },
        Error::AlreadyExists { path, .. } => Error::AlreadyExists { path, source: said() },
        Error::Precondition { path, .. } => Error::Precondition { path, source: said() },
        Error::NotModified { path, .. } => Error::NotModified { path, source: said() },
        Error::PermissionDenied { path, .. } | Error::Unauthenticated { path, .. } if is_unknown(code) => {
            Error::Unauthenticated { path, source: said() }
        }
        // The answer to a HEAD has no document to say why.
        Error::PermissionDenied { path, .. } if code.is_none_or(|code| code == DENIED) => {
            Error::PermissionDenied { path, source: said() }
        }
        Error::Unauthenticated { path, .. } if code.is_none_or(|code| code == DENIED) => {
            Error::Unauthenticated { path, source: said() }
        }
        // A clock that is off, credentials that have expired, a store that is not up yet: they pass.
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
            Error::Generic { store: STORE, source: said() }
        }
        Error::Generic { .. } if code == Some(DENIED) => {
            Error::PermissionDenied { path: String::new(), source: said() }
        }
        Error::Generic { .. } if is_unknown(code) => {
            Error::Unauthenticated { path: String::new(), source: said() }
        }
        Error::Generic { .. } => Error::Generic { store: STORE, source: said() },
        Error::NotSupported { .. } => Error::NotSupported { source: said() },
        other => other,
    }
}

/// The code of a missing right.
const DENIED: &str = "AccessDenied";

/// A code as it may be kept: codes are words, and whatever else stands in their place is cut.
fn short(code: &str) -> String {
    code.chars().take_while(char::is_ascii_alphanumeric).collect()
}

/// Whether the store does not know who asks.
fn is_unknown(code: Option<&str>) -> bool {
    const CODES: [&str; 4] =
        ["InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "InvalidTokenId"];
    code.is_some_and(|code| CODES.contains(&code))
}

/// The error and its causes; `object_store` repeats most of them in one another.
fn whole(error: &Error) -> String {
    let mut cause = std::error::Error::source(error);
    let mut text = cause.map_or_else(|| error.to_string(), ToString::to_string);
    while let Some(deeper) = cause.and_then(std::error::Error::source) {
        let said = deeper.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = Some(deeper);
    }
    text
}

/// Up to the document that the store sent, and of that the code and the message. Where no credentials were found, what to do about it.
fn repeatable(text: &str) -> String {
    const NOWHERE: &str = "169.254.169.254";
    let document = text.find(['<', '{']).unwrap_or(text.len());
    let before = text[..document].trim_end_matches([' ', ':']);
    let mut said = before.to_owned();
    for part in ["Code", "Message"].into_iter().filter_map(|name| element(&text[document..], name)) {
        said.push_str(": ");
        said.push_str(part);
    }
    if said.contains(NOWHERE) {
        said.push_str(
            " (there are no credentials in the settings, in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or in ~/.aws/credentials, so an instance's role was asked for)",
        );
    }
    said
}

/// The code of the document that the store sent, or of one key in it.
fn code(text: &str) -> Option<&str> {
    element(text, "Code").or_else(|| text.split_once("(code: ")?.1.split(')').next())
}

fn element<'a>(document: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = document.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(inside, _)| inside)
}

impl<T> fmt::Display for Discreet<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}", self.standing.bucket)
    }
}

impl<T> fmt::Debug for Discreet<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Discreet").field("bucket", &self.standing.bucket).finish_non_exhaustive()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<T: ObjectStore> ObjectStore for Discreet<T> {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.standing.hear(self.inner.put_opts(location, payload, opts).await)
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let inner = self.standing.hear(self.inner.put_multipart_opts(location, opts).await)?;
        Ok(Box::new(DiscreetUpload { inner, location: location.clone(), standing: self.standing.clone() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let mut got = self.standing.hear(self.inner.get_opts(location, options).await)?;
        let standing = self.standing.clone();
        got.payload = match got.payload {
            GetResultPayload::Stream(bytes) => {
                GetResultPayload::Stream(bytes.map_err(move |error| standing.tell(error)).boxed())
            }
            file => file,
        };
        Ok(got)
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.standing.hear(self.inner.get_ranges(location, ranges).await)
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let standing = self.standing.clone();
        self.inner.delete_stream(locations).map(move |one| standing.hear(one)).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let standing = self.standing.clone();
        self.inner.list(prefix).map(move |one| standing.hear(one)).boxed()
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let standing = self.standing.clone();
        self.inner.list_with_offset(prefix, offset).map(move |one| standing.hear(one)).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.standing.hear(self.inner.list_with_delimiter(prefix).await)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.standing.hear(self.inner.copy_opts(from, to, options).await)
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.standing.hear(self.inner.rename_opts(from, to, options).await)
    }
}

struct DiscreetUpload {
    inner: Box<dyn MultipartUpload>,
    location: Path,
    standing: Arc<Standing>,
}

impl fmt::Debug for DiscreetUpload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiscreetUpload").field("location", &self.location).finish_non_exhaustive()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl MultipartUpload for DiscreetUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (standing, sent) = (self.standing.clone(), self.inner.put_part(data));
        Box::pin(async move { standing.hear(sent.await) })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.standing.hear(self.inner.complete().await)
    }

    async fn abort(&mut self) -> Result<()> {
        self.standing.hear(self.inner.abort().await)
    }
}
