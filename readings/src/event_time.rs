//! When it happened: the event time of a reading, and the day it belongs to.

use crate::flaw::quote;
use crate::json::{Kind, Value, number};
use chrono::Datelike;
use millstream_model::stream::{DatePartition, TimeField, TimeUnit};
use millstream_model::time::Micros;
use std::ops::RangeInclusive;

const MICROS_PER_DAY: i64 = 86_400_000_000;

/// Below this an automatic number counts seconds; see [`TimeUnit::Auto`].
const SECONDS_BELOW: u64 = 100_000_000_000;

/// Below this it counts milliseconds, from here on microseconds.
const MILLIS_BELOW: u64 = 100_000_000_000_000;

/// The years that a table's readers can show: 1 to 9999.
const SHOWN: RangeInclusive<Micros> = Micros(-62_135_596_800_000_000)..=Micros(253_402_300_799_999_999);

/// The instant that a value means: RFC 3339 text, or a number since 1970. Finer digits than microseconds are cut.
pub(crate) fn instant(value: Value<'_>, unit: TimeUnit) -> Option<Micros> {
    let instant = match value.kind() {
        Kind::Text | Kind::Escaped => return from_text(&value.text()),
        Kind::Number => since_1970(value.raw(), unit),
        _ => None,
    };
    instant.filter(|instant| SHOWN.contains(instant))
}

/// The instant that RFC 3339 text means, if a table's readers can show it.
pub(crate) fn from_text(text: &str) -> Option<Micros> {
    Micros::from_rfc3339(text).filter(|instant| SHOWN.contains(instant))
}

fn since_1970(raw: &str, unit: TimeUnit) -> Option<Micros> {
    let places = match unit {
        TimeUnit::Seconds => 6,
        TimeUnit::Millis => 3,
        TimeUnit::Micros => 0,
        TimeUnit::Auto => {
            let (whole, _) = number::scaled(raw, 0)?;
            match whole.unsigned_abs() {
                ..SECONDS_BELOW => 6,
                SECONDS_BELOW..MILLIS_BELOW => 3,
                MILLIS_BELOW.. => 0,
            }
        }
    };
    number::scaled(raw, places).map(|(micros, _)| Micros(micros))
}

/// The event time, if it can be one. It is judged by the message's arrival, never by a clock: decided again it must be decided the same.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn judge(value: Value<'_>, field: &TimeField, received_at: Micros) -> Result<Micros, String> {
    let Some(ts) = instant(value, field.unit) else {
        return Err(format!("{} is no time", quote(value.raw())));
    };
    if ts < field.earliest {
        return Err(format!("{ts} lies before {}", field.earliest));
    }
    let ahead_max = i64::try_from(field.ahead_max.as_micros()).unwrap_or(i64::MAX);
    if ts.0 > received_at.0.saturating_add(ahead_max) {
        return Err(format!(
            "{ts} lies more than {:?} ahead of its arrival at {received_at}",
            field.ahead_max
        ));
    }
    Ok(ts)
}

/// The value of the partition column: days since 1970 of the day, or of the month's first day.
pub(crate) fn date(ts: Micros, partition: DatePartition) -> i32 {
    let day = ts.0.div_euclid(MICROS_PER_DAY);
    let into_month = match (partition, ts.to_datetime()) {
        (DatePartition::Month, Some(time)) => i64::from(time.day0()),
        _ => 0,
    };
    i32::try_from(day - into_month).unwrap_or_default()
}
