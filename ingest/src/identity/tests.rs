//! Certificates for tests: files in a directory of their own, and what the gateway needs to read them.

use crate::identity::authority::{Authority, Issued};
use crate::identity::{AccessSettings, ClientCertificates, DeviceName, TlsSettings};
use millstream_model::time::Micros;
use std::path::PathBuf;
use tempfile::TempDir;

/// The moment at which tests with certificates happen.
pub(crate) const NOW: Micros = Micros(1_700_000_000_000_000);

pub(crate) const DAY: i64 = 24 * 3600 * 1_000_000;

/// A directory with an authority, a server certificate, and a credentials file that does not exist yet.
pub(crate) struct Fleet {
    pub(crate) authority: Authority,
    directory: TempDir,
}

impl Fleet {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (authority, own) = Authority::create(NOW).unwrap();
        let fleet = Self { authority, directory };
        std::fs::write(fleet.path("ca.pem"), own.certificate).unwrap();
        fleet.renew_server();
        fleet
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes another server certificate.
    pub(crate) fn renew_server(&self) -> Issued {
        let issued = self.authority.server(&["localhost".to_owned(), "127.0.0.1".to_owned()], NOW).unwrap();
        self.write("server", &issued);
        issued
    }

    /// Writes `<name>.pem` and `<name>.key`.
    pub(crate) fn write(&self, name: &str, issued: &Issued) {
        self.replace(&format!("{name}.pem"), &issued.certificate);
        self.replace(&format!("{name}.key"), &issued.key);
    }

    /// Puts another file in its place: one that is overwritten with as many bytes in the same moment looks the same to who asks for its times.
    pub(crate) fn replace(&self, name: &str, content: &str) {
        let edited = self.path("edited");
        std::fs::write(&edited, content).unwrap();
        std::fs::rename(edited, self.path(name)).unwrap();
    }

    /// A device's certificate, valid for a year.
    pub(crate) fn issue(&self, name: &str) -> Issued {
        self.authority.device(&device_name(name), 365, NOW).unwrap()
    }

    pub(crate) fn credentials(&self) -> PathBuf {
        self.path("credentials.toml")
    }

    /// Replaces the credentials file.
    pub(crate) fn know(&self, text: &str) {
        let beside = self.path("credentials.new");
        std::fs::write(&beside, text).unwrap();
        std::fs::rename(beside, self.credentials()).unwrap();
    }

    /// Nobody is anonymous, and everybody has a topic of its own.
    pub(crate) fn settings(&self) -> AccessSettings {
        AccessSettings {
            anonymous: false,
            credentials: Some(self.credentials()),
            topics: vec!["devices/${client_id}/#".parse().unwrap()],
        }
    }

    pub(crate) fn tls(&self) -> TlsSettings {
        TlsSettings {
            certificate: self.path("server.pem"),
            key: self.path("server.key"),
            client_ca: Some(self.path("ca.pem")),
            client_certificates: ClientCertificates::Optional,
        }
    }
}

pub(crate) fn device_name(text: &str) -> DeviceName {
    text.parse().unwrap()
}
