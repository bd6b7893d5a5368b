//! The lines of an NDJSON file, byte for byte.

use crate::replay::bad_line::{BadLine, Place};
use crate::replay::json_field::{find, scalar};
use crate::replay::message::{Message, ReadLine, Reading, Rules};
use crate::replay::source::{LINE_MAX_BYTES, RawLine, Text, read_line};
use bytes::Bytes;
use serde::de::IgnoredAny;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// Reads an NDJSON file line by line.
pub(crate) struct Lines {
    file: Arc<PathBuf>,
    text: Text,
    line: Vec<u8>,
    number: u64,
}

impl Lines {
    pub(crate) fn new(file: Arc<PathBuf>, text: Text) -> Self {
        Self { file, text, line: Vec::new(), number: 0 }
    }

    /// The next line that is not blank, or why it cannot be published; `None` at the end of the file.
    pub(crate) fn next(&mut self, rules: &Rules) -> io::Result<Option<ReadLine>> {
        loop {
            let raw = read_line(&mut self.text, &mut self.line)?;
            self.number += 1;
            let place = Place { file: Arc::clone(&self.file), line: self.number };
            match raw {
                RawLine::End => return Ok(None),
                RawLine::TooLong => return Ok(Some((place, Err(BadLine::TooLong(LINE_MAX_BYTES))))),
                RawLine::Line if self.line.trim_ascii().is_empty() => {}
                RawLine::Line => return Ok(Some((place.clone(), reading(&self.line, place, rules)))),
            }
        }
    }
}

fn reading(line: &[u8], place: Place, rules: &Rules) -> Result<Reading, BadLine> {
    // `Utf8Error` says where, but for a person the line's number is enough.
    let Ok(text) = str::from_utf8(line) else { return Err(BadLine::NotUtf8) };
    serde_json::from_str::<IgnoredAny>(text).map_err(|error| BadLine::NotJson(error.to_string()))?;
    let topic = rules.topic(|field| text.get(find(text, field)?).and_then(scalar))?;
    let Some(rule) = &rules.time else {
        return Ok(Reading {
            message: Message { topic, payload: Bytes::copy_from_slice(line), place },
            time: None,
        });
    };
    let span = find(text, &rule.field);
    let written = span.clone().and_then(|span| text.get(span)).unwrap_or_default();
    let (time, shifted) = rule.apply(scalar(written).as_deref())?;
    let payload = match (shifted, span) {
        (Some(shifted), Some(span)) => splice(text, span, &shifted),
        _ => Bytes::copy_from_slice(line),
    };
    Ok(Reading { message: Message { topic, payload, place }, time: Some(time) })
}

/// The line with another event time. A time needs no escapes, so it only keeps its quotes if it had them.
fn splice(text: &str, span: std::ops::Range<usize>, shifted: &str) -> Bytes {
    let quote =
        if text.get(span.clone()).is_some_and(|written| written.starts_with('"')) { "\"" } else { "" };
    let (before, behind) =
        (text.get(..span.start).unwrap_or_default(), text.get(span.end..).unwrap_or_default());
    Bytes::from([before, quote, shifted, quote, behind].concat())
}
