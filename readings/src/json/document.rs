//! A scanned document: a flat list of values, each knowing its place in the text and where its successor is listed.

use super::scan::Scanner;
use super::text;
use crate::flaw::Flaw;
use std::borrow::Cow;

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Null,
    True,
    False,
    Number,
    /// Text without escapes: what stands between the quotes is the text.
    Text,
    /// Text with escapes.
    Escaped,
    Array,
    Object,
}

/// One value. Values of an array follow it; an object is followed by key, value, key, value.
#[derive(Debug, Clone, Copy)]
pub(super) struct Node {
    pub(super) kind: Kind,
    pub(super) start: u32,
    pub(super) end: u32,
    /// The list's index behind this value and all that is in it.
    pub(super) next: u32,
}

/// The values of the last text that was scanned.
#[derive(Debug, Default)]
pub(crate) struct Document {
    nodes: Vec<Node>,
}

impl Document {
    /// Checks the text and lists its values; gives the outermost.
    ///
    /// # Errors
    /// The first flaw that was met: no JSON, too deep, too wide, or a key that stands twice in its object.
    pub(crate) fn scan<'a>(&'a mut self, text: &'a str) -> Result<Value<'a>, Flaw> {
        self.nodes.clear();
        Scanner::new(text, &mut self.nodes).run()?;
        Ok(Value { text, nodes: &self.nodes, index: 0 })
    }
}

/// A value of a document, with everything in it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Value<'a> {
    text: &'a str,
    nodes: &'a [Node],
    index: usize,
}

impl<'a> Value<'a> {
    pub(super) fn at(text: &'a str, nodes: &'a [Node], index: usize) -> Self {
        Self { text, nodes, index }
    }

    fn node(self) -> Node {
        self.nodes[self.index]
    }

    pub(crate) fn kind(self) -> Kind {
        self.node().kind
    }

    /// Which value of the document it is.
    pub(crate) fn index(self) -> usize {
        self.index
    }

    /// The value as it came.
    pub(crate) fn raw(self) -> &'a str {
        let node = self.node();
        &self.text[node.start as usize..node.end as usize]
    }

    /// The text that a text value (or a key) means; for any other value as it came.
    pub(crate) fn text(self) -> Cow<'a, str> {
        let raw = self.raw();
        match self.kind() {
            Kind::Text => Cow::Borrowed(&raw[1..raw.len() - 1]),
            Kind::Escaped => Cow::Owned(text::unescape(&raw[1..raw.len() - 1])),
            _ => Cow::Borrowed(raw),
        }
    }

    /// Whether an object or an array has nothing in it.
    pub(crate) fn is_empty(self) -> bool {
        self.node().next as usize == self.index + 1
    }

    /// Keys and values of an object, in order.
    pub(crate) fn members(self) -> impl Iterator<Item = (Value<'a>, Value<'a>)> {
        let end = self.node().next as usize;
        let mut at = self.index + 1;
        std::iter::from_fn(move || {
            if at >= end {
                return None;
            }
            let key = Value { index: at, ..self };
            let value = Value { index: at + 1, ..self };
            at = value.node().next as usize;
            Some((key, value))
        })
    }

    /// Values of an array, in order.
    pub(crate) fn elements(self) -> impl Iterator<Item = Value<'a>> {
        let end = self.node().next as usize;
        let mut at = self.index + 1;
        std::iter::from_fn(move || {
            if at >= end {
                return None;
            }
            let value = Value { index: at, ..self };
            at = value.node().next as usize;
            Some(value)
        })
    }

    /// The member with this key.
    pub(crate) fn member(self, name: &str) -> Option<Value<'a>> {
        self.members().find(|(key, _)| key.text() == name).map(|(_, value)| value)
    }
}
