//! From an open connection to an accepted client: CONNECT, the rules, CONNACK.

use crate::gateway::connection::{self, Connection, linger};
use crate::gateway::incoming::Incoming;
use crate::gateway::peer::Peer;
use crate::gateway::registry::Claim;
use crate::gateway::violation::Violation;
use crate::gateway::wire::{self, BadConnect, Connect, Refusal, Reply, Version, Wire};
use crate::gateway::{GatewaySettings, Shared, wills};
use crate::identity::access::{Identity, Shown};
use crate::lifecycle::{Event, Happening};
use crate::session::{Resumed, SessionError, Start};
use bytes::BytesMut;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// Longest client identifier in bytes. The standard asks for 23; it is a key in the log and among the sessions.
const CLIENT_ID_MAX: usize = 1024;

/// A client waits so many times the `drain_timeout` for the connection that it takes over: that may have to publish a Will first.
const TAKE_OVER_STEPS: u32 = 2;

/// Who gives a wrong password waits before it is told, so that one connection after the other guesses slowly. How many are checked at a time is bounded anyway.
const GUESS_PAUSE: Duration = Duration::from_millis(500);

/// Whether there is room for one more client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    Free,
    /// It is told so, and goes.
    Full,
}

/// Why there was no CONNECT.
#[derive(Debug, Error)]
enum NoConnect {
    #[error("the client's end was closed")]
    Closed,
    #[error("the network failed")]
    Network(#[from] io::Error),
    #[error("{0}")]
    Unintelligible(Violation),
    #[error("{1}")]
    Refused(Version, Refusal),
}

impl From<BadConnect> for NoConnect {
    fn from(bad: BadConnect) -> Self {
        match bad {
            BadConnect::Unintelligible(violation) => Self::Unintelligible(violation),
            // Who speaks a later version than 5 will understand its CONNACK best.
            BadConnect::Level(level) if level > 5 => Self::Refused(Version::V5, Refusal::Level(level)),
            BadConnect::Level(level) => Self::Refused(Version::V3, Refusal::Level(level)),
            BadConnect::Invalid(version, violation) => Self::Refused(version, violation.into()),
            BadConnect::Nameless => Self::Refused(Version::V3, Refusal::Nameless),
        }
    }
}

/// Serves one connection from its first byte to its last.
pub(crate) async fn serve<S>(
    stream: S,
    peer: Peer,
    room: Room,
    shared: Arc<Shared>,
    shutdown: CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (mut reader, writer) = tokio::io::split(stream);
    let mut incoming = Incoming::new();
    let address = peer.address;
    let greeting = greet(&mut reader, &mut incoming, &shared);
    let greeting = tokio::select! {
        () = shutdown.cancelled() => return,
        greeting = tokio::time::timeout_at(peer.connect_by, greeting) => greeting,
    };
    match greeting {
        Err(_) => debug!(%address, "no CONNECT came in time"),
        Ok(Err(NoConnect::Refused(version, refusal))) => {
            debug!(%address, %refusal, "a CONNECT is refused");
            shared.counters.refuse(refusal.reason());
            refuse(reader, writer, version, &refusal, &shared.settings).await;
        }
        Ok(Err(error)) => debug!(%address, %error, "no CONNECT came"),
        Ok(Ok((wire, connect))) => {
            drop(incoming.taken());
            let arrival = Arrival { reader, writer, incoming, wire, peer };
            arrival.enter(connect, room, shared, shutdown).await;
        }
    }
}

/// Reads until the CONNECT is there.
async fn greet<S: AsyncRead>(
    reader: &mut ReadHalf<S>,
    incoming: &mut Incoming,
    shared: &Shared,
) -> Result<(Wire, Connect), NoConnect> {
    loop {
        if let Some(greeting) = Wire::accept(&mut incoming.bytes, shared.settings.packet_max as usize)? {
            return Ok(greeting);
        }
        if let Some(bytes) = incoming.wants() {
            incoming.admit(shared.undecoded_room(bytes).await);
        }
        incoming.make_room();
        if reader.read_buf(&mut incoming.bytes).await? == 0 {
            return Err(NoConnect::Closed);
        }
    }
}

/// A connection whose CONNECT is valid.
struct Arrival<S> {
    reader: ReadHalf<S>,
    writer: WriteHalf<S>,
    incoming: Incoming,
    wire: Wire,
    peer: Peer,
}

/// What a client was granted.
struct Admission {
    identity: Arc<Identity>,
    will_room: Option<OwnedSemaphorePermit>,
    claim: Claim,
    resumed: Resumed,
    terms: wire::Accepted,
    session_expiry: u32,
    keep_alive: u16,
}

impl<S: AsyncRead + AsyncWrite + Send + 'static> Arrival<S> {
    async fn enter(
        mut self,
        mut connect: Connect,
        room: Room,
        shared: Arc<Shared>,
        shutdown: CancellationToken,
    ) {
        let version = self.wire.version();
        let assigned =
            connect.client_id.is_empty().then(|| format!("auto-{}", uuid::Uuid::new_v4().simple()));
        let client_id: Arc<str> = assigned.as_deref().unwrap_or(&connect.client_id).into();
        let event = |event, reason, detail, session_present, identity| Event {
            event,
            client_id: client_id.chars().take(CLIENT_ID_MAX).collect(),
            protocol: version.as_str(),
            address: self.peer.address,
            reason,
            detail,
            messages: None,
            session_present,
            identity,
            denied: None,
        };
        let mut admission = match admit(&connect, &client_id, room, version, &self.peer, &shared).await {
            Ok(admission) => admission,
            Err(refusal) => {
                debug!(%client_id, %refusal, "a client is refused");
                shared.counters.refuse(refusal.reason());
                shared.lifecycle.tell(event(
                    Happening::Refused,
                    refusal.reason(),
                    Some(refusal.to_string()),
                    None,
                    None,
                ));
                if refusal.is_a_guess() {
                    shutdown.run_until_cancelled(tokio::time::sleep(GUESS_PAUSE)).await;
                }
                return refuse(self.reader, self.writer, version, &refusal, &shared.settings).await;
            }
        };
        admission.terms.assigned_client_id = assigned;
        let session_present = Some(admission.resumed.present);
        let name = admission.identity.name();
        shared.lifecycle.tell(event(Happening::Connect, "accepted", None, session_present, name));
        let mut outgoing = BytesMut::new();
        self.wire.encode(&Reply::Accept(admission.terms), &mut outgoing);
        let accepted = connection::Accepted {
            claim: admission.claim,
            identity: admission.identity,
            wire: self.wire,
            address: self.peer.address,
            reader: self.reader,
            writer: self.writer,
            incoming: self.incoming,
            outgoing,
            shutdown,
            will: connect.will.take(),
            will_room: admission.will_room,
            session_expiry: admission.session_expiry,
            keep_alive: admission.keep_alive,
            open: admission.resumed.open,
        };
        Connection::new(shared, accepted).run().await;
    }
}

