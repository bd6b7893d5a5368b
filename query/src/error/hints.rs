//! Guesses at what was meant.

use super::{Place, QueryError, QueryErrorKind};
use datafusion::common::Column;
use datafusion::common::utils::datafusion_strsim::levenshtein;

/// Names that a hint lists at most: more is not read.
const NAMES_LISTED: usize = 20;

/// A table that is not there, with those that are.
pub(crate) fn unknown_table(name: &str, place: Option<Place>, known: &[String]) -> QueryError {
    let error = QueryError::new(QueryErrorKind::UnknownTable, format!("no table is named {name}"))
        .at(place, "not found");
    if known.is_empty() {
        return error.hint("there is no table yet; a stream's table appears with its first reading");
    }
    let bare = name.rsplit('.').next().unwrap_or(name);
    let error = match nearest(bare, known.iter().map(|known| known.rsplit('.').next().unwrap_or(known))) {
        Some(near) => {
            let full = known
                .iter()
                .find(|known| known.rsplit('.').next() == Some(near))
                .map_or(near, String::as_str);
            error.hint(format!("did you mean {full}?"))
        }
        None => error,
    };
    error.hint(format!("tables: {}", listed(known.iter().map(String::as_str))))
}

/// A column that is not there.
pub(super) fn unknown_column(
    column: &Column,
    valid: &[Column],
    place: Option<Place>,
    sql: &str,
) -> QueryError {
    let wanted = column.name.as_str();
    let error =
        QueryError::new(QueryErrorKind::UnknownColumn, format!("no column is named {}", quoted(wanted)))
            .at(place, "not found");
    let mut names: Vec<&str> = valid.iter().map(|column| column.name.as_str()).collect();
    names.dedup();
    let error = match nearest(wanted, names.iter().copied()) {
        Some(near) if quoted(near) != near => error.hint(format!(
            "did you mean {}? A name with capitals, dots or blanks stands in double quotes",
            quoted(near)
        )),
        Some(near) => error.hint(format!("did you mean {near}?")),
        None if place.is_some_and(|place| place.text_in(sql).starts_with('"')) => {
            error.hint(format!("text stands in single quotes: '{wanted}'"))
        }
        None => error,
    };
    if names.is_empty() {
        error
    } else {
        error.hint(format!("columns: {}", listed(names.into_iter().map(quoted))))
    }
}

/// A function that is not there. The engine always proposes one, near or not.
pub(super) fn unknown_function(name: &str, proposed: Option<&str>, place: Option<Place>) -> QueryError {
    let error = QueryError::new(QueryErrorKind::UnknownFunction, format!("no function is named {name}"))
        .at(place, "not found");
    match nearest(name, proposed.into_iter()) {
        Some(near) => error.hint(format!("did you mean {near}?")),
        None => error.hint("SHOW FUNCTIONS lists them"),
    }
}

/// The last of a few words, or the one before it, where it is nearly but not quite a keyword that structures a query.
pub(super) fn misspelt_keyword(text: &str) -> Option<(&str, &'static str)> {
    const KEYWORDS: [&str; 8] = ["select", "from", "where", "group", "having", "order", "limit", "union"];
    let words = text.split_whitespace().rev().take(2);
    let near = |word: &str| {
        KEYWORDS
            .into_iter()
            .find(|keyword| (1..=2).contains(&levenshtein(keyword, word)) && same_letters(keyword, word))
    };
    words.filter_map(|word| near(&word.to_lowercase()).map(|keyword| (word, keyword))).next()
}

/// Whether two words differ by the order of their letters, or by one letter.
fn same_letters(one: &str, other: &str) -> bool {
    let sorted = |word: &str| {
        let mut letters: Vec<char> = word.chars().collect();
        letters.sort_unstable();
        letters
    };
    levenshtein(one, other) == 1 || sorted(one) == sorted(other)
}

/// The name that is meant most likely: the same but for its case, or but for few letters.
fn nearest<'a>(wanted: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = wanted.to_lowercase();
    let distance = |name: &str| {
        let name = name.to_lowercase();
        let length = name.chars().count().max(wanted.chars().count());
        // A name with a dot is read as far as the dot when its quotes were forgotten.
        let cut = name.split_once('.').is_some_and(|(head, _)| head == wanted);
        let letters = if cut { 0 } else { levenshtein(&name, &wanted) };
        (letters * 3 <= length).then_some(letters)
    };
    known
        .filter_map(|name| distance(name).map(|letters| (letters, name)))
        .min_by_key(|(letters, _)| *letters)
        .map(|(_, name)| name)
}

/// The name as it must be written.
fn quoted(name: impl AsRef<str>) -> String {
    let name = name.as_ref();
    let plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

fn listed<S: AsRef<str>>(names: impl ExactSizeIterator<Item = S>) -> String {
    let more = names.len().saturating_sub(NAMES_LISTED);
    let mut text = String::new();
    for name in names.take(NAMES_LISTED) {
        if !text.is_empty() {
            text.push_str(", ");
        }
        text.push_str(name.as_ref());
    }
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_suggested() {
        let known = ["temp", "PM2.5", "humidity"];
        let check = |wanted: &str, expected: Option<&str>| {
            assert_eq!(nearest(wanted, known.into_iter()), expected, "{wanted}")
        };
        check("tmep", None);
        check("tem", Some("temp"));
        check("TEMP", Some("temp"));
        check("pm2", Some("PM2.5"));
        check("humdity", Some("humidity"));
        check("pressure", None);
    }

    #[test]
    fn a_keyword_is_recognised_in_a_misspelt_word() {
        let check = |text: &str, expected: Option<(&str, &str)>| {
            assert_eq!(misspelt_keyword(text), expected, "{text}")
        };
        check("select a form t", Some(("form", "from")));
        check("selct a", Some(("selct", "select")));
        check("select a from t were a", Some(("were", "where")));
        check("select a from t where", None);
        check("select a b c", None);
    }

    #[test]
    fn a_name_is_quoted_where_it_must_be() {
        for (name, expected) in [
            ("temp_2", "temp_2"),
            ("PM2.5", "\"PM2.5\""),
            ("a\"b", "\"a\"\"b\""),
            ("2x", "\"2x\""),
            ("", "\"\""),
        ] {
            assert_eq!(quoted(name), expected);
        }
    }
}
