//! Finds a field in a line of JSON without building a tree, so that the line can be sent byte for byte and one value replaced in place.

use std::borrow::Cow;
use std::ops::Range;

/// Where the value of a field stands in a line that is known to be valid JSON; `None` if the line is not an object or has no such field.
///
/// The name is a key of the object, or a dotted path through nested objects; a key that has the dots in itself wins. Of keys that stand twice the last
/// one counts, as in most JSON readers.
pub(crate) fn find(line: &str, name: &str) -> Option<Range<usize>> {
    let start = skip_space(line, 0);
    find_in_object(line, start, name)
}

/// The text of a string, number or boolean; `None` for null, objects and arrays.
pub(crate) fn scalar(value: &str) -> Option<String> {
    match value.as_bytes().first()? {
        b'"' => serde_json::from_str(value).ok(),
        b'{' | b'[' | b'n' => None,
        _ => Some(value.to_owned()),
    }
}

fn find_in_object(line: &str, start: usize, name: &str) -> Option<Range<usize>> {
    let bytes = line.as_bytes();
    let mut at = (bytes.get(start) == Some(&b'{')).then_some(start + 1)?;
    let (mut exact, mut nested) = (None, None);
    loop {
        at = skip_space(line, at);
        if bytes.get(at) != Some(&b'"') {
            return exact.or(nested);
        }
        let key_end = skip_string(line, at);
        let key = decode_key(line.get(at..key_end)?)?;
        // Behind the key stands a colon, space around it.
        let value = skip_space(line, skip_space(line, key_end) + 1);
        let end = skip_value(line, value);
        if key == name {
            exact = Some(value..end);
        } else if let Some(path) = name.strip_prefix(key.as_ref()).and_then(|rest| rest.strip_prefix('.')) {
            nested = find_in_object(line, value, path).or(nested);
        }
        at = skip_space(line, end);
        if bytes.get(at) != Some(&b',') {
            return exact.or(nested);
        }
        at += 1;
    }
}

fn decode_key(quoted: &str) -> Option<Cow<'_, str>> {
    if quoted.contains('\\') {
        return serde_json::from_str(quoted).ok().map(Cow::Owned);
    }
    quoted.get(1..quoted.len().checked_sub(1)?).map(Cow::Borrowed)
}

fn skip_space(line: &str, from: usize) -> usize {
    let rest = line.as_bytes().get(from..).unwrap_or_default();
    from + rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')).count()
}

/// The end of the string that begins here.
fn skip_string(line: &str, from: usize) -> usize {
    let bytes = line.as_bytes();
    let mut at = from + 1;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// The end of the value that begins here.
fn skip_value(line: &str, from: usize) -> usize {
    let bytes = line.as_bytes();
    let (mut at, mut depth) = (from, 0_usize);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => at = skip_string(line, at),
            b'{' | b'[' => {
                depth += 1;
                at += 1;
            }
            b'}' | b']' if depth == 0 => return at,
            b'}' | b']' => {
                depth -= 1;
                at += 1;
            }
            b',' | b' ' | b'\t' | b'\n' | b'\r' if depth == 0 => return at,
            _ => at += 1,
        }
        if depth == 0 && matches!(bytes.get(at - 1), Some(b'"' | b'}' | b']')) {
            return at;
        }
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_by_key_or_path() {
        let check = |line: &str, name: &str, expected: Option<&str>| {
            assert_eq!(find(line, name).map(|span| &line[span]), expected, "{name} in {line}");
        };
        check(r#"{"ts":"x","a":1}"#, "ts", Some(r#""x""#));
        check(r#" { "a" : 1 , "ts" : 17.50 } "#, "ts", Some("17.50"));
        check(r#"{"tags":{"name":"truck_1","x":[1,{"name":2}]},"ts":1}"#, "tags.name", Some(r#""truck_1""#));
        check(r#"{"tags":{"x":[1,{"name":2}]}}"#, "tags.name", None);
        check(r#"{"PM2.5":4}"#, "PM2.5", Some("4"));
        check(r#"{"a":{"b":1},"a.b":2}"#, "a.b", Some("2"));
        check(r#"{"a.b":{"c":3}}"#, "a.b.c", Some("3"));
        check(r#"{"a":"}\",\"ts\":1","ts":null}"#, "ts", Some("null"));
        check(r#"{"\u0074s":true}"#, "ts", Some("true"));
        check(r#"{"ts":1,"ts":2}"#, "ts", Some("2"));
        check(r#"{"a":{},"b":[],"ts":{"x":1}}"#, "ts", Some(r#"{"x":1}"#));
        check(r#"{"x":{"ts":1}}"#, "ts", None);
        check("{}", "ts", None);
        check("[1]", "ts", None);
        check("3", "ts", None);
    }

    #[test]
    fn only_scalars_have_a_text() {
        let check =
            |value: &str, expected: Option<&str>| assert_eq!(scalar(value).as_deref(), expected, "{value}");
        check(r#""a\"b""#, Some("a\"b"));
        check("1.50", Some("1.50"));
        check("true", Some("true"));
        check("null", None);
        check("{}", None);
        check("[1]", None);
    }
}
