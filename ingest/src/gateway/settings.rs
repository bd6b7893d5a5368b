//! The gateway's limits.

use std::num::NonZeroU16;
use std::time::Duration;

/// Limits of a gateway. Each protects it or the log from one device or from many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewaySettings {
    /// Connections at a time; a further one is refused (5: 0x97, 3.1.1: code 3).
    pub connections_max: usize,
    /// Bytes of one packet with its header; a larger one closes the connection (5: 0x95).
    pub packet_max: u32,
    /// Bytes of one payload. Of a larger one only the head is kept, and it says how long it was.
    pub message_max: usize,
    /// Bytes that are kept of a payload that is too large.
    pub truncated_keep: usize,
    /// Messages of one connection that may wait for the log: the receive maximum of MQTT 5. From a client of 3.1.1 nothing more is read meanwhile.
    pub in_flight_max: NonZeroU16,
    /// Bytes of messages of all connections that may wait for the log.
    pub in_flight_bytes: u32,
    /// Bytes of packets that are not there as a whole, of all connections. A packet beyond the first read takes all of its bytes of it before more is read;
    /// where there are none left, it waits.
    pub undecoded_bytes: u32,
    /// Time that such a packet may take to come, so that those that wait for its bytes get them.
    pub packet_timeout: Duration,
    /// Bytes that the Wills of all connected clients may take; a client whose Will finds no room is refused (5: 0x97, 3.1.1: code 3).
    pub will_bytes: u32,
    /// Longest keep-alive. MQTT 5 clients are told; one that asks for none gets this, in either version.
    pub keep_alive_max: Duration,
    /// Time from the connection to its whole CONNECT.
    pub connect_timeout: Duration,
    /// A client that reads nothing for this long, while there is something for it, is cut off.
    pub write_timeout: Duration,
    /// Longest life of a session without connection. What 3.1.1 means by "clean session off", too.
    pub session_expiry_max: Duration,
    /// Sessions that are kept; a client that wants a further one is refused (5: 0x97, 3.1.1: code 3).
    pub sessions_max: u64,
    /// How long a connection that ends, or a gateway that stops, waits for the log to answer.
    pub drain_timeout: Duration,
    /// How long a client may be silent without closing its end after we closed ours, and five times that in all: until then it can still read why.
    pub linger_timeout: Duration,
}

impl Default for GatewaySettings {
    fn default() -> Self {
        Self {
            connections_max: 10_000,
            packet_max: 1 << 20,
            message_max: 128 << 10,
            truncated_keep: 64 << 10,
            in_flight_max: NonZeroU16::new(1024).unwrap_or(NonZeroU16::MIN),
            in_flight_bytes: 64 << 20,
            undecoded_bytes: 256 << 20,
            will_bytes: 64 << 20,
            packet_timeout: Duration::from_secs(60),
            keep_alive_max: Duration::from_secs(3600),
            connect_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(30),
            session_expiry_max: Duration::from_secs(7 * 24 * 3600),
            sessions_max: 100_000,
            drain_timeout: Duration::from_secs(5),
            linger_timeout: Duration::from_secs(1),
        }
    }
}

impl GatewaySettings {
    /// The largest record that a message can become, in bytes as [`millstream_model::record::Record::size`] counts them: the log must take such a one.
    /// A longest payload, a longest topic as header and as key, and 64 KiB of properties, each of which costs a few bytes more than on the wire.
    #[must_use]
    pub fn record_max(&self) -> usize {
        const TEXT_MAX: usize = 64 << 10;
        self.message_max.max(self.truncated_keep) + 5 * TEXT_MAX
    }

    pub(crate) fn keep_alive_max_secs(&self) -> u16 {
        u16::try_from(self.keep_alive_max.as_secs()).unwrap_or(u16::MAX).max(1)
    }

    pub(crate) fn session_expiry_max_secs(&self) -> u32 {
        u32::try_from(self.session_expiry_max.as_secs()).unwrap_or(u32::MAX)
    }
}
