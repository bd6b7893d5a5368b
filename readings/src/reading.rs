//! One reading's fields into their columns, and what fits none into `_extra`.

use crate::extra::Extra;
use crate::fields::Fields;
use crate::flaw::{Flaw, quote};
use crate::json::{Kind, Value};
use millstream_model::quarantine::Reason;

/// The column that a bare number, boolean or text becomes.
pub(crate) const BARE: &str = "value";

/// Where a value did not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// The reserved column `ts`.
    EventTime,
    /// One of the stream's own columns.
    Own(usize),
}

/// What walks through a reading.
#[derive(Debug)]
pub(crate) struct Walk<'w, 'm> {
    pub(crate) fields: &'w mut Fields,
    pub(crate) extra: &'w mut Extra,
    pub(crate) mismatches: &'w mut Vec<(Place, Reason)>,
    /// By column, as far as there are any: whether what does not fit costs the message. Only of declared columns: they are what they are from the first message on, while
    /// what was learned depends on which message came first.
    pub(crate) strict: &'w [bool],
    /// The batch's row that the reading becomes.
    pub(crate) row: usize,
    /// The value that became `ts` or `device_id`, if a field did: they have no column of their own.
    pub(crate) consumed: [Option<usize>; 2],
    /// An event time that cannot be one; it is kept as it came.
    pub(crate) unfit_time: Option<usize>,
    /// The keys of the objects that lead here.
    pub(crate) path: Vec<Value<'m>>,
    /// Their flattened name.
    pub(crate) name: String,
    /// Fields passed so far.
    pub(crate) nth: usize,
    /// About how many bytes the values took.
    pub(crate) bytes: usize,
}

impl<'m> Walk<'_, 'm> {
    /// Goes through an object and the objects in it. The document's depth is limited, so this recursion is.
    ///
    /// # Errors
    /// A value that does not fit, where the stream or the column is strict.
    pub(crate) fn object(&mut self, object: Value<'m>) -> Result<(), Flaw> {
        for (key, value) in object.members() {
            let index = Some(value.index());
            if self.consumed.contains(&index) {
                continue;
            }
            match value.kind() {
                _ if self.unfit_time == index => {
                    self.mismatches.push((Place::EventTime, Reason::BadTime));
                    self.extra.keep(&self.path, key, value);
                }
                Kind::Null => {}
                // An object with nothing in it has no leaf that could be a column.
                Kind::Object if value.is_empty() => self.extra.keep(&self.path, key, value),
                Kind::Object => self.nested(key, value)?,
                _ => self.leaf(key, value)?,
            }
        }
        Ok(())
    }

    fn nested(&mut self, key: Value<'m>, object: Value<'m>) -> Result<(), Flaw> {
        let outer = self.name.len();
        if !self.path.is_empty() {
            self.name.push('_');
        }
        self.name.push_str(&key.text());
        self.path.push(key);
        let walked = self.object(object);
        self.path.pop();
        self.name.truncate(outer);
        walked
    }

    fn leaf(&mut self, key: Value<'m>, value: Value<'m>) -> Result<(), Flaw> {
        let text = key.text();
        let fitted = if self.path.is_empty() {
            self.fit(&text, value)?
        } else {
            let outer = self.name.len();
            let mut name = std::mem::take(&mut self.name);
            name.push('_');
            name.push_str(&text);
            let fitted = self.fit(&name, value);
            name.truncate(outer);
            self.name = name;
            fitted?
        };
        if !fitted {
            self.extra.keep(&self.path, key, value);
        }
        Ok(())
    }

    /// A message that is one bare number, boolean or text.
    ///
    /// # Errors
    /// If it does not fit, where the stream or the column is strict.
    pub(crate) fn bare(&mut self, value: Value<'m>) -> Result<(), Flaw> {
        if !self.fit(BARE, value)? {
            self.extra.keep_bare(BARE, value);
        }
        Ok(())
    }

    /// Puts a value into its column, if there is one and it fits.
    fn fit(&mut self, name: &str, value: Value<'m>) -> Result<bool, Flaw> {
        let nth = self.nth;
        self.nth += 1;
        let Some(place) = self.fields.find_or_learn(nth, name, value) else {
            return Ok(false);
        };
        if self.fields.is_claimed(place, self.row) {
            return Ok(false);
        }
        match self.fields.put(place, self.row, value) {
            Ok(bytes) => {
                self.bytes += bytes;
                Ok(true)
            }
            Err(reason) => self.misfit(place, reason, value.raw()).map(|()| false),
        }
    }

    /// The named levels of the topic, which win over fields of the same name. One that does not fit its column still stands in `_topic`.
    ///
    /// # Errors
    /// If one does not fit, where the stream or the column is strict.
    pub(crate) fn levels(&mut self, levels: &[(usize, &str)]) -> Result<(), Flaw> {
        for &(place, level) in levels {
            match self.fields.put_plain(place, self.row, level) {
                Ok(bytes) => self.bytes += bytes,
                Err(reason) => self.misfit(place, reason, level)?,
            }
        }
        Ok(())
    }

    fn misfit(&mut self, place: usize, reason: Reason, raw: &str) -> Result<(), Flaw> {
        let column = self.fields.column(place);
        if self.strict.get(place).is_some_and(|strict| *strict) {
            let detail = match reason {
                Reason::NotFinite => {
                    format!("column {}: {} is beyond what a double holds", column.name, quote(raw))
                }
                Reason::NotExact => format!("column {}: no double equals {}", column.name, quote(raw)),
                _ => format!("column {} is {}, not {}", column.name, column.kind, quote(raw)),
            };
            return Err(Flaw::new(reason, detail));
        }
        self.mismatches.push((Place::Own(place), reason));
        Ok(())
    }
}
