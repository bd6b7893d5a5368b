//! Reading the files of an [`Access`](super::Access), at its start and again when they change.

use crate::identity::access::{AccessError, Known};
use crate::identity::certificate::{Authorities, Certificate};
use crate::identity::credentials::Credentials;
use crate::identity::settings::{AccessSettings, TlsSettings};
use crate::identity::stamp::Stamp;
use crate::identity::tls::{self, TlsError};
use millstream_model::time::Micros;
use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use tracing::{info, warn};

/// A server certificate is said to expire so long before, in microseconds: 30 days.
const EXPIRY_NOTICE: i64 = 30 * 24 * 3600 * 1_000_000;

/// What the files were at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Files {
    credentials: Option<Stamp>,
    authorities: Option<Stamp>,
    /// Certificate and key: one is of no use without the other.
    server: Option<(Stamp, Stamp)>,
}

impl Files {
    pub(super) fn of(settings: &AccessSettings, tls: Option<&TlsSettings>) -> Self {
        Self {
            credentials: settings.credentials.as_deref().map(Stamp::of),
            authorities: tls.and_then(|tls| tls.client_ca.as_deref()).map(Stamp::of),
            server: tls.map(|tls| (Stamp::of(&tls.certificate), Stamp::of(&tls.key))),
        }
    }
}

/// Reads everything.
pub(super) fn read(settings: &AccessSettings, tls: Option<&TlsSettings>) -> Result<Known, AccessError> {
    let credentials = match &settings.credentials {
        Some(path) if Stamp::of(path).is_there() => read_credentials(path)?,
        _ => Arc::default(),
    };
    let (mut authorities, mut server) = (None, None);
    if let Some(tls) = tls {
        authorities = tls.client_ca.as_deref().map(read_authorities).transpose()?;
        let (config, certificate) = tls::server(tls)?;
        warn_of_expiry(&certificate, chrono::Utc::now().into());
        server = Some(config);
    }
    Ok(Known { credentials, authorities, server })
}

/// Reads again what has changed. What is of no use leaves in place what there was, and says so once: the next time its stamp is the same.
pub(super) fn renew(
    known: &mut Known,
    settings: &AccessSettings,
    tls: Option<&TlsSettings>,
    (before, current): (&Files, &Files),
    now: Micros,
) {
    if before.credentials != current.credentials
        && let Some(path) = &settings.credentials
    {
        match read_credentials(path) {
            Ok(credentials) => {
                info!(path = %path.display(), devices = credentials.devices().count(), "the credentials were read again");
                known.credentials = credentials;
            }
            Err(error) => keep("credentials", &error),
        }
    }
    let Some(tls) = tls else { return };
    if before.authorities != current.authorities
        && let Some(path) = tls.client_ca.as_deref()
    {
        match read_authorities(path) {
            Ok(authorities) => {
                info!(path = %path.display(), "the authorities of devices' certificates were read again");
                known.authorities = Some(authorities);
            }
            Err(error) => keep("authorities of devices' certificates", &error),
        }
    }
    if before.server != current.server {
        match tls::server(tls) {
            Ok((config, certificate)) => {
                info!(path = %tls.certificate.display(), "new connections get the new server certificate");
                warn_of_expiry(&certificate, now);
                known.server = Some(config);
            }
            Err(error) => keep("server certificate", &error),
        }
    }
}

fn keep(what: &'static str, error: &(dyn Error + 'static)) {
    warn!(error, what, "a file that has changed is of no use; what was read before stays in force");
}

fn read_credentials(path: &Path) -> Result<Arc<Credentials>, AccessError> {
    let refused = |detail: String| AccessError::Credentials { path: path.to_owned(), detail };
    let text = std::fs::read_to_string(path).map_err(|error| refused(error.to_string()))?;
    Credentials::parse(&text).map(Arc::new).map_err(|bad| refused(bad.to_string()))
}

fn read_authorities(path: &Path) -> Result<Arc<Authorities>, TlsError> {
    Ok(Arc::new(Authorities::read(path)?))
}

fn warn_of_expiry(certificate: &Certificate, now: Micros) {
    let not_after = certificate.not_after();
    if not_after.0 < now.0 {
        warn!(%not_after, "the server certificate has expired; devices will refuse it");
    } else if not_after.0 - now.0 < EXPIRY_NOTICE {
        warn!(%not_after, "the server certificate expires soon; replace its files, they are read again");
    }
}
