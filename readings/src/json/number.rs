//! What a number's text means, without loss.

use millstream_model::quarantine::Reason;

/// Integers of up to this many digits are all exact in a double.
const EXACT_DIGITS: usize = 15;

/// Most significant digits that are looked at; finer ones only count as "not nothing". Beyond what 64 bits hold in any unit of time.
const SIGNIFICANT_MAX: usize = 30;

/// The double that a number means.
///
/// A decimal means the nearest double, as everywhere. A number written as an integer (no fraction, no exponent) is an identity more often than a measure: it
/// must come back as it went in.
///
/// # Errors
/// `not_finite` beyond the range of doubles, `not_exact` for an integer that no double equals.
pub(crate) fn double(raw: &str) -> Result<f64, Reason> {
    let value: f64 = raw.parse().unwrap_or(f64::INFINITY);
    if !value.is_finite() {
        return Err(Reason::NotFinite);
    }
    // `{:.0}` prints every digit of what the double really holds.
    let exact = raw.len() <= EXACT_DIGITS || raw.contains(['.', 'e', 'E']) || format!("{value:.0}") == raw;
    if exact { Ok(value) } else { Err(Reason::NotExact) }
}

/// The 64-bit integer that a number means; `1.0` and `1e3` are integers, `1.5` is not.
pub(crate) fn long(raw: &str) -> Option<i64> {
    raw.parse().ok().or_else(|| {
        let (value, exact) = scaled(raw, 0)?;
        exact.then_some(value)
    })
}

/// The number times 10^`places`, cut towards zero, and whether nothing was cut. `None` where 64 bits do not hold it.
pub(crate) fn scaled(raw: &str, places: i64) -> Option<(i64, bool)> {
    let (mantissa, exponent) = raw.split_once(['e', 'E']).unwrap_or((raw, "0"));
    let negative = mantissa.starts_with('-');
    let digits = mantissa.bytes().filter(u8::is_ascii_digit).skip_while(|&digit| digit == b'0');
    let fraction = mantissa.split_once('.').map_or(0, |(_, fraction)| fraction.len());

    let (mut significant, mut beyond, mut cut) = (0_i128, 0_i64, false);
    for (place, digit) in digits.enumerate() {
        if place < SIGNIFICANT_MAX {
            significant = significant * 10 + i128::from(digit - b'0');
        } else {
            beyond += 1;
            cut |= digit != b'0';
        }
    }
    if significant == 0 {
        return Some((0, true));
    }
    // An exponent that 64 bits do not hold is far out of any range, too.
    let exponent =
        exponent.parse::<i64>().ok()?.checked_add(places)?.checked_add(beyond - fraction as i64)?;
    let power = 10_i128.checked_pow(u32::try_from(exponent.unsigned_abs()).ok()?);
    let value = match power {
        Some(power) if exponent >= 0 => significant.checked_mul(power)?,
        Some(power) => {
            cut |= significant % power != 0;
            significant / power
        }
        None if exponent >= 0 => return None,
        None => {
            cut = true;
            0
        }
    };
    let value = i64::try_from(if negative { -value } else { value }).ok()?;
    Some((value, !cut))
}
