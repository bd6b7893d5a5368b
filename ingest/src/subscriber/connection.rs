//! One accepted connection: takes messages, appends them, acknowledges what the log has.
//!
//! The state is one struct that lives no longer than its connection, and only it can write an acknowledgement: what the log answers later confirms nothing on
//! another connection, where the same identifier may stand for another message. Waiting only receives an event, handling it is never cancelled. Nothing is
//! read while as much as may wait for the log does wait: the broker feels it through TCP, memory does not grow, and the connection is still kept alive.

use super::link::{Link, LinkError};
use super::message;
use super::publish::Publish;
use super::settings::SubscriberSettings;
use super::sieve::Verdict;
use super::wire::{Inbound, Session};
use super::{Stage, chain};
use crate::gateway::acks::InOrder;
use crate::gateway::wire::{Delivery, PacketId};
use futures::FutureExt;
use millstream_log::{Log, LogError, Pending};
use millstream_model::name::LogTopic;
use millstream_model::record::{Position, Record};
use std::collections::BTreeMap;
use std::future::{Future, pending};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use thiserror::Error;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

/// Topic filters in one SUBSCRIBE: what the most cautious brokers take.
const FILTERS_PER_PACKET: usize = 8;

/// Bytes that may wait for the broker to read them; then nothing more is read from it.
const OUTGOING_MAX: usize = 64 << 10;

/// Why a connection ended.
#[derive(Debug, Error)]
pub(super) enum End {
    /// The shutdown was asked for.
    #[error("the subscriber was stopped")]
    Stopped,
    /// The connection is gone, or must go.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The log did not take a message: the broker shall send it again.
    #[error("the log does not take messages")]
    Log(#[source] LogError),
}

/// What is to be done when the log has a message.
#[derive(Debug, Clone, Copy)]
struct Due {
    delivery: Delivery,
    /// Of its record.
    bytes: usize,
    /// When it is acknowledged, so is all that the subscriptions brought.
    live: bool,
}

type Append = Pin<Box<dyn Future<Output = Result<Pending, LogError>> + Send>>;

/// Everything that can happen to a connection.
enum Event {
    Stop,
    Durable(Result<Vec<Position>, LogError>, Due),
    /// The log had room.
    Appended(Result<Pending, LogError>, Due),
    Written(io::Result<()>),
    Read(io::Result<usize>),
    Tick,
}

/// An accepted connection.
pub(super) struct Connection<'s> {
    stage: &'s mut Stage,
    link: Link,
    /// What the log was given, in the order of its messages.
    appends: InOrder<Pending, Due>,
    /// A message that waits for room in the log.
    appending: Option<(Append, Due)>,
    bytes: usize,
    /// Filters that the broker has not answered.
    unanswered: BTreeMap<PacketId, Vec<String>>,
    /// Filters that it granted.
    granted: usize,
    refusal: Option<String>,
}

impl<'s> Connection<'s> {
    /// Subscribes; the answers come among the messages.
    pub(super) fn new(stage: &'s mut Stage, mut link: Link) -> Result<Self, LinkError> {
        let filters: Vec<_> = stage.settings.subscriptions().collect();
        let mut unanswered = BTreeMap::new();
        let mut ids = (1..).filter_map(PacketId::new);
        for (filters, id) in filters.chunks(FILTERS_PER_PACKET).zip(&mut ids) {
            link.wire.subscribe(id, filters, &mut link.outlet.bytes)?;
            unanswered.insert(id, filters.to_vec());
        }
        // A session from before there was a group has the same filters without it. After the others, so that nothing is missed between them.
        if link.granted.session_present && stage.settings.group.is_some() {
            for (filters, id) in stage.settings.filters.chunks(FILTERS_PER_PACKET).zip(&mut ids) {
                link.wire.unsubscribe(id, filters, &mut link.outlet.bytes)?;
            }
        }
        let (appends, appending) = (InOrder::new(), None);
        Ok(Self { stage, link, appends, appending, bytes: 0, unanswered, granted: 0, refusal: None })
    }

    /// Works until the end, and then says goodbye where that is possible.
    pub(super) async fn serve(mut self, shutdown: &CancellationToken) -> End {
        let end = match self.work(shutdown).await {
            Ok(never) => match never {},
            Err(end) => end,
        };
        self.stage.status.connected = false;
        self.wind_up(end).await
    }

