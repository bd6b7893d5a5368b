//! `millstream init`: an authority of one's own, and the server's certificate by it.

use super::{program, quoted, say};
use crate::cli::Init;
use crate::directory::Directory;
use anyhow::{Context, bail};
use chrono::Utc;
use millstream_ingest::identity::authority::{Authority, Issued};
use millstream_model::time::Micros;
use std::fs::{DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Names under which this machine always reaches itself.
const OWN_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// For everybody to read: a certificate is public.
const PUBLIC: u32 = 0o644;

/// For the owner's eyes only.
const SECRET: u32 = 0o600;

/// Where an authority of one's own is kept, with the server's certificate.
#[derive(Debug)]
pub(super) struct OwnAuthority(PathBuf);

impl OwnAuthority {
    pub(super) fn of(directory: &Directory) -> Self {
        Self(directory.path().join("identity"))
    }

    pub(super) fn certificate(&self) -> PathBuf {
        self.0.join("ca.pem")
    }

    fn key(&self) -> PathBuf {
        self.0.join("ca.key")
    }

    fn server(&self) -> (PathBuf, PathBuf) {
        (self.0.join("server.pem"), self.0.join("server.key"))
    }

    /// Reads it.
    pub(super) fn open(&self) -> anyhow::Result<Authority> {
        let read = |path: PathBuf| {
            std::fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))
        };
        let opened = read(self.certificate())
            .and_then(|certificate| Ok(Authority::read(&certificate, &read(self.key())?)?));
        opened.with_context(|| format!("there is no authority to sign with; `{} init` makes one", program()))
    }
}

/// Makes what is not there yet, and says what is there.
pub(super) fn run(options: &Init) -> anyhow::Result<ExitCode> {
    let directory = Directory::new(&options.data);
    let own = OwnAuthority::of(&directory);
    std::fs::create_dir_all(directory.path())
        .and_then(|()| DirBuilder::new().recursive(true).mode(0o700).create(&own.0))
        .with_context(|| format!("failed to make {}", own.0.display()))?;
    let now = Micros::from(Utc::now());
    let mut said = String::new();
    let authority = if own.certificate().exists() || own.key().exists() {
        said.push_str(&there("the authority", &own.certificate(), &own.key()));
        own.open()?
    } else {
        let (authority, issued) = Authority::create(now)?;
        NewPair::write(&own.certificate(), &own.key(), &issued)?.keep();
        said.push_str(&made("an authority", &own.certificate(), &own.key(), &issued));
        authority
    };
    let (certificate, key) = own.server();
    if certificate.exists() || key.exists() {
        said.push_str(&there("the server certificate", &certificate, &key));
        if !options.name.is_empty() {
            bail!(
                "{said}the server certificate has its names already; remove {} and {} to make another",
                certificate.display(),
                key.display()
            );
        }
    } else {
        let names = names(&options.name);
        let issued = authority
            .server(&names, now)
            .with_context(|| format!("failed to make a certificate for {}", names.join(", ")))?;
        NewPair::write(&certificate, &key, &issued)?.keep();
        said.push_str(&made(
            &format!("a server certificate for {}", names.join(", ")),
            &certificate,
            &key,
            &issued,
        ));
    }
    say(&format!("{said}\n{}", lines(&own)?))?;
    Ok(ExitCode::SUCCESS)
}

/// This machine's names and those that were asked for.
fn names(more: &[String]) -> Vec<String> {
    let mut names: Vec<String> = OWN_NAMES.map(str::to_owned).to_vec();
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .or_else(|_| std::fs::read_to_string("/etc/hostname"));
    let host = host.map(|host| host.trim().to_owned()).unwrap_or_default();
    for name in more.iter().cloned().chain([host]) {
        if !name.is_empty() && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

fn made(what: &str, certificate: &Path, key: &Path, issued: &Issued) -> String {
    let until = day(issued.not_after);
    format!("made {what}, valid until {until}\n  {}\n  {}\n", certificate.display(), key.display())
}

fn there(what: &str, certificate: &Path, key: &Path) -> String {
    format!("{what} is there already, and stays as it is\n  {}\n  {}\n", certificate.display(), key.display())
}

/// The configuration to paste.
fn lines(own: &OwnAuthority) -> anyhow::Result<String> {
    let absolute = |path: &Path| -> anyhow::Result<String> {
        let path = path.canonicalize().with_context(|| format!("failed to find {}", path.display()))?;
        Ok(toml_edit::Value::from(path.to_string_lossy().into_owned()).to_string())
    };
    let (certificate, key) = own.server();
    Ok(format!(
        "For the configuration, to let devices connect by TLS:\n\n\
         [gateway.tls]\n\
         listen = \"0.0.0.0:8883\"\n\
         certificate = {certificate}\n\
         key = {key}\n\
         client_ca = {authority}\n\n\
         [gateway.access]\n\
         anonymous = false\n\n\
         Then `{program} device add NAME` makes a password, `{program} device add NAME --certificate` a certificate.\n\
         Devices need {ca} to know the server by. Keep {secret} safe: who has it can be any device.\n",
        certificate = absolute(&certificate)?,
        key = absolute(&key)?,
        authority = absolute(&own.certificate())?,
        program = program(),
        ca = quoted(&own.certificate()),
        secret = quoted(&own.key()),
    ))
}

/// The files of a certificate and its key. Until they are kept they are removed where something fails: alone they would be in the way of the next attempt.
#[derive(Debug, Default)]
#[must_use = "files that are not kept are removed"]
pub(super) struct NewPair(Vec<PathBuf>);

impl NewPair {
    /// Writes both; neither may exist.
    pub(super) fn write(certificate: &Path, key: &Path, issued: &Issued) -> anyhow::Result<Self> {
        let mut pair = Self::default();
        // The key first: a certificate without its key would look as if all was there.
        pair.write_new(key, SECRET, &issued.key)?;
        pair.write_new(certificate, PUBLIC, &issued.certificate)?;
        Ok(pair)
    }

    fn write_new(&mut self, path: &Path, mode: u32, text: &str) -> anyhow::Result<()> {
        let failed = || format!("failed to write {}", path.display());
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(mode).open(path).with_context(failed)?;
        // From here on it is ours.
        self.0.push(path.to_owned());
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).with_context(failed)
    }

    /// They stay.
    pub(super) fn keep(mut self) {
        self.0.clear();
    }
}

impl Drop for NewPair {
    fn drop(&mut self) {
        for path in &self.0 {
            // One that stays is in the way of the next attempt, which says so.
            drop(std::fs::remove_file(path));
        }
    }
}

/// A day, as people read it.
pub(super) fn day(at: Micros) -> String {
    at.to_datetime().map_or_else(|| at.to_string(), |time| time.format("%Y-%m-%d").to_string())
}
