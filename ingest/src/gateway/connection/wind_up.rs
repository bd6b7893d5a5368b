//! What is left to do when a connection is over: farewell, session, Will, and letting go of the name, in this order.

use super::{Connection, Fate, Kept};
use crate::gateway::acks::InOrder;
use crate::gateway::end::End;
use crate::gateway::wills::{self, Testament};
use crate::gateway::wire::{Delivery, Reply, Version};
use crate::lifecycle::{Event, Happening};
use crate::session::SessionError;
use millstream_log::Pending;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use tracing::{debug, warn};

impl<S: AsyncRead + AsyncWrite + Send + 'static> Connection<S> {
    /// Ends the connection. A client that connects again under the same name waits until this has let go of it: then everything that this connection
    /// appended is known to be in the log or not, and the session says so.
    pub(super) async fn wind_up(mut self, end: End) {
        self.incoming.discard();
        if self.farewell(&end).await.is_err() {
            debug!(client_id = &**self.claim.client_id(), "the client did not hear why its connection ends");
        }
        self.settle().await;
        if end.publishes_will() {
            self.publish_will().await;
        }
        self.end_session().await;
        self.shared.lifecycle.tell(Event {
            event: Happening::Disconnect,
            client_id: self.claim.client_id().to_string(),
            protocol: self.wire.version().as_str(),
            address: self.address,
            reason: end.reason(),
            detail: end.detail(),
            messages: Some(self.messages),
            session_present: None,
            identity: self.identity.name(),
            denied: (self.denied > 0).then_some(self.denied),
        });
        debug!(client_id = &**self.claim.client_id(), reason = end.reason(), "a client is gone");
        drop(self.claim);
        let settings = &self.shared.settings;
        let lost = async { self.shared.lose(count_lost(self.appends, settings.drain_timeout).await) };
        if end.is_ours() {
            tokio::join!(lost, linger(self.reader, settings.linger_timeout));
        } else {
            lost.await;
        }
    }

    async fn farewell(&mut self, end: &End) -> io::Result<()> {
        if !end.is_ours() {
            return Ok(());
        }
        if self.wire.version() == Version::V5
            && let Some((code, text)) = end.farewell()
        {
            self.reply(&Reply::Disconnect(code, text));
        }
        let flushed = timeout(self.shared.settings.drain_timeout, async {
            self.writer.write_all_buf(&mut self.outgoing).await?;
            self.writer.shutdown().await
        });
        flushed.await.unwrap_or(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Waits until it is known which messages of QoS 2 the log has, and lets the session remember them: they will be resent, and must not be appended again.
    /// This takes as long as the log takes; a gateway that stops has its own limit for it.
    async fn settle(&mut self) {
        while self.lasting && self.appends.len() > 0 {
            let (durable, (delivery, fate)) = self.appends.next().await;
            match (durable, delivery) {
                _ if matches!(fate, Fate::Denied) => {}
                (Ok(_), Delivery::Assured(id)) => {
                    let answer = self.shared.sessions.received(self.claim.client_id(), id).await;
                    self.keeping.push(answer, Kept::Received(id));
                }
                (Err(_), Delivery::Unconfirmed) => self.shared.lose(1),
                _ => {}
            }
        }
        while self.keeping.len() > 0 {
            let (stored, _) = self.keeping.next().await;
            if let Err(error) = stored.unwrap_or(Err(SessionError::Closed)) {
                warn!(
                    error = &error as &dyn std::error::Error,
                    "a message of QoS 2 may be doubled when it is resent"
                );
            }
        }
    }

    /// At once, or after the delay that the client wished for, but no later than its session ends.
    async fn publish_will(&mut self) {
        let Some(will) = self.will.take() else {
            return;
        };
        let delay = will.delay.min(self.session_expiry);
        let testament = Testament {
            will,
            client_id: Arc::clone(self.claim.client_id()),
            identity: Arc::clone(&self.identity),
            protocol: self.wire.version().as_str(),
            address: self.address,
        };
        let now = if delay == 0 {
            Some(testament)
        } else {
            self.shared.wills.keep(testament, Duration::from_secs(delay.into()))
        };
        if let Some(testament) = now {
            wills::publish(&self.shared, vec![testament]).await;
        }
    }

    async fn end_session(&mut self) {
        let (client_id, now) = (self.claim.client_id(), self.shared.clock.now());
        if let Err(error) = self.shared.sessions.end(client_id, self.session_expiry, now).await {
            warn!(%client_id, error = &error as &dyn std::error::Error, "the end of a connection was not kept");
        }
    }
}

/// How many messages of QoS 0 the log did not take. Those that it has not answered for by the limit count as lost.
async fn count_lost<T>(mut appends: InOrder<Pending, (Delivery, T)>, limit: Duration) -> u64 {
    let mut lost = 0;
    let answered = timeout(limit, async {
        while appends.len() > 0 {
            let (durable, (delivery, _room)) = appends.next().await;
            lost += u64::from(durable.is_err() && delivery == Delivery::Unconfirmed);
        }
    });
    if answered.await.is_err() {
        let unanswered = appends.into_rest().filter(|(delivery, _)| *delivery == Delivery::Unconfirmed);
        lost += unanswered.count() as u64;
    }
    lost
}

/// How many times the limit a client may go on sending.
const LINGERS: u32 = 5;

/// Reads and forgets until the client has closed its end, as long as it sends, for a moment: closing a socket with unread bytes in it would reset the connection, and
/// the client would lose what it was last sent.
pub(crate) async fn linger<R: AsyncRead + Unpin>(mut reader: R, limit: Duration) {
    let mut unread = vec![0; 4096];
    let closed = timeout(limit * LINGERS, async {
        loop {
            match timeout(limit, reader.read(&mut unread)).await {
                Ok(Ok(1..)) => {}
                Ok(_) => return true,
                Err(_) => return false,
            }
        }
    });
    if !closed.await.unwrap_or(false) {
        debug!("a client did not close its end");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_log::LogError;

    #[tokio::test(start_paused = true)]
    async fn messages_of_qos_0_that_the_log_refuses_or_never_answers_for_are_lost() {
        let check = async |answers: &[(Delivery, Option<bool>)], expected| {
            let mut appends = InOrder::new();
            let mut silent = Vec::new();
            for (delivery, answer) in answers {
                let (sender, pending) = Pending::new();
                match answer {
                    Some(true) => sender.send(Ok(Vec::new())).unwrap(),
                    Some(false) => sender.send(Err(LogError::Unknown { detail: String::new() })).unwrap(),
                    None => silent.push(sender),
                }
                appends.push(pending, (*delivery, ()));
            }
            assert_eq!(count_lost(appends, Duration::from_secs(1)).await, expected, "{answers:?}");
        };
        let confirmed = Delivery::Confirmed(std::num::NonZeroU16::MIN);
        let plain = Delivery::Unconfirmed;
        check(&[], 0).await;
        check(&[(plain, Some(true)), (plain, Some(false)), (confirmed, Some(false))], 1).await;
        check(&[(plain, Some(false)), (plain, None), (confirmed, None), (plain, None)], 3).await;
    }
}
