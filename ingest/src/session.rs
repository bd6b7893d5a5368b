//! Which sessions exist, kept durably, so that a CONNACK's "session present" is true.
//!
//! A client resends what was not acknowledged only if it is told that its session is present, and many libraries clear their store otherwise. And a message
//! of QoS 2 that is resent after a reconnect is the same message only if its packet identifier is still known. So both outlive the process; nothing else of a
//! session does, because the gateway delivers no messages.
//!
//! All work is done by one thread of its own, because it waits for the disk; what has queued up meanwhile goes into one commit.

mod store;
#[cfg(test)]
pub(crate) mod tests;

use crate::identity::access::Owner;
use crate::session::store::Store;
use millstream_model::time::Micros;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};
use tracing::warn;

/// Requests that may wait for the thread; more wait at their sender.
const QUEUE_MAX: usize = 1024;

/// Requests that go into one commit.
const BATCH_MAX: usize = 256;

/// A failure of the sessions' storage.
#[derive(Debug, Clone, Error)]
pub enum SessionError {
    /// The file cannot be opened, read or written.
    #[error("{action} the sessions in {path}")]
    Storage {
        /// What was tried, as in "write".
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The storage's error.
        #[source]
        source: Arc<redb::Error>,
    },
    /// The thread could not be started.
    #[error("start the thread of the sessions")]
    Thread(#[source] Arc<std::io::Error>),
    /// The thread has ended.
    #[error("the sessions are closed")]
    Closed,
    /// The session is somebody else's.
    #[error("the session belongs to somebody else")]
    Owned,
    /// A new session would be one too many.
    #[error("there are {0} sessions already")]
    TooMany(u64),
}

/// The durable sessions of one gateway.
#[derive(Debug)]
pub struct Sessions {
    requests: mpsc::Sender<Request>,
    thread: JoinHandle<()>,
}

/// What a connecting client finds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Resumed {
    /// Whether there was a session, and the client wants it.
    pub(crate) present: bool,
    /// Packet identifiers of messages of QoS 2 that the log has and the client has not released.
    pub(crate) open: Vec<NonZeroU16>,
}

/// How a client connects.
#[derive(Debug, Clone)]
pub(crate) struct Start {
    pub(crate) client_id: Arc<str>,
    /// To whom the session belongs. One that belongs to somebody else is left alone.
    pub(crate) owner: Owner,
    /// Forget what there was.
    pub(crate) clean: bool,
    /// Seconds that the session outlives the connection.
    pub(crate) expiry: u32,
    pub(crate) now: Micros,
    /// Most sessions there may be.
    pub(crate) sessions_max: u64,
}

/// What was asked for, on its way to the disk.
pub(crate) type Answer<T> = oneshot::Receiver<Result<T, SessionError>>;
type Respond<T> = oneshot::Sender<Result<T, SessionError>>;

/// What the thread is asked to do.
#[derive(Debug)]
enum Request {
    Start(Start, Respond<Resumed>),
    Received(Arc<str>, NonZeroU16, Respond<()>),
    Released(Arc<str>, NonZeroU16, Respond<()>),
    End { client_id: Arc<str>, expiry: u32, now: Micros, respond: Respond<()> },
    Restart(Micros, Respond<()>),
    Purge(Micros, Respond<()>),
}

impl Sessions {
    /// Opens the file, or makes it.
    ///
    /// # Errors
    /// If it cannot be opened, or another process has it open.
    pub fn open(path: &Path) -> Result<Self, SessionError> {
        Self::start(Store::open(path)?)
    }

