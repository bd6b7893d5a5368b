//! What devices are called in the credentials file, and under which client identifiers they may connect.

use serde::de::Error;
use serde::{Deserialize, Deserializer};
use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// Longest name, in bytes: it must do as a file's name, too.
const NAME_MAX: usize = 128;

/// A device's name: what it gives as its user, and what `${device}` in a topic rule stands for. Letters, digits and `-_.:@`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceName(String);

/// A text is no device's name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "a device's name has 1 to {NAME_MAX} of the characters a-z A-Z 0-9 - _ . : @, and no dot or dash in front"
)]
pub struct BadName;

impl DeviceName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DeviceName {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let fits = (1..=NAME_MAX).contains(&text.len())
            && !text.starts_with(['.', '-'])
            && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.:@".contains(c));
        if fits { Ok(Self(text.to_owned())) } else { Err(BadName) }
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Borrow<str> for DeviceName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for DeviceName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// Which client identifiers a device may connect under. The topic rule `${client_id}` is worth as much as this is strict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientIds {
    text: String,
    /// A `*` stands at its end.
    open: bool,
}

/// A text says no client identifiers.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("a client identifier, of which only the end may be left open by `*`")]
pub struct BadClientIds;

impl ClientIds {
    /// Just this one.
    pub(crate) fn only(client_id: &str) -> Self {
        Self { text: client_id.to_owned(), open: false }
    }

    /// Whether this one is among them.
    pub(crate) fn allow(&self, client_id: &str) -> bool {
        if self.open { client_id.starts_with(&self.text) } else { client_id == self.text }
    }
}

impl FromStr for ClientIds {
    type Err = BadClientIds;

    fn from_str(text: &str) -> Result<Self, BadClientIds> {
        let (start, open) = text.strip_suffix('*').map_or((text, false), |start| (start, true));
        if text.is_empty() || start.contains('*') {
            return Err(BadClientIds);
        }
        Ok(Self { text: start.to_owned(), open })
    }
}

impl fmt::Display for ClientIds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.text, if self.open { "*" } else { "" })
    }
}

impl<'de> Deserialize<'de> for ClientIds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_level_of_a_topic_and_one_file() {
        for good in ["d1", "truck_7.left", "aa:bb:cc:dd:ee:ff", "ann@plant", &"x".repeat(NAME_MAX)] {
            assert_eq!(good.parse::<DeviceName>().unwrap().as_str(), good);
        }
        for bad in ["", "a/b", "a b", "+", "#", ".hidden", "-x", "ä", &"x".repeat(NAME_MAX + 1)] {
            assert_eq!(bad.parse::<DeviceName>(), Err(BadName), "{bad}");
        }
    }

    #[test]
    fn client_ids_are_one_or_those_with_a_beginning() {
        let check = |rule: &str, client_id: &str, expected: bool| {
            assert_eq!(rule.parse::<ClientIds>().unwrap().allow(client_id), expected, "{rule} {client_id}");
        };
        check("d1", "d1", true);
        check("d1", "d10", false);
        check("d1-*", "d1-", true);
        check("d1-*", "d1", false);
        check("*", "anything", true);
        for bad in ["", "a*b", "**"] {
            assert_eq!(bad.parse::<ClientIds>(), Err(BadClientIds), "{bad}");
        }
    }
}
