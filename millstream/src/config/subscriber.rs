//! Subscriptions to somebody else's broker.

use super::log::check_pair;
use super::problem::Problem;
use super::raw::RawSubscriber;
use super::secret::{SecretSource, check_secret};
use super::value::{Origin, Size, Span, at_least_a_second, check_path};
use millstream_ingest::subscriber::{
    Broker, MqttVersion, SubscriberSettings, Transport, check_filter, check_group,
};
use millstream_model::stream::Stream;
use std::collections::HashSet;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Largest `packet_max`, as the gateway's.
const PACKET_MAX: u64 = 16 << 20;

/// Smallest `packet_max`. Whatever it says, as much of a message is kept as the longest topic takes.
const PACKET_MIN: u64 = 1 << 10;

/// A subscription.
#[derive(Debug, Clone)]
pub(crate) struct Subscriber {
    /// All but the password.
    settings: SubscriberSettings,
    password: Option<SecretSource>,
    is_one_of_several: bool,
}

impl Subscriber {
    /// What it is called.
    pub(crate) fn name(&self) -> &str {
        &self.settings.name
    }

    /// The broker, and what is subscribed to, in a line.
    pub(crate) fn describe(&self) -> String {
        let SubscriberSettings { broker, filters, group, .. } = &self.settings;
        let group = group.as_ref().map(|group| format!(", in the group {group}")).unwrap_or_default();
        format!("{broker}   {}{group}", filters.join(", "))
    }

    /// Whether other processes may run by the same configuration: it has a group, and no client id of its own. Then the one in the settings is theirs together, and
    /// each process adds what it is known by.
    pub(crate) fn is_one_of_several(&self) -> bool {
        self.is_one_of_several
    }

    /// The certificates that are named, by their keys.
    pub(crate) fn certificates(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        let SubscriberSettings { ca, certificate, .. } = &self.settings;
        let named = [("ca", ca), ("certificate", certificate)];
        named.into_iter().filter_map(|(key, path)| Some((key, path.as_deref()?)))
    }

    /// What the stage takes, the password read.
    ///
    /// # Errors
    /// If the file with the password cannot be read.
    pub(crate) fn settings(&self) -> anyhow::Result<SubscriberSettings> {
        let password = self.password.as_ref().map(SecretSource::read).transpose()?;
        Ok(SubscriberSettings { password, ..self.settings.clone() })
    }
}

pub(super) fn check_subscribers(
    raw: Vec<RawSubscriber>,
    streams: &[Arc<Stream>],
    origin: &Origin,
    problems: &mut Vec<Problem>,
    warnings: &mut Vec<Problem>,
) -> Vec<Subscriber> {
    let mut names = HashSet::new();
    let mut subscribers = Vec::new();
    for (index, raw) in raw.into_iter().enumerate() {
        let key = format!("subscriber[{index}]");
        if !names.insert(raw.name.clone()) {
            let what = format!("there are two subscribers named `{}`", raw.name);
            problems.push(Problem::new(format!("{key}.name"), what));
        }
        subscribers.extend(check_subscriber(&key, raw, streams, origin, problems, warnings));
    }
    subscribers
}

fn check_subscriber(
    key: &str,
    raw: RawSubscriber,
    streams: &[Arc<Stream>],
    origin: &Origin,
    problems: &mut Vec<Problem>,
    warnings: &mut Vec<Problem>,
) -> Option<Subscriber> {
    let before = problems.len();
    let at = |name: &str| format!("{key}.{name}");
    if raw.name.is_empty() || !raw.name.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c)) {
        problems.push(
            Problem::new(at("name"), "a subscriber's name has letters, digits, `_` and `-`")
                .hint("write it like \"plant\""),
        );
    }
    let broker = raw.broker.parse::<Broker>().map_err(|error| {
        problems.push(
            Problem::new(at("broker"), error)
                .hint("write it like \"mqtt://host:1883\", or \"mqtts://host:8883\" for TLS"),
        );
    });
    let filters = check_filters(&at("filters"), raw.filters.as_deref(), streams, problems);
    let mut settings = SubscriberSettings::new(&raw.name, broker.ok()?, filters);
    if let Some(text) = &raw.mqtt {
        match text.parse::<MqttVersion>() {
            Ok(version) => settings.version = version,
            Err(error) => problems.push(Problem::new(at("mqtt"), error)),
        }
    }
    if let Some(Err(error)) = raw.group.as_deref().map(check_group) {
        problems.push(Problem::new(at("group"), error));
    }
    settings.group = raw.group;
    let is_one_of_several = settings.group.is_some() && raw.client_id.is_none();
    if let Some(client_id) = raw.client_id {
        if client_id.is_empty() {
            problems.push(Problem::new(
                at("client_id"),
                "the broker keeps our session by it, so it cannot be empty",
            ));
        }
        settings.client_id = client_id;
    }
    settings.user = raw.user;
    let password = check_secret(origin, &at("password"), raw.password, raw.password_file, problems, warnings);
    if password.is_some() && settings.user.is_none() {
        problems
            .push(Problem::new(at("user"), "there is a password and no user").hint("write user = \"NAME\""));
    }
    let transport = settings.broker.transport;
    let mut file = |name: &str, path: Option<PathBuf>| {
        let checked = check_path(origin, &at(name), path.as_deref(), problems);
        if checked.is_some() && transport == Transport::Plain {
            problems.push(
                Problem::new(at(name), "without TLS it means nothing").hint("write the broker with mqtts://"),
            );
        }
        checked
    };
    settings.ca = file("ca", raw.ca);
    let (certificate, own_key) = (file("certificate", raw.certificate), file("key", raw.key));
    (settings.certificate, settings.key) = check_pair(key, certificate, own_key, problems).unzip();
    check_limits(key, &mut settings, raw.keep_alive, raw.session_expiry, raw.receive_max, raw.packet_max)
        .unwrap_or_else(|problem| problems.push(problem));
    (problems.len() == before).then_some(Subscriber { settings, password, is_one_of_several })
}

