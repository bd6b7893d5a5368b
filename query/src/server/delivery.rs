//! One query from its statement to its last byte.
//!
//! A task of its own runs the query and writes its rows; a short channel between it and the connection makes it go as fast as the client reads. The task
//! belongs to the body: when the client goes, the connection drops the body, and with it the task, the query and its permit.

use super::Patience;
use super::accept::Encoding;
use super::admission::Permit;
use super::counters::Course;
use super::encode::{Encoder, pieces};
use super::refusal::Refusal;
use crate::answer::Answer;
use crate::error::{QueryError, QueryErrorKind};
use crate::session::Session;
use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use futures::{Stream, StreamExt, stream};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

/// Pieces that wait for a client: one to send while the next is made.
const PIECES_WAITING: usize = 2;

/// What the task hands to the connection. Without an end or a failure the task has come to grief.
enum Piece {
    Bytes(Bytes),
    End,
    Failed(Refusal),
}

/// How a task ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// With its last piece handed over.
    Told,
    /// Without, because its client took too long or has gone.
    Abandoned,
}

/// Why a task ended before its answer did.
enum Broken {
    /// The query, or writing what it gave.
    Failed(Refusal),
    /// Nobody takes the answer.
    Abandoned,
}

impl From<QueryError> for Broken {
    fn from(error: QueryError) -> Self {
        Self::Failed(error.into())
    }
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        let message = format!("the answer has a value that cannot be written: {error}");
        Self::Failed(QueryError::new(QueryErrorKind::Value, message).into())
    }
}

/// Starts the query and waits for its first rows, so that what fails until then is still an answer of its own.
pub(super) async fn begin(
    session: Arc<Session>,
    sql: String,
    encoding: Encoding,
    patience: Patience,
    permit: Permit,
    course: Course,
) -> Result<Body, Refusal> {
    let (sender, receiver) = mpsc::channel(PIECES_WAITING);
    let mut outlet = Outlet { pieces: sender, patience, waited: Duration::ZERO, course: course.clone() };
    let mut task = JoinSet::new();
    task.spawn(async move {
        let _permit = permit;
        outlet.run(&session, &sql, encoding).await
    });
    let mut delivery = Delivery { pieces: receiver, course, task };
    match delivery.pieces.recv().await {
        Some(Piece::Failed(refusal)) => Err(refusal),
        None => Err(lost()),
        Some(Piece::End) => {
            delivery.course.succeed();
            Ok(Body::empty())
        }
        Some(Piece::Bytes(first)) => Ok(Body::from_stream(stream::iter([Ok(first)]).chain(delivery.rest()))),
    }
}

fn lost() -> Refusal {
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the query came to an unforeseen end")
}

/// Not a failure of ours, so neither counted nor logged as one.
fn given_up() -> Refusal {
    Refusal::new(StatusCode::REQUEST_TIMEOUT, "request", "the client took too long to take its answer")
}

/// The connection's end.
struct Delivery {
    pieces: mpsc::Receiver<Piece>,
    course: Course,
    /// Aborted when this is dropped.
    task: JoinSet<Ended>,
}

impl Delivery {
    /// Ends well only with the answer's end. An error makes the connection break off without the last chunk.
    fn rest(self) -> impl Stream<Item = Result<Bytes, Refusal>> {
        stream::unfold(self, |mut delivery| async {
            let refusal = match delivery.pieces.recv().await {
                Some(Piece::End) => {
                    delivery.course.succeed();
                    return None;
                }
                Some(Piece::Bytes(bytes)) => return Some((Ok(bytes), delivery)),
                Some(Piece::Failed(refusal)) => refusal,
                None => match delivery.task.join_next().await {
                    Some(Ok(Ended::Abandoned)) => return Some((Err(given_up()), delivery)),
                    _ => lost(),
                },
            };
            delivery.course.fail();
            refusal.log();
            Some((Err(refusal), delivery))
        })
    }
}

/// The task's end.
struct Outlet {
    pieces: mpsc::Sender<Piece>,
    patience: Patience,
    /// How long the client has let us wait so far.
    waited: Duration,
    course: Course,
}

impl Outlet {
    async fn run(&mut self, session: &Session, sql: &str, encoding: Encoding) -> Ended {
        let last = match self.deliver(session, sql, encoding).await {
            Ok(()) => Piece::End,
            Err(Broken::Abandoned) => return Ended::Abandoned,
            Err(Broken::Failed(refusal)) => Piece::Failed(refusal),
        };
        match self.send(last).await {
            Ok(()) => Ended::Told,
            // Whoever does not take even this has gone, and then there is nobody to tell.
            Err(_) => Ended::Abandoned,
        }
    }

    async fn deliver(&mut self, session: &Session, sql: &str, encoding: Encoding) -> Result<(), Broken> {
        let mut answer: Answer = session.query(sql).await?;
        let schema = answer.schema();
        let mut encoder = Encoder::new(encoding, &schema)?;
        // It goes out with the first rows: until then, a failure can still have a status.
        let mut out = encoder.begin(&schema)?;
        while let Some(batch) = answer.next().await? {
            for piece in pieces(&batch) {
                encoder.write(&piece, &mut out)?;
                self.send_rows(piece.num_rows(), std::mem::take(&mut out)).await?;
            }
        }
        encoder.end(&mut out)?;
        self.send_rows(0, out).await
    }

    async fn send_rows(&mut self, rows: usize, out: Vec<u8>) -> Result<(), Broken> {
        if out.is_empty() {
            return Ok(());
        }
        let bytes = out.len();
        self.send(Piece::Bytes(out.into())).await?;
        self.course.deliver(rows, bytes);
        Ok(())
    }

    async fn send(&mut self, piece: Piece) -> Result<(), Broken> {
        let left = self.patience.delivery.saturating_sub(self.waited);
        let began = Instant::now();
        let sent = timeout(left.min(self.patience.stall), self.pieces.send(piece)).await;
        self.waited = self.waited.saturating_add(began.elapsed());
        match sent {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_gone)) => Err(Broken::Abandoned),
            Err(_elapsed) => {
                tracing::info!(
                    stall = ?self.patience.stall,
                    delivery = ?self.patience.delivery,
                    waited = ?self.waited,
                    "a client took too long to take its answer: its query was ended"
                );
                Err(Broken::Abandoned)
            }
        }
    }
}
