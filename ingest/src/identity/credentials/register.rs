//! Changing the credentials file: what a person wrote in it, comments too, stays as it is.

use crate::identity::credentials::{BadCredentials, Credentials, Device};
use crate::identity::fingerprint::Fingerprint;
use crate::identity::name::{ClientIds, DeviceName};
use crate::identity::password::PasswordHash;
use crate::identity::rule::TopicRule;
use millstream_model::time::Micros;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use thiserror::Error;
use toml_edit::{Array, ArrayOfTables, DocumentMut, Item, Table, value};

/// The head of a new file.
const HEAD: &str = "\
# Who may connect to the gateway. Written by `millstream device`, and read again by a running `millstream up` within seconds.
# It may be edited by hand; a device whose credential is changed or revoked here is disconnected, all others stay.
# Revoke a certificate, do not delete it: one that the gateway's client_ca has signed is good unless it is known here as revoked.

";

const DEVICES: &str = "device";
const CERTIFICATES: &str = "certificate";
const REVOKED: &str = "revoked";

/// Why the file was not changed.
#[derive(Debug, Error)]
pub enum RegisterError {
    /// The file cannot be read or written.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried, as in "write".
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What is in the file is not understood.
    #[error("{} is not understood", path.display())]
    Bad {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: BadCredentials,
    },
    /// There is no such device.
    #[error("there is no device {0}")]
    Unknown(String),
    /// The device has one already.
    #[error("the device {0} has a password already")]
    HasPassword(DeviceName),
    /// The device was taken back.
    #[error("the device {0} is revoked")]
    Revoked(DeviceName),
    /// The certificate is another device's.
    #[error("the certificate is known already, as one of {0}")]
    KnownAs(DeviceName),
}

/// The credentials file, held by one writer at a time.
#[derive(Debug)]
pub struct Register {
    path: PathBuf,
    document: DocumentMut,
    credentials: Credentials,
    is_new: bool,
    /// Locked until the register is dropped.
    directory: File,
}

