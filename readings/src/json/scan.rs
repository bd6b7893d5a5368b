//! The scanner: one pass over the bytes, no recursion.

use super::document::{Kind, Node, Value};
use super::text::hex;
use super::{DEPTH_MAX, FIELDS_MAX};
use crate::flaw::{Flaw, quote};
use millstream_model::quarantine::Reason;

/// Up to this many keys each is compared with each; beyond, they are sorted (not hashed: nobody can choose keys that make a sort slow).
const PAIRWISE_MAX: usize = 12;

/// What may stand next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expect {
    Value,
    ValueOrEnd,
    KeyOrEnd,
    Key,
    CommaOrEnd,
}

#[derive(Debug)]
pub(super) struct Scanner<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    nodes: &'a mut Vec<Node>,
    /// The objects and arrays that are open, the outermost first: indexes of `nodes`.
    open: [u32; DEPTH_MAX],
    depth: usize,
    fields: usize,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a str, nodes: &'a mut Vec<Node>) -> Self {
        Self { text, bytes: text.as_bytes(), at: 0, nodes, open: [0; DEPTH_MAX], depth: 0, fields: 0 }
    }

    pub(super) fn run(mut self) -> Result<(), Flaw> {
        if u32::try_from(self.bytes.len()).is_err() {
            return Err(Flaw::new(Reason::TooLarge, format!("the payload has {} bytes", self.bytes.len())));
        }
        let mut expect = Expect::Value;
        loop {
            self.skip_whitespace();
            expect = match (expect, self.peek()) {
                (Expect::ValueOrEnd, Some(b']')) | (Expect::KeyOrEnd, Some(b'}')) => self.close()?,
                (Expect::Value | Expect::ValueOrEnd, _) => self.value()?,
                (Expect::Key | Expect::KeyOrEnd, _) => self.key()?,
                (Expect::CommaOrEnd, byte) => match (self.container(), byte) {
                    (None, None) => return Ok(()),
                    (None, Some(_)) => return Err(self.unexpected("the end")),
                    (Some(Kind::Object), Some(b',')) => self.step(Expect::Key),
                    (Some(_), Some(b',')) => self.step(Expect::Value),
                    (Some(Kind::Object), Some(b'}')) | (Some(Kind::Array), Some(b']')) => self.close()?,
                    (Some(Kind::Object), _) => return Err(self.unexpected("`,` or `}`")),
                    (Some(_), _) => return Err(self.unexpected("`,` or `]`")),
                },
            };
        }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn step(&mut self, expect: Expect) -> Expect {
        self.at += 1;
        expect
    }

    fn skip_whitespace(&mut self) {
        while let Some(b' ' | b'\n' | b'\t' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    fn container(&self) -> Option<Kind> {
        let innermost = self.depth.checked_sub(1)?;
        Some(self.nodes[self.open[innermost] as usize].kind)
    }

    fn not_json(&self, what: &str) -> Flaw {
        Flaw::new(Reason::NotJson, format!("{what} at byte {}", self.at))
    }

    fn unexpected(&self, wanted: &str) -> Flaw {
        match self.text.get(self.at..).and_then(|rest| rest.chars().next()) {
            Some(found) => self.not_json(&format!("found {found:?} instead of {wanted}")),
            None => self.not_json(&format!("it ends instead of {wanted}")),
        }
    }

    /// Lists a value that was passed.
    fn list(&mut self, kind: Kind, start: usize) {
        let next = self.nodes.len() + 1;
        self.nodes.push(Node { kind, start: start as u32, end: self.at as u32, next: next as u32 });
    }

    fn value(&mut self) -> Result<Expect, Flaw> {
        let start = self.at;
        // Fields are counted by reading: every element of the outermost array is one.
        if self.depth == 1 && self.nodes[0].kind == Kind::Array {
            self.fields = 0;
        }
        let kind = match self.peek() {
            Some(b'{') => return self.open(Kind::Object, Expect::KeyOrEnd),
            Some(b'[') => return self.open(Kind::Array, Expect::ValueOrEnd),
            Some(b'"') => self.text()?,
            Some(b'-' | b'0'..=b'9') => self.number()?,
            Some(b't') => self.word("true", Kind::True)?,
            Some(b'f') => self.word("false", Kind::False)?,
            Some(b'n') => self.word("null", Kind::Null)?,
            _ => return Err(self.unexpected("a value")),
        };
        self.list(kind, start);
        Ok(Expect::CommaOrEnd)
    }

    fn open(&mut self, kind: Kind, expect: Expect) -> Result<Expect, Flaw> {
        if self.depth == DEPTH_MAX {
            return Err(Flaw::new(
                Reason::TooDeep,
                format!("nested deeper than {DEPTH_MAX} at byte {}", self.at),
            ));
        }
        self.open[self.depth] = self.nodes.len() as u32;
        self.depth += 1;
        self.list(kind, self.at);
        self.at += 1;
        Ok(expect)
    }

    fn close(&mut self) -> Result<Expect, Flaw> {
        self.at += 1;
        self.depth -= 1;
        let index = self.open[self.depth] as usize;
        let next = self.nodes.len() as u32;
        let node = &mut self.nodes[index];
        node.end = self.at as u32;
        node.next = next;
        if node.kind == Kind::Object {
            check_keys(Value::at(self.text, self.nodes, index))?;
        }
        Ok(Expect::CommaOrEnd)
    }

    fn key(&mut self) -> Result<Expect, Flaw> {
        let start = self.at;
        if self.peek() != Some(b'"') {
            return Err(self.unexpected("a key"));
        }
        self.fields += 1;
        if self.fields > FIELDS_MAX {
            return Err(Flaw::new(
                Reason::TooWide,
                format!("more than {FIELDS_MAX} fields at byte {}", self.at),
            ));
        }
        let kind = self.text()?;
        self.list(kind, start);
        self.skip_whitespace();
        if self.peek() != Some(b':') {
            return Err(self.unexpected("`:`"));
        }
        Ok(self.step(Expect::Value))
    }

    fn word(&mut self, word: &str, kind: Kind) -> Result<Kind, Flaw> {
        if !self.bytes[self.at..].starts_with(word.as_bytes()) {
            return Err(self.unexpected("a value"));
        }
        self.at += word.len();
        Ok(kind)
    }

    fn text(&mut self) -> Result<Kind, Flaw> {
        self.at += 1;
        let mut kind = Kind::Text;
        loop {
            let plain =
                self.bytes[self.at..].iter().position(|&byte| byte < b' ' || byte == b'"' || byte == b'\\');
            self.at += plain.unwrap_or(self.bytes.len() - self.at);
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(kind);
                }
                Some(b'\\') => {
                    kind = Kind::Escaped;
                    self.escape()?;
                }
                Some(_) => return Err(self.not_json("a bare control character in text")),
                None => return Err(self.not_json("text without an end")),
            }
        }
    }

    fn escape(&mut self) -> Result<(), Flaw> {
        match self.bytes.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 2;
                Ok(())
            }
            Some(b'u') => self.code_point(),
            _ => Err(self.not_json("an escape that does not exist")),
        }
    }

    fn code_point(&mut self) -> Result<(), Flaw> {
        let Some(first) = hex(self.bytes, self.at + 2) else {
            return Err(self.not_json("an escape without four hexadecimal digits"));
        };
        let follows = match first {
            0xd800..=0xdbff => {
                let escaped = self.bytes[self.at + 6..].starts_with(b"\\u");
                let second = if escaped { hex(self.bytes, self.at + 8) } else { None };
                matches!(second, Some(0xdc00..=0xdfff)).then_some(12)
            }
            0xdc00..=0xdfff => None,
            _ => Some(6),
        };
        self.at += follows.ok_or_else(|| self.not_json("a lone surrogate"))?;
        Ok(())
    }

    fn number(&mut self) -> Result<Kind, Flaw> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(Kind::Number)
    }

    fn digits(&mut self) -> Result<(), Flaw> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        if self.at == start { Err(self.unexpected("a digit")) } else { Ok(()) }
    }
}

/// No key may stand twice in an object, however it is written.
fn check_keys(object: Value<'_>) -> Result<(), Flaw> {
    let keys = || object.members().map(|(key, _)| key);
    let count = keys().take(PAIRWISE_MAX + 1).count();
    if count <= PAIRWISE_MAX && keys().all(|key| key.kind() == Kind::Text) {
        let twice =
            keys().enumerate().find(|(place, key)| keys().take(*place).any(|other| other.raw() == key.raw()));
        return twice.map_or(Ok(()), |(_, key)| Err(duplicate(&key.text())));
    }
    let mut texts: Vec<_> = keys().map(Value::text).collect();
    texts.sort_unstable();
    let twice = texts.windows(2).find(|pair| pair[0] == pair[1]);
    twice.map_or(Ok(()), |pair| Err(duplicate(&pair[0])))
}

fn duplicate(key: &str) -> Flaw {
    Flaw::new(Reason::DuplicateKey, format!("the key {:?} stands twice in one object", quote(key)))
}
