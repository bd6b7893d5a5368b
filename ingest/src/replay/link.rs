//! One connection to the broker, from CONNECT to its end.

use crate::outlet::Outlet;
use crate::replay::dial::{Dial, Wire};
use crate::replay::packet::{Codec, Granted, Greeting, Inbound};
use bytes::BytesMut;
use std::io;
use std::time::Duration;
use thiserror::Error;
use tokio::io::{AsyncReadExt, ReadHalf};
use tokio::time::{Instant, timeout};

/// Spare room for one read, in bytes.
const READ_BYTES: usize = 16 * 1024;

/// How long the end of a connection may take: the broker closes its side when it has read ours.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(2);

/// The first bytes of a 3.1.1 CONNACK; that of MQTT 5 is at least three bytes long.
const CONNACK_V311: [u8; 2] = [0x20, 0x02];

/// A connection that the broker has accepted.
pub(crate) struct Link {
    pub(crate) reader: ReadHalf<Box<dyn Wire>>,
    pub(crate) inbox: BytesMut,
    pub(crate) outlet: Outlet,
    pub(crate) codec: Codec,
    pub(crate) granted: Granted,
    opened: Instant,
    last_heard: Instant,
    /// Half of the keep-alive: a probe that often is always in time.
    ping_every: Option<Duration>,
    next_ping: Instant,
}

/// Why there is no connection (any more).
#[derive(Debug, Error)]
pub(crate) enum LinkError {
    /// A new one may work.
    #[error("{0}")]
    Lost(String),
    /// The broker does not want us.
    #[error("{0}")]
    Refused(String),
}

impl From<io::Error> for LinkError {
    fn from(error: io::Error) -> Self {
        // A certificate that is not good now will not be better the next time.
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        if let Some(rustls::Error::InvalidCertificate(reason)) = tls {
            return Self::Refused(format!("its certificate is not good: {reason}"));
        }
        Self::Lost(error.to_string())
    }
}

impl From<rmqtt_codec::error::DecodeError> for LinkError {
    fn from(error: rmqtt_codec::error::DecodeError) -> Self {
        Self::Lost(format!("the broker sent something that is not MQTT: {error}"))
    }
}

impl From<rmqtt_codec::error::EncodeError> for LinkError {
    fn from(error: rmqtt_codec::error::EncodeError) -> Self {
        Self::Refused(format!("a packet cannot be encoded: {error}"))
    }
}

impl Link {
    /// Dials, says CONNECT and waits for the answer.
    pub(crate) async fn open(dial: &dyn Dial, greeting: &Greeting<'_>) -> Result<Self, LinkError> {
        let limit = greeting.settings.connect_timeout;
        match timeout(limit, Self::open_unbounded(dial, greeting)).await {
            Ok(opened) => opened,
            Err(elapsed) => Err(LinkError::Lost(format!("no answer within {limit:?}: {elapsed}"))),
        }
    }

    async fn open_unbounded(dial: &dyn Dial, greeting: &Greeting<'_>) -> Result<Self, LinkError> {
        let (mut reader, writer) = tokio::io::split(dial.dial().await?);
        let mut codec = Codec::new(greeting.settings.version);
        let mut outlet = Outlet::new(writer);
        codec.connect(greeting, &mut outlet.bytes)?;
        outlet.drain().await?;
        let mut inbox = BytesMut::with_capacity(READ_BYTES);
        let granted = loop {
            if matches!(codec, Codec::V5(_)) && inbox.starts_with(&CONNACK_V311) {
                return Err(LinkError::Refused("it speaks MQTT 3.1.1 and not 5".to_owned()));
            }
            match codec.decode(&mut inbox)? {
                Some(Inbound::Connected(granted)) => break granted,
                Some(Inbound::Refused { reason, again: true }) => return Err(LinkError::Lost(reason)),
                Some(Inbound::Refused { reason, again: false }) => return Err(LinkError::Refused(reason)),
                Some(_) => return Err(LinkError::Lost("the broker's first packet is no CONNACK".to_owned())),
                None if reader.read_buf(&mut inbox).await? == 0 => {
                    return Err(LinkError::Lost(
                        "the broker closed the connection instead of an answer to CONNECT".to_owned(),
                    ));
                }
                None => {}
            }
        };
        let now = Instant::now();
        let asked = greeting.settings.keep_alive;
        let keep_alive = granted.keep_alive.map_or(asked, |seconds| Duration::from_secs(seconds.into()));
        let ping_every = (!keep_alive.is_zero()).then(|| keep_alive / 2);
        let next_ping = now + ping_every.unwrap_or_default();
        Ok(Self {
            reader,
            inbox,
            outlet,
            codec,
            granted,
            opened: now,
            last_heard: now,
            ping_every,
            next_ping,
        })
    }

    /// How long the connection has held.
    pub(crate) fn age(&self) -> Duration {
        self.opened.elapsed()
    }

    /// Reads some bytes. Cancel-safe.
    pub(crate) async fn read(
        reader: &mut ReadHalf<Box<dyn Wire>>,
        inbox: &mut BytesMut,
    ) -> io::Result<usize> {
        inbox.reserve(READ_BYTES);
        reader.read_buf(inbox).await
    }

    /// Something came.
    pub(crate) fn heard(&mut self, bytes: usize) -> Result<(), LinkError> {
        if bytes == 0 {
            return Err(LinkError::Lost("the broker closed the connection".to_owned()));
        }
        self.last_heard = Instant::now();
        Ok(())
    }

    /// Probes a connection in time, and gives up one on which nothing is heard for one and a half keep-alives.
    pub(crate) fn keep_alive(&mut self) -> Result<(), LinkError> {
        let Some(every) = self.ping_every else { return Ok(()) };
        let now = Instant::now();
        if now.duration_since(self.last_heard) > every * 3 {
            return Err(LinkError::Lost(format!("nothing was heard from the broker for {:.1?}", every * 3)));
        }
        if now >= self.next_ping {
            self.next_ping = now + every;
            self.codec.ping(&mut self.outlet.bytes)?;
        }
        Ok(())
    }

    /// Says goodbye. Whatever was written before reaches the broker first; a connection that is lost meanwhile is as good.
    pub(crate) async fn leave(mut self) {
        let goodbye = async {
            self.codec.disconnect(&mut self.outlet.bytes)?;
            self.outlet.drain().await?;
            self.outlet.shutdown().await?;
            // A socket closed with unread bytes is reset, and what was written last may be lost with it.
            while Self::read(&mut self.reader, &mut self.inbox).await? > 0 {
                self.inbox.clear();
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