impl Register {
    /// Opens the file to change it, and waits until nobody else does. One that does not exist is empty; its directory must exist.
    ///
    /// # Errors
    /// If it cannot be read, or is not understood.
    pub fn open(path: &Path) -> Result<Self, RegisterError> {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let directory = File::open(parent).and_then(|directory| directory.lock().map(|()| directory));
        let directory = directory.map_err(failed("lock the directory", parent))?;
        let (text, is_new) = match fs::read_to_string(path) {
            Ok(text) => (text, false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => (String::new(), true),
            Err(error) => return Err(failed("read", path)(error)),
        };
        let bad = |source| RegisterError::Bad { path: path.to_owned(), source };
        let credentials = Credentials::parse(&text).map_err(bad)?;
        let document: DocumentMut = text.parse().map_err(|error: toml_edit::TomlError| {
            bad(BadCredentials { line: None, detail: error.message().to_owned() })
        })?;
        Ok(Self { path: path.to_owned(), document, credentials, is_new, directory })
    }

    /// Who is known.
    #[must_use]
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// Forgets what a device has and may, so that it can be made known anew. Its certificates stay, as revoked: their authority would let them in again.
    pub fn forget(&mut self, name: &DeviceName, now: Micros) {
        let Some(device) = self.credentials.devices.get_mut(name.as_str()) else { return };
        let certificates = std::mem::take(&mut device.certificates);
        *device = Device::default();
        if let Some(devices) = self.document.get_mut(DEVICES).and_then(Item::as_table_like_mut) {
            devices.remove(name.as_str());
        }
        let table = self.device(name, now);
        let mut revoked = ArrayOfTables::new();
        for certificate in certificates {
            let mut entry = Table::new();
            entry.insert("fingerprint", value(certificate.fingerprint.to_string()));
            if let Some(not_after) = certificate.not_after {
                entry.insert("not_after", value(not_after));
            }
            entry.insert(REVOKED, value(seconds(now)));
            revoked.push(entry);
        }
        if !revoked.is_empty() {
            table.insert(CERTIFICATES, Item::ArrayOfTables(revoked));
        }
    }

    /// Whether a device can be given a password: it has none, and is not revoked.
    ///
    /// # Errors
    /// Why not.
    pub fn check_password(&self, name: &DeviceName) -> Result<(), RegisterError> {
        self.check_revoked(name)?;
        match self.credentials.device(name.as_str()) {
            Some((_, device)) if device.password.is_some() => Err(RegisterError::HasPassword(name.clone())),
            _ => Ok(()),
        }
    }

    /// Whether a device can be given a certificate: it is not revoked.
    ///
    /// # Errors
    /// Why not.
    pub fn check_revoked(&self, name: &DeviceName) -> Result<(), RegisterError> {
        match self.credentials.device(name.as_str()) {
            Some((_, device)) if device.revoked.is_revoked() => Err(RegisterError::Revoked(name.clone())),
            _ => Ok(()),
        }
    }

    /// Gives a device a password.
    ///
    /// # Errors
    /// See [`Register::check_password`].
    pub fn add_password(
        &mut self,
        name: &DeviceName,
        hash: &PasswordHash,
        now: Micros,
    ) -> Result<(), RegisterError> {
        self.check_password(name)?;
        self.device(name, now).insert("password", value(hash.expose()));
        Ok(())
    }

    /// Makes a certificate one of a device, beside those it has.
    ///
    /// # Errors
    /// See [`Register::check_revoked`]; and if it is known already.
    pub fn add_certificate(
        &mut self,
        name: &DeviceName,
        fingerprint: Fingerprint,
        not_after: Micros,
        now: Micros,
    ) -> Result<(), RegisterError> {
        self.check_revoked(name)?;
        if let Some((owner, _)) = self.credentials.owner(&fingerprint) {
            return Err(RegisterError::KnownAs(owner.clone()));
        }
        let mut certificate = Table::new();
        certificate.insert("fingerprint", value(fingerprint.to_string()));
        certificate.insert("not_after", value(seconds(not_after)));
        let certificates =
            self.device(name, now).entry(CERTIFICATES).or_insert(Item::ArrayOfTables(ArrayOfTables::new()));
        if let Some(certificates) = certificates.as_array_of_tables_mut() {
            certificates.push(certificate);
        } else if let Some(certificates) = certificates.as_array_mut() {
            certificates.push(certificate.into_inline_table());
        }
        Ok(())
    }

    /// Says what a device may publish to, and under which client identifiers it may connect.
    pub fn allow(
        &mut self,
        name: &DeviceName,
        topics: &[TopicRule],
        client_ids: Option<&ClientIds>,
        now: Micros,
    ) {
        let device = self.device(name, now);
        if !topics.is_empty() {
            device.insert("topics", value(topics.iter().map(TopicRule::as_str).collect::<Array>()));
        }
        if let Some(client_ids) = client_ids {
            device.insert("client_id", value(client_ids.to_string()));
        }
    }

    /// Takes back a device with all its credentials. `false`: it was taken back before.
    ///
    /// # Errors
    /// If there is none of this name.
    pub fn revoke(&mut self, name: &str, now: Micros) -> Result<bool, RegisterError> {
        let Some((name, device)) = self.credentials.device(name) else {
            return Err(RegisterError::Unknown(name.to_owned()));
        };
        if device.revoked.is_revoked() {
            return Ok(false);
        }
        let name = name.clone();
        self.device(&name, now).insert(REVOKED, value(seconds(now)));
        Ok(true)
    }

    /// Takes back a device that is in no list, and that only its certificate's authority knows: it is put into the list as revoked.
    pub fn revoke_unlisted(&mut self, name: &DeviceName, now: Micros) {
        self.device(name, now).insert(REVOKED, value(seconds(now)));
    }

    /// Writes the file: as a whole or not at all, durably, for its owner's eyes only.
    ///
    /// # Errors
    /// If it cannot be written, or what was changed is not understood any more; the file is as it was then.
    pub fn save(self) -> Result<(), RegisterError> {
        let head = if self.is_new { HEAD } else { "" };
        let text = format!("{head}{}", self.document);
        Credentials::parse(&text).map_err(|source| RegisterError::Bad { path: self.path.clone(), source })?;
        write(&self.path, text.as_bytes(), &self.directory).map_err(failed("write", &self.path))
    }

    /// The device's table; made if there is none.
    fn device(&mut self, name: &DeviceName, now: Micros) -> &mut Table {
        let mut parents = Table::new();
        parents.set_implicit(true);
        let devices = self.document.entry(DEVICES).or_insert(Item::Table(parents));
        into_table(devices);
        let devices = table_of(devices);
        if !devices.contains_key(name.as_str()) {
            let mut device = Table::new();
            device.insert("added", value(seconds(now)));
            devices.insert(name.as_str(), Item::Table(device));
        }
        let device = devices.entry(name.as_str()).or_insert(Item::None);
        into_table(device);
        table_of(device)
    }
}

/// Inline tables, as a person may write them, cannot hold more than one line.
fn into_table(item: &mut Item) {
    if !item.is_table() {
        *item =
            std::mem::take(item).into_table().map_or_else(|_other| Item::Table(Table::new()), Item::Table);
    }
}

fn table_of(item: &mut Item) -> &mut Table {
    match item {
        Item::Table(table) => table,
        other => {
            *other = Item::Table(Table::new());
            table_of(other)
        }
    }
}

/// A moment as people read it.
fn seconds(at: Micros) -> String {
    let time = at.to_datetime();
    time.map_or_else(|| at.to_string(), |time| time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true))
}

/// The directory is locked, so nobody else writes beside.
fn write(path: &Path, bytes: &[u8], directory: &File) -> io::Result<()> {
    let beside = path.with_extension("toml.new");
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    // Whoever runs the program must be able to read what an administrator writes.
    let owner = fs::metadata(path).or_else(|_missing| directory.metadata())?;
    let own = file.metadata()?;
    if (own.uid(), own.gid()) != (owner.uid(), owner.gid()) {
        fchown(&file, Some(owner.uid()), Some(owner.gid()))?;
    }
    // A group that may read it keeps that, else a running gateway would keep what it read before, and a revoked device its access. The rest of the world never may.
    if let Ok(before) = fs::metadata(path) {
        file.set_permissions(fs::Permissions::from_mode(before.mode() & 0o770 | 0o600))?;
    }
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    directory.sync_all()
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RegisterError {
    move |source| RegisterError::Io { action, path: path.to_owned(), source }
}
