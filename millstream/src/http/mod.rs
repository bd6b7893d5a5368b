//! What the program answers over HTTP: SQL, who answers, whether it lives, whether it is ready, and its metrics.
//!
//! [`health`] and [`metrics`] only read what the stages say of themselves; SQL is answered by `query`. Neighbour: the pipeline, which starts it last and ends it
//! after the stages, so that draining can be watched. Nothing here changes anything.

mod connections;
mod health;
pub(crate) mod identity;
mod metrics;

use crate::pipeline::Observed;
use anyhow::Context;
use axum::Router;
use axum::routing::get;
use connections::Bounds;
use millstream_model::secret::Secret;
use millstream_query::server::{self, Authority};
use millstream_query::{Lakehouse, Limits, Session};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// How long answers that are on their way may take when the program ends.
const DRAIN_MAX: Duration = Duration::from_secs(10);

/// What questions are answered from, and within which bounds.
#[derive(Debug)]
pub(crate) struct Questions {
    /// Where the answers lie.
    pub(crate) lakehouse: Lakehouse,
    /// Of all of them.
    pub(crate) limits: Limits,
    /// How they are taken.
    pub(crate) server: server::Settings,
    /// The id of this run.
    pub(crate) id: String,
}

/// All routes; SQL where there are questions to answer. Metrics and SQL need the token, if there is one; probes know none.
///
/// # Errors
/// If a session over the buckets cannot be opened.
pub(crate) async fn router(
    observed: Observed,
    questions: Option<Questions>,
    token: Option<Secret>,
) -> anyhow::Result<Router> {
    let sql = match questions {
        Some(Questions { lakehouse, limits, server, id }) => {
            let opened = Session::open(&lakehouse, limits).await;
            let session = Arc::new(opened.context("failed to start a session")?);
            let identity =
                Router::new().route(identity::PATH, get(identity::answer)).with_state(Arc::<str>::from(id));
            server::router(server, session, observed.sql.clone()).merge(identity)
        }
        None => Router::new(),
    };
    let metrics = Router::new()
        .route("/metrics", get(metrics::answer))
        .with_state((observed.clone(), Arc::new(Authority::new(token))));
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
