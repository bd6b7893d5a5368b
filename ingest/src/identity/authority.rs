//! An authority of one's own: makes the server's certificate and those of devices.
//!
//! For fleets that have none yet: `millstream init` makes it, `millstream device add --certificate` uses it. Everything here is text in and text out; where it
//! is kept is the caller's business. Keys are ECDSA on P-256, which every TLS library of a device knows.

use crate::identity::fingerprint::Fingerprint;
use crate::identity::name::DeviceName;
use millstream_model::time::Micros;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use std::time::Duration;
use thiserror::Error;

/// How long the authority and its server certificate are valid, in days: as long as a fleet lives, because devices hold the authority's certificate and
/// nothing renews a server's.
pub const AUTHORITY_DAYS: u32 = 3652;

/// How long a device's certificate is valid if nothing else is said, in days.
pub const DEVICE_DAYS: u32 = 825;

const SECONDS_PER_DAY: u64 = 24 * 3600;

/// Certificates are valid from a day before they were made: clocks of devices are slow.
const SLACK_DAYS: u64 = 1;

/// A certificate or key cannot be made or read.
#[derive(Debug, Error)]
#[error("cannot {action}")]
pub struct AuthorityError {
    action: &'static str,
    source: rcgen::Error,
}

/// Signs certificates.
#[derive(Debug)]
pub struct Authority(Issuer<'static, KeyPair>);

/// A certificate that was made, with its key; both PEM.
#[derive(Clone)]
pub struct Issued {
    /// The certificate.
    pub certificate: String,
    /// Its private key.
    pub key: String,
    /// What the certificate is known by.
    pub fingerprint: Fingerprint,
    /// The last moment at which it is valid.
    pub not_after: Micros,
}

impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { fingerprint, not_after, .. } = self;
        f.debug_struct("Issued")
            .field("fingerprint", fingerprint)
            .field("not_after", not_after)
            .finish_non_exhaustive()
    }
}

/// What a certificate is for.
enum Purpose<'a> {
    Authority,
    Server(&'a [String]),
    Device,
}

impl Authority {
    /// A new one.
    ///
    /// # Errors
    /// If there is no randomness.
    pub fn create(now: Micros) -> Result<(Self, Issued), AuthorityError> {
        let action = "make an authority";
        let key = KeyPair::generate().map_err(failed(action))?;
        // Two authorities are never called the same: a device that knows both tells them apart.
        let name = format!("Millstream authority {}", &uuid::Uuid::new_v4().simple().to_string()[..8]);
        let (params, not_after) =
            params(&name, &Purpose::Authority, AUTHORITY_DAYS, now).map_err(failed(action))?;
        let certificate = params.self_signed(&key).map_err(failed(action))?;
        let issued = Issued {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            fingerprint: Fingerprint::of(certificate.der()),
            not_after,
        };
        Ok((Self(Issuer::new(params, key)), issued))
    }

    /// One that was made before.
    ///
    /// # Errors
    /// If one of the two is not understood.
    pub fn read(certificate: &str, key: &str) -> Result<Self, AuthorityError> {
        let key = KeyPair::from_pem(key).map_err(failed("read the authority's key"))?;
        Issuer::from_ca_cert_pem(certificate, key)
            .map(Self)
            .map_err(failed("read the authority's certificate"))
    }

    /// A certificate for the server, under all these names and addresses.
    ///
    /// # Errors
    /// If one of them is no name.
    pub fn server(&self, names: &[String], now: Micros) -> Result<Issued, AuthorityError> {
        let name = names.first().map_or("millstream", String::as_str);
        self.issue(name, &Purpose::Server(names), AUTHORITY_DAYS, now)
    }

    /// A certificate for a device, whose common name is the device's name.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn device(&self, name: &DeviceName, days: u32, now: Micros) -> Result<Issued, AuthorityError> {
        self.issue(name.as_str(), &Purpose::Device, days, now)
    }

    fn issue(
        &self,
        name: &str,
        purpose: &Purpose<'_>,
        days: u32,
        now: Micros,
    ) -> Result<Issued, AuthorityError> {
        let action = "make a certificate";
        let key = KeyPair::generate().map_err(failed(action))?;
        let (params, not_after) = params(name, purpose, days, now).map_err(failed(action))?;
        let certificate = params.signed_by(&key, &self.0).map_err(failed(action))?;
        Ok(Issued {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            fingerprint: Fingerprint::of(certificate.der()),
            not_after,
        })
    }
}

fn params(
    name: &str,
    purpose: &Purpose<'_>,
    days: u32,
    now: Micros,
) -> Result<(CertificateParams, Micros), rcgen::Error> {
    let names = if let Purpose::Server(names) = purpose { names.to_vec() } else { Vec::new() };
    let mut params = CertificateParams::new(names)?;
    let now = u64::try_from(now.0 / 1_000_000).unwrap_or(0);
    let begin = now.saturating_sub(SLACK_DAYS * SECONDS_PER_DAY);
    let end = now + u64::from(days) * SECONDS_PER_DAY;
    params.not_before = date_time_ymd(1970, 1, 1) + Duration::from_secs(begin);
    params.not_after = date_time_ymd(1970, 1, 1) + Duration::from_secs(end);
    params.distinguished_name.push(DnType::CommonName, name);
    params.use_authority_key_identifier_extension = true;
    match purpose {
        Purpose::Authority => {
            params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        }
        Purpose::Server(_) | Purpose::Device => {
            let usage = match purpose {
                Purpose::Server(_) => ExtendedKeyUsagePurpose::ServerAuth,
                Purpose::Authority | Purpose::Device => ExtendedKeyUsagePurpose::ClientAuth,
            };
            params.is_ca = IsCa::ExplicitNoCa;
            params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            params.extended_key_usages = vec![usage];
        }
    }
    Ok((params, Micros(i64::try_from(end).unwrap_or(i64::MAX / 1_000_000) * 1_000_000)))
}

fn failed(action: &'static str) -> impl FnOnce(rcgen::Error) -> AuthorityError {
    move |source| AuthorityError { action, source }
}
