//! Where devices connect, and who they have to be.

use super::problem::Problem;
use super::raw::{RawAccess, RawClientCertificates, RawGateway, RawTls, Unclaimed};
use super::value::{Origin, Size, at_least_a_second, check_path};
use millstream_ingest::gateway::GatewaySettings;
use millstream_ingest::identity::{AccessSettings, ClientCertificates, TlsSettings, TopicRule};
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::path::PathBuf;

/// Where devices connect, unless it is configured.
const LISTEN: &str = "127.0.0.1:1883";

/// What a device may publish to if nothing else is said: below its own name.
const TOPICS: &str = "devices/${client_id}/#";

/// Largest `packet_max`: a packet is held in memory several times over while it is read and appended.
const PACKET_MAX: u32 = 16 << 20;

/// The gateway.
#[derive(Debug, Clone)]
pub(crate) struct Gateway {
    /// Its listener for plain text.
    pub(crate) listen: Option<SocketAddr>,
    /// Its listener for TLS.
    pub(crate) tls: Option<Tls>,
    /// Who may publish what; without a credentials file it is the one in the data directory.
    pub(crate) access: AccessSettings,
    /// Its limits.
    pub(crate) limits: GatewaySettings,
    /// What becomes of a message that no stream claims.
    pub(crate) unclaimed: Unclaimed,
}

impl Gateway {
    /// Whether devices can connect at all.
    pub(crate) fn listens(&self) -> bool {
        self.listen.is_some() || self.tls.is_some()
    }
}

/// The listener for TLS.
#[derive(Debug, Clone)]
pub(crate) struct Tls {
    /// Its address.
    pub(crate) listen: SocketAddr,
    /// Its certificates.
    pub(crate) settings: TlsSettings,
}

pub(super) fn check_gateway(
    raw: RawGateway,
    origin: &Origin,
    problems: &mut Vec<Problem>,
    warnings: &mut Vec<Problem>,
) -> Option<Gateway> {
    let before = problems.len();
    let text = raw.listen.as_deref().unwrap_or(LISTEN);
    let listen = check_listen("gateway.listen", text, LISTEN, problems);
    let limits = check_limits(&raw).map_err(|problem| problems.push(problem)).ok();
    let tls = raw.tls.and_then(|tls| check_tls(tls, origin, problems));
    let addresses: Vec<(&str, SocketAddr)> = listen
        .iter()
        .map(|address| ("gateway.listen", *address))
        .chain(tls.iter().map(|tls| ("gateway.tls.listen", tls.listen)))
        .collect();
    let access = check_access(raw.access, origin, &addresses, problems, warnings);
    if let Some(address) = listen.filter(|address| !address.ip().is_loopback()) {
        warnings.push(
            Problem::new("gateway.listen", format!("what devices send to {address} crosses the network in plain text, passwords too"))
                .hint("let them connect through TLS, [gateway.tls], and write listen = \"\" or a loopback address here"),
        );
    }
    let limits = limits.filter(|_| problems.len() == before)?;
    Some(Gateway { listen, tls, access, limits, unclaimed: raw.unclaimed.unwrap_or(Unclaimed::Quarantine) })
}

/// An address to listen on; none if it is empty.
pub(super) fn check_listen(
    key: &str,
    text: &str,
    example: &str,
    problems: &mut Vec<Problem>,
) -> Option<SocketAddr> {
    if text.is_empty() {
        return None;
    }
    let hint =
        format!("write an address and a port, like \"{example}\"; port 0 takes a free one, \"\" is none");
    text.parse().map_err(|error| problems.push(Problem::new(key, error).hint(hint))).ok()
}

