//! What a connection does with packets, and with the answers that come back for them.

use super::{Appended, Connection, Durable, Fate, Kept, OPEN_MAX, Open, Stored};
use crate::gateway::Shared;
use crate::gateway::end::End;
use crate::gateway::message;
use crate::gateway::violation::Violation;
use crate::gateway::wire::{Delivery, Disconnect, Packet, PacketId, Publish, Reply, Version};
use crate::lifecycle::{Event, Happening};
use crate::session::SessionError;
use millstream_log::{LogError, Pending};
use millstream_model::name::LogTopic;
use millstream_model::record::Record;
use std::sync::Arc;
use std::task::Poll;
use tokio::io::{AsyncRead, AsyncWrite};

impl<S: AsyncRead + AsyncWrite + Send + 'static> Connection<S> {
    pub(super) async fn take(&mut self, packet: Packet) -> Result<(), End> {
        match packet {
            Packet::Publish(publish) => return self.publish(publish).await,
            Packet::Release(id) => return self.release(id).await,
            Packet::Disconnect(disconnect) => return Err(self.goodbye(disconnect)),
            Packet::Subscribe(id, filters) => self.reply(&Reply::RefuseSubscriptions(id, filters)),
            Packet::Unsubscribe(id, filters) => self.reply(&Reply::Unsubscribed(id, filters)),
            Packet::Ping => self.reply(&Reply::Pong),
        }
        Ok(())
    }

    async fn publish(&mut self, publish: Publish) -> Result<(), End> {
        let delivery = publish.delivery;
        if let Delivery::Assured(id) = delivery
            && let Some(open) = self.open.get(&id)
        {
            match open {
                // Only a message that says it is sent again (MQTT-3.3.1-1) is one of an earlier connection. A client that lost its store numbers its messages
                // anew, and this is another one.
                Open::Received { counted: false } if !publish.dup => self.forget(id).await?,
                // It is in the log, or on its way there: on one connection the same identifier is the same message until it is released.
                Open::Received { .. } => {
                    self.reply(&Reply::Received(id));
                    return Ok(());
                }
                Open::UnderWay => return Ok(()),
            }
        }
        if !self.identity.may_publish(&publish.topic) {
            return self.deny(&publish);
        }
        self.count(delivery)?;
        let route = self.routes.route(&publish.topic, self.claim.client_id(), &self.shared.routes);
        let record = message::record(publish, &route, self.shared.clock.now(), &self.shared.settings);
        let mut append = Box::pin(append(Arc::clone(&self.shared), route.log_topic.clone(), record));
        // Nearly always there is room at once.
        match futures::poll!(&mut append) {
            Poll::Ready(appended) => self.under_way(appended, delivery),
            Poll::Pending => {
                self.appending = Some((append, delivery));
                Ok(())
            }
        }
    }

    /// Its device may not publish this. MQTT 5 has an answer for it, which waits for its turn (MQTT-4.6.0); a message of QoS 0 is dropped and counted. In 3.1.1 an
    /// answer would say that it was taken, and none would have it sent for ever: the connection ends.
    fn deny(&mut self, publish: &Publish) -> Result<(), End> {
        if self.denied == 0 {
            self.shared.lifecycle.tell(Event {
                event: Happening::Denied,
                client_id: self.claim.client_id().to_string(),
                protocol: self.wire.version().as_str(),
                address: self.address,
                reason: "topic_not_authorized",
                detail: Some(publish.topic.clone()),
                messages: None,
                session_present: None,
                identity: self.identity.name(),
                denied: None,
            });
        }
        self.denied += 1;
        self.shared.counters.deny();
        if self.wire.version() == Version::V3 {
            return Err(End::NotAuthorized);
        }
        if publish.delivery != Delivery::Unconfirmed {
            self.count(publish.delivery)?;
            let (answer, decided) = Pending::new();
            // The other end is in the next line.
            drop(answer.send(Ok(Vec::new())));
            self.appends.push(decided, (publish.delivery, Fate::Denied));
        }
        Ok(())
    }

    /// It is the turn of the answer to a message that was denied.
    pub(super) fn denied(&mut self, delivery: Delivery) {
        match delivery {
            Delivery::Unconfirmed => {}
            Delivery::Confirmed(id) => {
                self.acknowledged();
                self.reply(&Reply::Deny(id));
            }
            Delivery::Assured(id) => {
                self.acknowledged();
                self.open.remove(&id);
                self.reply(&Reply::DenyReceived(id));
            }
        }
    }

    /// The client knows nothing of a message of an earlier connection any more. Durable before the identifier's new message is under way: else a resend of that
    /// one could be taken for the old.
    async fn forget(&mut self, id: PacketId) -> Result<(), End> {
        self.open.remove(&id);
        if self.lasting {
            let forgotten = self.shared.sessions.released(self.claim.client_id(), id).await.await;
            forgotten.unwrap_or(Err(SessionError::Closed)).map_err(End::Sessions)?;
        }
        Ok(())
    }

    /// Counts a message against the limits that MQTT 5 clients are told and those that protect us.
    fn count(&mut self, delivery: Delivery) -> Result<(), Violation> {
        if delivery == Delivery::Unconfirmed {
            return Ok(());
        }
        let receive_max = usize::from(self.shared.settings.in_flight_max.get());
        if self.wire.version() == Version::V5 && self.unacknowledged >= receive_max {
            return Err(Violation::ReceiveMaximum(receive_max));
        }
        if let Delivery::Assured(id) = delivery {
            if self.open.len() >= OPEN_MAX {
                return Err(Violation::ReceiveMaximum(OPEN_MAX));
            }
            self.open.insert(id, Open::UnderWay);
        }
        self.unacknowledged += 1;
        Ok(())
    }

    /// The append that waited for room has it.
    pub(super) fn appended(&mut self, appended: Appended) -> Result<(), End> {
        match self.appending.take() {
            Some((_, delivery)) => self.under_way(appended, delivery),
            None => Ok(()),
        }
    }

    fn under_way(&mut self, appended: Appended, delivery: Delivery) -> Result<(), End> {
        if appended.is_err() && delivery == Delivery::Unconfirmed {
            self.shared.lose(1);
        }
        let (pending, room) = appended.map_err(End::Log)?;
        self.messages += 1;
        self.appends.push(pending, (delivery, Fate::Stored(room)));
        Ok(())
    }

    /// The log has the message, or has failed: then it is not acknowledged, and the connection ends so that the client sends it again.
    pub(super) async fn durable(&mut self, durable: Durable, delivery: Delivery) -> Result<(), End> {
        if durable.is_err() && delivery == Delivery::Unconfirmed {
            self.shared.lose(1);
        }
        durable.map_err(End::Log)?;
        match delivery {
            Delivery::Unconfirmed => {}
            Delivery::Confirmed(id) => {
                self.acknowledged();
                self.shared.counters.acknowledge();
                self.reply(&Reply::Acknowledge(id));
            }
            Delivery::Assured(id) if self.lasting => {
                let answer = self.shared.sessions.received(self.claim.client_id(), id).await;
                self.keeping.push(answer, Kept::Received(id));
            }
            Delivery::Assured(id) => self.received(id),
        }
        Ok(())
    }

    async fn release(&mut self, id: PacketId) -> Result<(), End> {
        match self.open.get(&id) {
            None => self.reply(&Reply::Complete { id, known: false }),
            Some(Open::UnderWay) => return Err(Violation::Protocol("a PUBREL before its PUBREC").into()),
            Some(Open::Received { counted }) => {
                if *counted {
                    self.acknowledged();
                }
                self.open.remove(&id);
                if self.lasting {
                    let answer = self.shared.sessions.released(self.claim.client_id(), id).await;
                    self.keeping.push(answer, Kept::Released(id));
                } else {
                    self.reply(&Reply::Complete { id, known: true });
                }
            }
        }
        Ok(())
    }

    /// The session has changed durably.
    pub(super) fn kept(&mut self, stored: Stored, kept: Kept) -> Result<(), End> {
        stored.unwrap_or(Err(SessionError::Closed)).map_err(End::Sessions)?;
        match kept {
            Kept::Received(id) => self.received(id),
            Kept::Released(id) => self.reply(&Reply::Complete { id, known: true }),
        }
        Ok(())
    }

    fn received(&mut self, id: PacketId) {
        self.open.insert(id, Open::Received { counted: true });
        self.shared.counters.acknowledge();
        self.reply(&Reply::Received(id));
    }

    fn acknowledged(&mut self) {
        self.unacknowledged = self.unacknowledged.saturating_sub(1);
    }

    fn goodbye(&mut self, disconnect: Disconnect) -> End {
        if let Some(expiry) = disconnect.session_expiry {
            if expiry > 0 && !self.lasting {
                return Violation::Protocol("a session that was to end with its connection is to last")
                    .into();
            }
            self.session_expiry = expiry.min(self.shared.settings.session_expiry_max_secs());
        }
        if disconnect.normal { End::Disconnected } else { End::DisconnectedWithWill }
    }
}

/// Waits for room, first among the bytes that may be under way, then in the log. Dropped before it returns, it has appended nothing.
async fn append(shared: Arc<Shared>, topic: LogTopic, record: Record) -> Appended {
    let size = record.size();
    let bytes = u32::try_from(size).unwrap_or(u32::MAX).min(shared.settings.in_flight_bytes);
    let room = Arc::clone(&shared.in_flight).acquire_many_owned(bytes).await;
    let room = room.map_err(|closed| LogError::Unknown { detail: closed.to_string() })?;
    let pending = shared.log.append(&topic, vec![record]).await?;
    Ok((pending, shared.counters.take(room, size)))
}
