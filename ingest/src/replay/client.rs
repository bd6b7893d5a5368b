//! One client: publishes its messages in order, keeps its own list of those that are not acknowledged, and sends them again on the next connection.

use crate::replay::bad_line::BadLine;
use crate::replay::dial::Dial;
use crate::replay::error::ReplayError;
use crate::replay::flight::{Flight, Resend};
use crate::replay::link::{Link, LinkError};
use crate::replay::message::Message;
use crate::replay::packet::{Greeting, Inbound};
use crate::replay::settings::{Connection, MqttVersion, OnBadLine, Qos};
use crate::replay::tally::Tally;
use std::fmt::{self, Debug};
use std::io;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

/// Bytes that wait to be written before nothing more is taken from the queue.
const OUTBOX_BYTES: usize = 256 * 1024;

/// How long the end of a session may take.
const END_TIMEOUT: Duration = Duration::from_secs(2);

/// How often the clocks of a connection are looked at.
const TICK: Duration = Duration::from_millis(500);

/// An idle connection that held for so long was a good one: its loss begins a new count of attempts.
const SETTLED: Duration = Duration::from_secs(10);

/// Is told of every acknowledged message, in the order of the acknowledgements of a connection. Called by the clients' tasks: it must not block for long.
pub type Acknowledged = Arc<dyn Fn(&Message) + Send + Sync>;

/// What all clients of a replay share.
pub(crate) struct Shared {
    pub(crate) settings: Connection,
    pub(crate) on_bad_line: OnBadLine,
    pub(crate) dial: Arc<dyn Dial>,
    pub(crate) tally: Arc<Tally>,
    pub(crate) acknowledged: Option<Acknowledged>,
    /// Nothing new is published any more; what is on its way is waited for.
    pub(crate) stop: CancellationToken,
}

impl Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// One client.
#[derive(Debug)]
pub(crate) struct Client {
    id: String,
    shared: Arc<Shared>,
    queue: mpsc::Receiver<Message>,
    /// Whether the queue has ended.
    ended: bool,
    flight: Flight,
    /// Whether the broker has ever accepted this client.
    known: bool,
    trouble: Option<Trouble>,
    /// When something was acknowledged last, or the wait for it began.
    waiting_since: Instant,
}

/// Attempts without an acknowledgement.
#[derive(Debug, Clone, Copy)]
struct Trouble {
    since: Instant,
    attempts: u32,
}

/// Why a connection ended, if not as wished.
#[derive(Debug)]
enum Broken {
    Link(LinkError),
    /// A line that the settings say is an error.
    Fatal(ReplayError),
}

impl<E: Into<LinkError>> From<E> for Broken {
    fn from(error: E) -> Self {
        Self::Link(error.into())
    }
}

/// What a connection waits for.
#[derive(Debug)]
enum Event {
    Read(io::Result<usize>),
    Wrote(io::Result<()>),
    Next(Option<Message>),
    Tick,
    Stop,
}

impl Client {
    pub(crate) fn new(id: String, shared: Arc<Shared>, queue: mpsc::Receiver<Message>) -> Self {
        let waiting_since = Instant::now();
        Self {
            id,
            shared,
            queue,
            ended: false,
            flight: Flight::default(),
            known: false,
            trouble: None,
            waiting_since,
        }
    }

    /// Publishes until the queue has ended (or the replay is stopped) and everything sent is acknowledged. Whether nothing was left in the queue.
    pub(crate) async fn run(mut self) -> Result<bool, ReplayError> {
        while !self.has_finished() {
            let broken = match self.connect().await {
                Ok(mut link) => match self.converse(&mut link).await {
                    Ok(()) => {
                        link.leave().await;
                        self.end_session().await;
                        return Ok(self.queue.is_empty());
                    }
                    Err(broken) => {
                        if link.age() >= SETTLED && self.flight.is_empty() {
                            self.trouble = None;
                        }
                        broken
                    }
                },
                Err(error) => Broken::Link(error),
            };
            match broken {
                Broken::Fatal(error) => return Err(error),
                Broken::Link(LinkError::Refused(reason)) => return Err(self.refused(reason)),
                Broken::Link(LinkError::Lost(reason)) => self.wait_for_next_attempt(reason).await?,
            }
        }
        Ok(self.queue.is_empty())
    }

    async fn connect(&mut self) -> Result<Link, LinkError> {
        let settings = &self.shared.settings;
        // Before our first connection a session of that name can only be somebody else's remains: its packet ids could swallow our messages.
        let mut clean = !self.known && settings.version == MqttVersion::V5;
        let mut link = self.open(clean).await?;
        if !self.known && !clean && link.granted.session_present {
            // In 3.1.1 a clean session ends with its connection, so it cannot be the one that we work with.
            link.leave().await;
            clean = true;
            self.open(clean).await?.leave().await;
            link = self.open(false).await?;
        }
        if link.granted.qos_max < settings.qos {
            let reason =
                format!("it allows {:?} at most, {:?} is asked for", link.granted.qos_max, settings.qos);
            return Err(LinkError::Refused(reason));
        }
        match self.known {
            true => self.shared.tally.reconnected(),
            false => self.shared.tally.client(),
        }
        self.flight.begin(self.known && link.granted.session_present);
        self.known = true;
        self.waiting_since = Instant::now();
        Ok(link)
    }

