//! `/metrics`: what the stages say of themselves, in the form that Prometheus reads.
//!
//! One file for each stage makes [`Family`]s of its status at the moment of asking; nothing is counted here.

mod family;
mod firehose;
mod gateway;
mod process;
mod processor;
mod sql;
mod subscriber;
mod upkeep;

use crate::pipeline::Observed;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use family::Family;
use millstream_model::time::Micros;
use millstream_query::server::Authority;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use std::sync::Arc;

/// What the text is, as Prometheus wants it said.
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All metrics as text, to those who may ask with SQL.
pub(super) async fn answer(
    State((observed, authority)): State<(Observed, Arc<Authority>)>,
    headers: HeaderMap,
) -> Response {
    if let Some(refusal) = authority.turns_away(&headers) {
        return refusal;
    }
    match text(&observed) {
        Ok(text) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
        Err(error) => {
            tracing::warn!(%error, "the metrics could not be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

fn text(observed: &Observed) -> Result<String, std::fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(family::Families(families(observed))));
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

/// All there are in this process.
fn families(observed: &Observed) -> Vec<Family> {
    let now = Micros::from(chrono::Utc::now());
    let mut families = process::families(observed);
    families.extend(gateway::families(observed));
    families.extend(subscriber::families(observed));
    families.extend(firehose::families(observed, now));
    families.extend(processor::families(observed));
    families.extend(upkeep::families(observed));
    families.extend(sql::families(observed));
    families
}

#[cfg(test)]
mod tests;
