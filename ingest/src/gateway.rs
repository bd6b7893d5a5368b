//! Our own MQTT listener: devices connect to it, and what they publish goes to the log.
//!
//! It takes MQTT 3.1.1 and 5 on one port and only takes: a SUBSCRIBE is answered by a failing SUBACK, and the connection stays. A message is acknowledged when
//! the log has it durably, never before; if the log fails, the connection is closed, so that the client sends the message again. The stages of a connection
//! are `handshake` (CONNECT to CONNACK) and `connection` (everything else); `wire` is the protocol, `registry` who is connected, `wills` what those leave who
//! are not; `housekeeping` is what happens beside. A connection is any stream of bytes: `peer` puts TLS beneath it. Who a device is, and what it may publish to,
//! is asked of [`Access`].
//!
//! It never looks into a payload, delivers no message, and decides nothing about what is in one.

pub(crate) mod acks;
mod connection;
mod counters;
mod end;
mod handshake;
mod housekeeping;
mod incoming;
mod listeners;
mod lost;
mod message;
mod peer;
mod registry;
pub(crate) mod routes;
mod settings;
#[cfg(test)]
pub(crate) mod tests;
mod violation;
mod wills;
pub(crate) mod wire;

pub use counters::{Counters, Counts};
pub use listeners::Listeners;
pub use settings::GatewaySettings;

use crate::clock::Clock;
use crate::gateway::handshake::Room;
use crate::gateway::housekeeping::Housekeeping;
use crate::gateway::lost::Lost;
use crate::gateway::registry::Registry;
use crate::gateway::routes::Routes;
use crate::gateway::wills::Wills;
use crate::identity::Access;
use crate::lifecycle::Lifecycle;
use crate::route::{Route, Router};
use crate::session::{SessionError, Sessions};
use millstream_log::Log;
use std::fmt::Debug;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

/// Connections beyond the limit that are told so at a time; further ones are closed without a word.
const REFUSING_MAX: usize = 64;

/// Pause after a failed accept: most often the process has no file descriptor left, and only time gives one back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A connection that ends waits at most once each for its acknowledgements, its farewell, its session, its Will and its messages of QoS 0.
const DRAIN_STEPS: u32 = 5;

/// Is told of every topic once, when something is first published to it. Bounded: after some thousand topics it hears of no new ones.
pub trait Observer: Send + Sync + Debug {
    /// The first message on a topic goes this way. Called from the connection's task, so it must not block.
    fn first_seen(&self, topic: &str, route: &Route);

    /// Where a gateway counts what happens. By itself nobody reads it.
    fn counters(&self) -> Counters {
        Counters::default()
    }
}

/// Looks away.
impl Observer for () {
    fn first_seen(&self, _topic: &str, _route: &Route) {}
}

/// Why a gateway cannot run.
#[derive(Debug, Error)]
pub enum GatewayError {
    /// The sessions cannot be read or written.
    #[error("take up the sessions")]
    Sessions(#[from] SessionError),
    /// There is a listener for TLS, and no certificate to show there.
    #[error("a listener for TLS needs a certificate")]
    NoCertificate,
}

/// What all connections of a gateway use together.
#[derive(Debug)]
struct Shared {
    settings: GatewaySettings,
    access: Arc<Access>,
    log: Arc<dyn Log>,
    routes: Routes,
    sessions: Sessions,
    clock: Arc<dyn Clock>,
    lifecycle: Lifecycle,
    registry: Arc<Registry>,
    /// Bytes of messages that may still be given to the log.
    in_flight: Arc<Semaphore>,
    /// Bytes of long packets that may still be read before they are there as a whole.
    undecoded: Arc<Semaphore>,
    /// Bytes that the Wills of connected clients may still take.
    will_room: Arc<Semaphore>,
    /// Wills that wait for their delay.
    wills: Wills,
    /// Messages of QoS 0 that the log did not take.
    lost: Lost,
    counters: Counters,
}

impl Shared {
    /// Waits for the room of a long packet; in the order of the calls.
    fn undecoded_room(
        &self,
        bytes: usize,
    ) -> impl Future<Output = Result<OwnedSemaphorePermit, AcquireError>> + use<> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(self.settings.undecoded_bytes);
        Arc::clone(&self.undecoded).acquire_many_owned(bytes)
    }

    /// Messages of QoS 0 were lost.
    fn lose(&self, messages: u64) {
        self.lost.count(messages);
        self.counters.lose(messages);
    }

    /// Room for a Will; none if there is none now.
    fn will_room(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.will_room).try_acquire_many_owned(u32::try_from(bytes).ok()?).ok()
    }
}

