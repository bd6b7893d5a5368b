//! The decorator that lets no credential out: neither in what a store prints of itself nor in what it says when it fails.
//!
//! S3 answers a refused request with a document that may quote the token, the id of the key and what was signed. Of it only the code and the message are handed on.
//! It also tells by that code what `object_store` takes for a general failure: a missing right, and a missing bucket.

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryFutureExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};
use std::fmt;
use std::ops::Range;

/// What errors call the store.
const STORE: &str = "S3";

/// A store that keeps its credentials to itself.
pub(super) struct Discreet<T> {
    inner: T,
    bucket: String,
}

impl<T> Discreet<T> {
    pub(super) fn new(inner: T, bucket: &str) -> Self {
        Self { inner, bucket: bucket.to_owned() }
    }
}

/// What the store said, as far as it may be repeated.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Said(String);

/// The error with nothing in it that must not be seen.
pub(super) fn tell(error: Error) -> Error {
    let text = whole(&error);
    let code = code(&text);
    let said = || Box::new(Said(repeatable(&text)));
    match error {
        Error::NotFound { .. } if code == Some("NoSuchBucket") => {
            Error::Generic { store: STORE, source: said() }
        }
        Error::NotFound { path, .. } => Error::NotFound { path, source: said() },
        Error::AlreadyExists { path, .. } => Error::AlreadyExists { path, source: said() },
        Error::Precondition { path, .. } => Error::Precondition { path, source: said() },
        Error::NotModified { path, .. } => Error::NotModified { path, source: said() },
        Error::PermissionDenied { path, .. } if !is_unknown(code) => {
            Error::PermissionDenied { path, source: said() }
        }
        Error::PermissionDenied { path, .. } | Error::Unauthenticated { path, .. } => {
            Error::Unauthenticated { path, source: said() }
        }
        Error::Generic { .. } if code == Some("AccessDenied") => {
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
        write!(f, "s3://{}", self.bucket)
    }
}

impl<T> fmt::Debug for Discreet<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Discreet").field("bucket", &self.bucket).finish_non_exhaustive()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<T: ObjectStore> ObjectStore for Discreet<T> {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.inner.put_opts(location, payload, opts).await.map_err(tell)
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let inner = self.inner.put_multipart_opts(location, opts).await.map_err(tell)?;
        Ok(Box::new(DiscreetUpload { inner, location: location.clone() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let mut got = self.inner.get_opts(location, options).await.map_err(tell)?;
        got.payload = match got.payload {
            GetResultPayload::Stream(bytes) => GetResultPayload::Stream(bytes.map_err(tell).boxed()),
            file => file,
        };
        Ok(got)
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await.map_err(tell)
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations).map_err(tell).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix).map_err(tell).boxed()
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset).map_err(tell).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await.map_err(tell)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await.map_err(tell)
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.inner.rename_opts(from, to, options).await.map_err(tell)
    }
}

struct DiscreetUpload {
    inner: Box<dyn MultipartUpload>,
    location: Path,
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
        Box::pin(self.inner.put_part(data).map_err(tell))
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.inner.complete().await.map_err(tell)
    }

    async fn abort(&mut self) -> Result<()> {
        self.inner.abort().await.map_err(tell)
    }
}
