//! S3, and what speaks like it: how a bucket there is found, by whose right it is used, and how long one waits for an answer.
//!
//! What the settings leave open, the environment says (`AWS_*`), and after it the shared files of AWS's own tools (`profile`). Where none of them has credentials, they
//! come from a web identity, a container's role or an instance's role, as `object_store` gets them. None of it is ever printed: `discreet` stands between the store and
//! everyone else.

mod discreet;
mod environment;
mod profile;
mod shared_files;

use crate::LakeError;
use discreet::Discreet;
pub(crate) use discreet::{SKEWED, code_of, had_let_in};
use environment::Environment;
use millstream_model::secret::Secret;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut};
use object_store::{BackoffConfig, Certificate, ClientConfigKey, ClientOptions, ObjectStore, RetryConfig};
use shared_files::SharedFiles;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};
use url::Url;

/// How often a request is sent again after the store failed, throttled or did not answer. The caller's own loop comes on top of it.
const RETRIES_MAX: usize = 5;

/// After so long no request is sent again.
const RETRY_TIME_MAX: Duration = Duration::from_secs(30);

/// The wait before a request is sent again: it grows from one to the other, shortened by chance.
const WAIT_MIN: Duration = Duration::from_millis(100);
const WAIT_MAX: Duration = Duration::from_secs(5);

/// How long one request may take, its body included: a part of 8 MiB passes a line of 1.2 Mbit/s in that time.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(60);

/// How long making a connection may take.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);

/// How S3 is reached. What is none is taken from the environment (`AWS_*`); credentials, after that, from the shared credentials file, a web identity, a container's
/// role or an instance's role.
#[derive(Clone, Default)]
pub struct S3Settings {
    /// URL of the server, for what is not AWS: `http://127.0.0.1:9000`.
    pub endpoint: Option<String>,
    /// Region of the bucket; `us-east-1` if nobody says.
    pub region: Option<String>,
    /// Whether the bucket stands in the path of a request (by default), or in the name of its host.
    pub path_style: Option<bool>,
    /// Whether an endpoint without TLS is accepted; by default it is not.
    pub allow_http: Option<bool>,
    /// Id of the access key; it needs `secret_key`.
    pub access_key: Option<Secret>,
    /// The secret access key; it needs `access_key`.
    pub secret_key: Option<Secret>,
    /// What temporary credentials have besides.
    pub session_token: Option<Secret>,
    /// File with the certificates (PEM) of a private authority that is trusted beside the system's.
    pub ca: Option<PathBuf>,
}

impl fmt::Debug for S3Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { endpoint, region, path_style, allow_http, access_key, secret_key, session_token, ca } =
            self;
        f.debug_struct("S3Settings")
            .field("endpoint", &endpoint.as_deref().map(without_user))
            .field("region", region)
            .field("path_style", path_style)
            .field("allow_http", allow_http)
            .field("access_key", access_key)
            .field("secret_key", secret_key)
            .field("session_token", session_token)
            .field("ca", ca)
            .finish()
    }
}

/// The store of a bucket, rooted at the bucket itself.
///
/// # Errors
/// `Place` when the settings contradict themselves, `Connect` when there is no client for them, `File` when a file that they name cannot be read.
pub(crate) fn connect(bucket: &str, settings: &S3Settings) -> Result<Arc<dyn ObjectStore>, LakeError> {
    connect_in(bucket, settings, &Environment::of_process())
}

fn connect_in(
    bucket: &str,
    settings: &S3Settings,
    environment: &Environment,
) -> Result<Arc<dyn ObjectStore>, LakeError> {
    let place = format!("s3://{bucket}");
    let store = builder(bucket, settings, environment)?
        .build()
        .map_err(|source| LakeError::Connect { place, source: discreet::tell(source) })?;
    Ok(Arc::new(Discreet::new(store, bucket)))
}

fn builder(
    bucket: &str,
    settings: &S3Settings,
    environment: &Environment,
) -> Result<AmazonS3Builder, LakeError> {
    let refused = |reason: String| LakeError::Place { place: format!("s3://{bucket}"), reason };
    if settings.access_key.is_some() != settings.secret_key.is_some() {
        return Err(refused("an access key and a secret key need each other".to_owned()));
    }
    let mut builder = AmazonS3Builder::new();
    let mut client = client_options();
    for (key, value) in environment.s3_keys() {
        match key {
            // Credentials are taken from one place or from another, never half and half.
            AmazonS3ConfigKey::AccessKeyId
            | AmazonS3ConfigKey::SecretAccessKey
            | AmazonS3ConfigKey::Token
                if settings.access_key.is_some() => {}
            AmazonS3ConfigKey::Client(key) => client = client.with_config(key, value),
            key => builder = builder.with_config(key, value),
        }
    }
    if let (Some(access_key), Some(secret_key)) = (&settings.access_key, &settings.secret_key) {
        builder = with_credentials(builder, access_key, secret_key, settings.session_token.as_ref());
    } else if environment.consults_profile() {
        let profile = environment.profile().map_err(|(path, source)| LakeError::File { path, source })?;
        if let Some(name) = environment.named_profile().filter(|_| !profile.exists) {
            return Err(refused(format!(
                "AWS_PROFILE names the profile {name}, which neither ~/.aws/credentials nor ~/.aws/config has"
            )));
        }
        if let Some(means) = &profile.other_means {
            let name = environment.profile_name();
            let way = "`aws configure export-credentials --format env` prints such as can be used";
            return Err(refused(format!(
                "the profile {name} has its credentials by {means}, which is not understood here; {way}"
            )));
        }
        if let Some(credential) = profile.credential() {
            builder = builder.with_credentials(Arc::new(SharedFiles::new(environment.clone(), credential)));
        }
        if let Some(region) = profile.region {
            builder = builder.with_config(AmazonS3ConfigKey::DefaultRegion, region);
        }
    }
    if let Some(region) = &settings.region {
        builder = builder.with_region(region);
    }
    if let Some(allow) = settings.allow_http {
        client = client.with_allow_http(allow);
    }
    for certificate in authorities(settings, &refused)? {
        client = client.with_root_certificate(certificate);
    }
    builder = reached_by(builder, bucket, settings, &client).map_err(&refused)?;
    Ok(builder
        .with_bucket_name(bucket)
        .with_client_options(client)
        .with_retry(retries())
        // Whatever the environment says: every commit stands on this.
        .with_conditional_put(S3ConditionalPut::ETagMatch))
}

