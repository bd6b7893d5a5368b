//! What the program answers over HTTP: SQL, whether it lives, whether it is ready, and its metrics.
//!
//! [`health`] and [`metrics`] only read what the stages say of themselves; SQL is answered by `query`. Neighbour: the pipeline, which starts it last and ends it
//! after the stages, so that draining can be watched. Nothing here changes anything.

mod bearer;
mod connections;
mod health;
mod metrics;

use crate::pipeline::Observed;
use anyhow::Context;
use axum::Router;
use axum::routing::get;
use bearer::Bearer;
use connections::Bounds;
use millstream_model::secret::Secret;
use millstream_query::server;
use millstream_query::{Lakehouse, Limits, Session};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// How long answers that are on their way may take when the program ends.
const DRAIN_MAX: Duration = Duration::from_secs(10);

/// All routes; SQL where there are buckets to ask. Metrics and SQL need the token, if there is one; probes know none.
///
/// # Errors
/// If a session over the buckets cannot be opened.
pub(crate) async fn router(
    observed: Observed,
    lakehouse: Option<Lakehouse>,
    token: Option<Secret>,
) -> anyhow::Result<Router> {
    let sql = match lakehouse {
        Some(lakehouse) => {
            let opened = Session::open(&lakehouse, Limits::default()).await;
            let session = Arc::new(opened.context("failed to start a session")?);
            let settings = server::Settings { token: token.clone(), ..server::Settings::default() };
            server::router(settings, session, observed.sql.clone())
        }
        None => Router::new(),
    };
    let metrics = Router::new()
        .route("/metrics", get(metrics::answer))
        .with_state((observed.clone(), Arc::new(Bearer::new(token))));
    let health = Router::new()
        .route("/healthz", get(health::live))
        .route("/readyz", get(health::ready))
        .with_state(observed);
    Ok(health.merge(metrics).merge(sql))
}

/// Answers until the token is cancelled, and then what was asked before, for a bounded time.
pub(crate) async fn serve(listener: TcpListener, router: Router, shutdown: CancellationToken) {
    let answered = connections::answer(listener, router, Bounds::default(), shutdown.clone());
    let given_up = async {
        shutdown.cancelled().await;
        tokio::time::sleep(DRAIN_MAX).await;
    };
    tokio::select! {
        () = answered => {}
        () = given_up => {
            tracing::warn!("answers over HTTP were cut off, because their clients did not take them in time");
        }
    }
}
