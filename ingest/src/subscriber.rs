//! Our client of somebody else's broker: subscribes, and what the broker delivers goes to the log.
//!
//! A message is acknowledged when the log has it durably, in the order of the messages; if the log fails, the connection ends, so that the broker sends it again.
//! One task serves a subscription: `link` dials and greets, `connection` takes messages until the connection ends, and this module begins anew, for ever, with
//! growing pauses. The broker keeps the session meanwhile. `inbox`, `publish` and `wire` are the protocol, both versions behind one set of types.
//!
//! What the broker holds back, and what it forgets:
//! - **The session** it keeps as long as it likes. Where that is shorter than was asked, and where it is gone when we come back, it is said: in the program's log,
//!   in the status, and by [`probe`].
//! - **QoS.** It subscribes at QoS 1. A message of QoS 0 is delivered as such, and lost when the log or the connection fails.
//! - **Retained messages.** A subscription that is new to the broker gets what it retains, as rows. One that the session had before does not, so that a
//!   reconnect adds no rows: to MQTT 5 brokers we say so, of a 3.1.1 broker such messages are dropped and counted. That is only done once all of them were
//!   acknowledged, which a live message behind them shows; so a 3.1.1 broker's retained messages may become rows again when the process starts anew.
//! - **Filters that are gone.** The session still has them. What matches no configured filter is acknowledged, dropped and counted. With a group, the same
//!   filters without it are unsubscribed; another group's cannot be known, and stay until the session ends.
//! - **Too large.** No packet limit is announced: a broker drops in silence what is larger. Of a payload beyond `message_max` the log gets the head, of a packet
//!   beyond `packet_max` no more than that is ever in memory, and both are acknowledged: a broker would send them again and again, and nothing else.
//! - **The device** is what the topic names, else the topic itself: a broker does not say who published.
//! - **Doubles.** When a connection ends, the broker sends again what it has no acknowledgement of. What the log had of it by then is in the log twice.
//!
//! It never publishes, never looks into a payload, and never acknowledges from memory.

mod connection;
mod inbox;
mod link;
mod malformed;
mod mark;
mod message;
mod publish;
mod retry;
mod settings;
mod sieve;
mod term;
#[cfg(test)]
mod tests;
mod tls;
mod wire;

pub use settings::{
    BadBroker, BadFilter, BadVersion, Broker, MqttVersion, SubscriberSettings, Transport, check_filter,
    check_group,
};
pub use term::{Seconds, SessionTerm};
pub use tls::TlsError;

use crate::clock::Clock;
use crate::gateway::Observer;
use crate::gateway::routes::Routes;
use crate::route::Router;
use connection::{Connection, End};
use link::{Link, LinkError};
use mark::Mark;
use message::Limits;
use millstream_log::Log;
use retry::Retry;
use sieve::Sieve;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::sync::watch;
use tokio::task::JoinError;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use wire::{Granted, Session};

/// Why a subscriber cannot begin.
#[derive(Debug, Error)]
pub enum SubscriberError {
    /// A filter or the group is none, or there is no filter.
    #[error("subscribe to {filter:?}")]
    Filter {
        /// The filter or group.
        filter: String,
        /// What is wrong with it.
        #[source]
        source: BadFilter,
    },
    /// The broker keeps the session by this name.
    #[error("the client id is empty or longer than 65535 bytes")]
    ClientId,
    /// The files for TLS are missing or of no use.
    #[error("prepare TLS")]
    Tls(#[from] TlsError),
    /// Reading those files failed by a fault of the program.
    #[error("a task failed")]
    Task(#[from] JoinError),
}

/// Why a broker cannot be used.
#[derive(Debug, Error)]
#[error(transparent)]
pub struct ProbeError(LinkError);

/// Whether a broker answers and lets us in, and how long it would keep our session: connects as a subscriber does, by a client id of its own, and goes again
/// without leaving anything.
///
/// # Errors
/// If not.
pub async fn probe(settings: SubscriberSettings) -> Result<SessionTerm, ProbeError> {
    // An id that nobody else has: a broker ends the connection of whoever has the same.
    let client_id = format!("millstream-probe-{:x}", fastrand::u64(..));
    // What MQTT 5 takes back with its goodbye, 3.1.1 must not ask for.
    let session_expiry = match settings.version {
        MqttVersion::V5 => settings.session_expiry,
        MqttVersion::V311 => Duration::ZERO,
    };
    let settings = SubscriberSettings { client_id, session_expiry, ..settings };
    let link = Link::open(&settings).await.map_err(ProbeError)?;
    let term = link.session_term;
    link.leave(Session::Ends).await;
    Ok(term)
}

/// How a subscriber does. The counts begin at the process's start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// The broker has accepted the connection and at least one subscription.
    pub connected: bool,
    /// Connections that the broker has accepted; the present one's number. No two have the same.
    pub generation: u64,
    /// Messages that the broker delivered, those that it delivered again among them.
    pub received: u64,
    /// Messages that were acknowledged.
    pub acknowledged: u64,
    /// Retained messages of a 3.1.1 broker that only came because of a reconnect.
    pub retained_dropped: u64,
    /// Messages of subscriptions that the session has from before, and that are not configured any more.
    pub unwanted_dropped: u64,
    /// Messages of QoS 0 that the log did not take.
    pub lost: u64,
    /// How long the broker keeps the session without a connection, as it said last; `None`: it has not accepted one yet.
    pub session_term: Option<SessionTerm>,
    /// Times that it had forgotten the session, and with it what it should have kept for us.
    pub sessions_lost: u64,
    /// Connections that ended, or could not be made.
    pub reconnects: u64,
    /// Why there is no connection, or not every subscription; the last such reason, also when it is over.
    pub last_error: Option<String>,
    /// Messages that wait for the log.
    pub in_flight: usize,
}

/// What outlives a connection.
#[derive(Debug)]
struct Stage {
    settings: SubscriberSettings,
    log: Arc<dyn Log>,
    routes: Routes,
    clock: Arc<dyn Clock>,
    limits: Limits,
    sieve: Sieve,
    mark: Mark,
    status: Status,
    told: watch::Sender<Status>,
}

impl Stage {
    /// The broker has accepted a connection. Says what that means for what was published while there was none.
    async fn accepted(&mut self, granted: Granted, term: SessionTerm) {
        let SubscriberSettings { name, broker, client_id, session_expiry, .. } = &self.settings;
        let session_present = granted.session_present;
        if !session_present && self.mark.is_made() {
            self.status.sessions_lost += 1;
            warn!(subscriber = name, %broker, "the broker has forgotten the session, and what was published meanwhile");
        }
        if let SessionTerm::Shorter { asked, granted } = term
            && self.status.session_term != Some(term)
        {
            warn!(subscriber = name, %broker, %asked, %granted, "the broker keeps the session for a shorter time than is asked for: if we are away for longer, what is published meanwhile is lost");
        }
        info!(subscriber = name, %broker, client_id, session_present, "connected");
        self.status.generation += 1;
        self.status.session_term = Some(term);
        self.sieve.connected(session_present);
        if !session_expiry.is_zero() {
            self.mark.make().await;
        }
    }

