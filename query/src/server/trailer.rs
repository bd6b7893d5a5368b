//! What stands behind the last row, for a client that asks for it by `TE: trailers`: what the answer cost, or why it broke off.
//!
//! Neighbours: `delivery` sends it, the command line's client reads it. For everyone else an answer is as if this were not.

use super::accept::Encoding;
use super::refusal::Refusal;
use crate::answer::{ScanMetrics, TailMetrics};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use millstream_model::time::Micros;
use serde_json::{Value, json};
use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

/// What a whole answer cost: see [`read_summary`].
pub const SUMMARY: HeaderName = HeaderName::from_static("millstream-summary");

/// Why an answer broke off: what else stands in the body of a failed one.
pub const ERROR: HeaderName = HeaderName::from_static("millstream-error");

/// Most bytes of one: clients bound what they read of trailers, hyper all of them together at 16 KiB.
const TRAILER_MAX: usize = 8 << 10;

/// What of an error's message is told where all of it would be too much.
const MESSAGE_MAX: usize = 600;

/// What a client gets behind the last row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// Nothing.
    Plain,
    /// What the answer cost. One that breaks off just ends.
    Summary,
    /// The same, or why it broke off.
    SummaryOrError,
}

impl Ending {
    /// As the client asks for it. Text that ends in good order looks whole, whatever is written behind it, so it cannot say that it is not; an Arrow stream
    /// has a mark of its own at its end.
    pub(super) fn wanted(headers: &HeaderMap, encoding: Encoding) -> Self {
        let named = headers.get_all(header::TE).iter().filter_map(|named| named.to_str().ok());
        let mut named = named.flat_map(|named| named.split(','));
        match named.any(|name| name.trim().eq_ignore_ascii_case("trailers")) {
            false => Self::Plain,
            true if encoding == Encoding::Arrow => Self::SummaryOrError,
            true => Self::Summary,
        }
    }

    /// Which trailers are announced.
    pub(super) fn names(self) -> Option<HeaderValue> {
        match self {
            Self::Plain => None,
            Self::Summary => Some(HeaderValue::from_static("millstream-summary")),
            Self::SummaryOrError => Some(HeaderValue::from_static("millstream-summary, millstream-error")),
        }
    }

    pub(super) fn of_whole(self, metrics: &ScanMetrics) -> Option<HeaderMap> {
        (self != Self::Plain).then(|| one(SUMMARY, &summary(metrics, now()))).flatten()
    }

    pub(super) fn of_broken(self, refusal: &Refusal) -> Option<HeaderMap> {
        (self == Self::SummaryOrError).then(|| one(ERROR, &bounded(refusal.to_json()))).flatten()
    }
}

fn one(name: HeaderName, value: &Value) -> Option<HeaderMap> {
    let value = HeaderValue::from_str(&ascii(&value.to_string())).ok()?;
    Some(HeaderMap::from_iter([(name, value)]))
}

/// JSON in the only characters that a header may have.
fn ascii(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        if c.is_ascii() && !c.is_ascii_control() {
            text.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            // Writing to text does not fail.
            _ = write!(text, "\\u{unit:04x}");
        }
    }
    text
}

/// The error, or the beginning of its message where all of it would be too long.
fn bounded(mut error: Value) -> Value {
    if ascii(&error.to_string()).len() <= TRAILER_MAX {
        return error;
    }
    let message: String = error["message"].as_str().unwrap_or_default().chars().take(MESSAGE_MAX).collect();
    error["message"] = json!(format!("{message}…"));
    for rest in ["marks", "hints", "causes"] {
        error[rest] = json!([]);
    }
    error["label"] = json!("");
    error
}

fn summary(metrics: &ScanMetrics, now: Micros) -> Value {
    let ScanMetrics { files_total, files_pruned, bytes_read, tail } = metrics;
    let tail = tail.map(|TailMetrics { rows, newest, as_of }| {
        // Ages: the two clocks need not agree.
        json!({"rows": rows, "newest_age_us": newest.map(|newest| now.0 - newest.0), "age_us": now.0 - as_of.0})
    });
    json!({"files": files_total, "skipped": files_pruned, "bytes": bytes_read, "tail": tail})
}

