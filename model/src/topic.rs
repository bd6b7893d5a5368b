//! MQTT topics: what a device may publish to, and the patterns by which a stream claims them.

use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// The capture that names the device.
pub const DEVICE_ID: &str = "device_id";

/// Which topics belong to a stream: an MQTT topic filter whose single-level wildcards may have names.
///
/// `devices/{device_id}/telemetry` matches what `devices/+/telemetry` would, and says what the level means. `+` and, as the last level, `#` are allowed.
/// As in MQTT, a pattern that begins with a wildcard does not match topics that begin with `$` (MQTT-4.7.2-1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicPattern {
    levels: Vec<Level>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Level {
    Text(String),
    Any,
    Named(String),
    Rest,
}

/// Why a pattern was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BadPattern {
    /// MQTT topics have at least one character (MQTT-4.7.3-1).
    #[error("a topic pattern cannot be empty")]
    Empty,
    /// `#` stands elsewhere than as the whole last level.
    #[error("`#` must be the whole last level")]
    RestNotLast,
    /// A level has a wildcard or a brace among other characters.
    #[error("the level {0:?} mixes a wildcard with text; a wildcard is a level of its own")]
    Mixed(String),
    /// The name in braces is not `[a-z][a-z0-9_]*`.
    #[error("the level name {0:?} is not of the form [a-z][a-z0-9_]*")]
    BadLevelName(String),
    /// The same name twice.
    #[error("the level name {0:?} stands twice")]
    Twice(String),
}

impl TopicPattern {
    /// The named levels' values, in order, if the topic matches.
    #[must_use]
    pub fn captures<'t>(&self, topic: &'t str) -> Option<Vec<(&str, &'t str)>> {
        let begins_with_wildcard = !matches!(self.levels.first(), Some(Level::Text(_)));
        if topic.starts_with('$') && begins_with_wildcard {
            return None;
        }
        let mut values = topic.split('/');
        let mut captures = Vec::new();
        for level in &self.levels {
            // `a/#` also matches `a` itself (MQTT-4.7.1-2).
            if *level == Level::Rest {
                return Some(captures);
            }
            let value = values.next()?;
            match level {
                Level::Text(text) if text != value => return None,
                Level::Named(name) => captures.push((name.as_str(), value)),
                Level::Text(_) | Level::Any | Level::Rest => {}
            }
        }
        values.next().is_none().then_some(captures)
    }

    /// The names of the named levels, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.levels
            .iter()
            .filter_map(|level| if let Level::Named(name) = level { Some(name.as_str()) } else { None })
    }

    /// The MQTT topic filter that subscribes to just these topics.
    #[must_use]
    pub fn filter(&self) -> String {
        let levels = self.levels.iter().map(|level| match level {
            Level::Text(text) => text.as_str(),
            Level::Any | Level::Named(_) => "+",
            Level::Rest => "#",
        });
        levels.collect::<Vec<_>>().join("/")
    }
}

impl FromStr for TopicPattern {
    type Err = BadPattern;

    fn from_str(text: &str) -> Result<Self, BadPattern> {
        if text.is_empty() {
            return Err(BadPattern::Empty);
        }
        let levels = text.split('/').map(parse_level).collect::<Result<Vec<_>, _>>()?;
        if levels.iter().rev().skip(1).any(|level| *level == Level::Rest) {
            return Err(BadPattern::RestNotLast);
        }
        let pattern = Self { levels };
        let mut seen = std::collections::HashSet::new();
        if let Some(twice) = pattern.names().find(|name| !seen.insert(*name)) {
            return Err(BadPattern::Twice(twice.to_owned()));
        }
        Ok(pattern)
    }
}

fn parse_level(text: &str) -> Result<Level, BadPattern> {
    match text {
        "+" => return Ok(Level::Any),
        "#" => return Ok(Level::Rest),
        _ => {}
    }
    if let Some(name) = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
        let good = name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        return if good {
            Ok(Level::Named(name.to_owned()))
        } else {
            Err(BadPattern::BadLevelName(name.to_owned()))
        };
    }
    if text.contains(['+', '#', '{', '}', '\0']) {
        Err(BadPattern::Mixed(text.to_owned()))
    } else {
        Ok(Level::Text(text.to_owned()))
    }
}