/// Applies the rules, becomes the client, and finds its session.
async fn admit(
    connect: &Connect,
    client_id: &Arc<str>,
    room: Room,
    version: Version,
    peer: &Peer,
    shared: &Shared,
) -> Result<Admission, Refusal> {
    let settings = &shared.settings;
    if room == Room::Full {
        return Err(Refusal::Connections);
    }
    if client_id.len() > CLIENT_ID_MAX {
        return Err(Refusal::LongClientId(CLIENT_ID_MAX));
    }
    if connect.authentication.is_some() {
        return Err(Refusal::Authentication);
    }
    let identity = Arc::new(identify(connect, client_id, peer, shared).await?);
    let will_room = match &connect.will {
        Some(will) => Some(shared.will_room(will.size()).ok_or(Refusal::Wills)?),
        None => None,
    };
    let claim = tokio::time::timeout(
        settings.drain_timeout * TAKE_OVER_STEPS,
        shared.registry.claim(client_id, &identity),
    );
    let claim = match claim.await {
        Ok(Some(claim)) => claim,
        Ok(None) => return Err(Refusal::Owned),
        Err(_elapsed) => return Err(Refusal::TakeOver),
    };
    // What was known may have changed before it could be told through the claim.
    shared.access.stands(&identity, shared.clock.now())?;
    let session_expiry = connect.session_expiry.min(settings.session_expiry_max_secs());
    let start = Start {
        client_id: Arc::clone(client_id),
        owner: identity.owner(),
        clean: connect.clean,
        expiry: session_expiry,
        now: shared.clock.now(),
        sessions_max: settings.sessions_max,
    };
    let resumed = shared.sessions.begin(start).await.map_err(|error| {
        if matches!(error, SessionError::Owned) {
            return Refusal::Owned;
        }
        warn!(%client_id, error = &error as &dyn std::error::Error, "a session cannot be had");
        if matches!(error, SessionError::TooMany(_)) { Refusal::Sessions } else { Refusal::SessionStorage }
    })?;
    // A session that goes on takes back the Will of the last connection; one that has ended publishes it, in the name of who left it.
    if let Some(will) = shared.wills.take(client_id)
        && !resumed.present
    {
        wills::publish(shared, vec![will]).await;
    }
    let keep_alive = keep_alive(connect.keep_alive, version, settings.keep_alive_max_secs());
    let terms = wire::Accepted {
        session_present: resumed.present,
        assigned_client_id: None,
        keep_alive: (keep_alive != connect.keep_alive).then_some(keep_alive),
        session_expiry: (session_expiry != connect.session_expiry).then_some(session_expiry),
        receive_max: settings.in_flight_max,
        packet_max: settings.packet_max,
    };
    Ok(Admission { identity, will_room, claim, resumed, terms, session_expiry, keep_alive })
}

/// Who the client is, and whether its Will is on a topic of its own.
async fn identify(
    connect: &Connect,
    client_id: &str,
    peer: &Peer,
    shared: &Shared,
) -> Result<Identity, Refusal> {
    let shown = Shown {
        certificate: peer.certificate.as_ref(),
        user: connect.user.as_deref(),
        password: connect.password.as_ref(),
        client_id,
        address: peer.address.ip(),
        is_assigned: connect.client_id.is_empty(),
    };
    let identity = shared.access.identify(&shown, shared.clock.now()).await?;
    match &connect.will {
        Some(will) if !identity.may_publish(&will.topic) => Err(Refusal::WillTopic),
        _ => Ok(identity),
    }
}

/// A client that wants no keep-alive gets the longest, else dead connections would stay for ever. One of 3.1.1 cannot be told to ask for less.
fn keep_alive(wanted: u16, version: Version, longest: u16) -> u16 {
    match (wanted, version) {
        (0, _) => longest,
        (wanted, Version::V3) => wanted,
        (wanted, Version::V5) => wanted.min(longest),
    }
}

async fn refuse<S: AsyncRead + AsyncWrite>(
    reader: ReadHalf<S>,
    mut writer: WriteHalf<S>,
    version: Version,
    refusal: &Refusal,
    settings: &GatewaySettings,
) {
    let told = tokio::time::timeout(settings.write_timeout, async {
        writer.write_all(&refusal.encode(version)).await?;
        writer.shutdown().await
    });
    if !matches!(told.await, Ok(Ok(()))) {
        debug!("a client did not hear that it is refused");
    }
    linger(reader, settings.linger_timeout).await;
}
