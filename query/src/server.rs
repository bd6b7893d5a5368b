//! SQL over HTTP: `POST /v1/sql`, the statement in the body, rows out in the form that `Accept` asks for.
//!
//! A request goes through `authority` (who asks), `request` (what is asked, and in what form), `admission` (how many at once) and `delivery` (the rows, as
//! they come and as fast as the client takes them, written by `encode`). `refusal` is every answer that is not rows; `trailer` is what stands behind the last row
//! for who wants it; `counters` is what metrics read.
//! Neighbours: the program mounts the router in its HTTP server and reads the counters; its command line is a client. Nothing here listens, and nothing here
//! changes a table.
//!
//! The one parameter is `tail`: `POST /v1/sql?tail=off` asks committed files only.
//!
//! # Errors, and how a client sees them
//! What fails before the first rows are there is answered by a status and `{"error": {"kind", "message", "line", "column", "hints", …}}`; `line` and `column` count
//! from 1 and are null where the place is not known. `end_line`, `end_column` and `label` say more of the place, `marks` are further places that explain it, and
//! `causes` is the list of what `message` ends with:
//!
//! | status | when |
//! | --- | --- |
//! | 400 | the statement is wrong, is not exactly one, would change something, or fails on a value; the request has parameters or no readable body |
//! | 401, 403 | the token is missing or wrong; no token is set, and a page in a browser asks, or somebody who knows the server by another name than `localhost` or an address |
//! | 405, 406, 413, 415, 505 | another method than POST; no form that `Accept` allows; a body beyond [`SQL_BYTES_MAX`]; a body that is not text; HTTP/1.0 |
//! | 408 | the body does not arrive |
//! | 422 | the query would read more than it may |
//! | 503 | too many queries run and wait; `Retry-After` says when to come again |
//! | 504, 507 | the query takes longer, or needs more memory or disk, than it may |
//! | 500 | the bucket cannot be read, or the engine failed |
//!
//! What fails later can no longer have a status: the body then ends without its last chunk, which every HTTP client reports as an error, and an Arrow
//! stream in it has no end mark. So an answer that looks complete is complete. The reason stands in the log. The same happens to a client that takes its answer too
//! slowly ([`Settings::stall`], [`Settings::delivery`]); it is not counted as a failure.
//!
//! Rows and cost are not known before the last row. A client that says `TE: trailers` is told behind it what the answer cost, as the trailer
//! `millstream-summary`; and where it takes Arrow, in whose stream an end can be missing, why an answer broke off, as `millstream-error`, instead of a broken
//! connection.

mod accept;
mod admission;
mod authority;
mod counters;
mod delivery;
mod encode;
mod refusal;
mod request;
pub mod trailer;

pub use authority::Authority;
pub use counters::{Counters, Counts};
pub use request::SQL_BYTES_MAX;

use crate::session::{Session, TailUse};
use accept::Encoding;
use admission::Admission;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use counters::Course;
use delivery::Asked;
use millstream_model::secret::Secret;
use refusal::Refusal;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use trailer::Ending;

/// Where questions are asked.
pub const PATH: &str = "/v1/sql";

/// How questions are taken.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What a client must show as `Authorization: Bearer …`. `None`: whoever can connect and knows the server as `localhost` or by an address may ask, pages in a browser
    /// excepted.
    pub token: Option<Secret>,
    /// Queries that run at a time. They share the session's memory.
    pub running_max: NonZeroUsize,
    /// Queries that wait for one of those to end.
    pub waiting_max: usize,
    /// How long one of them waits.
    pub wait: Duration,
    /// How long a client may take no bytes of its answer before its query is ended.
    pub stall: Duration,
    /// How long a query waits for its client altogether, all the times counted in which a piece of the answer is ready and the client does not take it. Together
    /// with the time that a session gives to a query it bounds how long the query can hold one of `running_max`.
    pub delivery: Duration,
    /// Whether an answer has what waits in the log, where the request does not say.
    pub tail: TailUse,
    /// Where queries are worked on. One expression over one batch of rows never pauses, and may take long: what else shares these threads waits for it. `None`: where
    /// the connections are.
    pub runtime: Option<Handle>,
}

impl Default for Settings {
    /// Eight at a time: each has an eighth of the session's memory when all sort. 64 wait, for 10 seconds: longer, and the client has given up before us. A minute
    /// without a byte: a person's pager may stand still that long, a client that is gone does for ever. A quarter of an hour in all: a gigabyte over a link of
    /// 10 Mbit/s, and no place held for hours by who takes a piece a minute.
    fn default() -> Self {
        Self {
            token: None,
            running_max: NonZeroUsize::MIN.saturating_add(7),
            waiting_max: 64,
            wait: Duration::from_secs(10),
            stall: Duration::from_secs(60),
            delivery: Duration::from_secs(15 * 60),
            tail: TailUse::Follow,
            runtime: None,
        }
    }
}

/// The route of [`PATH`], ready to be merged into a server's router. Every request sees the tables as they are when its query begins.
///
/// `counters` are raised by the requests; keep a clone to read them.
pub fn router(settings: Settings, session: Arc<Session>, counters: Counters) -> Router {
    let server = Server {
        session,
        authority: Authority::new(settings.token),
        admission: Admission::new(
            settings.running_max,
            settings.waiting_max,
            settings.wait,
            counters.clone(),
        ),
        patience: Patience { stall: settings.stall, delivery: settings.delivery },
        tail: settings.tail,
        runtime: settings.runtime,
        counters,
    };
    Router::new().route(PATH, post(ask).fallback(other_method)).with_state(Arc::new(server))
}

struct Server {
    session: Arc<Session>,
    authority: Authority,
    admission: Admission,
    patience: Patience,
    tail: TailUse,
    runtime: Option<Handle>,
    counters: Counters,
}

/// How long a query waits for its client: for one piece of the answer, and for all of them.
#[derive(Debug, Clone, Copy)]
struct Patience {
    stall: Duration,
    delivery: Duration,
}

async fn ask(State(server): State<Arc<Server>>, request: Request) -> Response {
    let course = server.counters.begin();
    match server.answer(request, &course).await {
        Ok(response) => response,
        Err(refusal) => {
            course.fail();
            refusal.log();
            refusal.into_response()
        }
    }
}

impl Server {
    async fn answer(&self, request: Request, course: &Course) -> Result<Response, Refusal> {
        self.authority.check(request.headers())?;
        let ask = request::check(&request, self.tail)?;
        let encoding = Encoding::accepted(request.headers())?;
        let ending = Ending::wanted(request.headers(), encoding);
        let sql = request::statement(request.into_body()).await?;
        let permit = self.admission.admit().await?;
        let (session, course) = (Arc::clone(&self.session), course.clone());
        let asked = Asked { sql, ask, encoding, ending };
        let runtime = self.runtime.clone().unwrap_or_else(Handle::current);
        let body = delivery::begin(session, asked, self.patience, permit, course, &runtime).await?;
        let trailers = ending.names().map(|names| (header::TRAILER, names));
        let headers = [
            (header::CONTENT_TYPE, encoding.content_type()),
            // What was asked is not to be found in anybody's cache.
            (header::CACHE_CONTROL, "no-store"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        ];
        let mut response = (StatusCode::OK, headers, body).into_response();
        response.headers_mut().extend(trailers);
        Ok(response)
    }
}

async fn other_method() -> Response {
    let refusal = Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "request", "questions are asked by POST")
        .hint(format!("curl --data-binary 'select 1' http://HOST:PORT{PATH}"));
    refusal.with_header(header::ALLOW, "POST").into_response()
}