    async fn work(&mut self, shutdown: &CancellationToken) -> Result<std::convert::Infallible, End> {
        loop {
            while self.has_room()
                && let Some(packet) = self.link.inbox.next().map_err(LinkError::from)?
            {
                let inbound = self.link.wire.decode(packet).map_err(LinkError::from)?;
                self.take(inbound)?;
            }
            self.tell();
            match self.event(shutdown).await {
                Event::Stop => return Err(End::Stopped),
                Event::Durable(durable, due) => self.durable(durable, due)?,
                Event::Appended(appended, due) => self.under_way(appended, due)?,
                Event::Written(written) => written.map_err(LinkError::from)?,
                Event::Read(read) => {
                    let bytes = read.map_err(LinkError::from)?;
                    self.link.heard(bytes)?;
                }
                Event::Tick => {
                    let reading = self.has_room();
                    self.link.keep_alive(reading)?;
                }
            }
        }
    }

    async fn event(&mut self, shutdown: &CancellationToken) -> Event {
        let reading = self.has_room();
        let Link { reader, inbox, outlet, next_ping, .. } = &mut self.link;
        tokio::select! {
            biased;
            () = shutdown.cancelled() => Event::Stop,
            (durable, due) = self.appends.next() => Event::Durable(durable, due),
            (appended, due) = room(&mut self.appending) => Event::Appended(appended, due),
            written = outlet.step(), if !outlet.is_done() => Event::Written(written),
            () = sleep_until(*next_ping) => Event::Tick,
            read = Link::read(reader, &mut inbox.bytes), if reading => Event::Read(read),
        }
    }

    /// Whether more may be read. A broker that keeps to the receive maximum is never stopped by the first limit, but for messages of QoS 0.
    fn has_room(&self) -> bool {
        let SubscriberSettings { receive_max, in_flight_bytes, .. } = self.stage.settings;
        self.appends.len() < usize::from(receive_max.get())
            && self.bytes < in_flight_bytes
            && self.appending.is_none()
            && self.link.outlet.bytes.len() < OUTGOING_MAX
    }

    fn take(&mut self, inbound: Inbound) -> Result<(), End> {
        match inbound {
            Inbound::Publish(publish) => self.publish(publish),
            Inbound::Released(id) => {
                self.link.wire.complete(id, &mut self.link.outlet.bytes).map_err(LinkError::from)?;
                Ok(())
            }
            Inbound::Subscribed(id, results) => Ok(self.subscribed(id, results)?),
            Inbound::Disconnected(reason) => Err(LinkError::Disconnected(reason).into()),
            Inbound::Connected(_) | Inbound::Refused(_) | Inbound::Other => Ok(()),
        }
    }

    fn subscribed(&mut self, id: PacketId, results: Vec<Result<u8, String>>) -> Result<(), LinkError> {
        let name = &self.stage.settings.name;
        for (filter, result) in self.unanswered.remove(&id).into_iter().flatten().zip(results) {
            match result {
                Ok(0) => {
                    warn!(
                        subscriber = name,
                        filter, "the broker grants QoS 0 only: what it cannot deliver is lost"
                    );
                    self.granted += 1;
                    self.stage.sieve.granted(filter);
                }
                Ok(_) => {
                    self.granted += 1;
                    self.stage.sieve.granted(filter);
                }
                Err(reason) => {
                    error!(subscriber = name, filter, reason, "the broker refuses a subscription");
                    self.refusal = Some(format!("{filter}: {reason}"));
                }
            }
        }
        if !self.unanswered.is_empty() {
            return Ok(());
        }
        self.stage.sieve.answered();
        if let Some(reason) = self.refusal.clone() {
            if self.granted == 0 {
                return Err(LinkError::Unsubscribed(reason));
            }
            self.stage.status.last_error = Some(format!("the broker refuses a subscription: {reason}"));
        }
        info!(subscriber = name, filters = self.granted, "subscribed");
        self.stage.status.connected = true;
        Ok(())
    }

    fn publish(&mut self, publish: Publish) -> Result<(), End> {
        self.stage.status.received += 1;
        let delivery = publish.delivery;
        match self.stage.sieve.judge(&publish) {
            Verdict::Take => {}
            Verdict::Replay => {
                self.stage.status.retained_dropped += 1;
                self.drop_in_turn(delivery);
                return Ok(());
            }
            Verdict::Unwanted => {
                self.stage.status.unwanted_dropped += 1;
                self.drop_in_turn(delivery);
                return Ok(());
            }
        }
        let live = self.stage.sieve.is_live(&publish);
        let Stage { routes, clock, limits, log, .. } = &*self.stage;
        let (log_topic, record) = message::record(publish, routes, clock.now(), limits);
        let due = Due { delivery, bytes: record.size(), live };
        self.bytes += due.bytes;
        let mut append: Append = Box::pin(append(Arc::clone(log), log_topic, record));
        // Nearly always there is room at once.
        match (&mut append).now_or_never() {
            Some(appended) => self.under_way(appended, due),
            None => {
                self.appending = Some((append, due));
                Ok(())
            }
        }
    }

