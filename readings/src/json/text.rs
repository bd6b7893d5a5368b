//! The escapes of JSON text.

/// What a text means whose escapes were checked when it was scanned.
pub(super) fn unescape(inner: &str) -> String {
    let mut text = String::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(at) = rest.find('\\') {
        text.push_str(&rest[..at]);
        let (meant, taken) = escape(&rest.as_bytes()[at..]);
        text.push(meant);
        rest = &rest[at + taken..];
    }
    text.push_str(rest);
    text
}

/// The character that the escape at the start of these bytes means, and its length.
fn escape(bytes: &[u8]) -> (char, usize) {
    match bytes.get(1) {
        Some(b'b') => ('\u{8}', 2),
        Some(b'f') => ('\u{c}', 2),
        Some(b'n') => ('\n', 2),
        Some(b'r') => ('\r', 2),
        Some(b't') => ('\t', 2),
        Some(b'u') => code_point(bytes),
        Some(&other) => (char::from(other), 2),
        None => (char::REPLACEMENT_CHARACTER, 1),
    }
}

fn code_point(bytes: &[u8]) -> (char, usize) {
    let first = hex(bytes, 2).unwrap_or_default();
    if let Some(plain) = char::from_u32(first) {
        return (plain, 6);
    }
    let second = hex(bytes, 8).unwrap_or_default();
    let joined = 0x1_0000 + ((first & 0x3ff) << 10) + (second & 0x3ff);
    (char::from_u32(joined).unwrap_or(char::REPLACEMENT_CHARACTER), 12)
}

/// The four hexadecimal digits that begin at a place.
pub(super) fn hex(bytes: &[u8], at: usize) -> Option<u32> {
    let digits = bytes.get(at..at + 4)?;
    digits.iter().try_fold(0, |value, &digit| Some(value * 16 + char::from(digit).to_digit(16)?))
}
