//! What fits no column, as it came: the text of the column `_extra`.

use crate::json::Value;

/// Builds the reading's own object again, with nothing in it but what found no column.
///
/// Nested objects stay nested and every value keeps its bytes: `{"a":{"b":1e400}}` gives `{"a":{"b":1e400}}`. So two fields never meet in one key, even where
/// their flattened names do. Members must come in the order of the reading.
#[derive(Debug, Default)]
pub(crate) struct Extra {
    text: String,
    /// The keys of the objects that are open in `text`, by their place in the document.
    open: Vec<usize>,
}

impl Extra {
    /// Forgets the reading before.
    pub(crate) fn begin(&mut self) {
        self.text.clear();
        self.open.clear();
    }

    /// Keeps a member of the object that is reached by the keys of `path`.
    pub(crate) fn keep(&mut self, path: &[Value<'_>], key: Value<'_>, value: Value<'_>) {
        if self.text.is_empty() {
            self.text.push('{');
        }
        let common = self.open.iter().zip(path).take_while(|(open, key)| **open == key.index()).count();
        for _ in common..self.open.len() {
            self.text.push('}');
        }
        self.open.truncate(common);
        for outer in &path[common..] {
            self.member(outer.raw());
            self.text.push('{');
            self.open.push(outer.index());
        }
        self.member(key.raw());
        self.text.push_str(value.raw());
    }

    /// Keeps a bare value that has no key of its own.
    pub(crate) fn keep_bare(&mut self, name: &str, value: Value<'_>) {
        self.text.push_str("{\"");
        self.text.push_str(name);
        self.text.push_str("\":");
        self.text.push_str(value.raw());
    }

    fn member(&mut self, raw_key: &str) {
        if !self.text.ends_with('{') {
            self.text.push(',');
        }
        self.text.push_str(raw_key);
        self.text.push(':');
    }

    /// The object; `None` if everything fitted.
    pub(crate) fn finish(&mut self) -> Option<&str> {
        if self.text.is_empty() {
            return None;
        }
        for _ in 0..=self.open.len() {
            self.text.push('}');
        }
        self.open.clear();
        Some(&self.text)
    }
}