/// What a server says an answer cost; `None` if it is nothing of ours.
#[must_use]
pub fn read_summary(text: &str) -> Option<ScanMetrics> {
    let summary: Value = serde_json::from_str(text).ok()?;
    let number = |key: &str| summary.get(key).and_then(Value::as_u64);
    Some(ScanMetrics {
        files_total: number("files")?,
        files_pruned: number("skipped")?,
        bytes_read: number("bytes")?,
        tail: summary.get("tail").and_then(|tail| read_tail(tail, now())),
    })
}

fn read_tail(tail: &Value, now: Micros) -> Option<TailMetrics> {
    let ago = |key: &str| tail.get(key).and_then(Value::as_i64).map(|age| Micros(now.0.saturating_sub(age)));
    Some(TailMetrics {
        rows: tail.get("rows")?.as_u64()?,
        newest: ago("newest_age_us"),
        as_of: ago("age_us")?,
    })
}

fn now() -> Micros {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{QueryError, QueryErrorKind};
    use crate::print::Format;

    #[test]
    fn what_an_answer_cost_comes_through() {
        let metrics = ScanMetrics { files_total: 30, files_pruned: 27, bytes_read: 1 << 40, tail: None };
        let trailers = Ending::Summary.of_whole(&metrics).unwrap();
        assert_eq!(read_summary(trailers[SUMMARY].to_str().unwrap()), Some(metrics));
        let tail = TailMetrics { rows: 2, newest: Some(Micros(400)), as_of: Micros(700) };
        let told = summary(&ScanMetrics { tail: Some(tail), ..metrics }, Micros(1_000));
        let behind = |by: i64| Micros(5_000 - by);
        let found = TailMetrics { newest: Some(behind(600)), as_of: behind(300), ..tail };
        assert_eq!(read_tail(&told["tail"], Micros(5_000)), Some(found), "another clock");
        assert_eq!(read_tail(&Value::Null, Micros(0)), None);
        assert!(Ending::Plain.of_whole(&metrics).is_none());
        assert_eq!(read_summary("{\"files\":1}"), None);
    }

    #[test]
    fn any_error_fits_into_a_trailer() {
        let check = |message: &str, expected: &str| {
            let refusal = Refusal::from(QueryError::new(QueryErrorKind::Value, message));
            let trailers = Ending::SummaryOrError.of_broken(&refusal).unwrap();
            let text = trailers[ERROR].to_str().unwrap();
            assert!(text.len() <= TRAILER_MAX, "{}", text.len());
            let error = QueryError::from_json(&serde_json::from_str(text).unwrap()).unwrap();
            assert_eq!(error.to_string(), expected);
            assert!(Ending::Summary.of_broken(&refusal).is_none());
        };
        check("\"zu heiß\"\r\n\u{7f}\u{1f525}", "\"zu heiß\"\r\n\u{7f}\u{1f525}");
        let long = "\u{1f525}".repeat(100_000);
        check(&long, &format!("{}…", "\u{1f525}".repeat(MESSAGE_MAX)));
    }

    #[test]
    fn only_who_asks_for_trailers_gets_them() {
        let check = |te: Option<&str>, encoding: Encoding, expected: Ending| {
            let headers = te.map(|te| (header::TE, te.parse().unwrap()));
            assert_eq!(Ending::wanted(&headers.into_iter().collect(), encoding), expected, "{te:?}");
        };
        let text = Encoding::Text(Format::Csv);
        check(None, Encoding::Arrow, Ending::Plain);
        check(Some("gzip"), Encoding::Arrow, Ending::Plain);
        check(Some("gzip, Trailers"), Encoding::Arrow, Ending::SummaryOrError);
        check(Some("trailers"), text, Ending::Summary);
    }
}
