//! TLS to the broker.

use crate::identity::PemError;
use crate::identity::pem;
use crate::replay::dial::{Dial, Wire, tcp};
use crate::replay::settings::{Broker, TlsFiles};
use async_trait::async_trait;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use std::fmt;
use std::io;
use std::sync::Arc;
use thiserror::Error;
use tokio_rustls::TlsConnector;

/// Why there can be no TLS.
#[derive(Debug, Error)]
pub enum BadTls {
    /// A file cannot be used.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// The system knows no authorities.
    #[error("the system has no certificates to check the broker's by; name a file with its authority's")]
    NoAuthorities,
    /// Certificate without key, or key without certificate.
    #[error("a certificate needs its key, and a key its certificate")]
    Half,
    /// They do not belong together.
    #[error("the certificate and the key do not belong together")]
    Pair(#[source] rustls::Error),
    /// The broker's host cannot be the name of a certificate.
    #[error("{0:?} is neither a host name nor an address")]
    Name(String),
}

/// TLS over TCP.
#[derive(Clone)]
pub struct Tls {
    broker: Broker,
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// If one of them is of no use.
    pub fn new(broker: Broker, files: &TlsFiles) -> Result<Self, BadTls> {
        let name = ServerName::try_from(broker.host.clone()).ok();
        let name = name.ok_or_else(|| BadTls::Name(broker.host.clone()))?;
        Ok(Self { broker, connector: Arc::new(config(files)?).into(), name })
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("broker", &self.broker).finish_non_exhaustive()
    }
}

#[async_trait]
impl Dial for Tls {
    async fn dial(&self) -> io::Result<Box<dyn Wire>> {
        let stream = tcp(&self.broker).await?;
        Ok(Box::new(self.connector.connect(self.name.clone(), stream).await?))
    }
}

fn config(files: &TlsFiles) -> Result<ClientConfig, BadTls> {
    let roots = match &files.ca {
        Some(path) => pem::roots(path)?,
        None => system_roots()?,
    };
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(BadTls::Pair)?
        .with_root_certificates(roots);
    match (&files.certificate, &files.key) {
        (None, None) => Ok(builder.with_no_client_auth()),
        (Some(certificate), Some(key)) => builder
            .with_client_auth_cert(pem::certificates(certificate)?, pem::key(key)?)
            .map_err(BadTls::Pair),
        _ => Err(BadTls::Half),
    }
}

fn system_roots() -> Result<RootCertStore, BadTls> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() { Err(BadTls::NoAuthorities) } else { Ok(roots) }
}
