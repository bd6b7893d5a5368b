//! Connections over HTTP: how many there are, how long one may say nothing, and which one makes room for the next.
//!
//! Whoever opens connections and says nothing takes nobody's place: they are closed after a while, and the oldest of them at once where a place is needed.

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::response::Response;
use axum::serve::Listener;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// What connections may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Connections at a time. Probes, a scraper, and a client for each query that may run or wait need far fewer.
    pub(super) connections: usize,
    /// From the connection, or the last answer, to the whole head of the next request. Beyond it the connection ends.
    pub(super) silence: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { connections: 512, silence: Duration::from_secs(30) }
    }
}

/// Answers until the token is cancelled, and then what was asked before.
pub(super) async fn answer(
    mut listener: TcpListener,
    router: Router,
    bounds: Bounds,
    shutdown: CancellationToken,
) {
    let places = Arc::new(Places::default());
    let mut connections = JoinSet::new();
    loop {
        let stream = tokio::select! {
            () = shutdown.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            (stream, _) = Listener::accept(&mut listener) => stream,
        };
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = make_room(&mut connections, &places, bounds.connections) => {}
        }
        let place = Place::take(&places);
        connections.spawn(serve(stream, router.clone(), place, bounds.silence, shutdown.clone()));
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Ends the connection that has asked for nothing the longest, where all places are taken; waits where all of them are being answered.
async fn make_room(connections: &mut JoinSet<()>, places: &Places, most: usize) {
    while connections.len() >= most {
        places.close_idlest();
        tokio::select! {
            _ = connections.join_next() => {}
            () = places.idle.notified() => {}
        }
    }
}

/// Serves one connection to its end.
async fn serve(
    stream: TcpStream,
    router: Router,
    place: Place,
    silence: Duration,
    shutdown: CancellationToken,
) {
    let router = TowerToHyperService::new(router);
    let answering = service_fn(|request: Request<Incoming>| {
        let busy = place.busy();
        let answer = router.call(request);
        async move {
            let answer: Response = answer.await?;
            Ok::<_, Infallible>(answer.map(|body| Answering { body, _busy: busy }))
        }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(silence);
    let mut connection = pin!(server.serve_connection(TokioIo::new(stream), answering));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = place.closed.cancelled() => return,
        () = shutdown.cancelled() => {
            if place.is_idle() {
                return;
            }
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection over HTTP ended in its middle");
    }
}

/// All connections, by a number of their own. Each writes its own entry; who needs a place reads them all.
#[derive(Debug, Default)]
struct Places {
    taken: Mutex<Taken>,
    /// Told whenever a connection has been answered.
    idle: Notify,
}

#[derive(Debug, Default)]
struct Taken {
    next: u64,
    by_number: HashMap<u64, Seat>,
}

#[derive(Debug)]
struct Seat {
    /// Since when it asks for nothing; none while it is answered.
    idle_since: Option<Instant>,
    close: CancellationToken,
}

impl Places {
    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close_idlest(&self) {
        let taken = self.taken();
        let idle = taken.by_number.iter().filter_map(|(number, seat)| Some((seat.idle_since?, number, seat)));
        if let Some((_, _, seat)) = idle.min_by_key(|(since, number, _)| (*since, **number)) {
            seat.close.cancel();
        }
    }

    fn set(&self, number: u64, idle_since: Option<Instant>) {
        if let Some(seat) = self.taken().by_number.get_mut(&number) {
            seat.idle_since = idle_since;
        }
    }
}

/// A connection's place, given back when it is dropped.
#[derive(Debug)]
struct Place {
    places: Arc<Places>,
    number: u64,
    closed: CancellationToken,
}

impl Place {
    fn take(places: &Arc<Places>) -> Self {
        let closed = CancellationToken::new();
        let mut taken = places.taken();
        let number = taken.next;
        taken.next += 1;
        taken.by_number.insert(number, Seat { idle_since: Some(Instant::now()), close: closed.clone() });
        drop(taken);
        Self { places: Arc::clone(places), number, closed }
    }

    fn is_idle(&self) -> bool {
        self.places.taken().by_number.get(&self.number).is_some_and(|seat| seat.idle_since.is_some())
    }

    fn busy(&self) -> Busy {
        self.places.set(self.number, None);
        Busy { places: Arc::clone(&self.places), number: self.number }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.taken().by_number.remove(&self.number);
    }
}

/// As long as it lives, a connection is being answered.
#[derive(Debug)]
struct Busy {
    places: Arc<Places>,
    number: u64,
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.places.set(self.number, Some(Instant::now()));
        self.places.idle.notify_one();
    }
}

/// A body, by whose end the connection is answered.
#[derive(Debug)]
struct Answering {
    body: Body,
    _busy: Busy,
}

impl HttpBody for Answering {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use std::net::SocketAddr;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// A server that answers `/` at once, and `/slow` never.
    async fn start(bounds: Bounds) -> (SocketAddr, JoinSet<()>, CancellationToken) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new()
            .route("/", get(|| async { "here" }))
            .route("/slow", get(|| async { std::future::pending::<()>().await }));
        let (mut tasks, stop) = (JoinSet::new(), CancellationToken::new());
        tasks.spawn(answer(listener, router, bounds, stop.clone()));
        (address, tasks, stop)
    }

    async fn asked(address: SocketAddr, head: &str) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        stream
    }

    /// All that comes until the server ends the connection.
    async fn rest(mut stream: TcpStream) -> String {
        let mut all = Vec::new();
        // A connection that is cut off may end with a reset.
        drop(stream.read_to_end(&mut all).await);
        String::from_utf8(all).unwrap()
    }

    const HEAD: &str = "GET / HTTP/1.1\r\nhost: h\r\n\r\n";

    #[tokio::test]
    async fn who_says_nothing_makes_room_for_who_asks() {
        let bounds = Bounds { connections: 2, silence: Duration::from_secs(3600) };
        let (address, _tasks, _stop) = start(bounds).await;
        let silent = [asked(address, "").await, asked(address, "GET / HT").await];
        let again = asked(address, HEAD).await;
        let other = asked(address, "GET / HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n").await;
        assert!(rest(other).await.ends_with("here"));
        for stream in silent {
            assert_eq!(rest(stream).await, "");
        }
        drop(again);
    }

    #[tokio::test]
    async fn who_is_being_answered_keeps_its_place() {
        let bounds = Bounds { connections: 2, silence: Duration::from_secs(3600) };
        let (address, _tasks, _stop) = start(bounds).await;
        let mut slow = asked(address, "GET /slow HTTP/1.1\r\nhost: h\r\n\r\n").await;
        for _ in 0..3 {
            let other = asked(address, "GET / HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n").await;
            assert!(rest(other).await.ends_with("here"));
            drop(asked(address, "").await);
        }
        let nothing = slow.try_read(&mut [0]).unwrap_err();
        assert_eq!(nothing.kind(), std::io::ErrorKind::WouldBlock);
        slow.shutdown().await.unwrap();
    }

    #[tokio::test]
    async fn silence_ends_a_connection() {
        let bounds = Bounds { connections: 8, silence: Duration::from_millis(50) };
        let (address, _tasks, _stop) = start(bounds).await;
        for (head, expected) in [("", ""), ("GET / HTTP/1.1\r\nho", ""), (HEAD, "here")] {
            let said = rest(asked(address, head).await).await;
            assert!(said.ends_with(expected), "{head:?} {said:?}");
        }
    }

    #[tokio::test]
    async fn a_silent_connection_does_not_hold_up_the_end() {
        let (address, mut tasks, stop) = start(Bounds::default()).await;
        let silent = asked(address, "").await;
        stop.cancel();
        tasks.join_next().await.unwrap().unwrap();
        assert_eq!(rest(silent).await, "");
    }
}
