//! What the gateway is told about who its devices are. Values only; they are checked when [`Access`](super::Access) is opened.

use crate::identity::rule::TopicRule;
use std::path::PathBuf;

/// Who may connect, and what they may publish to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessSettings {
    /// Whether a client that shows no credential is let in. The topic rules do not bind it: where nobody is known, everybody may do everything.
    /// A client that shows a credential must show a right one all the same, as soon as one is known.
    pub anonymous: bool,
    /// The credentials file. It need not exist: then nobody is known by it, until it is written.
    pub credentials: Option<PathBuf>,
    /// What a device may publish to, if its credential says nothing else. Empty: nothing.
    pub topics: Vec<TopicRule>,
}

impl Default for AccessSettings {
    /// Everybody, and everything.
    fn default() -> Self {
        Self { anonymous: true, credentials: None, topics: Vec::new() }
    }
}

/// The listener for TLS. All files are PEM, and are read again when they change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSettings {
    /// The server's certificate, followed by those that lead to its authority.
    pub certificate: PathBuf,
    /// The server's private key.
    pub key: PathBuf,
    /// Authorities whose certificates are accepted from devices, beside those that the credentials file knows by fingerprint.
    pub client_ca: Option<PathBuf>,
    /// Whether a device must have a certificate.
    pub client_certificates: ClientCertificates,
}

/// Whether a device must have a certificate on the listener for TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClientCertificates {
    /// A certificate, or a user and a password.
    #[default]
    Optional,
    /// A connection without one fails in its handshake, and a password does not stand in for one that nobody vouches for.
    Required,
}
