//! One query from its statement to its last byte.
//!
//! A task of its own, on the threads that are for queries, runs the query and writes its rows; a short channel between it and the connection makes it go as fast as the client reads. The task
//! belongs to the body: when the client goes, the connection drops the body, and with it the task, the query and its permit.

use super::Patience;
use super::accept::Encoding;
use super::admission::Permit;
use super::counters::Course;
use super::encode::{Encoder, pieces};
use super::refusal::Refusal;
use super::trailer::Ending;
use crate::answer::{Answer, ScanMetrics};
use crate::error::{QueryError, QueryErrorKind};
use crate::session::{Ask, Session};
use axum::body::{Body, Bytes, HttpBody};
use axum::http::StatusCode;
use http_body::Frame;
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

/// Pieces that wait for a client: one to send while the next is made.
const PIECES_WAITING: usize = 2;

/// What the task hands to the connection. Without an end or a failure the task has come to grief.
enum Piece {
    Bytes(Bytes),
    End(ScanMetrics),
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

/// What is asked, and how the answer is wanted.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) sql: String,
    pub(super) ask: Ask,
    pub(super) encoding: Encoding,
    pub(super) ending: Ending,
}

/// Starts the query and waits for its first rows, so that what fails until then is still an answer of its own.
pub(super) async fn begin(
    session: Arc<Session>,
    asked: Asked,
    patience: Patience,
    permit: Permit,
    course: Course,
    runtime: &Handle,
) -> Result<Body, Refusal> {
    let (sender, pieces) = mpsc::channel(PIECES_WAITING);
    let mut outlet = Outlet { pieces: sender, patience, waited: Duration::ZERO, course: course.clone() };
    let ending = asked.ending;
    let mut task = JoinSet::new();
    let work = async move {
        let _permit = permit;
        outlet.run(&session, &asked).await
    };
    task.spawn_on(work, runtime);
    let mut delivery = Delivery { pieces, course, task, ending, frames: VecDeque::new(), over: false };
    match delivery.pieces.recv().await {
        Some(Piece::Failed(refusal)) => return Err(refusal),
        None => return Err(lost()),
        Some(Piece::End(metrics)) => delivery.succeed(&metrics),
        Some(Piece::Bytes(first)) => delivery.frames.push_back(Frame::data(first)),
    }
    Ok(Body::new(delivery))
}

fn lost() -> Refusal {
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the query came to an unforeseen end")
}

/// Not a failure of ours, so neither counted nor logged as one.
fn given_up() -> Refusal {
    Refusal::new(StatusCode::REQUEST_TIMEOUT, "request", "the client took too long to take its answer")
}

/// The connection's end. Over only with the answer's end, or with a trailer that says why it broke off; any other error makes the connection break off
/// without the last chunk.
struct Delivery {
    pieces: mpsc::Receiver<Piece>,
    course: Course,
    /// Aborted when this is dropped.
    task: JoinSet<Ended>,
    ending: Ending,
    /// To be sent before anything else.
    frames: VecDeque<Frame<Bytes>>,
    /// Whether nothing comes behind those.
    over: bool,
}

impl Delivery {
    fn succeed(&mut self, metrics: &ScanMetrics) {
        self.course.succeed();
        self.frames.extend(self.ending.of_whole(metrics).map(Frame::trailers));
        self.over = true;
    }

    /// Gives back what cannot be told in good order.
    fn fail(&mut self, refusal: Refusal) -> Result<(), Refusal> {
        self.course.fail();
        refusal.log();
        self.over = true;
        match self.ending.of_broken(&refusal) {
            Some(trailers) => {
                self.frames.push_back(Frame::trailers(trailers));
                Ok(())
            }
            None => Err(refusal),
        }
    }

    /// Takes what the task hands over next.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Refusal>> {
        let taken = match ready!(self.pieces.poll_recv(cx)) {
            Some(Piece::End(metrics)) => {
                self.succeed(&metrics);
                Ok(())
            }
            Some(Piece::Bytes(bytes)) => {
                self.frames.push_back(Frame::data(bytes));
                Ok(())
            }
            Some(Piece::Failed(refusal)) => self.fail(refusal),
            None => match ready!(self.task.poll_join_next(cx)) {
                Some(Ok(Ended::Abandoned)) => {
                    self.over = true;
                    Err(given_up())
                }
                _ => self.fail(lost()),
            },
        };
        Poll::Ready(taken)
    }
}

impl HttpBody for Delivery {
    type Data = Bytes;
    type Error = Refusal;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Refusal>>> {
        loop {
            if let Some(frame) = self.frames.pop_front() {
                return Poll::Ready(Some(Ok(frame)));
            }
            if self.over {
                return Poll::Ready(None);
            }
            if let Err(refusal) = ready!(self.poll_next(cx)) {
                return Poll::Ready(Some(Err(refusal)));
            }
        }
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
    async fn run(&mut self, session: &Session, asked: &Asked) -> Ended {
        let last = match self.deliver(session, asked).await {
            Ok(metrics) => Piece::End(metrics),
            Err(Broken::Abandoned) => return Ended::Abandoned,
            Err(Broken::Failed(refusal)) => Piece::Failed(refusal),
        };
        match self.send(last).await {
            Ok(()) => Ended::Told,
            // Whoever does not take even this has gone, and then there is nobody to tell.
            Err(_) => Ended::Abandoned,
        }
    }

    async fn deliver(&mut self, session: &Session, asked: &Asked) -> Result<ScanMetrics, Broken> {
        let mut answer: Answer = session.ask(&asked.sql, asked.ask).await?;
        let schema = answer.schema();
        let mut encoder = Encoder::new(asked.encoding, &schema)?;
        // It goes out with the first rows: until then, a failure can still have a status.
        let mut out = encoder.begin(&schema)?;
        while let Some(batch) = answer.next().await? {
            for piece in pieces(&batch) {
                encoder.write(&piece, &mut out)?;
                self.send_rows(piece.num_rows(), std::mem::take(&mut out)).await?;
            }
        }
        encoder.end(&mut out)?;
        self.send_rows(0, out).await?;
        Ok(answer.metrics())
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
