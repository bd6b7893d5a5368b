//! What `like` asks, as regular expressions: `%` stands for any text, `_` for any character, and a backslash takes the next character as it is.

use super::written;
use datafusion::logical_expr::{Like, Operator};
use regex_syntax::escape_into;

/// Bytes of a pattern that is left to the engine.
const PATTERN_BYTES_EASY: usize = 256;

/// How many `_` it may have behind a `%`: each may double what a search has to tell apart.
const ANY_EASY: usize = 8;

/// Whether the engine knows it, too: it has no other character to escape with.
pub(super) fn is_understood(like: &Like) -> bool {
    matches!(like.escape_char, None | Some('\\'))
}

/// Whether a pattern is written out, and the engine goes through any text in few states for it. From such a one the engine also knows which files to leave alone.
pub(super) fn is_easy(like: &Like) -> bool {
    let Some(pattern) = written(&like.pattern) else { return false };
    let behind = pattern.split_once('%').map_or("", |(_, behind)| behind);
    let is_short = pattern.len() <= PATTERN_BYTES_EASY && behind.matches('_').count() <= ANY_EASY;
    is_short || (!like.case_insensitive && Plain::of(pattern).is_some())
}

/// Whether the engine could try it on constants while it optimises: neither text nor pattern comes from a table.
pub(super) fn is_constant(like: &Like) -> bool {
    like.expr.column_refs().is_empty() && like.pattern.column_refs().is_empty()
}

/// A pattern that asks for one text alone: as a whole, or where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plain<'a> {
    wanted: &'a str,
    /// Whether any text may stand before it, and behind it.
    gaps: (bool, bool),
}

impl<'a> Plain<'a> {
    pub(super) fn of(pattern: &'a str) -> Option<Self> {
        let behind = pattern.trim_start_matches('%');
        let wanted = behind.trim_end_matches('%');
        let gaps = (behind.len() < pattern.len(), wanted.len() < behind.len());
        (!wanted.contains(['%', '_', '\\'])).then_some(Self { wanted, gaps })
    }

    /// Bytes of the text that is wanted.
    pub(super) fn len(self) -> usize {
        self.wanted.len()
    }

    pub(super) fn matches(self, text: &str) -> bool {
        match self.gaps {
            (false, false) => text == self.wanted,
            (false, true) => text.starts_with(self.wanted),
            (true, false) => text.ends_with(self.wanted),
            (true, true) => text.contains(self.wanted),
        }
    }
}

/// The operator that asks the same.
pub(super) fn operator(like: &Like) -> Operator {
    match (like.case_insensitive, like.negated) {
        (false, false) => Operator::LikeMatch,
        (false, true) => Operator::NotLikeMatch,
        (true, false) => Operator::ILikeMatch,
        (true, true) => Operator::NotILikeMatch,
    }
}

/// The regular expression that matches what the pattern does. Where any text may come first or last, it is not looked at; a backslash at the end stands for itself.
pub(super) fn regular(pattern: &str, flags: &str) -> String {
    let mut regular = format!("(?{flags})");
    let rest = pattern.trim_start_matches('%');
    if rest == pattern {
        regular.push('^');
    }
    let mut chars = rest.chars();
    let mut gap = false;
    while let Some(next) = chars.next() {
        if next == '%' {
            gap = true;
            continue;
        }
        if gap {
            regular.push_str(".*");
            gap = false;
        }
        match next {
            '_' => regular.push('.'),
            '\\' => push_literal(chars.next().unwrap_or('\\'), &mut regular),
            next => push_literal(next, &mut regular),
        }
    }
    if !gap {
        regular.push('$');
    }
    regular
}

fn push_literal(literal: char, regular: &mut String) {
    escape_into(literal.encode_utf8(&mut [0; 4]), regular);
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{BooleanArray, Scalar, StringArray};
    use arrow::compute::kernels::comparison::{ilike, like};
    use datafusion::prelude::{Expr, col, lit};
    use proptest::prelude::*;
    use regex_automata::meta::Regex;

    proptest! {
        /// Against what the engine finds.
        #[test]
        fn it_matches_what_the_engine_does(
            pattern in r"[%_\\aAä.*)\n]{0,8}",
            text in r"[%_\\aAÄ.*)\n]{0,8}",
        ) {
            let texts = StringArray::from(vec![text.as_str()]);
            let patterns = Scalar::new(StringArray::from(vec![pattern.as_str()]));
            for (flags, engines) in [("s", like(&texts, &patterns)), ("si", ilike(&texts, &patterns))] {
                let ours = Regex::new(&regular(&pattern, flags)).unwrap().is_match(&text);
                prop_assert_eq!(BooleanArray::from(vec![ours]), engines.unwrap(), "{} {}", pattern, flags);
            }
        }

        #[test]
        fn a_plain_pattern_matches_what_the_engine_does(pattern in "%{0,2}[aä]{0,2}%{0,2}", text in "[aä]{0,4}") {
            let engines = like(&StringArray::from(vec![text.as_str()]), &Scalar::new(StringArray::from(vec![pattern.as_str()])));
            let ours = Plain::of(&pattern).unwrap().matches(&text);
            prop_assert_eq!(BooleanArray::from(vec![ours]), engines.unwrap(), "{}", pattern);
        }
    }

    #[test]
    fn what_is_gone_through_in_few_states_is_left_to_the_engine() {
        let ask = |pattern: Expr, ignores_case| {
            Like::new(false, Box::new(col("s")), Box::new(pattern), None, ignores_case)
        };
        let is_left = |pattern: &str| is_easy(&ask(lit(pattern), false));
        assert!(is_left("truck_1%") && is_left("plant_a%_temp") && is_left(&"_".repeat(256)));
        assert!(is_left(&format!("%{}%", "a".repeat(1000))));
        assert!(!is_left("%a_________") && !is_left(&"_".repeat(257)));
        assert!(!is_easy(&ask(lit("a".repeat(257)), true)) && !is_easy(&ask(col("pattern"), false)));
    }

    #[test]
    fn a_plain_pattern_has_wildcards_at_its_ends_alone() {
        assert!(["", "a", "%a", "a%", "%%a%", "%"].iter().all(|pattern| Plain::of(pattern).is_some()));
        assert!(["a%b", "_", "%_", "\\%"].iter().all(|pattern| Plain::of(pattern).is_none()));
    }
}
