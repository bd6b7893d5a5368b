//! Where the tables are, and how the object store is reached.

use super::problem::Problem;
use super::raw::{Notices, RawLake, RawS3};
use super::secret::{SecretSource, check_secret};
use super::value::{Origin, check_path};
use millstream_lake::s3::S3Settings;
use std::fmt;
use std::path::{Path, PathBuf};
use url::Url;

/// The two buckets.
#[derive(Debug, Clone)]
pub(crate) struct Lake {
    /// The ingestion bucket, if not in the data directory.
    pub(crate) ingestion: Option<Location>,
    /// The reporting bucket, if not in the data directory.
    pub(crate) reporting: Option<Location>,
    /// Who tells the processor of new versions.
    pub(crate) notices: Notices,
    /// How an object store is reached.
    pub(crate) s3: S3,
}

/// Where a bucket is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Location {
    /// A directory of this machine.
    Directory(PathBuf),
    /// An object store.
    Store(Url),
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => write!(f, "{}", path.display()),
            Self::Store(url) => write!(f, "{url}"),
        }
    }
}

/// How the object store is reached, beside what the environment says.
#[derive(Debug, Clone)]
pub(crate) struct S3 {
    /// All but what is secret.
    settings: S3Settings,
    secret_key: Option<SecretSource>,
    session_token: Option<SecretSource>,
}

impl S3 {
    /// Where the store is, without its secrets.
    pub(crate) fn place(&self) -> &S3Settings {
        &self.settings
    }

    /// What a bucket is opened with, its secrets read.
    ///
    /// # Errors
    /// If a file with a secret cannot be read.
    pub(crate) fn settings(&self) -> anyhow::Result<S3Settings> {
        let read = |source: &Option<SecretSource>| source.as_ref().map(SecretSource::read).transpose();
        let (secret_key, session_token) = (read(&self.secret_key)?, read(&self.session_token)?);
        Ok(S3Settings { secret_key, session_token, ..self.settings.clone() })
    }
}

pub(super) fn check_lake(
    raw: RawLake,
    s3: RawS3,
    origin: &Origin,
    problems: &mut Vec<Problem>,
    warnings: &mut Vec<Problem>,
) -> Lake {
    let ingestion = check_location("lake.ingestion", raw.ingestion, origin, problems);
    let reporting = check_location("lake.reporting", raw.reporting, origin, problems);
    let same = ingestion.is_some() && ingestion == reporting;
    if same {
        problems.push(
            Problem::new("lake.reporting", "both buckets are the same place")
                .hint("give the reports a place of their own, like \"s3://bucket/reporting\""),
        );
    }
    let notices = raw.notices.unwrap_or(Notices::Firehose);
    if notices == Notices::Store && !matches!(ingestion, Some(Location::Store(_))) {
        problems.push(
            Problem::new("lake.notices", "a directory does not notify anyone of what is written to it").hint(
                "write notices = \"firehose\", or name an object store, ingestion = \"s3://bucket/prefix\"",
            ),
        );
    }
    Lake { ingestion, reporting, notices, s3: check_s3(s3, origin, problems, warnings) }
}

fn check_location(
    key: &str,
    text: Option<String>,
    origin: &Origin,
    problems: &mut Vec<Problem>,
) -> Option<Location> {
    let text = text?;
    if text.is_empty() {
        problems.push(
            Problem::new(key, "the path cannot be empty")
                .hint("leave it out to keep the tables in the data directory"),
        );
        return None;
    }
    if !text.contains("://") {
        return Some(Location::Directory(origin.path(key, Path::new(&text))));
    }
    let hint = "write a directory, or a bucket like \"s3://bucket/prefix\"";
    let url = match Url::parse(&text) {
        Ok(url) => url,
        Err(error) => {
            problems.push(Problem::new(key, error).hint(hint));
            return None;
        }
    };
    let what = match url.scheme() {
        "file" => match url.to_file_path() {
            Ok(path) => return Some(Location::Directory(path)),
            Err(()) => "the URL names no directory of this machine",
        },
        "s3" if !url.username().is_empty() || url.password().is_some() => {
            "credentials do not belong into a URL"
        }
        "s3" if url.host_str().is_none_or(str::is_empty) => "the URL names no bucket",
        "s3" if url.query().is_some() || url.fragment().is_some() => "a bucket's URL has no `?` and no `#`",
        "s3" => return Some(Location::Store(url)),
        _ => "only s3:// and file:// are known",
    };
    problems.push(Problem::new(key, what).hint(hint));
    None
}

fn check_s3(raw: RawS3, origin: &Origin, problems: &mut Vec<Problem>, warnings: &mut Vec<Problem>) -> S3 {
    let secret_key =
        check_secret(origin, "s3.secret_key", raw.secret_key, raw.secret_key_file, problems, warnings);
    let session_token = check_secret(origin, "s3.session_token", raw.session_token, None, problems, warnings);
    if raw.access_key.is_some() != secret_key.is_some() {
        let (there, missing) =
            if secret_key.is_some() { ("secret_key", "access_key") } else { ("access_key", "secret_key") };
        problems.push(Problem::new(format!("s3.{there}"), format!("there is no `{missing}` to it")).hint(
            "give both, or neither and AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY by the environment",
        ));
    }
    if let Some(text) = &raw.endpoint {
        let url =
            Url::parse(text).ok().filter(|url| ["http", "https"].contains(&url.scheme()) && url.has_host());
        match url {
            None => problems.push(
                Problem::new("s3.endpoint", format!("{text:?} is no address of a store"))
                    .hint("write it like \"http://127.0.0.1:9000\""),
            ),
            Some(url) if url.scheme() == "http" && raw.allow_http != Some(true) => problems.push(
                Problem::new("s3.endpoint", "the store would be reached in plain text")
                    .hint("write allow_http = true if that is right, or an address with https://"),
            ),
            Some(_) => {}
        }
    }
    let ca = check_path(origin, "s3.ca", raw.ca.as_deref(), problems);
    let RawS3 { endpoint, region, path_style, allow_http, access_key, .. } = raw;
    let settings =
        S3Settings { endpoint, region, path_style, allow_http, access_key, ca, ..S3Settings::default() };
    S3 { settings, secret_key, session_token }
}
