//! Every answer that is not rows: a status, and JSON that says why.

use crate::error::{Exceeded, QueryError, QueryErrorKind};
use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use std::error::Error;
use std::fmt;

/// Why there are no rows.
#[derive(Debug)]
pub(super) struct Refusal(Box<Parts>);

#[derive(Debug)]
struct Parts {
    status: StatusCode,
    kind: &'static str,
    message: String,
    /// Line and column in the statement.
    place: Option<(u64, u64)>,
    hints: Vec<String>,
    header: Option<(HeaderName, &'static str)>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self(Box::new(Parts { status, kind, message, place: None, hints: Vec::new(), header: None }))
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hints.push(hint.into());
        self
    }

    pub(super) fn with_header(mut self, name: HeaderName, value: &'static str) -> Self {
        self.0.header = Some((name, value));
        self
    }

    /// Says it in the log as loud as it concerns whoever runs the server: not, where only the one who asked can mend it.
    pub(super) fn log(&self) {
        let Parts { status, kind, message, .. } = &*self.0;
        match status.as_u16() {
            500 => tracing::warn!(kind, message, "a query failed"),
            503..=507 => tracing::info!(kind, message, "a query was ended or refused by a limit"),
            _ => tracing::debug!(kind, message, "a question was refused"),
        }
    }
}

impl From<QueryError> for Refusal {
    fn from(error: QueryError) -> Self {
        let (status, kind) = judged(&error);
        let mut message = error.to_string();
        let mut next = error.source();
        while let Some(cause) = next {
            message.push_str(": ");
            message.push_str(&cause.to_string());
            next = cause.source();
        }
        let mut refusal = Self::new(status, kind, message);
        refusal.0.place = error.place().map(|place| place.start);
        refusal.0.hints = error.hints().to_vec();
        refusal
    }
}

fn judged(error: &QueryError) -> (StatusCode, &'static str) {
    match (error.kind(), error.exceeded()) {
        (_, Some(Exceeded::Time)) => (StatusCode::GATEWAY_TIMEOUT, "time"),
        (_, Some(Exceeded::Scan)) => (StatusCode::UNPROCESSABLE_ENTITY, "scan"),
        (QueryErrorKind::Resources, _) => (StatusCode::INSUFFICIENT_STORAGE, "memory"),
        (kind @ (QueryErrorKind::Storage | QueryErrorKind::Internal), _) => {
            (StatusCode::INTERNAL_SERVER_ERROR, kind.as_str())
        }
        (kind, _) => (StatusCode::BAD_REQUEST, kind.as_str()),
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Parts { status, kind, message, place, hints, header } = *self.0;
        let (line, column) = place.unzip();
        let error = json!({"error": {"kind": kind, "message": message, "line": line, "column": column, "hints": hints}});
        let mut response = (status, Body::from(format!("{error}\n"))).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some((name, value)) = header {
            headers.insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

/// As the log of a broken connection shows it.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl Error for Refusal {}