/// Serves devices until the shutdown is asked for; then accepts nothing new, acknowledges what was appended, says goodbye and returns when every task has
/// ended. How long that takes is bounded by a few times the settings' `drain_timeout`.
///
/// # Errors
/// If the sessions cannot be taken up, or TLS has no certificate. Nothing that happens later ends it: a device harms only itself, and what the log or the sessions refuse is not
/// acknowledged.
#[expect(
    clippy::too_many_arguments,
    reason = "each is an edge that a test replaces, and they have nothing in common"
)]
pub async fn run(
    settings: GatewaySettings,
    listeners: Listeners,
    access: Arc<Access>,
    log: Arc<dyn Log>,
    router: Arc<Router>,
    sessions: Sessions,
    clock: Arc<dyn Clock>,
    observer: Arc<dyn Observer>,
    shutdown: CancellationToken,
) -> Result<(), GatewayError> {
    if listeners.tls.is_some() && access.server().is_none() {
        return Err(GatewayError::NoCertificate);
    }
    sessions.restart(clock.now()).await?;
    let (lifecycle, writer) = Lifecycle::new(Arc::clone(&clock));
    let in_flight = Arc::new(Semaphore::new(settings.in_flight_bytes as usize));
    let undecoded = Arc::new(Semaphore::new(settings.undecoded_bytes as usize));
    let will_room = Arc::new(Semaphore::new(settings.will_bytes as usize));
    let mut writers = JoinSet::new();
    writers.spawn(writer.run(Arc::clone(&log)));
    let shared = Arc::new(Shared {
        counters: observer.counters(),
        routes: Routes::new(router, observer),
        registry: Arc::default(),
        settings,
        access,
        log,
        sessions,
        clock,
        lifecycle,
        in_flight,
        undecoded,
        will_room,
        wills: Wills::default(),
        lost: Lost::default(),
    });
    let housekeeping = Housekeeping::start(&shared);
    let mut connections = JoinSet::new();
    accept(&shared, listeners, &mut connections, &shutdown).await;
    drain(&mut connections, shared.settings.drain_timeout * DRAIN_STEPS).await;
    housekeeping.stop(&shared).await;
    close(shared, writers).await;
    Ok(())
}

/// Accepts connections until the shutdown is asked for, and reports those that failed in a way they should not.
async fn accept(
    shared: &Arc<Shared>,
    listeners: Listeners,
    connections: &mut JoinSet<()>,
    shutdown: &CancellationToken,
) {
    let mut failing = false;
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            Some(ended) = connections.join_next() => {
                report(ended);
                continue;
            }
            accepted = listeners.accept() => accepted,
        };
        match accepted {
            Ok((stream, address, transport)) => {
                failing = false;
                let room =
                    if connections.len() < shared.settings.connections_max { Room::Free } else { Room::Full };
                if connections.len() >= shared.settings.connections_max.saturating_add(REFUSING_MAX) {
                    continue;
                }
                if stream.set_nodelay(true).is_err() {
                    continue;
                }
                connections.spawn(peer::serve(
                    stream,
                    address,
                    transport,
                    room,
                    Arc::clone(shared),
                    shutdown.child_token(),
                ));
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                if !failing {
                    error!(%error, "connections cannot be accepted, trying again");
                }
                failing = true;
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    () = tokio::time::sleep(ACCEPT_PAUSE) => {}
                }
            }
        }
    }
}

/// Whether it was the connection that failed, before it was accepted, and not the listener.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        error!(%error, "a connection failed by a fault of the program; the others go on");
    }
}

/// Waits until every connection has wound up, or gives up on those that a silent log or client holds.
async fn drain(connections: &mut JoinSet<()>, limit: Duration) {
    let drained = tokio::time::timeout(limit, async {
        while let Some(ended) = connections.join_next().await {
            report(ended);
        }
    });
    if drained.await.is_err() {
        warn!(connections = connections.len(), "connections were cut because they did not end in time");
        connections.shutdown().await;
    }
}

/// Writes the last lifecycle events and closes the sessions.
async fn close(shared: Arc<Shared>, mut writers: JoinSet<()>) {
    let Some(Shared { settings, sessions, lifecycle, .. }) = Arc::into_inner(shared) else {
        error!("a connection outlived its gateway");
        return;
    };
    drop(lifecycle);
    let written =
        tokio::time::timeout(settings.drain_timeout, async { while writers.join_next().await.is_some() {} });
    if written.await.is_err() {
        warn!("the last lifecycle events were lost because the log did not take them in time");
        writers.shutdown().await;
    }
    sessions.close().await;
    info!("the gateway has stopped");
}