fn check_tls(raw: RawTls, origin: &Origin, problems: &mut Vec<Problem>) -> Option<Tls> {
    let RawTls { listen, certificate, key, client_ca, client_certificates } = raw;
    let is_set =
        certificate.is_some() || key.is_some() || client_ca.is_some() || client_certificates.is_some();
    let is_said = listen.is_some();
    let text = listen.unwrap_or_default();
    if text.is_empty() {
        if is_set && !is_said {
            problems.push(
                Problem::new("gateway.tls", "there is no `listen`, so the other keys mean nothing")
                    .hint("write listen = \"0.0.0.0:8883\", or leave all of them out"),
            );
        }
        return None;
    }
    let listen = check_listen("gateway.tls.listen", &text, "0.0.0.0:8883", problems);
    for (name, path) in [("certificate", &certificate), ("key", &key)] {
        if path.is_none() {
            problems.push(
                Problem::new("gateway.tls", format!("there is no `{name}`, which TLS needs"))
                    .hint("name a PEM file; `millstream init` makes both, signed by an own authority"),
            );
        }
    }
    let mut file = |name: &str, path: Option<PathBuf>| {
        check_path(origin, &format!("gateway.tls.{name}"), path.as_deref(), problems)
    };
    let (certificate, key, client_ca) =
        (file("certificate", certificate), file("key", key), file("client_ca", client_ca));
    let client_certificates = match client_certificates {
        Some(RawClientCertificates::Required) => ClientCertificates::Required,
        Some(RawClientCertificates::Optional) | None => ClientCertificates::Optional,
    };
    let settings = TlsSettings { certificate: certificate?, key: key?, client_ca, client_certificates };
    Some(Tls { listen: listen?, settings })
}

fn check_access(
    raw: RawAccess,
    origin: &Origin,
    addresses: &[(&str, SocketAddr)],
    problems: &mut Vec<Problem>,
    warnings: &mut Vec<Problem>,
) -> AccessSettings {
    let beyond = addresses.iter().find(|(_, address)| !address.ip().is_loopback());
    if let (Some((_, address)), Some(true)) = (beyond, raw.anonymous) {
        warnings.push(
            Problem::new("gateway.access.anonymous", format!("everyone who reaches {address} can publish"))
                .hint("write anonymous = false, and make credentials with `millstream device add NAME`"),
        );
    }
    let credentials = check_path(origin, "gateway.access.credentials", raw.credentials.as_deref(), problems);
    let texts = raw.topics.unwrap_or_else(|| vec![TOPICS.to_owned()]);
    if texts.is_empty() {
        problems.push(
            Problem::new("gateway.access.topics", "no device could publish anything")
                .hint(format!("write [\"{TOPICS}\"], or [\"#\"] for every topic")),
        );
    }
    let mut topics = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        match text.parse::<TopicRule>() {
            Ok(rule) => topics.push(rule),
            Err(error) => problems.push(
                Problem::new(format!("gateway.access.topics[{index}]"), error)
                    .hint(format!("write it like \"{TOPICS}\"")),
            ),
        }
    }
    AccessSettings { anonymous: raw.anonymous.unwrap_or(beyond.is_none()), credentials, topics }
}

fn check_limits(raw: &RawGateway) -> Result<GatewaySettings, Problem> {
    let mut settings = GatewaySettings::default();
    if let Some(most) = raw.connections_max {
        settings.connections_max = most;
    }
    if let Some(Size(most)) = raw.message_max {
        settings.message_max =
            usize::try_from(most).map_err(|error| Problem::new("gateway.message_max", error))?;
    }
    if let Some(Size(most)) = raw.packet_max {
        settings.packet_max =
            u32::try_from(most).map_err(|error| Problem::new("gateway.packet_max", error))?;
    }
    if let Some(most) = raw.in_flight_max {
        settings.in_flight_max = NonZeroU16::new(most)
            .ok_or_else(|| Problem::new("gateway.in_flight_max", "must be at least 1"))?;
    }
    settings.keep_alive_max =
        at_least_a_second("gateway.keep_alive_max", raw.keep_alive_max, settings.keep_alive_max)?;
    settings.connect_timeout =
        at_least_a_second("gateway.connect_timeout", raw.connect_timeout, settings.connect_timeout)?;
    settings.session_expiry_max =
        at_least_a_second("gateway.session_expiry_max", raw.session_expiry_max, settings.session_expiry_max)?;
    if settings.message_max as u64 >= u64::from(settings.packet_max) {
        return Err(Problem::new("gateway.message_max", "must be smaller than packet_max").hint(
            "a message above message_max is quarantined; a packet above packet_max ends the connection",
        ));
    }
    if settings.packet_max > PACKET_MAX {
        return Err(Problem::new("gateway.packet_max", "must be at most 16MiB"));
    }
    if settings.connections_max == 0 {
        return Err(Problem::new("gateway.connections_max", "must be at least 1"));
    }
    Ok(settings)
}
