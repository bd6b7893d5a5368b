//! All messages of all files, one behind the other, and what is known of them after a first pass.

use crate::replay::bad_line::{BadLine, Place};
use crate::replay::error::ReplayError;
use crate::replay::lines::Lines;
use crate::replay::message::{Reading, Rules};
use crate::replay::rows::{Broken, Rows};
use crate::replay::settings::{Input, InputFormat, OnBadLine};
use crate::replay::source;
use millstream_model::time::Micros;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

/// What comes next.
#[derive(Debug)]
pub(crate) enum Item {
    /// A message to publish.
    Reading(Reading),
    /// A line that is none, and is to be counted.
    Bad(Place, BadLine),
}

/// Reads the files from front to back. Blocking. Ends after the first error.
pub(crate) struct Readings {
    rules: Rules,
    format: Option<InputFormat>,
    on_bad_line: OnBadLine,
    left: u64,
    files: VecDeque<Arc<PathBuf>>,
    open: Option<(Arc<PathBuf>, Body)>,
}

enum Body {
    Csv(Box<Rows>),
    Ndjson(Lines),
}

impl Readings {
    pub(crate) fn new(input: &Input, rules: Rules) -> Self {
        Self {
            rules,
            format: input.format,
            on_bad_line: input.on_bad_line,
            left: input.limit.unwrap_or(u64::MAX),
            files: input.files.iter().cloned().map(Arc::new).collect(),
            open: None,
        }
    }

    fn next_item(&mut self) -> Result<Option<Item>, ReplayError> {
        while self.left > 0 {
            let (path, mut body) = match self.open.take() {
                Some(open) => open,
                None => match self.files.pop_front() {
                    Some(path) => self.open_file(path)?,
                    None => return Ok(None),
                },
            };
            let next = match &mut body {
                Body::Csv(rows) => rows.next(&self.rules),
                Body::Ndjson(lines) => lines.next(&self.rules).map_err(Broken::Io),
            };
            let Some((place, found)) = next.map_err(|broken| say(broken, &path))? else { continue };
            self.open = Some((path, body));
            return match found {
                Ok(reading) => {
                    self.left -= 1;
                    Ok(Some(Item::Reading(reading)))
                }
                Err(source) if self.on_bad_line == OnBadLine::Fail => {
                    Err(ReplayError::BadLine { place, source })
                }
                Err(reason) => Ok(Some(Item::Bad(place, reason))),
            };
        }
        Ok(None)
    }

    fn open_file(&self, path: Arc<PathBuf>) -> Result<(Arc<PathBuf>, Body), ReplayError> {
        let (format, text) =
            source::open(&path, self.format).map_err(|error| say(Broken::Io(error), &path))?;
        let body = match format {
            InputFormat::Csv => {
                let rows =
                    Rows::open(Arc::clone(&path), text, &self.rules).map_err(|broken| say(broken, &path))?;
                Body::Csv(Box::new(rows))
            }
            InputFormat::Ndjson => Body::Ndjson(Lines::new(Arc::clone(&path), text)),
        };
        Ok((path, body))
    }
}

impl Iterator for Readings {
    type Item = Result<Item, ReplayError>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = self.next_item().transpose();
        if let Some(Err(_)) = &item {
            self.files.clear();
            self.open = None;
        }
        item
    }
}

fn say(broken: Broken, path: &Arc<PathBuf>) -> ReplayError {
    let path = path.as_ref().clone();
    match broken {
        Broken::Io(source) => ReplayError::Read { path, source },
        Broken::Header(detail) => ReplayError::Header { path, detail },
    }
}

/// What a first pass found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Survey {
    /// How many messages there are.
    pub(crate) messages: u64,
    /// The newest event time.
    pub(crate) newest: Option<Micros>,
}

impl Survey {
    /// Reads everything that would be published. `goes_on` is asked now and then, with the messages so far, whether to.
    pub(crate) fn of(
        input: &Input,
        rules: Rules,
        mut goes_on: impl FnMut(u64) -> bool,
    ) -> Result<Self, ReplayError> {
        /// Often enough for a person who waits.
        const ASK_EVERY: u64 = 1024;
        let mut survey = Self::default();
        for item in Readings::new(input, rules) {
            if let Item::Reading(reading) = item? {
                survey.messages += 1;
                survey.newest = survey.newest.max(reading.time);
            }
            if survey.messages.is_multiple_of(ASK_EVERY) && !goes_on(survey.messages) {
                break;
            }
        }
        Ok(survey)
    }
}

#[cfg(test)]
mod tests;