    /// Sessions that live as long as the value: for tests.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn in_memory() -> Result<Self, SessionError> {
        Self::start(Store::in_memory()?)
    }

    fn start(store: Store) -> Result<Self, SessionError> {
        let (requests, receiver) = mpsc::channel(QUEUE_MAX);
        let thread =
            std::thread::Builder::new().name("sessions".to_owned()).spawn(move || work(store, receiver));
        Ok(Self { requests, thread: thread.map_err(|error| SessionError::Thread(Arc::new(error)))? })
    }

    /// Waits until everything that was asked for is done, and closes the file.
    pub(crate) async fn close(self) {
        drop(self.requests);
        let joined = tokio::task::spawn_blocking(move || self.thread.join()).await;
        if !matches!(joined, Ok(Ok(()))) {
            warn!("the thread of the sessions did not end in order");
        }
    }

    /// A client connects: finds its session, or begins one, or forgets it. Durable when it returns.
    pub(crate) async fn begin(&self, start: Start) -> Result<Resumed, SessionError> {
        self.ask(|respond| Request::Start(start, respond)).await
    }

    /// A message of QoS 2 is in the log. Waits only for room in the queue; the answer comes when it is durable, in the order of the calls.
    pub(crate) async fn received(&self, client_id: &Arc<str>, id: NonZeroU16) -> Answer<()> {
        self.send(|respond| Request::Received(Arc::clone(client_id), id, respond)).await
    }

    /// The client has released the identifier; likewise.
    pub(crate) async fn released(&self, client_id: &Arc<str>, id: NonZeroU16) -> Answer<()> {
        self.send(|respond| Request::Released(Arc::clone(client_id), id, respond)).await
    }

    /// The connection has ended: the session lives so many seconds longer.
    pub(crate) async fn end(
        &self,
        client_id: &Arc<str>,
        expiry: u32,
        now: Micros,
    ) -> Result<(), SessionError> {
        self.ask(|respond| Request::End { client_id: Arc::clone(client_id), expiry, now, respond }).await
    }

    /// The gateway starts: whoever was connected when it stopped has been away since now, and what has expired is forgotten.
    pub(crate) async fn restart(&self, now: Micros) -> Result<(), SessionError> {
        self.ask(|respond| Request::Restart(now, respond)).await
    }

    /// Forgets the sessions that have expired.
    pub(crate) async fn purge(&self, now: Micros) -> Result<(), SessionError> {
        self.ask(|respond| Request::Purge(now, respond)).await
    }

    async fn ask<T>(&self, request: impl FnOnce(Respond<T>) -> Request) -> Result<T, SessionError> {
        self.send(request).await.await.unwrap_or(Err(SessionError::Closed))
    }

    async fn send<T>(&self, request: impl FnOnce(Respond<T>) -> Request) -> Answer<T> {
        let (respond, answer) = oneshot::channel();
        // Where the thread is gone, the request is dropped with its end of the answer, and that is how the caller hears of it.
        drop(self.requests.send(request(respond)).await);
        answer
    }
}

impl Request {
    /// Answers without having done it.
    fn refuse(self, error: SessionError) {
        // Whoever asked may be gone: then nobody needs the answer.
        match self {
            Self::Start(_, respond) => drop(respond.send(Err(error))),
            Self::Received(_, _, respond)
            | Self::Released(_, _, respond)
            | Self::End { respond, .. }
            | Self::Restart(_, respond)
            | Self::Purge(_, respond) => drop(respond.send(Err(error))),
        }
    }
}

/// Answers one request, once it is known whether the transaction was committed.
struct Later(Box<dyn FnOnce(Result<(), SessionError>)>);

impl Later {
    fn new<T: 'static>(respond: Respond<T>, done: Result<T, SessionError>) -> Self {
        Self(Box::new(move |committed| drop(respond.send(committed.and(done)))))
    }
}

/// The thread: takes what waits, does it in one transaction, answers.
fn work(mut store: Store, mut requests: mpsc::Receiver<Request>) {
    let mut batch = Vec::with_capacity(BATCH_MAX);
    while requests.blocking_recv_many(&mut batch, BATCH_MAX) > 0 {
        let mut answers = Vec::with_capacity(batch.len());
        let mut waiting = batch.drain(..);
        let committed = store.commit(|sessions| {
            waiting.by_ref().try_for_each(|request| {
                let (answer, done) = apply(sessions, request);
                answers.push(answer);
                done
            })
        });
        for Later(answer) in answers {
            answer(committed.clone());
        }
        if let Err(error) = committed {
            warn!(error = &error as &dyn std::error::Error, "sessions cannot be kept");
            waiting.for_each(|request| request.refuse(error.clone()));
        }
    }
}

/// Does one request inside the transaction: how to answer it, and whether the transaction can go on.
fn apply(sessions: &mut store::Transaction<'_>, request: Request) -> (Later, Result<(), SessionError>) {
    fn answer<T: 'static>(
        respond: Respond<T>,
        done: Result<T, SessionError>,
    ) -> (Later, Result<(), SessionError>) {
        let goes_on = match &done {
            // A refusal is an answer, not a failure of the transaction.
            Ok(_) | Err(SessionError::TooMany(_) | SessionError::Owned) => Ok(()),
            Err(error) => Err(error.clone()),
        };
        (Later::new(respond, done), goes_on)
    }
    match request {
        Request::Start(start, respond) => answer(respond, sessions.start(&start)),
        Request::Received(client_id, id, respond) => answer(respond, sessions.received(&client_id, id)),
        Request::Released(client_id, id, respond) => answer(respond, sessions.released(&client_id, id)),
        Request::End { client_id, expiry, now, respond } => {
            answer(respond, sessions.end(&client_id, expiry, now))
        }
        Request::Restart(now, respond) => answer(respond, sessions.restart(now)),
        Request::Purge(now, respond) => answer(respond, sessions.purge(now)),
    }
}
