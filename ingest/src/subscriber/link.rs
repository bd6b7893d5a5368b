//! One connection to the broker, from dialling to its goodbye.

use super::SubscriberError;
use super::inbox::Inbox;
use super::malformed::Malformed;
use super::publish::FRONT_MAX;
use super::settings::{MqttVersion, SubscriberSettings, Transport};
use super::term::SessionTerm;
use super::tls::{self, TlsError};
use super::wire::{Granted, Inbound, Session, Wire};
use crate::outlet::Outlet;
use crate::replay::Wire as Stream;
use bytes::BytesMut;
use rmqtt_codec::error::EncodeError;
use rustls::pki_types::ServerName;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::io::{AsyncReadExt, ReadHalf};
use tokio::net::TcpStream;
use tokio::task::JoinError;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

/// Spare room for one read, in bytes.
const READ_BYTES: usize = 64 * 1024;

/// How long the end of a connection may take: the broker closes its side when it has read ours.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(2);

/// The first bytes of a 3.1.1 CONNACK; that of MQTT 5 is at least three bytes long.
const CONNACK_V311: [u8; 2] = [0x20, 0x02];

/// In 3.1.1 a broker cannot say why it ends a connection, and mosquitto 2.0.11 does not say it in 5 either. Of the reasons this is the one that comes again and again.
const UNSAID: &str = " without a word; if that goes on, another program connects with our client id: each needs one of its own, as those that share a `group` have";

