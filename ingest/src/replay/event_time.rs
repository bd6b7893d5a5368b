//! Event times as they stand in the files: read them, and shift them by whole hours without touching anything else of their text.

use chrono::{DateTime, Datelike, Duration, NaiveDate, NaiveDateTime};
use millstream_model::stream::TimeUnit;
use millstream_model::time::Micros;

const MICROS_PER_HOUR: i64 = 3_600_000_000;

/// `YYYY-MM-DDTHH`: what a shift by whole hours can change of a calendar time.
const TO_THE_HOUR: usize = 13;

/// Digits of a number that can still be an epoch time; more would overflow the arithmetic and mean nothing.
const DIGITS_MAX: usize = 30;

/// Reads an event time: RFC 3339 (a time without an offset counts as UTC), or a decimal number since 1970 in the given unit.
pub(crate) fn parse(text: &str, unit: TimeUnit) -> Option<Micros> {
    calendar(text).or_else(|| {
        let number = Number::parse(text)?;
        let scaled = number.mantissa.checked_mul(number.micros_per_unit(unit))?;
        i64::try_from(scaled.div_euclid(power_of_ten(number.decimals)?)).ok().map(Micros)
    })
}

/// The same text, so many hours later. Minutes, seconds, fraction, offset and unit stay as they are written. `None` if it is not a time, or its year
/// would not have four digits.
pub(crate) fn shift(text: &str, unit: TimeUnit, hours: i64) -> Option<String> {
    if calendar(text).is_none() {
        return Number::parse(text)?.plus_hours(unit, hours);
    }
    let (head, rest) = text.split_at_checked(TO_THE_HOUR)?;
    let date = NaiveDate::parse_from_str(head.get(..10)?, "%Y-%m-%d").ok()?;
    let hour: u32 = head.get(11..)?.parse().ok()?;
    let later = date.and_hms_opt(hour, 0, 0)?.checked_add_signed(Duration::try_hours(hours)?)?;
    let separator = head.get(10..11)?;
    (0..=9999)
        .contains(&later.year())
        .then(|| format!("{}{separator}{}{rest}", later.format("%Y-%m-%d"), later.format("%H")))
}

/// The largest number of whole hours by which the newest time can be shifted and not lie after now. Negative if it does already.
pub(crate) fn hours_to(newest: Micros, now: Micros) -> i64 {
    now.0.saturating_sub(newest.0).div_euclid(MICROS_PER_HOUR)
}

fn calendar(text: &str) -> Option<Micros> {
    let separator = text.as_bytes().get(10)?;
    if !matches!(separator, b'T' | b't' | b' ') || !text.is_char_boundary(TO_THE_HOUR) {
        return None;
    }
    let mut unified = text.to_owned();
    unified.replace_range(10..11, "T");
    if let Ok(time) = DateTime::parse_from_rfc3339(&unified) {
        return Some(Micros(time.timestamp_micros()));
    }
    let local = |format| NaiveDateTime::parse_from_str(&unified, format).ok();
    let time = local("%Y-%m-%dT%H:%M:%S%.f").or_else(|| local("%Y-%m-%dT%H:%M"))?;
    Some(Micros(time.and_utc().timestamp_micros()))
}

/// A decimal number exactly as written: `mantissa / 10^decimals`.
struct Number {
    mantissa: i128,
    decimals: usize,
}

