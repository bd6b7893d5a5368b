//! The forms of an answer, and which of them a client wants.

use super::refusal::Refusal;
use crate::print::Format;
use axum::http::{HeaderMap, StatusCode, header};

/// A form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    /// An Arrow IPC stream.
    Arrow,
    /// As `--format` of the command line writes it.
    Text(Format),
}

/// All of them; the first is for those who do not say.
const ALL: [Encoding; 4] = [
    Encoding::Text(Format::Ndjson),
    Encoding::Arrow,
    Encoding::Text(Format::Csv),
    Encoding::Text(Format::Json),
];

impl Encoding {
    /// The one that the client likes best: by quality, then by how exactly it is named, then by the order in which the client names them.
    pub(super) fn accepted(headers: &HeaderMap) -> Result<Self, Refusal> {
        let texts: Vec<_> =
            headers.get_all(header::ACCEPT).iter().filter_map(|text| text.to_str().ok()).collect();
        let ranges: Vec<_> = texts.iter().flat_map(|text| text.split(',')).filter_map(Range::parse).collect();
        if ranges.is_empty() {
            return Ok(ALL[0]);
        }
        let liked = ALL.iter().filter_map(|encoding| Some((encoding.liking(&ranges)?, *encoding)));
        // Of equals the last is the greatest, and the first one is to win.
        liked.rev().max_by_key(|(liking, _)| *liking).map(|(_, encoding)| encoding).ok_or_else(unacceptable)
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Arrow => "application/vnd.apache.arrow.stream",
            Self::Text(Format::Csv) => "text/csv; charset=utf-8; header=present",
            Self::Text(Format::Json) => "application/json",
            Self::Text(_) => "application/x-ndjson",
        }
    }

    /// None where it is not wanted.
    fn liking(self, ranges: &[Range<'_>]) -> Option<(u16, u8, usize)> {
        let name = self.content_type().split(';').next()?;
        let matching = ranges
            .iter()
            .enumerate()
            .filter_map(|(index, range)| Some((range.exactness(name)?, index, range)));
        let (exactness, index, range) =
            matching.max_by_key(|(exactness, index, _)| (*exactness, ranges.len() - index))?;
        (range.quality > 0).then_some((range.quality, exactness, ranges.len() - index))
    }
}

/// One entry of `Accept`.
struct Range<'a> {
    name: &'a str,
    /// In thousandths.
    quality: u16,
}

impl<'a> Range<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let name = parts.next().filter(|name| !name.is_empty())?;
        let quality = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        let quality = match quality {
            Some(text) => text.parse::<f32>().ok().filter(|quality| (0.0..=1.0).contains(quality))?,
            None => 1.0,
        };
        Some(Self { name, quality: (quality * 1000.0) as u16 })
    }

    /// How exactly it names a type: 2 the very type, 1 its family, 0 anything.
    fn exactness(&self, wanted: &str) -> Option<u8> {
        if self.name.eq_ignore_ascii_case(wanted) {
            return Some(2);
        }
        let family = self.name.strip_suffix("/*")?;
        if family == "*" {
            return Some(0);
        }
        wanted.split_once('/').is_some_and(|(of, _)| of.eq_ignore_ascii_case(family)).then_some(1)
    }
}

fn unacceptable() -> Refusal {
    let names = ALL.map(|encoding| encoding.content_type().split(';').next().unwrap_or_default());
    Refusal::new(
        StatusCode::NOT_ACCEPTABLE,
        "request",
        "there is no answer in a form that the client accepts",
    )
    .hint(format!("there are {}", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_is_the_one_that_the_client_likes_best() {
        let check = |accept: Option<&str>, expected: Option<Encoding>| {
            let mut headers = HeaderMap::new();
            if let Some(accept) = accept {
                headers.insert(header::ACCEPT, accept.parse().unwrap());
            }
            assert_eq!(Encoding::accepted(&headers).ok(), expected, "{accept:?}");
        };
        let [ndjson, arrow, csv, json] = ALL;
        check(None, Some(ndjson));
        check(Some(""), Some(ndjson));
        check(Some("*/*"), Some(ndjson));
        check(Some("application/x-ndjson"), Some(ndjson));
        check(Some("application/vnd.apache.arrow.stream"), Some(arrow));
        check(Some("Text/CSV"), Some(csv));
        check(Some("text/csv; header=absent"), Some(csv));
        check(Some("text/*"), Some(csv));
        check(Some("application/json"), Some(json));
        check(Some("application/json, text/csv"), Some(json));
        check(Some("text/csv, application/json"), Some(csv));
        check(Some("text/csv;q=0.5, application/json;q=0.9"), Some(json));
        check(Some("text/html, application/json;q=0.9, */*;q=0.8"), Some(json));
        check(Some("application/x-ndjson;q=0, */*"), Some(arrow));
        check(Some("*/*, application/x-ndjson;q=0.1"), Some(arrow));
        check(Some("text/html"), None);
        check(Some("*/*;q=0"), None);
    }
}
