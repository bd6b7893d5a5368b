//! What a request may look like, and the statement in it.

use super::refusal::Refusal;
use crate::session::{Ask, TailUse};
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, Version, header};
use futures::StreamExt;
use std::time::Duration;
use tokio::time::timeout;

/// Most bytes of a statement. What is longer is a list of values that belongs into a table.
pub const SQL_BYTES_MAX: usize = 256 << 10;

/// How long a body may take to arrive.
const BODY_TIME: Duration = Duration::from_secs(10);

/// What bodies may call themselves. The third is what curl says of any text.
const BODY_TYPES: [&str; 3] = ["text/plain", "application/sql", "application/x-www-form-urlencoded"];

/// What the parameters say, and `unsaid` where they say nothing: each is known, has a value that it can have, and stands there once.
fn parameters(text: &str, unsaid: TailUse) -> Result<Ask, Refusal> {
    let mut tail = None;
    for parameter in text.split('&').filter(|parameter| !parameter.is_empty()) {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let wanted = match (name, value) {
            ("tail", "on") => TailUse::Follow,
            ("tail", "off") => TailUse::Off,
            ("tail", value) => {
                return Err(wrong(format!("the parameter \"tail\" cannot be {value:?}"))
                    .hint("write tail=off to ask committed files only, or leave it out"));
            }
            (name, _) => {
                return Err(wrong(format!("there is no parameter {name:?}")).hint(
                    "there is tail=off; the statement stands in the body, and Accept chooses the form of the answer",
                ));
            }
        };
        if tail.replace(wanted).is_some() {
            return Err(wrong("the parameter \"tail\" stands there more than once".to_owned()));
        }
    }
    Ok(Ask { tail: tail.unwrap_or(unsaid) })
}

/// Everything but the body. `unsaid`: what is asked where the request does not say.
pub(super) fn check(request: &Request, unsaid: TailUse) -> Result<Ask, Refusal> {
    if request.version() < Version::HTTP_11 {
        // There the end of an answer is the end of the connection, so a broken one would look complete.
        let status = StatusCode::HTTP_VERSION_NOT_SUPPORTED;
        return Err(Refusal::new(status, "request", "an answer needs HTTP/1.1 at least"));
    }
    let ask = parameters(request.uri().query().unwrap_or_default(), unsaid)?;
    check_type(request.headers())?;
    match content_length(request.headers()) {
        Some(length) if length > SQL_BYTES_MAX as u64 => Err(too_long()),
        _ => Ok(ask),
    }
}

fn check_type(headers: &HeaderMap) -> Result<(), Refusal> {
    let unfit = |what: String| {
        Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "request", what)
            .hint("send the statement as it is, as text/plain"))
    };
    if let Some(coding) = headers.get(header::CONTENT_ENCODING).filter(|coding| *coding != "identity") {
        return unfit(format!("a body of the encoding {coding:?} is not read"));
    }
    let Some(kind) = headers.get(header::CONTENT_TYPE) else { return Ok(()) };
    let text = String::from_utf8_lossy(kind.as_bytes()).to_ascii_lowercase();
    let mut parts = text.split(';').map(str::trim);
    let named = parts.next().unwrap_or_default();
    if !BODY_TYPES.contains(&named) {
        return unfit(format!("a body of the type {named:?} is not read"));
    }
    match parts.find_map(|part| part.strip_prefix("charset=")).map(|charset| charset.trim_matches('"')) {
        None | Some("utf-8" | "utf8" | "us-ascii") => Ok(()),
        Some(charset) => unfit(format!("a body in {charset:?} is not read, only UTF-8 is")),
    }
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The statement, read to its end.
pub(super) async fn statement(body: Body) -> Result<String, Refusal> {
    match timeout(BODY_TIME, read(body)).await {
        Ok(text) => {
            String::from_utf8(text?).map_err(|error| wrong(format!("the statement is not UTF-8: {error}")))
        }
        Err(_elapsed) => {
            let message = format!("the statement did not arrive within {BODY_TIME:?}");
            Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, "request", message))
        }
    }
}

async fn read(body: Body) -> Result<Vec<u8>, Refusal> {
    let mut parts = body.into_data_stream();
    let mut text = Vec::new();
    while let Some(part) = parts.next().await {
        let part = part.map_err(|error| wrong(format!("the body cannot be read: {error}")))?;
        if text.len() + part.len() > SQL_BYTES_MAX {
            return Err(too_long());
        }
        text.extend_from_slice(&part);
    }
    Ok(text)
}

fn too_long() -> Refusal {
    let message = format!("the statement is longer than the {SQL_BYTES_MAX} bytes that are read");
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
}

fn wrong(message: String) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, "request", message)
}
