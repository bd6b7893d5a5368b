//! TLS to a broker: whom we believe, and who we say we are.

use super::settings::SubscriberSettings;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;

/// Why TLS to a broker cannot be had.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("{path} has no {what} in PEM")]
    Pem {
        /// The file.
        path: PathBuf,
        /// What was looked for, as in "certificate".
        what: &'static str,
        /// What was found.
        #[source]
        source: pem::Error,
    },
    /// The certificate authority's file has none.
    #[error("{0} has no certificate in PEM")]
    NoCertificate(PathBuf),
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
    let mut roots = RootCertStore::empty();
    match &settings.ca {
        Some(path) => {
            for certificate in certificates(path)? {
                roots.add(certificate)?;
            }
        }
        None => native(&mut roots)?,
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let config = match (&settings.certificate, &settings.key) {
        (Some(certificate), Some(key)) => {
            builder.with_client_auth_cert(certificates(certificate)?, private_key(key)?)?
        }
        (None, None) => builder.with_no_client_auth(),
        _ => return Err(TlsError::Half),
    };
    Ok(Arc::new(config))
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::Read { path: path.to_owned(), source })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = read(path)?;
    let certificates = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
    let certificates = certificates.map_err(|source| TlsError::Pem {
        path: path.to_owned(),
        what: "certificate",
        source,
    })?;
    if certificates.is_empty() { Err(TlsError::NoCertificate(path.to_owned())) } else { Ok(certificates) }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|source| TlsError::Pem {
        path: path.to_owned(),
        what: "private key",
        source,
    })
}

/// The system's certificates; some systems have a few that nobody can read, which does not matter.
fn native(roots: &mut RootCertStore) -> Result<(), TlsError> {
    let native = rustls_native_certs::load_native_certs();
    let (added, _) = roots.add_parsable_certificates(native.certs);
    if added > 0 {
        return Ok(());
    }
    let detail = native.errors.first().map_or("none was found".to_owned(), ToString::to_string);
    Err(TlsError::NoRoots { detail })
}
