//! The rows of a CSV file as JSON objects.

use crate::replay::bad_line::{BadLine, Place};
use crate::replay::cell::{write_cell, write_string};
use crate::replay::message::{Message, ReadLine, Reading, Rules};
use crate::replay::source::{LINE_MAX_BYTES, Text};
use csv::{ErrorKind, StringRecord};
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Reads a CSV file row by row.
pub(crate) struct Rows {
    file: Arc<PathBuf>,
    reader: csv::Reader<Bounded>,
    budget: Arc<AtomicUsize>,
    names: Vec<String>,
    /// The names as JSON, each with its colon.
    keys: Vec<Vec<u8>>,
    record: StringRecord,
}

/// Why a file cannot be read any further.
pub(crate) enum Broken {
    /// The file itself.
    Io(io::Error),
    /// Its header does not fit what is asked for.
    Header(String),
}

impl Rows {
    pub(crate) fn open(file: Arc<PathBuf>, text: Text, rules: &Rules) -> Result<Self, Broken> {
        let budget = Arc::new(AtomicUsize::new(LINE_MAX_BYTES));
        let bounded = Bounded { text, budget: Arc::clone(&budget) };
        let mut reader = csv::Reader::from_reader(bounded);
        let names: Vec<String> = match reader.headers() {
            Ok(header) => header.iter().map(str::to_owned).collect(),
            Err(error) => return Err(broken(error)),
        };
        check_header(&names, rules).map_err(Broken::Header)?;
        let keys = names.iter().map(|name| {
            let mut key = Vec::new();
            write_string(name, &mut key);
            key.push(b':');
            key
        });
        let keys = keys.collect();
        Ok(Self { file, reader, budget, names, keys, record: StringRecord::new() })
    }

    /// The next row, or why it is none; `None` at the end of the file.
    pub(crate) fn next(&mut self, rules: &Rules) -> Result<Option<ReadLine>, Broken> {
        self.budget.store(LINE_MAX_BYTES, Ordering::Relaxed);
        match self.reader.read_record(&mut self.record) {
            Ok(false) => Ok(None),
            Ok(true) => {
                let place = self.place(self.record.position());
                Ok(Some((place.clone(), self.reading(place, rules))))
            }
            Err(error) => {
                let place = self.place(error.position());
                match error.kind() {
                    ErrorKind::Utf8 { .. } => Ok(Some((place, Err(BadLine::NotUtf8)))),
                    ErrorKind::UnequalLengths { expected_len, len, .. } => {
                        let (found, expected) = (count(*len), count(*expected_len));
                        Ok(Some((place, Err(BadLine::Cells { found, expected }))))
                    }
                    _ => Err(broken(error)),
                }
            }
        }
    }

    fn place(&self, position: Option<&csv::Position>) -> Place {
        Place { file: Arc::clone(&self.file), line: position.map_or(0, csv::Position::line) }
    }

    fn reading(&self, place: Place, rules: &Rules) -> Result<Reading, BadLine> {
        let value = |name: &str| {
            let cell =
                self.names.iter().position(|known| known == name).and_then(|index| self.record.get(index))?;
            (!rules.is_missing(cell)).then_some(cell)
        };
        let topic = rules.topic(|name| value(name).map(str::to_owned))?;
        let time = rules
            .time
            .as_ref()
            .map(|rule| rule.apply(value(&rule.field)).map(|found| (rule, found)))
            .transpose()?;
        let shifted = time
            .as_ref()
            .and_then(|(rule, (_, text))| text.as_deref().map(|text| (rule.field.as_str(), text)));
        let mut json = vec![b'{'];
        for ((name, key), cell) in self.names.iter().zip(&self.keys).zip(&self.record) {
            let missing = rules.is_missing(cell);
            if missing && !rules.writes_null() {
                continue;
            }
            if json.len() > 1 {
                json.push(b',');
            }
            json.extend_from_slice(key);
            match shifted {
                _ if missing => json.extend_from_slice(b"null"),
                Some((field, text)) if field == name => write_cell(text, &mut json),
                _ => write_cell(cell, &mut json),
            }
        }
        json.push(b'}');
        let message = Message { topic, payload: json.into(), place };
        Ok(Reading { message, time: time.map(|(_, (time, _))| time) })
    }
}

fn count(cells: u64) -> usize {
    usize::try_from(cells).unwrap_or(usize::MAX)
}

fn broken(error: csv::Error) -> Broken {
    match error.into_kind() {
        ErrorKind::Io(source) => Broken::Io(source),
        other => Broken::Header(format!("{other:?}")),
    }
}

fn check_header(names: &[String], rules: &Rules) -> Result<(), String> {
    if let Some((index, name)) = names
        .iter()
        .enumerate()
        .find(|(index, name)| names.iter().take(*index).any(|earlier| earlier == *name))
    {
        return Err(format!("the name {name:?} stands twice, the second time in column {}", index + 1));
    }
    let mut needed = rules.topic.fields().chain(rules.time.as_ref().map(|rule| rule.field.as_str()));
    match needed.find(|field| !names.iter().any(|name| name == field)) {
        Some(field) => Err(format!("there is no column {field:?}; there are {}", names.join(", "))),
        None => Ok(()),
    }
}

/// Lets a row read only so much, so that a quote that is never closed does not fill the memory with the rest of the file.
struct Bounded {
    text: Text,
    /// Bytes that the current row may still read; set anew by [`Rows::next`].
    budget: Arc<AtomicUsize>,
}

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.budget.load(Ordering::Relaxed);
        if left == 0 {
            let message = format!("a row is longer than {LINE_MAX_BYTES} bytes; a quote may be left open");
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        let bound = left.min(buffer.len());
        let read = self.text.read(buffer.get_mut(..bound).unwrap_or_default())?;
        self.budget.store(left - read, Ordering::Relaxed);
        Ok(read)
    }
}
