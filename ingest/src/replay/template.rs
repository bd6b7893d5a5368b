//! From a record's fields to the MQTT topic that it is published to.

use millstream_model::topic::{BadTopic, check_publishable};
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// A topic with fields in braces: `devices/{origin}/telemetry`, or `{tags.name}` for a nested field of JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicTemplate {
    text: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Field(String),
}

/// Why a template was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BadTemplate {
    /// Topics have at least one character.
    #[error("a topic template cannot be empty")]
    Empty,
    /// A brace without its counterpart, or one within another.
    #[error("the braces of the topic template {0:?} do not pair up")]
    Braces(String),
    /// `{}`.
    #[error("the topic template {0:?} has a field without a name")]
    Unnamed(String),
    /// The text between the fields cannot stand in a topic.
    #[error("the topic template {template:?} cannot make a topic")]
    Topic {
        /// The template.
        template: String,
        /// What is wrong with it.
        source: BadTopic,
    },
}

impl TopicTemplate {
    /// The names of the fields, in order.
    pub fn fields(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Text(_) => None,
            Part::Field(name) => Some(name.as_str()),
        })
    }

    /// The topic for the fields' values; the name of the first field that has none otherwise.
    pub(crate) fn fill(&self, mut value: impl FnMut(&str) -> Option<String>) -> Result<String, &str> {
        let mut topic = String::with_capacity(self.text.len());
        for part in &self.parts {
            match part {
                Part::Text(text) => topic.push_str(text),
                Part::Field(name) => topic.push_str(&value(name).ok_or(name.as_str())?),
            }
        }
        Ok(topic)
    }
}

impl FromStr for TopicTemplate {
    type Err = BadTemplate;

    fn from_str(text: &str) -> Result<Self, BadTemplate> {
        if text.is_empty() {
            return Err(BadTemplate::Empty);
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(brace) = rest.find(['{', '}']) {
            let (before, from) = rest.split_at(brace);
            push_text(&mut parts, before, text)?;
            let inner = from.strip_prefix('{').ok_or_else(|| BadTemplate::Braces(text.to_owned()))?;
            let end = inner.find(['{', '}']).filter(|end| inner.as_bytes().get(*end) == Some(&b'}'));
            let (name, behind) = inner.split_at(end.ok_or_else(|| BadTemplate::Braces(text.to_owned()))?);
            if name.is_empty() {
                return Err(BadTemplate::Unnamed(text.to_owned()));
            }
            parts.push(Part::Field(name.to_owned()));
            rest = behind.strip_prefix('}').unwrap_or(behind);
        }
        push_text(&mut parts, rest, text)?;
        Ok(Self { text: text.to_owned(), parts })
    }
}

fn push_text(parts: &mut Vec<Part>, piece: &str, template: &str) -> Result<(), BadTemplate> {
    if !piece.is_empty() {
        check_publishable(piece)
            .map_err(|source| BadTemplate::Topic { template: template.to_owned(), source })?;
        parts.push(Part::Text(piece.to_owned()));
    }
    Ok(())
}

impl fmt::Display for TopicTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(template: &str, expected: Result<&str, &str>) {
        let template: TopicTemplate = template.parse().unwrap();
        let filled = template.fill(|name| match name {
            "origin" => Some("JFK".to_owned()),
            "tags.name" => Some("truck 7".to_owned()),
            "empty" => Some(String::new()),
            _ => None,
        });
        assert_eq!(filled, expected.map(str::to_owned), "{template}");
    }

    #[test]
    fn fields_become_parts_of_the_topic() {
        check("devices/{origin}/telemetry", Ok("devices/JFK/telemetry"));
        check("{tags.name}", Ok("truck 7"));
        check("a{origin}b{origin}", Ok("aJFKbJFK"));
        check("plain/topic", Ok("plain/topic"));
        check("a/{empty}/b", Ok("a//b"));
        check("a/{PM2.5}", Err("PM2.5"));
    }

    #[test]
    fn a_template_that_cannot_make_a_topic_is_refused() {
        let refused = |text: &str| text.parse::<TopicTemplate>().unwrap_err();
        assert_eq!(refused(""), BadTemplate::Empty);
        for bad in ["a/{b", "a}/b", "a/{b{c}}", "{", "}"] {
            assert_eq!(refused(bad), BadTemplate::Braces(bad.to_owned()));
        }
        assert_eq!(refused("a/{}"), BadTemplate::Unnamed("a/{}".to_owned()));
        let wildcard =
            BadTemplate::Topic { template: "a/+/{b}".to_owned(), source: BadTopic::Character('+') };
        assert_eq!(refused("a/+/{b}"), wildcard);
    }
}