    /// Tells the status if it has changed.
    fn tell(&self) {
        self.told.send_if_modified(|told| {
            let changed = *told != self.status;
            if changed {
                told.clone_from(&self.status);
            }
            changed
        });
    }
}

/// Brings what a broker delivers to the log, until the shutdown is asked for; then reads nothing more, acknowledges what the log has and says goodbye. How long
/// that takes is bounded by the settings' `drain_timeout` and two seconds.
///
/// # Errors
/// If the settings cannot be used. Nothing that happens later ends it: a broker that is away or refuses us is tried again, and the status says why.
pub async fn run(
    settings: SubscriberSettings,
    log: Arc<dyn Log>,
    router: Arc<Router>,
    clock: Arc<dyn Clock>,
    observer: Arc<dyn Observer>,
    shutdown: CancellationToken,
    status: watch::Sender<Status>,
) -> Result<(), SubscriberError> {
    check(&settings)?;
    link::prepare(&settings).await?;
    let mut stage = Stage {
        limits: Limits::new(&settings),
        sieve: Sieve::new(settings.version, settings.filters.clone()),
        mark: Mark::find(&settings).await,
        routes: Routes::new(router, observer),
        status: Status::default(),
        told: status,
        settings,
        log,
        clock,
    };
    let mut retry = Retry::new(stage.settings.retry_min, stage.settings.retry_max);
    while !shutdown.is_cancelled() {
        let began = Instant::now();
        let acknowledged = stage.status.acknowledged;
        let end = connection(&mut stage, &shutdown).await;
        stage.status.connected = false;
        if let End::Stopped = end {
            break;
        }
        if stage.status.acknowledged > acknowledged || began.elapsed() > stage.settings.retry_max {
            retry.reset();
        }
        pause(&mut stage, &end, retry.pause(fastrand::f64()), &shutdown).await;
    }
    stage.tell();
    info!(subscriber = stage.settings.name, "the subscriber has stopped");
    Ok(())
}

fn check(settings: &SubscriberSettings) -> Result<(), SubscriberError> {
    if settings.client_id.is_empty() || settings.client_id.len() > usize::from(u16::MAX) {
        return Err(SubscriberError::ClientId);
    }
    let bad = |filter: &str, source| SubscriberError::Filter { filter: filter.to_owned(), source };
    if settings.filters.is_empty() {
        return Err(bad("", BadFilter::Empty));
    }
    for filter in &settings.filters {
        check_filter(filter).map_err(|source| bad(filter, source))?;
    }
    settings.group.as_deref().map_or(Ok(()), |group| check_group(group).map_err(|source| bad(group, source)))
}

/// One connection, from dialling to its end.
async fn connection(stage: &mut Stage, shutdown: &CancellationToken) -> End {
    let link = tokio::select! {
        biased;
        () = shutdown.cancelled() => return End::Stopped,
        link = Link::open(&stage.settings) => link,
    };
    let link = match link {
        Ok(link) => link,
        Err(error) => return error.into(),
    };
    stage.accepted(link.granted, link.session_term).await;
    match Connection::new(stage, link) {
        Ok(connection) => connection.serve(shutdown).await,
        Err(error) => error.into(),
    }
}

/// Says why there is no connection, and waits before the next.
async fn pause(stage: &mut Stage, end: &End, pause: Duration, shutdown: &CancellationToken) {
    let error = chain(end);
    let SubscriberSettings { name, broker, .. } = &stage.settings;
    warn!(subscriber = name, %broker, error, ?pause, "no connection to the broker, trying again");
    stage.status.reconnects += 1;
    stage.status.last_error = Some(error);
    stage.tell();
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = tokio::time::sleep(pause) => {}
    }
}

/// An error with its causes, in one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        // Some libraries repeat the cause in their own message.
        if !text.ends_with(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}
