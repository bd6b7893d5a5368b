//! One CSV cell as a JSON value, as written: what a number looks like stays exactly that text.

/// Appends the cell to a JSON text. A cell that is a JSON number is one, digit by digit; `true` and `false` are booleans; everything else (leading zeros
/// or plus, hexadecimal, a number beyond a double) is a string.
pub(crate) fn write_cell(cell: &str, json: &mut Vec<u8>) {
    if cell == "true" || cell == "false" || is_number(cell) {
        json.extend_from_slice(cell.as_bytes());
    } else {
        write_string(cell, json);
    }
}

/// Appends a quoted and escaped JSON string.
pub(crate) fn write_string(text: &str, json: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    json.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => json.extend_from_slice(&[b'\\', byte]),
            b'\n' => json.extend_from_slice(b"\\n"),
            b'\r' => json.extend_from_slice(b"\\r"),
            b'\t' => json.extend_from_slice(b"\\t"),
            0..0x20 => {
                let (high, low) = (HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]);
                json.extend_from_slice(&[b'\\', b'u', b'0', b'0', high, low]);
            }
            _ => json.push(byte),
        }
    }
    json.push(b'"');
}

/// `-? (0 | [1-9][0-9]*) (. [0-9]+)? ([eE] [+-]? [0-9]+)?`, and not beyond what a double can hold: most JSON readers refuse such a number.
fn is_number(cell: &str) -> bool {
    let unsigned = cell.strip_prefix('-').unwrap_or(cell);
    let whole = unsigned.bytes().take_while(u8::is_ascii_digit).count();
    if whole == 0 || (whole > 1 && unsigned.starts_with('0')) {
        return false;
    }
    let behind = unsigned.split_at(whole).1;
    let Some(behind) = (match behind.strip_prefix('.') {
        Some(fraction) => digits(fraction),
        None => Some(behind),
    }) else {
        return false;
    };
    let complete = match behind.strip_prefix(['e', 'E']) {
        Some(exponent) => digits(exponent.strip_prefix(['+', '-']).unwrap_or(exponent)) == Some(""),
        None => behind.is_empty(),
    };
    complete && cell.parse::<f64>().is_ok_and(f64::is_finite)
}

/// What follows at least one digit.
fn digits(text: &str) -> Option<&str> {
    let count = text.bytes().take_while(u8::is_ascii_digit).count();
    (count > 0).then(|| text.split_at(count).1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop_assert_eq, proptest};

    fn written(cell: &str) -> String {
        let mut json = Vec::new();
        write_cell(cell, &mut json);
        String::from_utf8(json).unwrap()
    }

    #[test]
    fn numbers_and_booleans_stay_as_written_and_the_rest_is_text() {
        for same in [
            "0",
            "-0",
            "12",
            "-1.5",
            "10.357019999999999",
            "1e5",
            "1E-7",
            "0.10",
            "12345678901234567890",
            "true",
            "false",
        ] {
            assert_eq!(written(same), same);
        }
        for text in [
            "007", "+1", "0x1F", ".5", "5.", "1e", "1e+", "-", "1,5", "1 ", " 1", "NaN", "inf", "1e999",
            "TRUE", "1_000", "1.2.3",
        ] {
            assert_eq!(written(text), format!("\"{text}\""));
        }
        assert_eq!(written("a\"b\\c\n\u{1}ä"), r#""a\"b\\c\n\u0001ä""#);
    }

    proptest! {
        #[test]
        fn any_cell_reads_back_as_the_same_text(cell in any::<String>()) {
            let value: serde_json::Value = serde_json::from_str(&written(&cell)).unwrap();
            match value {
                serde_json::Value::String(text) => prop_assert_eq!(text, cell),
                _ => prop_assert_eq!(written(&cell), cell),
            }
        }
    }
}
