//! TLS as the gateway speaks it: rustls on ring, with or without certificates of devices.

use crate::identity::certificate::Certificate;
use crate::identity::pem::{self, PemError};
use crate::identity::settings::{ClientCertificates, TlsSettings};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::ring::default_provider;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme,
};
use std::path::PathBuf;
use std::sync::Arc;
use thiserror::Error as ThisError;

/// Why there is no TLS.
#[derive(Debug, ThisError)]
pub enum TlsError {
    /// A file cannot be used.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// The certificate and the key do not belong together, or are of a kind that is not supported.
    #[error("{} and {} make no server certificate", certificate.display(), key.display())]
    Pair {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// Why.
        source: Error,
    },
}

/// What a handshake needs, and until when the certificate is valid.
pub(crate) fn server(settings: &TlsSettings) -> Result<(Arc<ServerConfig>, Certificate), TlsError> {
    let chain = pem::certificates(&settings.certificate)?;
    let certificate = Certificate::read(&chain).map_err(|error| PemError::Content {
        path: settings.certificate.clone(),
        what: "certificate",
        detail: error.to_string(),
    })?;
    let key = pem::key(&settings.key)?;
    let provider = Arc::new(default_provider());
    let possession = Possession {
        mandatory: settings.client_certificates == ClientCertificates::Required,
        algorithms: provider.signature_verification_algorithms,
    };
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map(|builder| builder.with_client_cert_verifier(Arc::new(possession)))
        .and_then(|builder| builder.with_single_cert(chain, key));
    match config {
        Ok(config) => Ok((Arc::new(config), certificate)),
        Err(source) => Err(TlsError::Pair {
            certificate: settings.certificate.clone(),
            key: settings.key.clone(),
            source,
        }),
    }
}

/// Asks for a certificate and has the peer prove that it has the key. Whose it is, is asked at CONNECT.
///
/// No authorities are named to the peer: it could keep back a certificate that is known by its fingerprint.
#[derive(Debug)]
struct Possession {
    mandatory: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for Possession {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        match Certificate::read(std::slice::from_ref(end_entity)) {
            Ok(_) => Ok(ClientCertVerified::assertion()),
            Err(_unreadable) => Err(CertificateError::BadEncoding.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
