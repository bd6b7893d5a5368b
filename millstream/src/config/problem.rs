//! What is wrong with a configuration: which key, where it stands, what would be right.

use super::secret::covered;
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use std::fmt;
use std::ops::Range;
use toml_edit::{Document, Item};

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// The key, dotted, as in `stream[0].topic`.
    pub(crate) key: String,
    /// What is wrong.
    pub(crate) what: String,
    /// What would be right.
    pub(crate) hint: Option<String>,
    /// Bytes of the file that it is about; `None` where the value came from the environment.
    pub(crate) span: Option<Range<usize>>,
}

impl Problem {
    /// A problem at a key; its place is found later.
    pub(crate) fn new(key: impl Into<String>, what: impl fmt::Display) -> Self {
        Self { key: key.into(), what: what.to_string(), hint: None, span: None }
    }

    /// The same with advice.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same at the place of its key in a file.
    pub(crate) fn locate(mut self, file: &Document<String>) -> Self {
        if self.span.is_none() {
            self.span = span_of(file, &self.key);
        }
        self
    }

    /// Line and column, from 1.
    pub(crate) fn place(&self, text: &str) -> Option<(usize, usize)> {
        let before = text.get(..self.span.as_ref()?.start)?;
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Some((line, column))
    }

    /// As a person reads it, with the place in the file under it, where secrets are covered.
    pub(crate) fn render(&self, name: &str, text: &str, weight: Weight, color: bool) -> String {
        let title = self.to_string();
        let level = match weight {
            Weight::Error => Level::ERROR,
            Weight::Warning => Level::WARNING,
        };
        let text = &covered(text);
        let mut group = Group::with_title(level.primary_title(&title));
        if let Some(span) = self.span.clone() {
            let annotation = AnnotationKind::Primary.span(span);
            group = group.element(Snippet::source(text).path(name).annotation(annotation));
        }
        if let Some(hint) = &self.hint {
            group = group.element(Level::HELP.message(hint));
        }
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        renderer.render(&[group])
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key.is_empty() { f.write_str(&self.what) } else { write!(f, "`{}`: {}", self.key, self.what) }
    }
}

/// How much a problem weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weight {
    /// The configuration cannot be used.
    Error,
    /// It works, and may not be what was wanted.
    Warning,
}

/// The bytes of the value at a dotted key, or of the nearest table around it.
fn span_of(file: &Document<String>, key: &str) -> Option<Range<usize>> {
    let mut item: &Item = file.as_item();
    let mut span = None;
    for part in key.split('.').flat_map(split_index) {
        let inner = match part {
            Part::Name(name) => item.get(name),
            Part::Index(index) => item.get(index),
        };
        let Some(inner) = inner else { break };
        item = inner;
        span = item.span().or(span);
    }
    span
}

enum Part<'k> {
    Name(&'k str),
    Index(usize),
}

/// `stream[0]` is a name and an index.
fn split_index(part: &str) -> Vec<Part<'_>> {
    match part.strip_suffix(']').and_then(|rest| rest.split_once('[')) {
        Some((name, index)) => {
            let index = index.parse().map(Part::Index);
            let mut parts = if name.is_empty() { Vec::new() } else { vec![Part::Name(name)] };
            parts.extend(index);
            parts
        }
        None => vec![Part::Name(part)],
    }
}
