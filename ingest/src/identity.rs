//! Who a device is, and what it may publish to.
//!
//! A device proves who it is by a password (`password`, checked by `verification`) or by a certificate (`certificate`, shown over `tls`); the credentials file
//! (`credentials`, written by `millstream device`) says who is known, and [`Access`] is all of it together, read again when a file changes. `rule` says which
//! topics are a device's own, `authority` makes certificates. The gateway asks at CONNECT and at each PUBLISH; nothing here speaks MQTT or knows of sessions
//! and the log.
//!
//! Nothing here prints a password or a key, and nothing that a device sends can widen what it may do.

pub(crate) mod access;
pub mod authority;
pub(crate) mod certificate;
pub mod credentials;
mod digest;
mod fingerprint;
mod name;
pub(crate) mod password;
pub(crate) mod pem;
mod rule;
mod settings;
mod stamp;
#[cfg(test)]
pub(crate) mod tests;
mod tls;
mod verification;

pub use access::{Access, AccessError};
pub use certificate::{Certificate, Unreadable};
pub use fingerprint::{BadFingerprint, Fingerprint};
pub use name::{BadClientIds, BadName, ClientIds, DeviceName};
pub use password::{BadHash, Password, PasswordHash};
pub use pem::PemError;
pub use rule::{BadRule, TopicRule};
pub use settings::{AccessSettings, ClientCertificates, TlsSettings};
pub use tls::TlsError;
