//! What `like` asks, as regular expressions: `%` stands for any text, `_` for any character, and a backslash takes the next character as it is.

use super::written;
use datafusion::logical_expr::{Expr, Like, Operator};
use regex_syntax::escape_into;

/// Bytes of a pattern that is left to the engine.
const PATTERN_BYTES_EASY: usize = 256;

/// How many `_` it may have behind a `%`: each may double what a search has to tell apart.
const ANY_EASY: usize = 8;

/// Whether the engine knows it, too: it has no other character to escape with.
pub(super) fn is_understood(like: &Like) -> bool {
    matches!(like.escape_char, None | Some('\\'))
}

/// Whether a pattern is written out, and goes through any text in few states. From such a one the engine also knows which files to leave alone.
pub(super) fn is_easy(pattern: &Expr) -> bool {
    let Some(pattern) = written(pattern) else { return false };
    let behind = pattern.split_once('%').map_or("", |(_, behind)| behind);
    pattern.len() <= PATTERN_BYTES_EASY && behind.matches('_').count() <= ANY_EASY
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
    use datafusion::prelude::{col, lit};
    use proptest::prelude::*;
    use regex_automata::meta::Regex;

    proptest! {
        /// Against what the engine finds.
        #[test]
        fn it_matches_what_the_engine_does(pattern in r"[%_\\aAä.*)\n]{0,8}", text in r"[%_\\aAÄ.*)\n]{0,8}") {
            let (texts, patterns) = (StringArray::from(vec![text.as_str()]), StringArray::from(vec![pattern.as_str()]));
            for (flags, engines) in [("s", like(&texts, &Scalar::new(&patterns))), ("si", ilike(&texts, &Scalar::new(&patterns)))] {
                let ours = Regex::new(&regular(&pattern, flags)).unwrap().is_match(&text);
                prop_assert_eq!(BooleanArray::from(vec![ours]), engines.unwrap(), "{} {}", pattern, flags);
            }
        }
    }

    #[test]
    fn what_goes_through_a_text_in_few_states_is_left_to_the_engine() {
        let is_left = |pattern: &str| is_easy(&lit(pattern));
        assert!(is_left("truck_1%") && is_left("plant_a%_temp") && is_left(&"_".repeat(256)));
        assert!(!is_left("%a_________") && !is_left(&"a".repeat(257)));
        assert!(!is_easy(&col("pattern")));
    }
}