fn check_limits(
    key: &str,
    settings: &mut SubscriberSettings,
    keep_alive: Option<Span>,
    session_expiry: Option<Span>,
    receive_max: Option<u16>,
    packet_max: Option<Size>,
) -> Result<(), Problem> {
    settings.keep_alive = at_least_a_second(&format!("{key}.keep_alive"), keep_alive, settings.keep_alive)?;
    settings.session_expiry =
        at_least_a_second(&format!("{key}.session_expiry"), session_expiry, settings.session_expiry)?;
    if let Some(most) = receive_max {
        settings.receive_max = NonZeroU16::new(most)
            .ok_or_else(|| Problem::new(format!("{key}.receive_max"), "must be at least 1"))?;
    }
    if let Some(Size(size)) = packet_max {
        let bad = || Problem::new(format!("{key}.packet_max"), "must be from 1KiB to 16MiB");
        if !(PACKET_MIN..=PACKET_MAX).contains(&size) {
            return Err(bad());
        }
        settings.packet_max = u32::try_from(size).map_err(|error| bad().hint(error.to_string()))?;
    }
    Ok(())
}

/// The filters that are subscribed to; those of all streams where none are given.
fn check_filters(
    key: &str,
    given: Option<&[String]>,
    streams: &[Arc<Stream>],
    problems: &mut Vec<Problem>,
) -> Vec<String> {
    let Some(given) = given else {
        return widest(
            streams.iter().flat_map(|stream| &stream.topics).map(|topic| topic.filter().to_string()),
        );
    };
    if given.is_empty() {
        problems.push(
            Problem::new(key, "nothing is subscribed to").hint("leave it out for the topics of all streams"),
        );
    }
    for (index, filter) in given.iter().enumerate() {
        if let Err(error) = check_filter(filter) {
            problems.push(Problem::new(format!("{key}[{index}]"), error));
        }
    }
    given.to_vec()
}

/// The filters without those that another one covers: a broker may send a message once for each that matches.
fn widest(filters: impl Iterator<Item = String>) -> Vec<String> {
    let mut widest: Vec<String> = Vec::new();
    for filter in filters {
        if !widest.iter().any(|other| covers(other, &filter)) {
            widest.retain(|other| !covers(&filter, other));
            widest.push(filter);
        }
    }
    widest
}

/// Whether everything that matches the second filter matches the first.
fn covers(wide: &str, narrow: &str) -> bool {
    // A wildcard at the beginning does not match topics that begin with `$`.
    if narrow.starts_with('$') && !wide.starts_with('$') {
        return false;
    }
    let mut narrow = narrow.split('/');
    for level in wide.split('/') {
        match (level, narrow.next()) {
            ("#", _) => return true,
            ("+", Some(other)) if other != "#" => {}
            (level, Some(other)) if level == other => {}
            _ => return false,
        }
    }
    narrow.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_that_others_cover_are_not_subscribed_to() {
        let check = |filters: &[&str], expected: &[&str]| {
            assert_eq!(widest(filters.iter().map(|filter| (*filter).to_owned())), expected);
        };
        check(&["devices/+/telemetry", "#"], &["#"]);
        check(&["#", "a/b"], &["#"]);
        check(&["#", "$SYS/x"], &["#", "$SYS/x"]);
        check(&["a/+", "a/b", "a/b/c", "a/#"], &["a/#"]);
        check(&["a/+", "a/#"], &["a/#"]);
        check(&["a/#", "a"], &["a/#"]);
        check(&["a/b", "a/c"], &["a/b", "a/c"]);
        check(&["+/b", "a/+"], &["+/b", "a/+"]);
    }
}
