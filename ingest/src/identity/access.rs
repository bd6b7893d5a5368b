//! Who is let in: everything that is known about devices, together, and read again when its files change.

mod identity;
mod reload;
#[cfg(test)]
mod tests;

pub(crate) use identity::{Identity, Owner};

use crate::identity::certificate::{Authorities, Certificate, Untimely};
use crate::identity::credentials::{Credentials, Device};
use crate::identity::name::{ClientIds, DeviceName};
use crate::identity::password::{Password, PasswordHash};
use crate::identity::settings::{AccessSettings, ClientCertificates, TlsSettings};
use crate::identity::tls::TlsError;
use crate::identity::verification::{Busy, Source, Verification};
use identity::Proof;
use millstream_model::time::Micros;
use reload::Files;
use rustls::ServerConfig;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use thiserror::Error;

/// What an unknown user's password is checked against where nobody has one: it costs what hashes cost that [`PasswordHash::of`] makes, and fits no password.
const DECOY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Knows who devices are, and lets them in or not.
#[derive(Debug)]
pub struct Access {
    settings: AccessSettings,
    tls: Option<TlsSettings>,
    /// Replaced as a whole when files change; whoever asks takes what there is at that moment.
    known: RwLock<Known>,
    /// What the files were when they were read last; only used by who reads them again.
    files: Mutex<Files>,
    verification: Verification,
    decoy: Option<PasswordHash>,
}

/// What the files say.
#[derive(Debug, Clone)]
struct Known {
    credentials: Arc<Credentials>,
    authorities: Option<Arc<Authorities>>,
    server: Option<Arc<ServerConfig>>,
}

/// Why it is not known who devices are.
#[derive(Debug, Error)]
pub enum AccessError {
    /// The credentials file cannot be read, or is not understood.
    #[error("the credentials file {} is of no use: {detail}", path.display())]
    Credentials {
        /// The file.
        path: PathBuf,
        /// Why, with the line.
        detail: String,
    },
    /// The certificates or the key cannot be used.
    #[error("TLS cannot be offered")]
    Tls(#[from] TlsError),
    /// The system has no randomness.
    #[error("passwords cannot be checked")]
    Random(#[source] io::Error),
}

/// What a client shows at its CONNECT.
#[derive(Debug)]
pub(crate) struct Shown<'a> {
    /// Its certificate, whose key it has.
    pub(crate) certificate: Option<&'a Arc<Certificate>>,
    pub(crate) user: Option<&'a str>,
    pub(crate) password: Option<&'a Password>,
    pub(crate) client_id: &'a str,
    /// Where it comes from.
    pub(crate) address: IpAddr,
    /// Whether it was us who chose the client identifier.
    pub(crate) is_assigned: bool,
}

/// Why a client is not let in, or not any more.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum Denial {
    #[error("a user and a password, or a certificate, are required here")]
    NoCredential,
    /// Said in the same words as the next one: a client is not to learn which users there are.
    #[error("the user name or the password is wrong")]
    UnknownUser,
    #[error("the user name or the password is wrong")]
    WrongPassword,
    #[error("too many passwords are to be checked now, connect again later")]
    Busy,
    #[error("the certificate is not known here: {0}")]
    UnknownCertificate(String),
    #[error("the certificate does not count now: {0}")]
    Untimely(#[from] Untimely),
    #[error("the certificate is revoked")]
    CertificateRevoked,
    #[error("the device {0} is revoked")]
    Revoked(DeviceName),
    #[error("{who} connects as {expected:?}, not under this client identifier")]
    ClientId { who: String, expected: String },
    #[error("the device's credential was changed or taken back")]
    Changed,
}

impl From<Busy> for Denial {
    fn from(Busy: Busy) -> Self {
        Self::Busy
    }
}

impl Denial {
    /// The fixed code in lifecycle events.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::NoCredential => "no_credential",
            Self::UnknownUser => "unknown_user",
            Self::WrongPassword => "wrong_password",
            Self::Busy => "too_many_passwords",
            Self::UnknownCertificate(_) => "unknown_certificate",
            Self::Untimely(Untimely::Expired(_)) => "certificate_expired",
            Self::Untimely(Untimely::NotYet(_)) => "certificate_not_yet_valid",
            Self::CertificateRevoked => "certificate_revoked",
            Self::Revoked(_) => "device_revoked",
            Self::ClientId { .. } => "client_identifier_not_its_own",
            Self::Changed => "credential_changed",
        }
    }
}

