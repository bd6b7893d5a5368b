//! `/v1/server`: which run of which program answers here, so that `millstream sql` knows its data directory's server before it shows a token or a question.

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde_json::json;
use std::sync::Arc;

/// Where it is asked. It needs no token, and gives away nothing but an id that nobody else knows and nothing asks for.
pub(crate) const PATH: &str = "/v1/server";

/// Most bytes of an answer.
pub(crate) const ANSWER_MAX: usize = 4 << 10;

pub(super) async fn answer(State(id): State<Arc<str>>) -> Response {
    let identity = json!({"server": &*id, "version": env!("CARGO_PKG_VERSION")});
    ([(header::CACHE_CONTROL, "no-store")], Json(identity)).into_response()
}

/// The id in an answer; `None` if it is none of ours.
pub(crate) fn read(answer: &[u8]) -> Option<String> {
    let answer: serde_json::Value = serde_json::from_slice(answer).ok()?;
    answer.get("server")?.as_str().map(str::to_owned)
}
