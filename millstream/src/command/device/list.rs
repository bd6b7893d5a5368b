//! `millstream device list`.

use super::Ground;
use crate::cli::DeviceList;
use crate::command::say;
use anyhow::Context;
use millstream_ingest::identity::credentials::{Credentials, Device, KnownCertificate, Revoked};
use millstream_ingest::identity::{DeviceName, TopicRule};
use serde_json::{Value, json};

const HEAD: [&str; 6] = ["NAME", "KIND", "FINGERPRINT", "EXPIRES", "TOPICS", "REVOKED"];

pub(super) fn run(options: &DeviceList) -> anyhow::Result<()> {
    let ground = Ground::of(&options.place)?;
    let text = match std::fs::read_to_string(&ground.file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => {
            return Err(error).with_context(|| format!("failed to read {}", ground.file.display()));
        }
    };
    let credentials = Credentials::parse(&text)
        .with_context(|| format!("the credentials file {} is not understood", ground.file.display()))?;
    if options.json {
        let devices: Vec<Value> = credentials.devices().map(|(name, device)| as_json(name, device)).collect();
        return say(&format!("{}\n", Value::from(devices)));
    }
    if credentials.is_empty() {
        return say("no device has credentials; `millstream device add NAME` makes some\n");
    }
    say(&table(&credentials, &ground.settings.gateway.access.topics))
}

fn as_json(name: &DeviceName, device: &Device) -> Value {
    let certificate = |certificate: &KnownCertificate| {
        json!({
            "fingerprint": certificate.fingerprint.to_string(),
            "not_after": certificate.not_after,
            "revoked": mark(&certificate.revoked),
        })
    };
    json!({
        "name": name.as_str(),
        "password": device.password.is_some(),
        "certificates": device.certificates.iter().map(certificate).collect::<Vec<_>>(),
        "topics": device.topics.as_ref().map(|topics| topics.iter().map(TopicRule::as_str).collect::<Vec<_>>()),
        "client_id": device.client_id.as_ref().map(ToString::to_string),
        "added": device.added,
        "revoked": mark(&device.revoked),
    })
}

fn mark(revoked: &Revoked) -> Value {
    match revoked {
        Revoked::Is(is) => Value::from(*is),
        Revoked::Since(since) => Value::from(since.as_str()),
    }
}

/// A line for each credential.
fn table(credentials: &Credentials, usual: &[TopicRule]) -> String {
    let mut rows = vec![HEAD.map(str::to_owned)];
    for (name, device) in credentials.devices() {
        let topics: Vec<&str> =
            device.topics.as_deref().unwrap_or(usual).iter().map(TopicRule::as_str).collect();
        let row = |kind: &str, fingerprint: String, expires: &str, revoked: &Revoked| {
            let revoked = if device.revoked.is_revoked() { &device.revoked } else { revoked };
            [
                name.to_string(),
                kind.to_owned(),
                fingerprint,
                expires.to_owned(),
                topics.join(" "),
                since(revoked),
            ]
        };
        if device.password.is_some() {
            rows.push(row("password", String::new(), "", &device.revoked));
        }
        for known in &device.certificates {
            let expires = known.not_after.as_deref().map_or("", day);
            rows.push(row("certificate", known.fingerprint.short(), expires, &known.revoked));
        }
        if device.password.is_none() && device.certificates.is_empty() {
            rows.push(row("none", String::new(), "", &device.revoked));
        }
    }
    aligned(&rows)
}

fn since(revoked: &Revoked) -> String {
    match revoked {
        Revoked::Is(true) => "yes".to_owned(),
        Revoked::Is(false) => String::new(),
        Revoked::Since(since) => day(since).to_owned(),
    }
}

fn day(time: &str) -> &str {
    time.split_once('T').map_or(time, |(day, _)| day)
}

fn aligned<const N: usize>(rows: &[[String; N]]) -> String {
    let widths: Vec<usize> =
        (0..N).map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_for_each_credential() {
        let fingerprint = "3f2a9c1d4b5e".repeat(5) + "3f2a";
        let text = format!(
            "[device.d1]\ntopics = [\"plant/#\"]\nrevoked = \"2026-11-21T09:00:00Z\"\n[device.d2]\n\
             [[device.d2.certificate]]\nfingerprint = \"{fingerprint}\"\nnot_after = \"2029-02-23T10:00:00Z\"\n\
             [[device.d2.certificate]]\nfingerprint = \"{}\"\nrevoked = true\n",
            "0".repeat(64)
        );
        let usual = ["devices/${client_id}/#".parse().unwrap()];
        let expected = "\
NAME  KIND         FINGERPRINT   EXPIRES     TOPICS                  REVOKED
d1    none                                   plant/#                 2026-11-21
d2    certificate  3f2a9c1d4b5e  2029-02-23  devices/${client_id}/#
d2    certificate  000000000000              devices/${client_id}/#  yes
";
        assert_eq!(table(&Credentials::parse(&text).unwrap(), &usual), expected);
    }
}
