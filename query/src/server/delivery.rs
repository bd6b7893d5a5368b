//! One query from its statement to its last byte.
//!
//! A task of its own runs the query and writes its rows; a short channel between it and the connection makes it go as fast as the client reads. The task
//! belongs to the body: when the client goes, the connection drops the body, and with it the task, the query and its permit.

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
use tokio::time::timeout;

/// Pieces that wait for a client: one to send while the next is made.
const PIECES_WAITING: usize = 2;

/// What the task hands to the connection. Without an end or a failure the task has come to grief.
enum Piece {
    Bytes(Bytes),
    End,
    Failed(Refusal),
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
    stall: Duration,
    permit: Permit,
    course: Course,
) -> Result<Body, Refusal> {
    let (sender, receiver) = mpsc::channel(PIECES_WAITING);
    let outlet = Outlet { pieces: sender, stall, course: course.clone() };
    let mut task = JoinSet::new();
    task.spawn(async move {
        outlet.run(&session, &sql, encoding).await;
        drop(permit);
    });
    let mut delivery = Delivery { pieces: receiver, course, _task: task };
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

/// The connection's end.
struct Delivery {
    pieces: mpsc::Receiver<Piece>,
    course: Course,
    /// Aborted when this is dropped.
    _task: JoinSet<()>,
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
                None => lost(),
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
    stall: Duration,
    course: Course,
}

impl Outlet {
    async fn run(&self, session: &Session, sql: &str, encoding: Encoding) {
        let last = match self.deliver(session, sql, encoding).await {
            Ok(()) => Piece::End,
            Err(Broken::Abandoned) => return,
            Err(Broken::Failed(refusal)) => Piece::Failed(refusal),
        };
        // Whoever does not take even this has gone, and then there is nobody to tell.
        drop(self.send(last).await);
    }

    async fn deliver(&self, session: &Session, sql: &str, encoding: Encoding) -> Result<(), Broken> {
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

    async fn send_rows(&self, rows: usize, out: Vec<u8>) -> Result<(), Broken> {
        if out.is_empty() {
            return Ok(());
        }
        let bytes = out.len();
        self.send(Piece::Bytes(out.into())).await?;
        self.course.deliver(rows, bytes);
        Ok(())
    }

    async fn send(&self, piece: Piece) -> Result<(), Broken> {
        match timeout(self.stall, self.pieces.send(piece)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_gone)) => Err(Broken::Abandoned),
            Err(_elapsed) => {
                tracing::info!(stall = ?self.stall, "a client took no bytes of its answer: its query was ended");
                Err(Broken::Abandoned)
            }
        }
    }
}