    /// Leaves nothing behind: in MQTT 5 the goodbye says so, in 3.1.1 only a clean session does. Best effort, as everything has been acknowledged.
    async fn end_session(&self) {
        if self.shared.settings.version == MqttVersion::V5 {
            return;
        }
        match timeout(END_TIMEOUT, self.open(true)).await {
            Ok(Ok(link)) => link.leave().await,
            Ok(Err(error)) => tracing::debug!(client = self.id, %error, "the broker keeps the session"),
            Err(error) => tracing::debug!(client = self.id, %error, "the broker keeps the session"),
        }
    }

    async fn open(&self, clean: bool) -> Result<Link, LinkError> {
        let greeting = Greeting { client_id: &self.id, clean, settings: &self.shared.settings };
        Link::open(self.shared.dial.as_ref(), &greeting).await
    }

    /// Works with one connection until there is nothing left to do or it is lost.
    async fn converse(&mut self, link: &mut Link) -> Result<(), Broken> {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The broker may have said more than its CONNACK already.
        self.hear(link)?;
        loop {
            self.resend(link)?;
            if self.has_finished() && link.outlet.is_done() {
                return Ok(());
            }
            let stopped = self.shared.stop.is_cancelled();
            let takes = !stopped && !self.ended && self.has_room(link);
            let writes = !link.outlet.is_done();
            let event = tokio::select! {
                read = Link::read(&mut link.reader, &mut link.inbox) => Event::Read(read),
                wrote = link.outlet.step(), if writes => Event::Wrote(wrote),
                next = self.queue.recv(), if takes => Event::Next(next),
                _ = ticks.tick() => Event::Tick,
                () = self.shared.stop.cancelled(), if !stopped => Event::Stop,
            };
            match event {
                Event::Read(read) => {
                    link.heard(read?)?;
                    self.hear(link)?;
                }
                Event::Wrote(wrote) => wrote?,
                Event::Next(Some(message)) => self.take(link, message)?,
                Event::Next(None) => self.ended = true,
                Event::Tick => self.look_at_clocks(link)?,
                Event::Stop => {}
            }
        }
    }

    fn has_finished(&self) -> bool {
        let nothing_new = self.ended
            || self.shared.stop.is_cancelled()
            || (self.queue.is_closed() && self.queue.is_empty());
        nothing_new && self.flight.is_empty()
    }

    fn has_room(&self, link: &Link) -> bool {
        let may_send =
            self.shared.settings.qos == Qos::AtMostOnce || self.flight.sent_here() < self.quota(link);
        may_send && !self.flight.has_resend() && link.outlet.bytes.len() < OUTBOX_BYTES
    }

    fn quota(&self, link: &Link) -> usize {
        usize::from(self.shared.settings.in_flight.min(link.granted.receive_max).get())
    }

    /// Publishes a message and those that wait behind it, so that they go out in one write.
    fn take(&mut self, link: &mut Link, first: Message) -> Result<(), Broken> {
        let mut next = Some(first);
        while let Some(message) = next {
            self.publish(link, message)?;
            next = if self.has_room(link) { self.queue.try_recv().ok() } else { None };
        }
        Ok(())
    }

    fn publish(&mut self, link: &mut Link, message: Message) -> Result<(), Broken> {
        let qos = self.shared.settings.qos;
        if let Some(reason) = too_large(link, &message, qos) {
            if self.shared.on_bad_line == OnBadLine::Fail {
                return Err(Broken::Fatal(ReplayError::BadLine { place: message.place, source: reason }));
            }
            self.shared.tally.unpublishable(&message.place, &reason);
            return Ok(());
        }
        if qos == Qos::AtMostOnce {
            link.codec.publish(&message, qos, None, false, &mut link.outlet.bytes)?;
        } else {
            let now = Instant::now();
            if self.flight.is_empty() {
                self.waiting_since = now;
            }
            let id = self.flight.insert(message.clone(), now);
            link.codec.publish(&message, qos, Some(id), false, &mut link.outlet.bytes)?;
        }
        self.shared.tally.published();
        Ok(())
    }

