//! Files that the configuration names and that nothing else here reads: certificates, credentials, tokens. A start would stumble over each of them.

use super::Finding;
use crate::config::Settings;
use crate::config::log::LogChoice;
use crate::directory::Directory;
use chrono::Utc;
use millstream_ingest::identity::{Access, AccessSettings, Certificate};
use millstream_model::time::Micros;
use std::path::Path;

/// A certificate that ends sooner is to be looked at: a month is time enough to get another.
const SOON: i64 = 30 * 24 * 3600 * 1_000_000;

pub(super) fn check(settings: &Settings, directory: &Directory) -> Vec<Finding> {
    let now = Micros::from(Utc::now());
    let mut findings = Vec::new();
    if settings.gateway.listens() {
        findings.push(devices(settings, directory));
    }
    if let Some(tls) = &settings.gateway.tls {
        findings.push(certificate("gateway.tls.certificate", &tls.settings.certificate, now));
        findings.extend(
            tls.settings.client_ca.as_deref().map(|path| certificate("gateway.tls.client_ca", path, now)),
        );
    }
    if let Some(token) = settings.http.token.as_ref().filter(|_| settings.http.listen.is_some()) {
        findings.push(match token.read() {
            Ok(_) => Finding::ok("http.token", "can be read"),
            Err(error) => Finding::failed("http.token", format!("{error:#}")),
        });
    }
    if let LogChoice::Kafka(kafka) = &settings.log
        && let Some(tls) = kafka.tls()
    {
        for (key, path) in [("kafka.ca", &tls.ca), ("kafka.certificate", &tls.certificate)] {
            findings.extend(path.as_deref().map(|path| certificate(key, path, now)));
        }
    }
    for subscriber in &settings.subscribers {
        for (key, path) in subscriber.certificates() {
            findings.push(certificate(&format!("subscriber {}, {key}", subscriber.name()), path, now));
        }
    }
    findings
}

/// The credentials file and the gateway's certificates, read as the gateway reads them.
fn devices(settings: &Settings, directory: &Directory) -> Finding {
    let subject = "devices";
    let credentials = directory.credentials(settings);
    let access = &settings.gateway.access;
    let rules = AccessSettings { credentials: Some(credentials.clone()), ..access.clone() };
    match Access::open(rules, settings.gateway.tls.as_ref().map(|tls| tls.settings.clone())) {
        Ok(opened) => {
            let anybody = if access.anonymous { ", and anybody else may publish" } else { "" };
            let said = format!("{} known in {}{anybody}", opened.devices(), credentials.display());
            Finding::ok(subject, said)
        }
        Err(error) => Finding::failed(subject, format!("{:#}", anyhow::Error::new(error))).advice(
            "name files that the user that runs millstream can read; `millstream init` makes certificates",
        ),
    }
}

fn certificate(subject: &str, path: &Path, now: Micros) -> Finding {
    let certificate = match Certificate::from_file(path) {
        Ok(certificate) => certificate,
        Err(error) => return Finding::failed(subject, format!("{:#}", anyhow::Error::new(error))),
    };
    let not_after = certificate.not_after();
    let day = crate::command::init::day(not_after);
    let said = format!("{} is valid until {day}", path.display());
    if not_after < now {
        let said = format!("{} was valid until {day}, and is not any more", path.display());
        Finding::failed(subject, said).advice("get another")
    } else if not_after.0 - now.0 < SOON {
        Finding::warning(subject, said).advice("get another soon")
    } else {
        Finding::ok(subject, said)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_ingest::identity::authority::Authority;

    #[test]
    fn a_certificate_is_good_until_it_ends() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("d.pem");
        let made = Micros::from(Utc::now());
        let (authority, _) = Authority::create(made).unwrap();
        let issued = authority.device(&"d".parse().unwrap(), 90, made).unwrap();
        let check = |days: i64, expected: &str| {
            let now = Micros(made.0 + days * 24 * 3600 * 1_000_000);
            let found = format!("{:?}", certificate("kafka.certificate", &path, now));
            assert!(found.contains(expected), "{found}");
        };
        check(0, "d.pem");
        check(0, "Failed");
        std::fs::write(&path, &issued.certificate).unwrap();
        check(0, "Ok");
        check(70, "Warning");
        check(91, "not any more");
        std::fs::write(&path, "no certificate").unwrap();
        check(0, "Failed");
    }
}
