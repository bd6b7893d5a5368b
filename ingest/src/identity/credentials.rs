//! The credentials file: who is known, by what, and what each may do.
//!
//! ```toml
//! [device.d1]
//! password = "$argon2id$v=19$m=19456,t=2,p=1$..."
//! [[device.d1.certificate]]
//! fingerprint = "3f2a..."
//! ```
//!
//! This is the reading side; `register` is what `millstream device` writes with.

mod register;
#[cfg(test)]
mod tests;

pub use register::{Register, RegisterError};

use crate::identity::fingerprint::Fingerprint;
use crate::identity::name::{ClientIds, DeviceName};
use crate::identity::password::PasswordHash;
use crate::identity::rule::TopicRule;
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use thiserror::Error;

/// Everybody who is known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Credentials {
    devices: BTreeMap<DeviceName, Device>,
    by_fingerprint: HashMap<Fingerprint, DeviceName>,
}

/// One device. How it proves who it is, and what it may do.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// The hash of its password; the user is the device's name.
    pub password: Option<PasswordHash>,
    /// Certificates that are its own, each known by its fingerprint.
    #[serde(default, rename = "certificate")]
    pub certificates: Vec<KnownCertificate>,
    /// What it may publish to, instead of what the configuration says.
    pub topics: Option<Vec<TopicRule>>,
    /// The client identifiers under which it may connect; its name, if nothing else is said.
    pub client_id: Option<ClientIds>,
    /// When it was made known, for people.
    pub added: Option<String>,
    /// Whether it was taken back, with all its credentials.
    #[serde(default)]
    pub revoked: Revoked,
}

/// A certificate of a device.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnownCertificate {
    /// What it is known by.
    pub fingerprint: Fingerprint,
    /// Until when it is valid, for people: the certificate itself says so to the gateway.
    pub not_after: Option<String>,
    /// Whether it was taken back.
    #[serde(default)]
    pub revoked: Revoked,
}

/// Whether something was taken back: a time, or `true`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Revoked {
    /// Whether.
    Is(bool),
    /// It is, since then.
    Since(String),
}

impl Default for Revoked {
    fn default() -> Self {
        Self::Is(false)
    }
}

impl Revoked {
    /// Whether it was taken back.
    #[must_use]
    pub fn is_revoked(&self) -> bool {
        *self != Self::Is(false)
    }
}

/// Why a credentials file is not understood.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub struct BadCredentials {
    /// The line, where there is one to blame.
    pub line: Option<usize>,
    /// What is wrong with it. Nothing of the line itself, which may be a secret.
    pub detail: String,
}

impl fmt::Display for BadCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "line {line}: {}", self.detail),
            None => f.write_str(&self.detail),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Raw {
    device: BTreeMap<DeviceName, Device>,
}

impl Credentials {
    /// Reads the file's text.
    ///
    /// # Errors
    /// If it is no TOML, or says something that is not understood; nothing of it counts then.
    pub fn parse(text: &str) -> Result<Self, BadCredentials> {
        let raw: Raw = toml_edit::de::from_str(text).map_err(|error| BadCredentials {
            line: error.span().map(|span| line_of(text, span.start)),
            detail: first_line(error.message()),
        })?;
        let mut by_fingerprint = HashMap::new();
        for (name, device) in &raw.device {
            for certificate in &device.certificates {
                let Some(other) = by_fingerprint.insert(certificate.fingerprint, name.clone()) else {
                    continue;
                };
                let fingerprint = certificate.fingerprint.short();
                return Err(BadCredentials {
                    line: None,
                    detail: format!("the certificate {fingerprint}... is that of {other} and of {name}"),
                });
            }
        }
        Ok(Self { devices: raw.device, by_fingerprint })
    }

    /// All of them, by name.
    pub fn devices(&self) -> impl Iterator<Item = (&DeviceName, &Device)> {
        self.devices.iter()
    }

    /// Whether nobody is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.devices.is_empty()
    }

    /// One by its name.
    #[must_use]
    pub fn device(&self, name: &str) -> Option<(&DeviceName, &Device)> {
        self.devices.get_key_value(name)
    }

    /// Whose certificate this is.
    pub(crate) fn owner(&self, fingerprint: &Fingerprint) -> Option<(&DeviceName, &Device)> {
        self.devices.get_key_value(self.by_fingerprint.get(fingerprint)?)
    }

    /// Some hash of the file: what a check costs here.
    pub(crate) fn any_hash(&self) -> Option<&PasswordHash> {
        self.devices.values().find_map(|device| device.password.as_ref())
    }
}

impl Device {
    /// Its certificate with this fingerprint.
    pub(crate) fn certificate(&self, fingerprint: &Fingerprint) -> Option<&KnownCertificate> {
        self.certificates.iter().find(|certificate| certificate.fingerprint == *fingerprint)
    }
}

fn line_of(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
}

fn first_line(message: &str) -> String {
    message.lines().next().unwrap_or_default().to_owned()
}
