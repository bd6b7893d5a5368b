//! Topic rules: what a device may publish to, as in `devices/${client_id}/#`.
//!
//! A rule is an MQTT topic filter with placeholders. It is bound to one connection by putting that connection's values in. A value comes from outside, so one
//! that could widen the rule (`/`, `+`, `#`, a `$` in front, nothing at all) binds it to nothing: the rule allows nothing then.

use serde::de::Error;
use serde::{Deserialize, Deserializer};
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// Longest rule, and longest rule with its values put in, in bytes. MQTT has no longer topics.
const RULE_MAX: usize = u16::MAX as usize;

/// A topic filter with placeholders.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TopicRule {
    text: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Part {
    Text(String),
    Value(Placeholder),
}

/// What is put into a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Placeholder {
    /// The MQTT client identifier.
    ClientId,
    /// The common name of a certificate that an authority of `client_ca` has signed.
    CertCn,
    /// The name of a user who gave the right password.
    User,
    /// The name of the device in the credentials file, whichever way it proved who it is.
    Device,
}

/// Why a text is no topic rule.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BadRule {
    /// There is nothing in it, or too much.
    #[error("a topic rule has 1 to {RULE_MAX} bytes")]
    Length,
    /// `${` without `}`.
    #[error("a placeholder is not closed by `}}`")]
    Open,
    /// Not one of those there are.
    #[error(
        "there is no placeholder ${{{0}}}; there are ${{client_id}}, ${{device}}, ${{user}} and ${{cert_cn}}"
    )]
    Unknown(String),
    /// A wildcard where MQTT has none.
    #[error("the wildcards `+` and `#` stand alone between slashes, and `#` stands last")]
    Wildcard,
    /// NUL.
    #[error("the character NUL is in no topic")]
    Nul,
}

impl TopicRule {
    /// The rule as it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The filter of one connection; `None` where a value is missing, or would widen it.
    pub(crate) fn bind<'a>(&self, value: impl Fn(Placeholder) -> Option<&'a str>) -> Option<BoundRule> {
        let mut filter = String::with_capacity(self.text.len());
        for part in &self.parts {
            match part {
                Part::Text(text) => filter.push_str(text),
                Part::Value(placeholder) => {
                    filter.push_str(value(*placeholder).filter(|value| is_one_level(value))?);
                }
            }
        }
        (filter.len() <= RULE_MAX).then_some(BoundRule(filter))
    }
}

/// Whether a value stays within the level in which it is put. Topics that begin with `$` are the server's own.
fn is_one_level(value: &str) -> bool {
    !value.is_empty() && !value.starts_with('$') && !value.contains(['/', '+', '#', '\0'])
}

impl FromStr for TopicRule {
    type Err = BadRule;

    fn from_str(text: &str) -> Result<Self, BadRule> {
        if text.is_empty() || text.len() > RULE_MAX {
            return Err(BadRule::Length);
        }
        if text.contains('\0') {
            return Err(BadRule::Nul);
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            let (name, after) = after.split_once('}').ok_or(BadRule::Open)?;
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            parts.push(Part::Value(name.parse()?));
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        let rule = Self { text: text.to_owned(), parts };
        let example = rule.bind(|_| Some("x")).ok_or(BadRule::Length)?;
        if is_filter(&example.0) { Ok(rule) } else { Err(BadRule::Wildcard) }
    }
}

fn is_filter(text: &str) -> bool {
    let mut levels = text.split('/').peekable();
    while let Some(level) = levels.next() {
        let is_last = levels.peek().is_none();
        if level.contains(['+', '#']) && level != "+" && !(level == "#" && is_last) {
            return false;
        }
    }
    true
}

impl FromStr for Placeholder {
    type Err = BadRule;

    fn from_str(name: &str) -> Result<Self, BadRule> {
        match name {
            "client_id" => Ok(Self::ClientId),
            "cert_cn" => Ok(Self::CertCn),
            "user" => Ok(Self::User),
            "device" => Ok(Self::Device),
            other => Err(BadRule::Unknown(other.to_owned())),
        }
    }
}

impl fmt::Display for TopicRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for TopicRule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// The topic filter of one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BoundRule(String);

impl BoundRule {
    /// Bytes that it takes.
    pub(crate) fn size(&self) -> usize {
        size_of::<Self>() + self.0.len()
    }

    /// Whether the topic is one of those the filter names. As MQTT has it, a wildcard in front does not name topics that begin with `$`.
    pub(crate) fn allows(&self, topic: &str) -> bool {
        if topic.starts_with('$') && self.0.starts_with(['+', '#']) {
            return false;
        }
        let mut levels = topic.split('/');
        for level in self.0.split('/') {
            match (level, levels.next()) {
                // It names the level above it, too.
                ("#", _) => return true,
                ("+", Some(_)) => {}
                (level, Some(actual)) if level == actual => {}
                _ => return false,
            }
        }
        levels.next().is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(rule: &str, value: &str) -> Option<BoundRule> {
        rule.parse::<TopicRule>().unwrap().bind(|_| Some(value))
    }

    #[test]
    fn a_rule_names_the_topics_that_mqtt_says_it_names() {
        let check = |rule: &str, topic: &str, expected: bool| {
            assert_eq!(bound(rule, "d1").unwrap().allows(topic), expected, "{rule} {topic}");
        };
        check("devices/${client_id}/#", "devices/d1/telemetry", true);
        check("devices/${client_id}/#", "devices/d1", true);
        check("devices/${client_id}/#", "devices/d1/", true);
        check("devices/${client_id}/#", "devices/d10/telemetry", false);
        check("devices/${client_id}/#", "devices/d2/telemetry", false);
        check("devices/${client_id}/#", "devices", false);
        check("devices/${client_id}/#", "/devices/d1/x", false);
        check("a/+/c", "a/b/c", true);
        check("a/+/c", "a//c", true);
        check("a/+/c", "a/b/b/c", false);
        check("a/+", "a", false);
        check("+", "a/b", false);
        check("plant-${device}/x", "plant-d1/x", true);
        check("#", "anything/at/all", true);
        check("#", "$aws/things/d1", false);
        check("+/things", "$aws/things", false);
        check("$aws/things/${device}/#", "$aws/things/d1/shadow", true);
        check("a", "A", false);
    }

    #[test]
    fn a_value_never_widens_a_rule() {
        for value in ["", "/", "a/b", "+", "#", "d+", "d#", "../x/#", "$SYS", "a\0"] {
            assert_eq!(bound("devices/${user}/#", value), None, "{value:?}");
            assert_eq!(bound("${user}", value), None, "{value:?}");
        }
        assert_eq!("a/${user}".parse::<TopicRule>().unwrap().bind(|_| None), None);
        assert!(bound("a/${user}", "x${device}").unwrap().allows("a/x${device}"));
        assert!(bound("a/${user}", "x").is_some() && bound("a/b", "#").is_some());
    }

    #[test]
    fn a_bad_rule_says_what_is_wrong_with_it() {
        let check = |rule: &str, expected: BadRule| assert_eq!(rule.parse::<TopicRule>(), Err(expected));
        check("", BadRule::Length);
        check("a/${client_id", BadRule::Open);
        check("a/${name}", BadRule::Unknown("name".to_owned()));
        check("a/#/b", BadRule::Wildcard);
        check("a/b#", BadRule::Wildcard);
        check("a/${user}+", BadRule::Wildcard);
        check("${user}#", BadRule::Wildcard);
        check("a\0", BadRule::Nul);
    }
}
