//! TLS to a broker: whom we believe, and who we say we are.

use super::settings::SubscriberSettings;
use crate::identity::{PemError, pem};
use rustls::{ClientConfig, RootCertStore};
use std::sync::Arc;
use thiserror::Error;

/// Why TLS to a broker cannot be had.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file cannot be used.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// The system has no certificates to check a broker's against.
    #[error("the system has no certificates to check the broker's against ({detail}); name a file by `ca`")]
    NoRoots {
        /// Why.
        detail: String,
    },
    /// One of the two is missing.
    #[error("`certificate` and `key` belong together, and one of them is missing")]
    Half,
    /// The certificates cannot be used.
    #[error("use the certificates")]
    Unusable(#[from] rustls::Error),
}

/// Reads the files that the settings name. Blocks.
///
/// # Errors
/// If they are missing or of no use.
pub(crate) fn client_config(settings: &SubscriberSettings) -> Result<Arc<ClientConfig>, TlsError> {
    let roots = match &settings.ca {
        Some(path) => pem::roots(path)?,
        None => native()?,
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let config = match (&settings.certificate, &settings.key) {
        (Some(certificate), Some(key)) => {
            builder.with_client_auth_cert(pem::certificates(certificate)?, pem::key(key)?)?
        }
        (None, None) => builder.with_no_client_auth(),
        _ => return Err(TlsError::Half),
    };
    Ok(Arc::new(config))
}

/// The system's certificates; some systems have a few that nobody can read, which does not matter.
fn native() -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    let (added, _) = roots.add_parsable_certificates(native.certs);
    if added > 0 {
        return Ok(roots);
    }
    let detail = native.errors.first().map_or("none was found".to_owned(), ToString::to_string);
    Err(TlsError::NoRoots { detail })
}
