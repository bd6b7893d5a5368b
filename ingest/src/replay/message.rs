//! From a line's fields to the message that is published.

use crate::replay::bad_line::{BadLine, Place};
use crate::replay::event_time;
use crate::replay::settings::{Input, Rebase, WriteMissing};
use crate::replay::template::TopicTemplate;
use bytes::Bytes;
use millstream_model::stream::TimeUnit;
use millstream_model::time::Micros;
use millstream_model::topic::check_publishable;
use std::sync::Arc;

/// What is published, and the line that it was made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The MQTT topic.
    pub topic: Arc<str>,
    /// The payload.
    pub payload: Bytes,
    /// Where it stands in the files.
    pub place: Place,
}

/// A message with the event time that paces it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) message: Message,
    /// After the shift. `None` where the settings need no event time.
    pub(crate) time: Option<Micros>,
}

/// Where a line stands, and what became of it.
pub(crate) type ReadLine = (Place, Result<Reading, BadLine>);

/// How lines become messages: the same for all files.
#[derive(Debug)]
pub(crate) struct Rules {
    pub(crate) topic: TopicTemplate,
    /// `None` where nothing depends on the event time.
    pub(crate) time: Option<TimeRule>,
    missing: Vec<String>,
    write_missing: WriteMissing,
}

#[derive(Debug)]
pub(crate) struct TimeRule {
    pub(crate) field: String,
    unit: TimeUnit,
    shift_hours: i64,
}

impl Rules {
    /// The rules for these settings, with a shift that was found by a first pass.
    pub(crate) fn new(input: &Input, has_speed: bool, shift_hours: i64) -> Self {
        let needed = has_speed || input.rebase != Rebase::AsRecorded;
        let field = input.time_field.clone().filter(|_| needed);
        Self {
            topic: input.topic.clone(),
            time: field.map(|field| TimeRule { field, unit: input.time_unit, shift_hours }),
            missing: input.missing.clone(),
            write_missing: input.write_missing,
        }
    }

    pub(crate) fn is_missing(&self, cell: &str) -> bool {
        self.missing.iter().any(|missing| missing == cell)
    }

    pub(crate) fn writes_null(&self) -> bool {
        self.write_missing == WriteMissing::Null
    }

    /// The topic for the fields' values.
    pub(crate) fn topic(&self, value: impl FnMut(&str) -> Option<String>) -> Result<Arc<str>, BadLine> {
        let topic = self.topic.fill(value).map_err(|field| BadLine::NoTopicField(field.to_owned()))?;
        check_publishable(&topic).map_err(BadLine::BadTopic)?;
        Ok(topic.into())
    }
}

impl TimeRule {
    /// The event time, and its text where a shift changes it.
    pub(crate) fn apply(&self, text: Option<&str>) -> Result<(Micros, Option<String>), BadLine> {
        let text = text.ok_or_else(|| BadLine::NoTime(self.field.clone()))?;
        let not_a_time = || BadLine::NotATime(text.to_owned());
        if self.shift_hours == 0 {
            return event_time::parse(text, self.unit).map(|time| (time, None)).ok_or_else(not_a_time);
        }
        let shifted = event_time::shift(text, self.unit, self.shift_hours).ok_or_else(not_a_time)?;
        let time = event_time::parse(&shifted, self.unit).ok_or_else(not_a_time)?;
        Ok((time, Some(shifted)))
    }
}