impl fmt::Display for TopicPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, level) in self.levels.iter().enumerate() {
            if place > 0 {
                f.write_str("/")?;
            }
            match level {
                Level::Text(text) => f.write_str(text)?,
                Level::Any => f.write_str("+")?,
                Level::Named(name) => write!(f, "{{{name}}}")?,
                Level::Rest => f.write_str("#")?,
            }
        }
        Ok(())
    }
}

/// Longest topic in bytes: its length is a 16-bit number in the protocol.
const TOPIC_MAX: usize = 65_535;

/// Why nothing can be published to a topic.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BadTopic {
    /// Topics have at least one character.
    #[error("the topic is empty")]
    Empty,
    /// `+`, `#` and NUL stand only in filters, or nowhere.
    #[error("the topic has the character {0:?}, which no topic may have")]
    Character(char),
    /// Longer than the protocol can say.
    #[error("the topic is {0} bytes long, more than 65535")]
    TooLong(usize),
}

/// Whether a message can be published to a topic (MQTT-3.3.2-2, MQTT-4.7.3-1 to 3). Empty levels are allowed, as in MQTT.
///
/// # Errors
/// What is wrong with it.
pub fn check_publishable(topic: &str) -> Result<(), BadTopic> {
    if topic.is_empty() {
        return Err(BadTopic::Empty);
    }
    if topic.len() > TOPIC_MAX {
        return Err(BadTopic::TooLong(topic.len()));
    }
    topic.chars().find(|c| matches!(c, '+' | '#' | '\0')).map_or(Ok(()), |c| Err(BadTopic::Character(c)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, topic: &str, expected: Option<&[(&str, &str)]>) {
        let pattern: TopicPattern = pattern.parse().unwrap();
        assert_eq!(pattern.captures(topic).as_deref(), expected, "{pattern} on {topic}");
    }

    #[test]
    fn patterns_match_as_mqtt_filters_do_and_name_levels() {
        check("devices/{device_id}/telemetry", "devices/d1/telemetry", Some(&[("device_id", "d1")]));
        check("devices/{device_id}/telemetry", "devices//telemetry", Some(&[("device_id", "")]));
        check("devices/{device_id}/telemetry", "devices/d1/telemetry/x", None);
        check("devices/{device_id}/telemetry", "devices/d1", None);
        check("{site}/+/{device_id}", "a/b/c", Some(&[("site", "a"), ("device_id", "c")]));
        check("#", "a/b", Some(&[]));
        check("#", "$SYS/x", None);
        check("+/x", "$SYS/x", None);
        check("$SYS/#", "$SYS/x", Some(&[]));
        check("a/#", "a", Some(&[]));
        check("a/#", "ab", None);
    }

    #[test]
    fn a_pattern_reads_back_and_knows_its_filter() {
        let text = "a/{b}/+/#";
        let pattern: TopicPattern = text.parse().unwrap();
        assert_eq!((pattern.to_string().as_str(), pattern.filter().as_str()), (text, "a/+/+/#"));
    }

    #[test]
    fn only_topics_that_mqtt_allows_can_be_published_to() {
        for good in ["a", "/", "a//b", "ä/ö", "$x"] {
            assert_eq!(check_publishable(good), Ok(()));
        }
        assert_eq!(check_publishable(""), Err(BadTopic::Empty));
        assert_eq!(check_publishable("a/#"), Err(BadTopic::Character('#')));
        assert_eq!(check_publishable("a/\0"), Err(BadTopic::Character('\0')));
        assert_eq!(check_publishable(&"x".repeat(65_536)), Err(BadTopic::TooLong(65_536)));
    }

    #[test]
    fn bad_patterns_say_why() {
        for (text, expected) in [
            ("", BadPattern::Empty),
            ("a/#/b", BadPattern::RestNotLast),
            ("a+/b", BadPattern::Mixed("a+".to_owned())),
            ("x{a}", BadPattern::Mixed("x{a}".to_owned())),
            ("{A}", BadPattern::BadLevelName("A".to_owned())),
            ("{a}/{a}", BadPattern::Twice("a".to_owned())),
        ] {
            assert_eq!(text.parse::<TopicPattern>(), Err(expected));
        }
    }
}
