//! One accepted connection: takes packets, appends messages, acknowledges what the log has.
//!
//! The state is one struct; whatever can happen to it is one [`Event`]. Waiting only receives an event, handling it is never cancelled. Nothing is read while
//! as much as may wait for the log does wait: the device feels it through TCP, memory does not grow.
//!
//! The order behind an acknowledgement: append -> durable in the log -> (QoS 2 in a lasting session: identifier durable among the sessions) -> PUBACK or PUBREC.
//! What is sent again is known by its DUP (MQTT-3.3.1-1): without it, an identifier that an earlier connection left open stands for a new message.
//! If the process dies between the log and the session, a message of QoS 2 that is resent is appended again: to the log the promise is at least once.

mod packets;
mod wind_up;

pub(crate) use wind_up::linger;

use crate::gateway::Shared;
use crate::gateway::acks::InOrder;
use crate::gateway::counters::{Connected, Taken};
use crate::gateway::end::End;
use crate::gateway::incoming::Incoming;
use crate::gateway::registry::{Claim, Order};
use crate::gateway::routes::Remembered;
use crate::gateway::wire::{Delivery, PacketId, Reply, Version, Will, Wire};
use crate::identity::access::Identity;
use crate::session::{Answer, SessionError};
use bytes::BytesMut;
use millstream_log::{LogError, Pending};
use millstream_model::record::Position;
use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Bytes that may wait for a client to read them; then nothing more is read from it.
const OUTGOING_MAX: usize = 64 << 10;

/// Messages of QoS 2 that a client may leave unreleased. Only one that never releases gets there.
const OPEN_MAX: usize = 8192;

/// An accepted connection.
pub(crate) struct Connection<S> {
    shared: Arc<Shared>,
    claim: Claim,
    identity: Arc<Identity>,
    wire: Wire,
    address: SocketAddr,
    reader: ReadHalf<S>,
    writer: WriteHalf<S>,
    incoming: Incoming,
    outgoing: BytesMut,
    /// Something was written since the last flush.
    unflushed: bool,
    shutdown: CancellationToken,
    routes: Remembered,
    will: Option<Will>,
    /// Held for the Will's bytes.
    _will_room: Option<OwnedSemaphorePermit>,
    /// Seconds that the session outlives this connection; above 0 it is kept durably.
    session_expiry: u32,
    /// Whether identifiers of QoS 2 are kept durably.
    lasting: bool,
    /// One and a half times the keep-alive.
    silence_max: Duration,
    /// When the last packet came, or when it was us who did not read.
    heard: Instant,
    /// By when the client must have read something, if there is something to read.
    read_by: Option<Instant>,
    /// The wait for room for the long packet at the front.
    admitting: Option<Admitting>,
    /// By when a long packet must be there as a whole.
    packet_by: Option<Instant>,
    /// The append that waits for room in the log.
    appending: Option<(Appending, Delivery)>,
    /// Appends whose records are not durable yet.
    appends: InOrder<Pending, (Delivery, Fate)>,
    /// Changes of the session that are not durable yet.
    keeping: InOrder<Answer<()>, Kept>,
    /// Messages of QoS 2 that are not released yet.
    open: HashMap<PacketId, Open>,
    /// Messages of QoS 1 and 2 of this connection that are not completely acknowledged, as MQTT 5 counts them.
    unacknowledged: usize,
    /// Messages that were given to the log.
    messages: u64,
    /// Counted as connected as long as it is here.
    _connected: Connected,
    /// Messages that its device may not publish.
    denied: u64,
    /// Set once the connection is to end and only acknowledgements are awaited.
    ending: Option<(End, Instant)>,
}

/// What the connection begins with.
pub(crate) struct Accepted<S> {
    pub(crate) claim: Claim,
    pub(crate) identity: Arc<Identity>,
    pub(crate) wire: Wire,
    pub(crate) address: SocketAddr,
    pub(crate) reader: ReadHalf<S>,
    pub(crate) writer: WriteHalf<S>,
    /// What came behind the CONNECT.
    pub(crate) incoming: Incoming,
    /// The CONNACK.
    pub(crate) outgoing: BytesMut,
    pub(crate) shutdown: CancellationToken,
    pub(crate) will: Option<Will>,
    /// Room for the Will's bytes, if it takes some.
    pub(crate) will_room: Option<OwnedSemaphorePermit>,
    pub(crate) session_expiry: u32,
    /// Seconds.
    pub(crate) keep_alive: u16,
    /// Identifiers that the session has open.
    pub(crate) open: Vec<PacketId>,
}

type Admitting = Pin<Box<dyn Future<Output = Admitted> + Send>>;
type Admitted = Result<OwnedSemaphorePermit, AcquireError>;
type Appending = Pin<Box<dyn Future<Output = Appended> + Send>>;
type Appended = Result<(Pending, Taken), LogError>;
type Durable = Result<Vec<Position>, LogError>;
type Stored = Result<Result<(), SessionError>, oneshot::error::RecvError>;