    /// For a message that nobody wants: its acknowledgement waits for its turn, too.
    fn drop_in_turn(&mut self, delivery: Delivery) {
        let (answer, durable) = Pending::new();
        let answered = answer.send(Ok(Vec::new())).is_ok();
        debug_assert!(answered, "the other end is still here");
        self.appends.push(durable, Due { delivery, bytes: 0, live: false });
    }

    fn under_way(&mut self, appended: Result<Pending, LogError>, due: Due) -> Result<(), End> {
        match appended {
            Ok(durable) => {
                self.appends.push(durable, due);
                Ok(())
            }
            Err(error) => Err(self.failed(error, due)),
        }
    }

    /// The log has the message, or has failed: then neither it nor what follows is acknowledged, and the connection ends so that the broker sends it again.
    fn durable(&mut self, durable: Result<Vec<Position>, LogError>, due: Due) -> Result<(), End> {
        if let Err(error) = durable {
            return Err(self.failed(error, due));
        }
        self.bytes = self.bytes.saturating_sub(due.bytes);
        self.acknowledge(due.delivery)?;
        if due.live {
            self.stage.sieve.settle();
        }
        Ok(())
    }

    fn acknowledge(&mut self, delivery: Delivery) -> Result<(), LinkError> {
        let Link { wire, outlet, .. } = &mut self.link;
        match delivery {
            Delivery::Unconfirmed => return Ok(()),
            Delivery::Confirmed(id) => wire.acknowledge(id, &mut outlet.bytes)?,
            Delivery::Assured(id) => wire.receive(id, &mut outlet.bytes)?,
        }
        self.stage.status.acknowledged += 1;
        Ok(())
    }

    fn failed(&mut self, error: LogError, due: Due) -> End {
        self.stage.limits.learn(due.bytes, &error);
        self.lost(due.delivery);
        End::Log(error)
    }

    /// A message that the log does not have: the broker sends it again, unless it promised nothing for it.
    fn lost(&mut self, delivery: Delivery) {
        if delivery == Delivery::Unconfirmed {
            self.stage.status.lost += 1;
        }
    }

    /// Nothing is read any more. Waits for what the log was given, for a bounded time; acknowledges it if that is still possible, and says goodbye.
    async fn wind_up(mut self, end: End) -> End {
        let deadline = Instant::now() + self.stage.settings.drain_timeout;
        let mut acknowledging = matches!(end, End::Stopped);
        while self.appending.is_some() || self.appends.len() > 0 {
            let event = async {
                tokio::select! {
                    biased;
                    (durable, due) = self.appends.next() => Event::Durable(durable, due),
                    (appended, due) = room(&mut self.appending) => Event::Appended(appended, due),
                }
            };
            match timeout_at(deadline, event).await {
                Ok(Event::Durable(Ok(_), due)) if acknowledging => {
                    acknowledging = self.acknowledge(due.delivery).is_ok();
                }
                Ok(Event::Appended(Ok(durable), due)) => self.appends.push(durable, due),
                Ok(Event::Durable(Err(error), due) | Event::Appended(Err(error), due)) => {
                    warn!(error = chain(&error), "a message was not appended");
                    acknowledging = false;
                    self.lost(due.delivery);
                }
                Ok(_) => {}
                Err(_) => break,
            }
        }
        self.give_up();
        self.tell();
        if !matches!(end, End::Link(_)) {
            self.link.leave(Session::Stays).await;
        }
        end
    }

    /// What the log has not answered in time.
    fn give_up(&mut self) {
        let rest = std::mem::replace(&mut self.appends, InOrder::new());
        let waiting = self.appending.take().map(|(_, due)| due);
        for due in rest.into_rest().chain(waiting) {
            self.lost(due.delivery);
        }
        self.bytes = 0;
    }

    fn tell(&mut self) {
        self.stage.status.in_flight = self.appends.len() + usize::from(self.appending.is_some());
        self.stage.tell();
    }
}

/// Waits until the log has room for the message that waits for it; for ever if there is none. Cancel-safe.
async fn room(appending: &mut Option<(Append, Due)>) -> (Result<Pending, LogError>, Due) {
    let Some((append, due)) = appending else {
        return pending().await;
    };
    let (appended, due) = (append.await, *due);
    *appending = None;
    (appended, due)
}

/// Dropped before it returns, it has appended nothing.
async fn append(log: Arc<dyn Log>, topic: LogTopic, record: Record) -> Result<Pending, LogError> {
    log.append(&topic, vec![record]).await
}
