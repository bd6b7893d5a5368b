//! `millstream device`: makes, lists and takes back the credentials of devices.
//!
//! All it does is change the credentials file; a running gateway reads that again within seconds.

mod example;
mod list;

use super::init::{NewPair, OwnAuthority, day};
use super::{program, quoted, say};
use crate::cli::{Device, DeviceAdd, DeviceRevoke, Place};
use crate::config::Settings;
use crate::directory::Directory;
use anyhow::Context;
use chrono::Utc;
use example::Example;
use millstream_ingest::identity::credentials::{Register, RegisterError};
use millstream_ingest::identity::{Certificate, ClientIds, DeviceName, Password, PasswordHash, TopicRule};
use millstream_model::time::Micros;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Shortest password that is taken from a file, in bytes: whoever reaches the gateway can try some dozen a second.
const PASSWORD_MIN: usize = 8;

/// Said where credentials bind only those who show them.
const OPEN: &str = "The gateway lets anybody in without a credential, too, and to every topic, until gateway.access.anonymous is false.\n";

/// Runs one of them.
pub(super) fn run(options: &Device) -> anyhow::Result<ExitCode> {
    match options {
        Device::Add(options) => add(options)?,
        Device::List(options) => list::run(options)?,
        Device::Revoke(options) => revoke(options)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Where the credentials are, and what the gateway is told.
struct Ground {
    directory: Directory,
    settings: Settings,
    file: PathBuf,
}

impl Ground {
    fn of(place: &Place) -> anyhow::Result<Self> {
        let directory = Directory::new(&place.data);
        let settings = directory.settings(place.config.as_deref())?;
        let file = directory.credentials(&settings);
        Ok(Self { directory, settings, file })
    }

    fn register(&self) -> anyhow::Result<Register> {
        if let Some(folder) = self.file.parent() {
            std::fs::create_dir_all(folder)
                .with_context(|| format!("failed to make {}", folder.display()))?;
        }
        Ok(Register::open(&self.file)?)
    }
}

fn add(options: &DeviceAdd) -> anyhow::Result<()> {
    let name: DeviceName =
        options.name.parse().with_context(|| format!("{:?} cannot be a device's name", options.name))?;
    let topics = options
        .topic
        .iter()
        .map(|text| text.parse::<TopicRule>().with_context(|| format!("--topic {text:?} is no topic rule")));
    let topics = topics.collect::<anyhow::Result<Vec<_>>>()?;
    let client_ids: Option<ClientIds> = match &options.client_id {
        Some(text) => Some(text.parse().with_context(|| format!("--client-id {text:?} cannot be"))?),
        None => None,
    };
    let ground = Ground::of(&options.place)?;
    let mut register = ground.register()?;
    let now = Micros::from(Utc::now());
    if options.replace {
        register.forget(&name, now);
    }
    let example = Example::new(&ground, &name, &topics, client_ids.as_ref());
    let (said, files) = if options.certificate {
        add_certificate(options, &ground, &name, &mut register, now, &example)?
    } else if let Some(path) = &options.known_certificate {
        (add_known(path, &name, &mut register, now)?, NewPair::default())
    } else {
        (add_password(options, &name, &mut register, now, &example)?, NewPair::default())
    };
    register.allow(&name, &topics, client_ids.as_ref(), now);
    register.save()?;
    // A certificate that is not in the register would be worth nothing.
    files.keep();
    let open = if ground.settings.gateway.access.anonymous { OPEN } else { "" };
    say(&format!(
        "{said}\nWritten to {}; a running gateway knows it within seconds.\n{open}",
        quoted(&ground.file)
    ))
}

fn add_password(
    options: &DeviceAdd,
    name: &DeviceName,
    register: &mut Register,
    now: Micros,
    example: &Example,
) -> anyhow::Result<String> {
    register.check_password(name).map_err(|error| advise(error, name))?;
    let (password, made) = match &options.password_file {
        Some(path) => (password_of(path)?, false),
        None => (Password::generate().context("failed to make a password")?, true),
    };
    register.add_password(name, &PasswordHash::of(&password)?, now)?;
    let shown = if made { String::from_utf8_lossy(password.expose()).into_owned() } else { "...".to_owned() };
    let note = if made {
        format!("{name} has the password\n\n  {shown}\n\nIt is shown this once only. ")
    } else {
        format!("{name} has the password of that file. ")
    };
    Ok(format!("{note}A message:\n\n  {}\n", example.with_password(name, &shown)))
}

fn password_of(path: &Path) -> anyhow::Result<Password> {
    let mut bytes = std::fs::read(path)
        .with_context(|| format!("failed to read the password file {}", path.display()))?;
    while bytes.last().is_some_and(|byte| b"\r\n".contains(byte)) {
        bytes.pop();
    }
    anyhow::ensure!(
        bytes.len() >= PASSWORD_MIN,
        "the password in {} is shorter than {PASSWORD_MIN} bytes",
        path.display()
    );
    Ok(Password::new(bytes))
}

fn add_certificate(
    options: &DeviceAdd,
    ground: &Ground,
    name: &DeviceName,
    register: &mut Register,
    now: Micros,
    example: &Example,
) -> anyhow::Result<(String, NewPair)> {
    register.check_revoked(name).map_err(|error| advise(error, name))?;
    let file = |suffix: &str| options.out.join(format!("{name}.{suffix}"));
    let (certificate, key) = (file("pem"), file("key"));
    for path in [&certificate, &key] {
        anyhow::ensure!(
            !path.exists(),
            "{} is there already, and stays as it is; `--out DIR` writes the new certificate and its key to another folder",
            path.display()
        );
    }
    let own = OwnAuthority::of(&ground.directory);
    let issued = own.open()?.device(name, options.days, now)?;
    std::fs::create_dir_all(&options.out)
        .with_context(|| format!("failed to make {}", options.out.display()))?;
    let files = NewPair::write(&certificate, &key, &issued)?;
    register.add_certificate(name, issued.fingerprint, issued.not_after, now)?;
    let said = format!(
        "{name} has a certificate, valid until {until}\n  {certificate}\n  {key}\n\nA message:\n\n  {example}\n",
        until = day(issued.not_after),
        certificate = certificate.display(),
        key = key.display(),
        example = example.with_certificate(&own.certificate(), &certificate, &key),
    );
    Ok((said, files))
}

/// A certificate that somebody else has made, as AWS does: it is known by its fingerprint, whoever signed it.
fn add_known(path: &Path, name: &DeviceName, register: &mut Register, now: Micros) -> anyhow::Result<String> {
    register.check_revoked(name).map_err(|error| advise(error, name))?;
    let certificate = Certificate::from_file(path)?;
    register.add_certificate(name, certificate.fingerprint(), certificate.not_after(), now)?;
    Ok(format!(
        "{name} is known by the certificate {}, valid until {}\n",
        certificate.fingerprint(),
        day(certificate.not_after())
    ))
}

fn revoke(options: &DeviceRevoke) -> anyhow::Result<()> {
    let ground = Ground::of(&options.place)?;
    let mut register = ground.register()?;
    let now = Micros::from(Utc::now());
    let name = &options.name;
    let note = match register.revoke(name, now) {
        Ok(true) => "",
        Ok(false) => return say(&format!("{name} was revoked before\n")),
        Err(RegisterError::Unknown(_)) => {
            let name: DeviceName = name
                .parse()
                .with_context(|| format!("there is no device {name:?}, and none can have that name"))?;
            register.revoke_unlisted(&name, now);
            "It was in no list: who shows a certificate with this name, signed by gateway.tls.client_ca, is refused from now on.\n"
        }
        Err(error) => return Err(error.into()),
    };
    register.save()?;
    say(&format!(
        "{name} is revoked, with all its credentials; where it is connected, it is disconnected within seconds\n{note}"
    ))
}

/// What to do about it.
fn advise(error: RegisterError, name: &DeviceName) -> anyhow::Error {
    let replace = matches!(error, RegisterError::HasPassword(_) | RegisterError::Revoked(_));
    let error = anyhow::Error::new(error);
    let advice = || {
        format!("`{} device add {name} --replace` makes it anew; what it has counts no more then", program())
    };
    if replace { error.context(advice()) } else { error }
}