impl Access {
    /// Lets everybody in.
    ///
    /// # Errors
    /// If the system has no randomness.
    pub fn anonymous() -> Result<Self, AccessError> {
        Self::open(AccessSettings::default(), None)
    }

    /// Reads the files. Blocks.
    ///
    /// # Errors
    /// If one of them is of no use. A credentials file that does not exist is empty.
    pub fn open(settings: AccessSettings, tls: Option<TlsSettings>) -> Result<Self, AccessError> {
        let files = Files::of(&settings, tls.as_ref());
        let known = reload::read(&settings, tls.as_ref())?;
        Ok(Self {
            settings,
            tls,
            known: RwLock::new(known),
            files: Mutex::new(files),
            verification: Verification::new().map_err(AccessError::Random)?,
            decoy: DECOY.parse().ok(),
        })
    }

    /// How many devices the credentials file knows.
    #[must_use]
    pub fn devices(&self) -> usize {
        self.known().credentials.devices().count()
    }

    /// What the next handshake needs; none where there is no TLS.
    pub(crate) fn server(&self) -> Option<Arc<ServerConfig>> {
        self.known().server
    }

    /// Reads the files again whose stamps have changed; whether anything did. What is of no use is told once, and what was known stays. Blocks.
    pub(crate) fn reload(&self, now: Micros) -> bool {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let current = Files::of(&self.settings, self.tls.as_ref());
        if *files == current {
            return false;
        }
        let before = std::mem::replace(&mut *files, current);
        let mut known = self.known();
        reload::renew(&mut known, &self.settings, self.tls.as_ref(), (&before, &current), now);
        self.verification.retain(|device| known.credentials.device(device).is_some());
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = known;
        true
    }

    /// Whether a file will be looked at again.
    pub(crate) fn has_files(&self) -> bool {
        self.settings.credentials.is_some() || self.tls.is_some()
    }

    /// Who a client is.
    pub(crate) async fn identify(&self, shown: &Shown<'_>, now: Micros) -> Result<Identity, Denial> {
        let known = self.known();
        if self.settings.anonymous && known.credentials.is_empty() && known.authorities.is_none() {
            return Ok(Identity::anonymous());
        }
        if let Some(certificate) = shown.certificate {
            match self.by_certificate(&known, certificate, shown, now) {
                // Whom nobody vouches for may still have a password, where one will do.
                Err(Denial::UnknownCertificate(_)) if shown.user.is_some() && !self.needs_certificate() => {}
                decided => return decided,
            }
        }
        match (shown.user, shown.password) {
            (None, None) if self.settings.anonymous => Ok(Identity::anonymous()),
            (None, None) => Err(Denial::NoCredential),
            (user, password) => self.by_password(&known, user, password, shown).await,
        }
    }

