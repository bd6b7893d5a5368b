//! Every answer that is not rows: a status, and JSON that says why.

use crate::error::{Exceeded, QueryError, QueryErrorKind};
use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
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
    hints: Vec<String>,
    /// What is wrong with the question, where it is the question.
    query: Option<QueryError>,
    header: Option<(HeaderName, &'static str)>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self(Box::new(Parts { status, kind, message, hints: Vec::new(), query: None, header: None }))
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
        let mut message = error.to_string();
        let mut next = error.source();
        while let Some(cause) = next {
            message.push_str(": ");
            message.push_str(&cause.to_string());
            next = cause.source();
        }
        let mut refusal = Self::new(status(&error), error.name(), message);
        refusal.0.query = Some(error);
        refusal
    }
}

fn status(error: &QueryError) -> StatusCode {
    match (error.kind(), error.exceeded()) {
        (_, Some(Exceeded::Time)) => StatusCode::GATEWAY_TIMEOUT,
        (_, Some(Exceeded::Scan)) => StatusCode::UNPROCESSABLE_ENTITY,
        (QueryErrorKind::Resources, _) => StatusCode::INSUFFICIENT_STORAGE,
        (QueryErrorKind::Storage | QueryErrorKind::Internal, _) => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::BAD_REQUEST,
    }
}

impl Refusal {
    /// What an answer, or its end, says of it.
    pub(super) fn to_json(&self) -> Value {
        let Parts { kind, message, hints, query, .. } = &*self.0;
        match query {
            Some(error) => Value::Object(error.to_json()),
            None => json!({
                "kind": kind, "message": message, "line": null, "column": null, "end_line": null, "end_column": null,
                "label": "", "marks": [], "hints": hints, "causes": [],
            }),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let error = json!({"error": self.to_json()});
        let Parts { status, header, .. } = *self.0;
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
