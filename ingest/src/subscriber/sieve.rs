//! Which deliveries are no news: what a 3.1.1 broker repeats because we subscribed again, and what a session still has from filters that are gone.
//!
//! It outlives connections, and knows nothing of the log. When in doubt a message is taken: doubles are allowed, losses are not.

use super::publish::Publish;
use super::settings::MqttVersion;
use crate::gateway::wire::Delivery;
use std::collections::HashSet;
use tracing::warn;

/// Topics that are named in the program's log because nobody subscribes to them; beyond, they are only counted.
const NAMED_MAX: usize = 100;

/// What to do with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It goes to the log.
    Take,
    /// A retained message that came before, and only comes because we subscribed again.
    Replay,
    /// No configured filter matches its topic.
    Unwanted,
}

/// Tells them apart.
#[derive(Debug)]
pub(crate) struct Sieve {
    version: MqttVersion,
    filters: Vec<String>,
    /// What the filters retained when they were new has been acknowledged as a whole.
    settled: HashSet<String>,
    /// Filters that the broker granted on this connection.
    granted: HashSet<String>,
    /// It has answered all of them.
    complete: bool,
    /// Filters whose retained messages are old on this connection.
    old: HashSet<String>,
    session_present: bool,
    named: HashSet<String>,
}

impl Sieve {
    pub(crate) fn new(version: MqttVersion, filters: Vec<String>) -> Self {
        Self {
            version,
            filters,
            settled: HashSet::new(),
            granted: HashSet::new(),
            complete: false,
            old: HashSet::new(),
            session_present: false,
            named: HashSet::new(),
        }
    }

    /// A connection begins. A broker that has forgotten the session has forgotten the subscriptions with it: all is new again.
    pub(crate) fn connected(&mut self, session_present: bool) {
        if !session_present {
            self.settled.clear();
        }
        self.session_present = session_present;
        self.old.clone_from(&self.settled);
        self.granted.clear();
        self.complete = false;
    }

    /// The broker has granted a filter, as it was subscribed to.
    pub(crate) fn granted(&mut self, filter: String) {
        self.granted.insert(filter);
    }

    /// It has answered every filter.
    pub(crate) fn answered(&mut self) {
        self.complete = true;
    }

    /// Whether the acknowledgement of this message says that all which the subscriptions brought was acknowledged: what comes live stands behind it in the
    /// session's queue, and acknowledgements keep the order.
    pub(crate) fn is_live(&self, publish: &Publish) -> bool {
        self.complete && !publish.retain && !publish.dup && publish.delivery != Delivery::Unconfirmed
    }

    /// Such a message was acknowledged.
    pub(crate) fn settle(&mut self) {
        self.settled.clone_from(&self.granted);
    }

    pub(crate) fn judge(&mut self, publish: &Publish) -> Verdict {
        if self.is_replay(publish) {
            Verdict::Replay
        } else if self.is_unwanted(&publish.topic) {
            self.name(&publish.topic);
            Verdict::Unwanted
        } else {
            Verdict::Take
        }
    }

    /// To MQTT 5 brokers we say that we want none of those. In 3.1.1 a message has the flag only when it answers a SUBSCRIBE (MQTT-3.3.1-9). That may have been
    /// the first one: so only a filter that has settled on an earlier connection has old ones, and never a message that is sent again.
    fn is_replay(&self, publish: &Publish) -> bool {
        self.version == MqttVersion::V311
            && publish.retain
            && !publish.dup
            && self.old.iter().any(|filter| matches(unshared(filter), &publish.topic))
    }

    /// Only a session that was there before has filters that are not ours. Filters that begin with `$` may mean something of the broker's own, which delivers
    /// other topics than the filter says.
    fn is_unwanted(&self, topic: &str) -> bool {
        let named = |filter: &String| filter.starts_with('$') || matches(filter, topic);
        self.session_present && !self.filters.iter().any(named)
    }

    fn name(&mut self, topic: &str) {
        if self.named.len() < NAMED_MAX && self.named.insert(topic.to_owned()) {
            warn!(
                topic,
                "dropped: the session at the broker has a subscription that is not configured any more; end the session to get rid of it"
            );
        }
    }
}

/// A filter without its group.
fn unshared(filter: &str) -> &str {
    let rest = filter.strip_prefix("$share/").and_then(|rest| rest.split_once('/'));
    rest.map_or(filter, |(_, filter)| filter)
}