/// What becomes of a message, while its answer waits for its turn.
#[derive(Debug)]
enum Fate {
    /// It goes to the log, and has taken so much room.
    Stored(Taken),
    /// Its device may not publish it.
    Denied,
}

/// A message of QoS 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Open {
    /// Its PUBREC is still to come.
    UnderWay,
    /// Its PUBREC was sent.
    Received {
        /// Whether it counts against the receive maximum: not if it was published on an earlier connection.
        counted: bool,
    },
}

/// A change of the session.
#[derive(Debug, Clone, Copy)]
enum Kept {
    Received(PacketId),
    Released(PacketId),
}

/// Whatever can happen.
enum Event {
    Ordered(Order),
    ShutDown,
    Appended(Appended),
    Durable(Durable, Delivery, Fate),
    Kept(Stored, Kept),
    Admitted(Admitted),
    Written(io::Result<()>),
    Read(io::Result<usize>),
    Late,
}

impl<S: AsyncRead + AsyncWrite + Send + 'static> Connection<S> {
    /// The connection of an accepted client.
    pub(crate) fn new(shared: Arc<Shared>, accepted: Accepted<S>) -> Self {
        let open = accepted.open.into_iter().map(|id| (id, Open::Received { counted: false })).collect();
        Self {
            _connected: shared.counters.accept(),
            shared,
            claim: accepted.claim,
            identity: accepted.identity,
            wire: accepted.wire,
            address: accepted.address,
            reader: accepted.reader,
            writer: accepted.writer,
            incoming: accepted.incoming,
            outgoing: accepted.outgoing,
            unflushed: false,
            shutdown: accepted.shutdown,
            routes: Remembered::default(),
            will: accepted.will,
            _will_room: accepted.will_room,
            session_expiry: accepted.session_expiry,
            lasting: accepted.session_expiry > 0,
            silence_max: Duration::from_millis(1500) * u32::from(accepted.keep_alive),
            heard: Instant::now(),
            read_by: None,
            admitting: None,
            packet_by: None,
            appending: None,
            appends: InOrder::new(),
            keeping: InOrder::new(),
            open,
            unacknowledged: 0,
            messages: 0,
            denied: 0,
            ending: None,
        }
    }

    /// Serves the client until the connection is over, and winds up.
    pub(crate) async fn run(mut self) {
        let end = self.serve().await;
        self.wind_up(end).await;
    }

    async fn serve(&mut self) -> End {
        loop {
            let mut done = self.take_packets().await;
            if done.is_ok() {
                if self.ending.is_some() && self.is_idle() {
                    break;
                }
                let event = self.next_event().await;
                done = self.handle(event).await;
            }
            if let Err(end) = done {
                // What ends a connection that is ending already is not why it ends.
                if self.ending.is_some() {
                    break;
                }
                if !end.waits_for_acks() {
                    return end;
                }
                self.appending = None;
                self.admitting = None;
                self.ending = Some((end, Instant::now() + self.shared.settings.drain_timeout));
            }
        }
        self.ending.take().map_or(End::Closed, |(end, _)| end)
    }

    /// Nothing is under way any more, neither to the log nor to the client.
    fn is_idle(&self) -> bool {
        self.appends.len() == 0 && self.keeping.len() == 0 && !self.is_writing()
    }

    fn is_writing(&self) -> bool {
        !self.outgoing.is_empty() || self.unflushed
    }

    /// Whether another packet may be taken. MQTT 5 clients were told the limit: one message more than it is taken, to find who breaks it.
    fn has_room(&self) -> bool {
        let in_flight_max = usize::from(self.shared.settings.in_flight_max.get());
        let limit = if self.wire.version() == Version::V5 { in_flight_max + 1 } else { in_flight_max };
        self.ending.is_none()
            && self.appending.is_none()
            && self.appends.len() < limit
            && self.keeping.len() < limit
            && self.outgoing.len() < OUTGOING_MAX
    }

    async fn take_packets(&mut self) -> Result<(), End> {
        while self.has_room() {
            let Some(packet) = self.wire.decode(&mut self.incoming.bytes)? else {
                break;
            };
            self.heard = Instant::now();
            self.packet_by = None;
            drop(self.incoming.taken());
            self.take(packet).await?;
        }
        Ok(())
    }

    /// The acknowledgements come first and writing after them, so that all that are ready leave in one write; what a device sends comes last.
    async fn next_event(&mut self) -> Event {
        let reading = self.prepare_to_read();
        let writing = self.is_writing();
        if writing && self.read_by.is_none() {
            self.read_by = Some(Instant::now() + self.shared.settings.write_timeout);
        }
        let serving = self.ending.is_none();
        let deadline = self.deadline(reading);
        tokio::select! {
            biased;
            order = self.claim.ordered(), if serving => Event::Ordered(order),
            () = self.shutdown.cancelled(), if serving => Event::ShutDown,
            (durable, (delivery, fate)) = self.appends.next() => Event::Durable(durable, delivery, fate),
            (stored, kept) = self.keeping.next() => Event::Kept(stored, kept),
            appended = room(&mut self.appending) => Event::Appended(appended),
            admitted = admission(&mut self.admitting) => Event::Admitted(admitted),
            written = step(&mut self.writer, &mut self.outgoing, &mut self.unflushed), if writing => Event::Written(written),
            read = self.reader.read_buf(&mut self.incoming.bytes), if reading => Event::Read(read),
            () = tokio::time::sleep_until(deadline) => Event::Late,
        }
    }

    /// Whether more is to be read; if so, there is somewhere to put it. While it is us who do not read, the client cannot be late.
    fn prepare_to_read(&mut self) -> bool {
        let has_room = self.has_room();
        if has_room
            && self.admitting.is_none()
            && let Some(bytes) = self.incoming.wants()
        {
            self.admitting = Some(Box::pin(self.shared.undecoded_room(bytes)));
        }
        let reading = has_room && self.admitting.is_none();
        let now = Instant::now();
        if reading {
            self.incoming.make_room();
        } else {
            self.heard = now;
        }
        if self.incoming.is_admitted() && (!reading || self.packet_by.is_none()) {
            self.packet_by = Some(now + self.shared.settings.packet_timeout);
        }
        reading
    }

    /// The next moment at which patience ends.
    fn deadline(&self, reading: bool) -> Instant {
        let silent = reading.then(|| self.heard + self.silence_max);
        let slow = if reading { self.packet_by } else { None };
        let drained = self.ending.as_ref().map(|(_, until)| *until);
        let far = Instant::now() + Duration::from_secs(3600);
        [silent, slow, drained, self.read_by].into_iter().flatten().min().unwrap_or(far)
    }

    async fn handle(&mut self, event: Event) -> Result<(), End> {
        match event {
            Event::Ordered(Order::MakeWay) => Err(End::TakenOver),
            Event::Ordered(Order::Leave(denial)) => Err(End::Expelled(denial)),
            Event::ShutDown => Err(End::ShuttingDown),
            Event::Appended(appended) => self.appended(appended),
            Event::Durable(_, delivery, Fate::Denied) => {
                self.denied(delivery);
                Ok(())
            }
            Event::Durable(durable, delivery, Fate::Stored(_room)) => self.durable(durable, delivery).await,
            Event::Kept(stored, kept) => self.kept(stored, kept),
            Event::Admitted(room) => {
                self.admitting = None;
                self.incoming.admit(room);
                Ok(())
            }
            Event::Written(Ok(())) => {
                self.read_by = None;
                Ok(())
            }
            Event::Read(Ok(0)) => Err(End::Closed),
            Event::Read(Ok(_)) => Ok(()),
            Event::Written(Err(error)) | Event::Read(Err(error)) => Err(End::Network(error)),
            Event::Late => self.late(),
        }
    }

    fn late(&mut self) -> Result<(), End> {
        let now = Instant::now();
        if self.read_by.is_some_and(|read_by| read_by <= now) {
            return Err(End::NotReading);
        }
        if self.ending.as_ref().is_some_and(|(_, until)| *until <= now) {
            return Err(End::NotReading);
        }
        if !self.has_room() || self.admitting.is_some() {
            return Ok(());
        }
        if self.packet_by.is_some_and(|packet_by| packet_by <= now) {
            return Err(End::SlowPacket);
        }
        if self.heard + self.silence_max <= now { Err(End::KeepAlive) } else { Ok(()) }
    }

    fn reply(&mut self, reply: &Reply) {
        self.wire.encode(reply, &mut self.outgoing);
    }
}

/// Waits for the append that waits for room, and takes it away.
async fn room(appending: &mut Option<(Appending, Delivery)>) -> Appended {
    match appending {
        Some((append, _)) => append.await,
        None => std::future::pending().await,
    }
}

/// Writes some of what waits, or flushes when all is written, which matters where something lies beneath that buffers. Cancel-safe: one step a call.
async fn step<S: AsyncWrite>(
    writer: &mut WriteHalf<S>,
    outgoing: &mut BytesMut,
    unflushed: &mut bool,
) -> io::Result<()> {
    if outgoing.is_empty() {
        writer.flush().await?;
        *unflushed = false;
    } else {
        if writer.write_buf(outgoing).await? == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        *unflushed = true;
    }
    Ok(())
}

/// Waits for the room that the packet at the front waits for, and takes it away.
async fn admission(admitting: &mut Option<Admitting>) -> Admitted {
    match admitting {
        Some(room) => room.await,
        None => std::future::pending().await,
    }
}