/// Why there is no connection (any more). A new one may work.
#[derive(Debug, Error)]
pub(crate) enum LinkError {
    #[error("connect")]
    Dial(#[source] io::Error),
    #[error("begin TLS")]
    Handshake(#[source] io::Error),
    #[error("prepare TLS")]
    Certificates(#[from] TlsError),
    #[error("{0:?} is no name of a server")]
    Name(String),
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error("the connection was lost")]
    Io(#[from] io::Error),
    #[error("the broker closed the connection{0}")]
    Closed(&'static str),
    #[error("the broker sent something that it should not")]
    Malformed(#[from] Malformed),
    #[error("the broker speaks MQTT 3.1.1 and not 5; say so by `mqtt = \"3.1.1\"`")]
    Old,
    #[error("the broker refuses us: {0}")]
    Refused(String),
    #[error("the broker ended the connection: {0}")]
    Disconnected(String),
    #[error("nothing was heard from the broker for {0:.1?}")]
    Silent(Duration),
    #[error("the broker refuses every subscription: {0}")]
    Unsubscribed(String),
    #[error("a packet cannot be encoded: {0}")]
    Encode(String),
    #[error("a task failed")]
    Task(#[from] JoinError),
}

impl From<EncodeError> for LinkError {
    fn from(error: EncodeError) -> Self {
        Self::Encode(error.to_string())
    }
}

/// A connection that the broker has accepted.
pub(crate) struct Link {
    pub(crate) reader: ReadHalf<Box<dyn Stream>>,
    pub(crate) inbox: Inbox,
    pub(crate) outlet: Outlet,
    pub(crate) wire: Wire,
    pub(crate) granted: Granted,
    pub(crate) session_term: SessionTerm,
    last_heard: Instant,
    /// Half of the keep-alive: a probe that often is always in time.
    ping_every: Duration,
    pub(crate) next_ping: Instant,
}

impl Link {
    /// Dials, says CONNECT and waits for the answer. Dropped before it returns, it leaves nothing behind.
    pub(crate) async fn open(settings: &SubscriberSettings) -> Result<Self, LinkError> {
        let limit = settings.connect_timeout;
        timeout(limit, Self::open_unbounded(settings)).await.unwrap_or(Err(LinkError::Timeout(limit)))
    }

    async fn open_unbounded(settings: &SubscriberSettings) -> Result<Self, LinkError> {
        let (mut reader, writer) = tokio::io::split(dial(settings).await?);
        let mut wire = Wire::new(settings.version);
        let mut outlet = Outlet::new(writer);
        wire.connect(settings, &mut outlet.bytes)?;
        outlet.drain().await?;
        let mut inbox = Inbox::new(settings.packet_max.max(FRONT_MAX));
        let granted = loop {
            if matches!(wire, Wire::V5(_)) && inbox.bytes.starts_with(&CONNACK_V311) {
                return Err(LinkError::Old);
            }
            // Something else than MQTT might have us wait for the rest of a packet that it never began.
            if inbox.bytes.first().is_some_and(|first| *first != CONNACK_V311[0]) {
                return Err(Malformed::Greeting.into());
            }
            match inbox.next()?.map(|packet| wire.decode(packet)).transpose()? {
                Some(Inbound::Connected(granted)) => break granted,
                Some(Inbound::Refused(reason)) => return Err(LinkError::Refused(reason)),
                Some(_) => return Err(Malformed::Greeting.into()),
                None if Self::read(&mut reader, &mut inbox.bytes).await? == 0 => {
                    return Err(LinkError::Closed(" instead of an answer to CONNECT"));
                }
                None => {}
            }
        };
        let session_term = match settings.version {
            MqttVersion::V311 => SessionTerm::Unsaid,
            MqttVersion::V5 => SessionTerm::of(settings.session_expiry.into(), granted.session_expiry),
        };
        let now = Instant::now();
        let ping_every = granted.keep_alive.unwrap_or(settings.keep_alive).max(Duration::from_secs(1)) / 2;
        Ok(Self {
            reader,
            inbox,
            outlet,
            wire,
            granted,
            session_term,
            last_heard: now,
            ping_every,
            next_ping: now + ping_every,
        })
    }

    /// Reads some bytes. Cancel-safe.
    pub(crate) async fn read(
        reader: &mut ReadHalf<Box<dyn Stream>>,
        bytes: &mut BytesMut,
    ) -> io::Result<usize> {
        bytes.reserve(READ_BYTES);
        reader.read_buf(bytes).await
    }

    /// Something came.
    pub(crate) fn heard(&mut self, bytes: usize) -> Result<(), LinkError> {
        if bytes == 0 {
            return Err(LinkError::Closed(UNSAID));
        }
        self.last_heard = Instant::now();
        Ok(())
    }

    /// Probes a connection in time, and gives up one on which nothing is heard for one and a half keep-alives. Of one that is not read nothing can be heard.
    pub(crate) fn keep_alive(&mut self, reading: bool) -> Result<(), LinkError> {
        let now = Instant::now();
        let patience = self.ping_every * 3;
        if !reading {
            self.last_heard = now;
        } else if now.duration_since(self.last_heard) > patience {
            return Err(LinkError::Silent(patience));
        }
        if now >= self.next_ping {
            self.next_ping = now + self.ping_every;
            self.wire.ping(&mut self.outlet.bytes)?;
        }
        Ok(())
    }

    /// Says goodbye. Whatever was written before reaches the broker first.
    pub(crate) async fn leave(mut self, session: Session) {
        let goodbye = async {
            self.wire.disconnect(session, &mut self.outlet.bytes)?;
            self.outlet.drain().await?;
            self.outlet.shutdown().await?;
            // A socket closed with unread bytes is reset, and what was written last may be lost with it.
            while Self::read(&mut self.reader, &mut self.inbox.bytes).await? > 0 {
                self.inbox.bytes.clear();
            }
            Ok::<_, LinkError>(())
        };
        match timeout(LEAVE_TIMEOUT, goodbye).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "the connection ended before its goodbye"),
            Err(_) => tracing::debug!("the broker did not close the connection after the goodbye"),
        }
    }
}

async fn dial(settings: &SubscriberSettings) -> Result<Box<dyn Stream>, LinkError> {
    let broker = &settings.broker;
    let stream = TcpStream::connect((broker.host.as_str(), broker.port)).await.map_err(LinkError::Dial)?;
    // Acknowledgements are gathered before they are written.
    stream.set_nodelay(true).map_err(LinkError::Dial)?;
    if broker.transport == Transport::Plain {
        return Ok(Box::new(stream));
    }
    let name = ServerName::try_from(broker.host.clone()).or(Err(LinkError::Name(broker.host.clone())))?;
    let of = settings.clone();
    let config = tokio::task::spawn_blocking(move || tls::client_config(&of)).await??;
    let stream = TlsConnector::from(Arc::clone(&config)).connect(name, stream).await;
    Ok(Box::new(stream.map_err(LinkError::Handshake)?))
}

/// Whether everything that a connection needs beforehand is there.
pub(crate) async fn prepare(settings: &SubscriberSettings) -> Result<(), SubscriberError> {
    if settings.broker.transport == Transport::Tls {
        let of = settings.clone();
        tokio::task::spawn_blocking(move || tls::client_config(&of)).await??;
    }
    Ok(())
}