/// Whether a topic matches a filter (MQTT 4.7).
fn matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && !filter.starts_with('$') {
        return false;
    }
    let mut topic = topic.split('/');
    for level in filter.split('/') {
        match (level, topic.next()) {
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (level, Some(other)) if level == other => {}
            _ => return false,
        }
    }
    topic.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::wire::PacketId;
    use bytes::Bytes;

    #[test]
    fn a_filter_matches_as_the_standard_says() {
        let check = |filter: &str, topic: &str, expected: bool| {
            assert_eq!(matches(filter, topic), expected, "{filter} {topic}");
        };
        check("a/#", "a", true);
        check("a/#", "a/b/c", true);
        check("a/+", "a", false);
        check("a/+", "a/", true);
        check("a/+/c", "a/b/c", true);
        check("a/b", "a/b/c", false);
        check("a/b", "a/c", false);
        check("#", "$SYS/x", false);
        check("+/x", "$SYS/x", false);
        check("$SYS/#", "$SYS/x", true);
    }

    fn publish(topic: &str, retain: bool, dup: bool) -> Publish {
        Publish {
            topic: topic.to_owned(),
            delivery: Delivery::Confirmed(PacketId::MIN),
            retain,
            dup,
            payload: Bytes::new(),
            payload_length: 0,
            content_type: None,
            user_properties: Vec::new(),
            properties_cut: false,
        }
    }

    fn sieve(version: MqttVersion, filters: &[&str]) -> Sieve {
        Sieve::new(version, filters.iter().map(|filter| (*filter).to_owned()).collect())
    }

    fn subscribe(sieve: &mut Sieve, session_present: bool, filters: &[&str]) {
        sieve.connected(session_present);
        filters.iter().for_each(|filter| sieve.granted((*filter).to_owned()));
        sieve.answered();
    }

    #[test]
    fn retained_messages_are_old_only_when_those_of_an_earlier_connection_were_acknowledged() {
        let (retained, live) = (publish("a/1", true, false), publish("a/1", false, false));
        let mut sieve = sieve(MqttVersion::V311, &["a/#", "b/#"]);
        // A session that another process left: nothing is known of its filters.
        sieve.connected(true);
        assert!(!sieve.is_live(&live), "nothing is granted yet");
        assert_eq!(sieve.judge(&retained), Verdict::Take);
        subscribe(&mut sieve, true, &["a/#"]);
        assert_eq!(sieve.judge(&retained), Verdict::Take);
        assert!(!sieve.is_live(&retained) && !sieve.is_live(&publish("a/1", false, true)));
        assert!(sieve.is_live(&live));
        sieve.settle();
        assert_eq!(sieve.judge(&retained), Verdict::Take, "on the same connection");
        subscribe(&mut sieve, true, &["a/#", "b/#"]);
        assert_eq!(sieve.judge(&retained), Verdict::Replay);
        assert_eq!(sieve.judge(&live), Verdict::Take);
        assert_eq!(sieve.judge(&publish("a/1", true, true)), Verdict::Take, "what is sent again");
        assert_eq!(sieve.judge(&publish("b/1", true, false)), Verdict::Take, "of a filter that is new");
        subscribe(&mut sieve, false, &["a/#"]);
        assert_eq!(sieve.judge(&retained), Verdict::Take, "of a session that is new");
    }

    #[test]
    fn what_matches_no_filter_is_unwanted_where_the_session_may_have_others() {
        let check = |filters: &[&str], session_present: bool, expected: Verdict| {
            let mut sieve = sieve(MqttVersion::V5, filters);
            subscribe(&mut sieve, session_present, filters);
            assert_eq!(sieve.judge(&publish("b/1", false, false)), expected, "{filters:?}");
        };
        check(&["a/#", "b/+"], true, Verdict::Take);
        check(&["a/#"], true, Verdict::Unwanted);
        check(&["a/#"], false, Verdict::Take);
        check(&["$queue/b/1"], true, Verdict::Take);
    }

    #[test]
    fn not_every_topic_is_named() {
        let mut sieve = sieve(MqttVersion::V5, &["a"]);
        sieve.connected(true);
        for n in 0..2 * NAMED_MAX {
            assert_eq!(sieve.judge(&publish(&n.to_string(), false, false)), Verdict::Unwanted);
        }
        assert_eq!(sieve.named.len(), NAMED_MAX);
    }
}