    fn needs_certificate(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.client_certificates == ClientCertificates::Required)
    }

    fn by_certificate(
        &self,
        known: &Known,
        certificate: &Arc<Certificate>,
        shown: &Shown<'_>,
        now: Micros,
    ) -> Result<Identity, Denial> {
        let authorities = known.authorities.as_ref();
        let vouched = vouch(authorities, certificate, now);
        let common_name = certificate.common_name().filter(|_| vouched.is_ok());
        if let Some((name, device)) = known.credentials.owner(&certificate.fingerprint()) {
            check_certificate(name, device, certificate, now)?;
            let proof = Proof::Certificate(Arc::clone(certificate));
            return self.device(name, device, proof, common_name, shown);
        }
        vouched?;
        check_common_name(known, certificate)?;
        let who = format!("the certificate {}", certificate.fingerprint().short());
        let own = common_name.map(ClientIds::only);
        check_client_id(&who, own.as_ref(), common_name.unwrap_or_default(), shown)?;
        Ok(Identity::vouched(certificate, authorities, &self.settings.topics, shown.client_id))
    }

    async fn by_password(
        &self,
        known: &Known,
        user: Option<&str>,
        password: Option<&Password>,
        shown: &Shown<'_>,
    ) -> Result<Identity, Denial> {
        let source = Source::of(shown.address);
        let none = Password::new(Vec::new());
        let password = password.unwrap_or(&none);
        let found = user.and_then(|user| known.credentials.device(user));
        let Some((name, device, hash)) =
            found.and_then(|(name, device)| Some((name, device, device.password.as_ref()?)))
        else {
            if let Some(decoy) = known.credentials.any_hash().or(self.decoy.as_ref()) {
                self.verification.pretend(source, decoy, password).await?;
            }
            return Err(Denial::UnknownUser);
        };
        if !self.verification.check(source, name.as_str(), hash, password).await? {
            return Err(Denial::WrongPassword);
        }
        // Only who has the right password learns that the device is revoked.
        if device.revoked.is_revoked() {
            return Err(Denial::Revoked(name.clone()));
        }
        self.device(name, device, Proof::Password(hash.clone()), None, shown)
    }

    fn device(
        &self,
        name: &DeviceName,
        device: &Device,
        proof: Proof,
        common_name: Option<&str>,
        shown: &Shown<'_>,
    ) -> Result<Identity, Denial> {
        check_client_id(&format!("the device {name}"), device.client_id.as_ref(), name.as_str(), shown)?;
        let rules = device.topics.as_ref().unwrap_or(&self.settings.topics);
        Ok(Identity::device(name, device, proof, common_name, rules, shown.client_id))
    }

    /// Whether a client that was let in would still be. Asked when a file has changed, and now and then because certificates expire.
    pub(crate) fn stands(&self, identity: &Identity, now: Micros) -> Result<(), Denial> {
        identity.check(&self.known(), now)
    }

    fn known(&self) -> Known {
        self.known.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn vouch(
    authorities: Option<&Arc<Authorities>>,
    certificate: &Certificate,
    now: Micros,
) -> Result<(), Denial> {
    let Some(authorities) = authorities else {
        return Err(Denial::UnknownCertificate("its fingerprint is not in the credentials".to_owned()));
    };
    match authorities.vouch(certificate, now) {
        Ok(()) => Ok(()),
        // Said before anything else that is wrong with it, as long as an authority has signed it: that one is asked about a moment when it was valid.
        Err(error) => match certificate.check_time(now) {
            Err(untimely) if authorities.vouch(certificate, certificate.not_after()).is_ok() => {
                Err(untimely.into())
            }
            _ => Err(Denial::UnknownCertificate(error.to_string())),
        },
    }
}

/// Whether a certificate of a device counts.
fn check_certificate(
    name: &DeviceName,
    device: &Device,
    certificate: &Certificate,
    now: Micros,
) -> Result<(), Denial> {
    if device.revoked.is_revoked() {
        return Err(Denial::Revoked(name.clone()));
    }
    match device.certificate(&certificate.fingerprint()) {
        None => Err(Denial::Changed),
        Some(known) if known.revoked.is_revoked() => Err(Denial::CertificateRevoked),
        Some(_) => Ok(certificate.check_time(now)?),
    }
}

/// Whether a certificate that is in no credential may have its common name. The name of a device in the credentials file is that device's alone: only its own
/// certificates count, so that one that was taken back or replaced there is not let in by its authority.
fn check_common_name(known: &Known, certificate: &Certificate) -> Result<(), Denial> {
    match certificate.common_name().and_then(|name| known.credentials.device(name)) {
        None => Ok(()),
        Some((name, device)) if device.revoked.is_revoked() => Err(Denial::Revoked(name.clone())),
        Some((name, _)) => Err(Denial::UnknownCertificate(format!(
            "its common name is that of the device {name}, whose credentials do not have it"
        ))),
    }
}

/// The topic rule `${client_id}` is worth nothing if anybody may take any client identifier; and where a topic names no device, the client identifier is the
/// device. So a client identifier is the device's own name, unless its credential says otherwise. What we chose ourselves is nobody else's.
fn check_client_id(
    who: &str,
    allowed: Option<&ClientIds>,
    name: &str,
    shown: &Shown<'_>,
) -> Result<(), Denial> {
    let own = ClientIds::only(name);
    let allowed = allowed.unwrap_or(&own);
    if shown.is_assigned || allowed.allow(shown.client_id) {
        return Ok(());
    }
    Err(Denial::ClientId { who: who.to_owned(), expected: allowed.to_string() })
}