impl Number {
    fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix('-').unwrap_or(text);
        let (whole, fraction) =
            digits.split_once('.').map_or((digits, None), |(whole, fraction)| (whole, Some(fraction)));
        let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if !all_digits(whole)
            || fraction.is_some_and(|fraction| !all_digits(fraction))
            || digits.len() > DIGITS_MAX
        {
            return None;
        }
        let fraction = fraction.unwrap_or_default();
        let size: i128 = format!("{whole}{fraction}").parse().ok()?;
        let mantissa = if text.starts_with('-') { -size } else { size };
        Some(Self { mantissa, decimals: fraction.len() })
    }

    fn micros_per_unit(&self, unit: TimeUnit) -> i128 {
        match unit {
            TimeUnit::Seconds => 1_000_000,
            TimeUnit::Millis => 1_000,
            TimeUnit::Micros => 1,
            TimeUnit::Auto => {
                match power_of_ten(self.decimals).map_or(0, |scale| self.mantissa.abs() / scale) {
                    0..100_000_000_000 => 1_000_000,
                    100_000_000_000..100_000_000_000_000 => 1_000,
                    _ => 1,
                }
            }
        }
    }

    fn plus_hours(&self, unit: TimeUnit, hours: i64) -> Option<String> {
        let units_per_hour = i128::from(MICROS_PER_HOUR) / self.micros_per_unit(unit);
        let scale = power_of_ten(self.decimals)?;
        let later =
            self.mantissa.checked_add(units_per_hour.checked_mul(i128::from(hours))?.checked_mul(scale)?)?;
        let sign = if later < 0 { "-" } else { "" };
        let (whole, fraction) = (later.abs() / scale, later.abs() % scale);
        Some(match self.decimals {
            0 => format!("{sign}{whole}"),
            decimals => format!("{sign}{whole}.{fraction:0decimals$}"),
        })
    }
}

fn power_of_ten(exponent: usize) -> Option<i128> {
    10_i128.checked_pow(u32::try_from(exponent).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_every_common_form_are_read() {
        let check = |text: &str, unit, expected: Option<i64>| {
            assert_eq!(parse(text, unit), expected.map(Micros), "{text}")
        };
        let instant = 1_357_020_000_000_000;
        check("2013-01-01T06:00:00Z", TimeUnit::Auto, Some(instant));
        check("2013-01-01t06:00:00z", TimeUnit::Auto, Some(instant));
        check("2013-01-01 06:00:00", TimeUnit::Auto, Some(instant));
        check("2013-01-01T06:00", TimeUnit::Auto, Some(instant));
        check("2013-01-01T08:00:00.25+02:00", TimeUnit::Auto, Some(instant + 250_000));
        check("1357020000", TimeUnit::Auto, Some(instant));
        check("1357020000.5", TimeUnit::Auto, Some(instant + 500_000));
        check("1357020000000", TimeUnit::Auto, Some(instant));
        check("1357020000000000", TimeUnit::Auto, Some(instant));
        check("12", TimeUnit::Millis, Some(12_000));
        check("-1.5", TimeUnit::Seconds, Some(-1_500_000));
        for bad in [
            "",
            "NA",
            "2013-01-01",
            "2013-13-01T00:00:00Z",
            "12:00",
            "1e9",
            "1.",
            ".5",
            "--1",
            "2013-01-01Tä:00:00Z",
        ] {
            check(bad, TimeUnit::Auto, None);
        }
        check(&"9".repeat(31), TimeUnit::Auto, None);
    }

    #[test]
    fn a_shift_changes_date_and_hour_only() {
        let check = |text: &str, hours, expected: Option<&str>| {
            assert_eq!(shift(text, TimeUnit::Auto, hours).as_deref(), expected, "{text} {hours}")
        };
        check("2013-01-01T06:00:00Z", 1, Some("2013-01-01T07:00:00Z"));
        check("2013-12-31T23:59:59.123456789Z", 1, Some("2014-01-01T00:59:59.123456789Z"));
        check("2013-01-01T00:30:00-05:30", -1, Some("2012-12-31T23:30:00-05:30"));
        check("2012-02-28 23:00", 1, Some("2012-02-29 00:00"));
        check("1357020000", 2, Some("1357027200"));
        check("1357020000.250", 1, Some("1357023600.250"));
        check("1357020000000", -1, Some("1357016400000"));
        check("-1.5", 1, Some("3598.5"));
        check("-1.5", 0, Some("-1.5"));
        check("9999-12-31T23:00:00Z", 1, None);
        check("NA", 1, None);
    }

    #[test]
    fn the_newest_time_ends_within_the_hour_before_now() {
        let hour = MICROS_PER_HOUR;
        let check = |newest, now, expected| {
            assert_eq!(hours_to(Micros(newest), Micros(now)), expected, "{newest} {now}")
        };
        check(0, hour, 1);
        check(0, hour - 1, 0);
        check(0, 0, 0);
        check(1, 0, -1);
        check(hour + 1, 0, -2);
        check(5, 10 * hour + 4, 9);
    }
}
