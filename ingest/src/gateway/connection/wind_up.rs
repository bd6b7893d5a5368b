//! What is left to do when a connection is over: farewell, session, Will, and letting go of the name, in this order.

use super::{Connection, Kept};
use crate::gateway::end::End;
use crate::gateway::message;
use crate::gateway::wire::{Delivery, Reply, Version};
use crate::lifecycle::{Event, Happening};
use crate::session::SessionError;
use millstream_log::LogError;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf};
use tracing::{debug, warn};

impl<S: AsyncRead + AsyncWrite + Send + 'static> Connection<S> {
    /// Ends the connection. A client that connects again under the same name waits until this has let go of it: then everything that this connection
    /// appended is known to be in the log or not, and the session says so.
    pub(super) async fn wind_up(mut self, end: End) {
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
        });
        debug!(client_id = &**self.claim.client_id(), reason = end.reason(), "a client is gone");
        drop(self.claim);
        if end.is_ours() {
            linger(self.reader, self.shared.settings.linger_timeout).await;
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
        let flushed = tokio::time::timeout(self.shared.settings.drain_timeout, async {
            self.writer.write_all_buf(&mut self.outgoing).await?;
            self.writer.shutdown().await
        });
        flushed.await.unwrap_or(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Waits until it is known which messages of QoS 2 the log has, and lets the session remember them: they will be resent, and must not be appended again.
    /// This takes as long as the log takes; a gateway that stops has its own limit for it.
    async fn settle(&mut self) {
        while self.lasting && self.appends.len() > 0 {
            let (durable, (delivery, _room)) = self.appends.next().await;
            if let (Ok(_), Delivery::Assured(id)) = (durable, delivery) {
                let answer = self.shared.sessions.received(self.claim.client_id(), id).await;
                self.keeping.push(answer, Kept::Received(id));
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

    /// At once, whatever delay the client wished for: a device that comes back soon was gone nevertheless.
    async fn publish_will(&mut self) {
        let Some(will) = self.will.take() else {
            return;
        };
        let client_id = self.claim.client_id();
        let route = self.routes.route(&will.topic, client_id, &self.shared.routes);
        let record = message::will_record(will, &route, self.shared.clock.now());
        let appended = tokio::time::timeout(self.shared.settings.drain_timeout, async {
            self.shared.log.append(&route.log_topic, vec![record]).await?.await
        });
        let appended =
            appended.await.unwrap_or_else(|late| Err(LogError::Unknown { detail: late.to_string() }));
        if let Err(error) = appended {
            warn!(%client_id, error = &error as &dyn std::error::Error, "the log did not take a Will");
        }
    }

    async fn end_session(&mut self) {
        let (client_id, now) = (self.claim.client_id(), self.shared.clock.now());
        if let Err(error) = self.shared.sessions.end(client_id, self.session_expiry, now).await {
            warn!(%client_id, error = &error as &dyn std::error::Error, "the end of a connection was not kept");
        }
    }
}

/// Reads and forgets until the client has closed its end, for a moment: closing a socket with unread bytes in it would reset the connection, and the client
/// would lose what it was last sent.
pub(crate) async fn linger<S: AsyncRead>(mut reader: ReadHalf<S>, limit: Duration) {
    let mut unread = vec![0; 4096];
    let closed =
        tokio::time::timeout(limit, async { while matches!(reader.read(&mut unread).await, Ok(1..)) {} });
    if closed.await.is_err() {
        debug!("a client did not close its end");
    }
}