    /// Sends again what is open from earlier connections, as far as the broker's receive maximum and the outbox have room.
    fn resend(&mut self, link: &mut Link) -> Result<(), Broken> {
        let qos = self.shared.settings.qos;
        while self.flight.has_resend()
            && self.flight.sent_here() < self.quota(link)
            && link.outlet.bytes.len() < OUTBOX_BYTES
        {
            let refused = match self.flight.next_resend() {
                None => break,
                Some(Resend::Release { id }) => {
                    link.codec.release(id, &mut link.outlet.bytes)?;
                    None
                }
                Some(Resend::Publish { id, dup, message }) => match too_large(link, message, qos) {
                    Some(reason) => Some((id, reason)),
                    None => {
                        link.codec.publish(message, qos, Some(id), dup, &mut link.outlet.bytes)?;
                        self.shared.tally.resent();
                        None
                    }
                },
            };
            if let Some((id, reason)) = refused {
                self.settle(id, Some(reason.to_string()));
            }
        }
        Ok(())
    }

    /// Does what the packets in the inbox say.
    fn hear(&mut self, link: &mut Link) -> Result<(), Broken> {
        while let Some(packet) = link.codec.decode(&mut link.inbox)? {
            match packet {
                Inbound::Acknowledged { id, refusal } if self.shared.settings.qos == Qos::AtLeastOnce => {
                    self.settle(id, refusal)
                }
                Inbound::Completed { id } => self.settle(id, None),
                Inbound::Received { id, refusal: Some(reason) } => self.settle(id, Some(reason)),
                Inbound::Received { id, refusal: None } => {
                    if self.flight.received(id) {
                        self.advance();
                    }
                    link.codec.release(id, &mut link.outlet.bytes)?;
                }
                Inbound::Disconnected { reason, again: true } => return Err(LinkError::Lost(reason).into()),
                Inbound::Disconnected { reason, again: false } => {
                    return Err(LinkError::Refused(reason).into());
                }
                Inbound::Connected(_) | Inbound::Refused { .. } => {
                    return Err(LinkError::Lost("the broker sent a second CONNACK".to_owned()).into());
                }
                Inbound::Acknowledged { .. } | Inbound::Other => {}
            }
        }
        Ok(())
    }

    /// A message is off the list: acknowledged or refused. An answer that nobody waits for is a late one, and harmless.
    fn settle(&mut self, id: NonZeroU16, refusal: Option<String>) {
        let Some(open) = self.flight.remove(id) else { return };
        self.advance();
        match refusal {
            Some(reason) => self.shared.tally.refused(&open.message, reason),
            None => {
                self.shared.tally.acknowledged(open.first_sent.elapsed());
                if let Some(acknowledged) = &self.shared.acknowledged {
                    acknowledged(&open.message);
                }
            }
        }
    }

    fn advance(&mut self) {
        self.trouble = None;
        self.waiting_since = Instant::now();
    }

    fn look_at_clocks(&self, link: &mut Link) -> Result<(), Broken> {
        let limit = self.shared.settings.ack_timeout;
        if !self.flight.is_empty() && self.waiting_since.elapsed() > limit {
            return Err(LinkError::Lost(format!("nothing was acknowledged for {limit:.1?}")).into());
        }
        Ok(link.keep_alive()?)
    }

    fn refused(&self, reason: String) -> ReplayError {
        ReplayError::Refused {
            broker: self.shared.settings.broker.to_string(),
            client: self.id.clone(),
            reason,
        }
    }

    /// Waits before the next attempt, or says that there will be none.
    async fn wait_for_next_attempt(&mut self, reason: String) -> Result<(), ReplayError> {
        let settings = &self.shared.settings.reconnect;
        let trouble = self.trouble.get_or_insert(Trouble { since: Instant::now(), attempts: 0 });
        trouble.attempts += 1;
        let attempts_max = if self.known { settings.attempts } else { settings.first_attempts };
        let lasted = trouble.since.elapsed();
        if trouble.attempts >= attempts_max || lasted > settings.give_up_after {
            let (broker, client) = (self.shared.settings.broker.to_string(), self.id.clone());
            return Err(ReplayError::GaveUp {
                broker,
                client,
                attempts: trouble.attempts,
                seconds: lasted.as_secs(),
                reason,
            });
        }
        let wait = settings.wait(trouble.attempts - 1, fastrand::f64());
        tracing::debug!(client = self.id, reason, ?wait, "the connection to the broker is made anew");
        let stop = &self.shared.stop;
        if self.flight.is_empty() {
            // With nothing on its way, a stop ends the client at once.
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = stop.cancelled() => {}
            }
        } else {
            tokio::time::sleep(wait).await;
        }
        Ok(())
    }
}

fn too_large(link: &Link, message: &Message, qos: Qos) -> Option<BadLine> {
    let max = usize::try_from(link.granted.packet_max?).unwrap_or(usize::MAX);
    let size = link.codec.publish_size(message, qos);
    (size > max).then_some(BadLine::PacketTooLarge { size, max })
}
