//! A spot in a text of SQL.

use datafusion::common::Span as EngineSpan;
use sqlparser::tokenizer::Span as ParserSpan;
use std::ops::Range;

/// A spot in a text. Lines and columns count from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Line and column of the first character.
    pub start: (u64, u64),
    /// Line and column behind the last one.
    pub end: (u64, u64),
}

impl Place {
    /// One character.
    pub(crate) fn at(line: u64, column: u64) -> Self {
        Self::spanning(line, column, 1)
    }

    pub(crate) fn spanning(line: u64, column: u64, length: u64) -> Self {
        Self { start: (line, column), end: (line, column + length) }
    }

    /// `None` where the parser did not know.
    pub(crate) fn of_span(span: ParserSpan) -> Option<Self> {
        EngineSpan::try_from_sqlparser_span(span).map(Self::from)
    }

    /// Where it begins as an offset in bytes; the end of the text when it lies behind.
    pub(crate) fn offset_in(self, text: &str) -> usize {
        offset(text, self.start)
    }

    /// The bytes it covers: at least one character, unless it lies at the end.
    pub(crate) fn range_in(self, text: &str) -> Range<usize> {
        let begin = offset(text, self.start);
        let least = text[begin..].chars().next().map_or(begin, |c| begin + c.len_utf8());
        begin..offset(text, self.end).max(least)
    }

    pub(crate) fn text_in(self, text: &str) -> &str {
        &text[self.range_in(text)]
    }

    /// The place of the first occurrence of a word that stands alone, whatever its case.
    pub(crate) fn of_word(text: &str, word: &str) -> Option<Self> {
        let alone = |c: Option<char>| !c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        let haystack = text.to_ascii_lowercase();
        let found = haystack.match_indices(&word.to_ascii_lowercase()).map(|(at, _)| at).find(|&at| {
            alone(text[..at].chars().next_back()) && alone(text[at + word.len()..].chars().next())
        })?;
        let line = text[..found].matches('\n').count() as u64 + 1;
        let column = text[..found].chars().rev().take_while(|&c| c != '\n').count() as u64 + 1;
        Some(Self::spanning(line, column, word.chars().count() as u64))
    }

    /// The same place counted from before a text that stands at `line` and `column` of a longer one.
    pub(crate) fn moved_behind(self, line: u64, column: u64) -> Self {
        let moved = |(at_line, at_column): (u64, u64)| {
            let shift = if at_line == 1 { column - 1 } else { 0 };
            (at_line + line - 1, at_column + shift)
        };
        Self { start: moved(self.start), end: moved(self.end) }
    }
}

impl From<EngineSpan> for Place {
    fn from(span: EngineSpan) -> Self {
        Self { start: (span.start.line, span.start.column), end: (span.end.line, span.end.column) }
    }
}

fn offset(text: &str, (line, column): (u64, u64)) -> usize {
    let before: usize = text.split_inclusive('\n').take(line.saturating_sub(1) as usize).map(str::len).sum();
    let rest = &text[before..];
    let skipped: usize = rest
        .chars()
        .take_while(|&c| c != '\n')
        .take(column.saturating_sub(1) as usize)
        .map(char::len_utf8)
        .sum();
    before + skipped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_found_in_bytes() {
        let text = "sélect\n  ü + 1";
        let check = |place: Place, expected: &str| assert_eq!(place.text_in(text), expected, "{place:?}");
        check(Place::spanning(1, 1, 6), "sélect");
        check(Place::at(2, 3), "ü");
        check(Place::at(2, 5), "+");
        check(Place::at(9, 9), "");
        check(Place::spanning(2, 7, 100), "1");
    }

    #[test]
    fn a_word_is_found_where_it_stands_alone() {
        let check = |word: &str, expected: Option<(u64, u64)>| {
            assert_eq!(
                Place::of_word("select summer,\n sum(x)", word).map(|place| place.start),
                expected,
                "{word}"
            );
        };
        check("SUM", Some((2, 2)));
        check("summer", Some((1, 8)));
        check("su", None);
    }

    #[test]
    fn a_place_in_a_piece_is_a_place_in_the_whole() {
        let check =
            |line, column, expected| assert_eq!(Place::at(line, column).moved_behind(3, 5).start, expected);
        check(1, 1, (3, 5));
        check(1, 4, (3, 8));
        check(2, 4, (4, 4));
    }
}
