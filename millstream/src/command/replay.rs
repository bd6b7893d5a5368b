//! `millstream replay`: the command line of the replay client.

use super::{STOPPED, say};
use crate::cli::{Missing, Mqtt, Rebase as RebaseOption, Replay};
use crate::shutdown::Signals;
use anyhow::{Context, bail, ensure};
use chrono::Utc;
use millstream_ingest::replay::progress::{WithoutTerminal, on_stderr};
use millstream_ingest::replay::{
    self, Acknowledged, Broker, Clients, Credentials, Message, MqttVersion, Observers, OnBadLine, Qos,
    Rebase, ReplayError, ReplaySettings, Summary, TlsFiles, WriteMissing,
};
use millstream_model::time::Micros;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::num::NonZeroU16;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use tokio_util::sync::CancellationToken;

/// Publishes the files; a first signal waits for the acknowledgements that are on their way, a second ends at once.
pub(super) async fn run(options: Replay) -> anyhow::Result<ExitCode> {
    let settings = settings(&options)?;
    let observers = observers(&options)?;
    let signals = Signals::take().context("failed to take over signals")?;
    let stop = CancellationToken::new();
    let summary = tokio::select! {
        ended = replay::run(settings, observers, stop.clone()) => match ended {
            Ok(summary) => summary,
            Err(error) => {
                if let Some(summary) = error.summary().filter(|summary| options.json || summary.published > 0) {
                    tell(&options, summary)?;
                }
                let hint = format!("is a broker listening on {}? `millstream up` is one", options.broker);
                let unreachable = matches!(&error, ReplayError::Ended { source, .. } if matches!(**source, ReplayError::GaveUp { .. }));
                let error = anyhow::Error::new(error);
                return Err(if unreachable { error.context(hint) } else { error });
            }
        },
        () = signals.watch(stop.clone()) => return Ok(ExitCode::from(STOPPED)),
    };
    tell(&options, &summary)?;
    Ok(exit_code(&summary))
}

fn tell(options: &Replay, summary: &Summary) -> anyhow::Result<()> {
    say(&if options.json { format!("{}\n", serde_json::to_string(summary)?) } else { format!("{summary}\n") })
}

/// A replay that left something unacknowledged has failed.
fn exit_code(summary: &Summary) -> ExitCode {
    if summary.is_complete() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn settings(options: &Replay) -> anyhow::Result<ReplaySettings> {
    let topic =
        options.topic.parse().with_context(|| format!("--topic {:?} is no template", options.topic))?;
    let (broker, secure) = broker(&options.broker, wants_tls(options))?;
    let mut settings = ReplaySettings::new(options.files.clone(), topic, broker);
    settings.connection.tls = secure.then(|| TlsFiles {
        ca: options.ca.clone(),
        certificate: options.certificate.clone(),
        key: options.key.clone(),
    });
    let input = &mut settings.input;
    input.time_field.clone_from(&options.time_field);
    input.rebase = match options.rebase {
        Some(RebaseOption::Now) => Rebase::EndAt(Micros::from(Utc::now())),
        None => Rebase::AsRecorded,
    };
    input.write_missing = match options.missing {
        Missing::Omit => WriteMissing::LeaveOut,
        Missing::Null => WriteMissing::Null,
    };
    input.on_bad_line = if options.strict { OnBadLine::Fail } else { OnBadLine::Skip };
    input.limit = options.limit;
    settings.pace.rate = options.rate;
    settings.pace.speed = options.speed;
    let connection = &mut settings.connection;
    connection.version = match options.mqtt {
        Mqtt::V3 => MqttVersion::V311,
        Mqtt::V5 => MqttVersion::V5,
    };
    connection.qos = match options.qos {
        0 => Qos::AtMostOnce,
        1 => Qos::AtLeastOnce,
        _ => Qos::ExactlyOnce,
    };
    connection.clients =
        Clients::Count(NonZeroU16::new(options.clients).context("--clients must be at least 1")?);
    connection.in_flight = NonZeroU16::new(options.in_flight).context("--in-flight must be at least 1")?;
    if let Some(user) = &options.user {
        let password = options.password_file.as_deref().map(password).transpose()?;
        connection.credentials = Some(Credentials { user: user.clone(), password });
    }
    Ok(settings)
}

/// What only TLS has a use for asks for it.
fn wants_tls(options: &Replay) -> bool {
    options.tls || options.ca.is_some() || options.certificate.is_some()
}

/// `HOST:PORT`, `[IPv6]:PORT`, or a host with MQTT's own port; and whether to speak TLS.
fn broker(text: &str, tls: bool) -> anyhow::Result<(Broker, bool)> {
    let (text, secure) = match (text.strip_prefix("mqtts://"), text.strip_prefix("mqtt://")) {
        (Some(rest), _) => (rest, true),
        (None, Some(_)) if tls => bail!("--broker {text:?} is plain text; write mqtts:// for TLS"),
        (None, rest) => (rest.unwrap_or(text), tls),
    };
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
            (host, port.parse().with_context(|| format!("--broker {text:?}: {port:?} is no port"))?)
        }
        _ => (text, if secure { 8883 } else { 1883 }),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    ensure!(!host.is_empty(), "--broker {text:?} names no host; write it like 127.0.0.1:1883");
    Ok((Broker { host: host.to_owned(), port }, secure))
}

fn password(path: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("failed to read the password file {}", path.display()))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

fn observers(options: &Replay) -> anyhow::Result<Observers> {
    let mut observers = Observers::default();
    if !options.quiet {
        observers.progress = on_stderr(WithoutTerminal::Lines);
    }
    if let Some(path) = &options.acknowledged {
        let file = OpenOptions::new().create(true).append(true).open(path);
        observers.acknowledged =
            Some(write_acknowledged(file.with_context(|| format!("failed to open {}", path.display()))?));
    }
    Ok(observers)
}

/// A line for each acknowledged message: topic, and payload as text.
fn write_acknowledged(file: File) -> Acknowledged {
    let file = Mutex::new(file);
    Arc::new(move |message: &Message| {
        let line = serde_json::json!({ "topic": &*message.topic, "payload": String::from_utf8_lossy(&message.payload) });
        let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
        // In one call, so that a kill leaves whole lines.
        if let Err(error) = file.write_all(format!("{line}\n").as_bytes()) {
            tracing::error!(%error, "an acknowledged message could not be written to the file");
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_is_a_host_and_a_port() {
        let check = |text: &str, tls: bool, host: &str, port: u16, secure: bool| {
            let expected = (Broker { host: host.to_owned(), port }, secure);
            assert_eq!(broker(text, tls).unwrap(), expected, "{text}");
        };
        check("localhost", false, "localhost", 1883, false);
        check("localhost", true, "localhost", 8883, true);
        check("mqtt://10.0.0.1:1884", false, "10.0.0.1", 1884, false);
        check("mqtts://10.0.0.1", false, "10.0.0.1", 8883, true);
        check("[::1]:1884", true, "::1", 1884, true);
        check("::1", false, "::1", 1883, false);
        assert!(broker(":1", false).is_err());
        assert!(broker("a:b", false).is_err());
        assert!(broker("mqtt://a", true).is_err());
    }
}
