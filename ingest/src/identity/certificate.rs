//! The certificate that a device showed, and the authorities that vouch for it.
//!
//! The handshake only proves that the device has the certificate's key. Whether the certificate is anybody's is decided at CONNECT, by what is known then: so a
//! resumed TLS session cannot outlive a revocation, and the device is told, and the lifecycle says, why it is refused.

use crate::identity::fingerprint::Fingerprint;
use crate::identity::pem::{self, PemError};
use millstream_model::time::Micros;
use rustls::CertificateError;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use x509_parser::prelude::{FromDer, X509Certificate};

const MICROS_PER_SECOND: i64 = 1_000_000;

/// A certificate whose key the peer has.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// The certificate itself, then those that the peer sent with it.
    chain: Vec<CertificateDer<'static>>,
    fingerprint: Fingerprint,
    common_name: Option<String>,
    /// Seconds since 1970.
    not_before: i64,
    not_after: i64,
}

/// A certificate that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the certificate cannot be read: {0}")]
pub struct Unreadable(String);

/// Why a certificate does not count now.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum Untimely {
    #[error("it is valid until {0} only")]
    Expired(Micros),
    #[error("it is valid from {0} only")]
    NotYet(Micros),
}

impl Certificate {
    /// Reads a chain, the certificate itself in front.
    ///
    /// # Errors
    /// If there is none, or it is not X.509.
    pub fn read(chain: &[CertificateDer<'_>]) -> Result<Self, Unreadable> {
        let der = chain.first().ok_or_else(|| Unreadable("there is none".to_owned()))?;
        let (_, parsed) = X509Certificate::from_der(der).map_err(|error| Unreadable(error.to_string()))?;
        let common_name = parsed.subject().iter_common_name().next();
        let common_name = common_name.and_then(|name| name.as_str().ok()).map(str::to_owned);
        Ok(Self {
            fingerprint: Fingerprint::of(der),
            common_name,
            not_before: parsed.validity().not_before.timestamp(),
            not_after: parsed.validity().not_after.timestamp(),
            chain: chain.iter().map(|der| der.clone().into_owned()).collect(),
        })
    }

    /// The first certificate of a PEM file.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn from_file(path: &Path) -> Result<Self, PemError> {
        let chain = pem::certificates(path)?;
        Self::read(&chain).map_err(|error| PemError::Content {
            path: path.to_owned(),
            what: "certificate",
            detail: error.to_string(),
        })
    }

    /// What it is known by.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// What its subject calls itself. Worth nothing unless an authority vouches for it, and even then others may be called the same.
    #[must_use]
    pub fn common_name(&self) -> Option<&str> {
        self.common_name.as_deref()
    }

    /// Bytes of it, and of those that came with it.
    pub(crate) fn size(&self) -> usize {
        self.chain.iter().map(|der| der.len()).sum()
    }

    /// The last moment at which it is valid.
    #[must_use]
    pub fn not_after(&self) -> Micros {
        Micros(self.not_after.saturating_mul(MICROS_PER_SECOND))
    }

    /// Whether its time has come and is not over.
    pub(crate) fn check_time(&self, now: Micros) -> Result<(), Untimely> {
        let seconds = now.0.div_euclid(MICROS_PER_SECOND);
        if seconds > self.not_after {
            Err(Untimely::Expired(self.not_after()))
        } else if seconds < self.not_before {
            Err(Untimely::NotYet(Micros(self.not_before.saturating_mul(MICROS_PER_SECOND))))
        } else {
            Ok(())
        }
    }
}

/// Those whose signature makes a certificate good.
#[derive(Debug)]
pub(crate) struct Authorities(Arc<dyn ClientCertVerifier>);

impl Authorities {
    /// Those of a PEM file.
    pub(crate) fn read(path: &Path) -> Result<Self, PemError> {
        let roots = Arc::new(pem::roots(path)?);
        let verifier =
            WebPkiClientVerifier::builder_with_provider(roots, Arc::new(default_provider())).build();
        verifier.map(Self).map_err(|error| PemError::Content {
            path: path.to_owned(),
            what: "authority's certificate",
            detail: error.to_string(),
        })
    }

    /// Whether one of them vouches for the certificate now.
    pub(crate) fn vouch(&self, certificate: &Certificate, now: Micros) -> Result<(), rustls::Error> {
        let Some((own, others)) = certificate.chain.split_first() else {
            return Err(CertificateError::BadEncoding.into());
        };
        let seconds = u64::try_from(now.0.div_euclid(MICROS_PER_SECOND)).unwrap_or(0);
        let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        self.0.verify_client_cert(own, others, now).map(drop)
    }
}
