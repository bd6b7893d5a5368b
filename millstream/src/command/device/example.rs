//! A command to paste: a device's first message.

use super::Ground;
use crate::command::init::OwnAuthority;
use crate::command::quoted;
use millstream_ingest::identity::{ClientIds, DeviceName, TopicRule};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// What the gateway's configuration and the device's rules make of it.
pub(super) struct Example {
    plain: Option<SocketAddr>,
    tls: Option<SocketAddr>,
    /// What the server's certificate is checked by; our own authority's, as far as we know.
    ca: Option<PathBuf>,
    client_id: String,
    topic: String,
}

impl Example {
    pub(super) fn new(
        ground: &Ground,
        name: &DeviceName,
        topics: &[TopicRule],
        client_ids: Option<&ClientIds>,
    ) -> Self {
        let gateway = &ground.settings.gateway;
        let client_id = client_ids.map_or_else(|| name.to_string(), |ids| ids.to_string().replace('*', "1"));
        let rule = topics.first().or(gateway.access.topics.first());
        let topic = rule.map_or_else(String::new, |rule| topic(rule.as_str(), name, &client_id));
        let ca = OwnAuthority::of(&ground.directory).certificate();
        Self {
            plain: gateway.listen,
            tls: gateway.tls.as_ref().map(|tls| tls.listen),
            ca: ca.exists().then_some(ca),
            client_id,
            topic,
        }
    }

    pub(super) fn with_password(&self, name: &DeviceName, password: &str) -> String {
        let user = format!("-u {} -P {}", quoted_text(name.as_str()), quoted_text(password));
        match (self.tls, &self.ca, self.plain) {
            (Some(address), Some(ca), _) => self.command(address, &format!("--cafile {} {user}", quoted(ca))),
            (Some(address), None, _) => self.command(address, &format!("--cafile CA.pem {user}")),
            (None, _, Some(address)) => self.command(address, &user),
            (None, _, None) => "there is no listener in the configuration".to_owned(),
        }
    }

    pub(super) fn with_certificate(&self, ca: &Path, certificate: &Path, key: &Path) -> String {
        let files = format!("--cafile {} --cert {} --key {}", quoted(ca), quoted(certificate), quoted(key));
        match self.tls {
            Some(address) => self.command(address, &files),
            None => {
                let command = self.command(SocketAddr::from(([127, 0, 0, 1], 8883)), &files);
                format!(
                    "{command}\n\nonce there is a listener for TLS: the configuration has no [gateway.tls] yet, `millstream init` prints it"
                )
            }
        }
    }

    fn command(&self, address: SocketAddr, credential: &str) -> String {
        let host = if address.ip().is_unspecified() || address.ip().is_loopback() {
            "localhost".to_owned()
        } else {
            address.ip().to_string()
        };
        let port = if address.port() == 0 { "PORT".to_owned() } else { address.port().to_string() };
        let (client_id, topic) = (quoted_text(&self.client_id), quoted_text(&self.topic));
        format!(
            "mosquitto_pub -h {host} -p {port} {credential} -i {client_id} -q 1 -t {topic} -m '{{\"temp\":21.5}}'"
        )
    }
}

fn quoted_text(text: &str) -> String {
    quoted(Path::new(text))
}

/// A topic that a rule allows.
fn topic(rule: &str, name: &DeviceName, client_id: &str) -> String {
    let bound = rule.replace("${client_id}", client_id);
    let bound = ["${device}", "${user}", "${cert_cn}"]
        .iter()
        .fold(bound, |bound, placeholder| bound.replace(placeholder, name.as_str()));
    let levels = bound.split('/').map(|level| if matches!(level, "#" | "+") { "telemetry" } else { level });
    levels.collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::topic;

    #[test]
    fn the_topic_is_one_that_the_rule_allows() {
        let check = |rule: &str, expected: &str| {
            assert_eq!(topic(rule, &"d1".parse().unwrap(), "d1-1"), expected, "{rule}");
        };
        check("devices/${client_id}/#", "devices/d1-1/telemetry");
        check("plant/+/${device}", "plant/telemetry/d1");
        check("#", "telemetry");
    }
}