fn with_credentials(
    builder: AmazonS3Builder,
    access_key: &Secret,
    secret_key: &Secret,
    session_token: Option<&Secret>,
) -> AmazonS3Builder {
    let builder = builder.with_access_key_id(access_key.expose()).with_secret_access_key(secret_key.expose());
    match session_token {
        Some(token) => builder.with_token(token.expose()),
        None => builder,
    }
}

/// Settles the endpoint and where the bucket stands in a URL. Says what is wrong with them, if anything.
fn reached_by(
    builder: AmazonS3Builder,
    bucket: &str,
    settings: &S3Settings,
    client: &ClientOptions,
) -> Result<AmazonS3Builder, String> {
    let of_environment = || {
        let said = |key| builder.get_config_value(&key);
        said(AmazonS3ConfigKey::S3Endpoint).or_else(|| said(AmazonS3ConfigKey::Endpoint))
    };
    let virtual_hosted = match settings.path_style {
        Some(path_style) => !path_style,
        None => is_true(builder.get_config_value(&AmazonS3ConfigKey::VirtualHostedStyleRequest)),
    };
    let Some(endpoint) = settings.endpoint.clone().or_else(of_environment) else {
        return Ok(builder.with_virtual_hosted_style_request(virtual_hosted));
    };
    let shown = without_user(&endpoint);
    let mut url =
        Url::parse(&endpoint).map_err(|error| format!("the endpoint {shown} is no URL: {error}"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(format!("the endpoint {shown} must not have a user or password in it"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(format!("the endpoint {shown} must end with its path"));
    }
    match url.scheme() {
        "https" => {}
        "http" if is_true(client.get_config_value(&ClientConfigKey::AllowHttp)) => {}
        "http" => return Err(format!("the endpoint {shown} has no TLS, and allow_http is not set")),
        _ => return Err(format!("the endpoint {shown} must begin with https:// or http://")),
    }
    let host = url.host_str().unwrap_or_default().to_owned();
    if virtual_hosted && !host.starts_with(&format!("{bucket}.")) {
        url.set_host(Some(&format!("{bucket}.{host}")))
            .map_err(|error| format!("the endpoint {shown} can have no bucket in its host: {error}"))?;
    }
    Ok(builder
        .with_config(AmazonS3ConfigKey::S3Endpoint, url.as_str().trim_end_matches('/'))
        .with_virtual_hosted_style_request(virtual_hosted))
}

fn is_true(value: Option<String>) -> bool {
    value.is_some_and(|value| ["1", "true", "on", "yes", "y"].contains(&value.to_ascii_lowercase().as_str()))
}

fn authorities(
    settings: &S3Settings,
    refused: &impl Fn(String) -> LakeError,
) -> Result<Vec<Certificate>, LakeError> {
    let Some(path) = &settings.ca else { return Ok(Vec::new()) };
    let failed = |source: io::Error| LakeError::File { path: path.clone(), source };
    let bundle = std::fs::read(path).map_err(failed)?;
    let certificates =
        Certificate::from_pem_bundle(&bundle).map_err(|error| failed(io::Error::other(error)))?;
    if certificates.is_empty() {
        return Err(refused(format!("there is no certificate (PEM) in {}", path.display())));
    }
    Ok(certificates)
}

fn client_options() -> ClientOptions {
    ClientOptions::new()
        .with_timeout(REQUEST_TIME_MAX)
        .with_connect_timeout(CONNECT_TIME_MAX)
        .with_config(ClientConfigKey::UserAgent, concat!("millstream/", env!("CARGO_PKG_VERSION")))
}

fn retries() -> RetryConfig {
    let backoff = BackoffConfig { init_backoff: WAIT_MIN, max_backoff: WAIT_MAX, base: 2.0 };
    RetryConfig { backoff, max_retries: RETRIES_MAX, retry_timeout: RETRY_TIME_MAX }
}

/// A URL as it may be printed: what stands before its host is left out.
pub(crate) fn without_user(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").map_or(("", url), |(scheme, rest)| (scheme, rest));
    let authority = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    // An `@` that stands further on may still end a password that has a slash in it.
    let from = rest[..authority].rfind('@').or_else(|| rest.rfind('@')).map_or(0, |at| at + 1);
    let shown = rest[from..].split(['?', '#']).next().unwrap_or_default();
    if scheme.is_empty() { shown.to_owned() } else { format!("{scheme}://{shown}") }
}

#[cfg(test)]
mod tests;
