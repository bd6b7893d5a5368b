//! MQTT on the wire, both versions behind one set of types.
//!
//! `rmqtt-codec` decodes and encodes. It is lenient where the standard is not, and strict once where the standard is not; so `frame` finds whole packets
//! that a client may send and refuses the others by their first bytes, `amend` makes legal what the codec wrongly refuses and refuses what it would let pass,
//! and `inbound` checks what was decoded. The codec only ever sees one whole packet at a time, so it has no state that an error could leave stale.
//!
//! Nothing here does I/O or knows of sessions and the log.

mod amend;
mod frame;
mod inbound;
mod outbound;
#[cfg(test)]
mod tests;

pub(crate) use frame::claimed;
pub(crate) use outbound::{Accepted, Refusal, Reply};

use crate::gateway::violation::Violation;
use crate::identity::Password;
use bytes::{Bytes, BytesMut};
use rmqtt_codec::{MqttCodec, MqttPacket, v3, v5};
use std::num::NonZeroU16;
use tokio_util::codec::Decoder;

/// Packet identifier of MQTT.
pub(crate) type PacketId = NonZeroU16;

/// Version of the protocol that a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    V3,
    V5,
}

impl Version {
    /// As users write it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::V3 => "3.1.1",
            Self::V5 => "5",
        }
    }
}

/// What a client sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Packet {
    Publish(Publish),
    /// PUBREL.
    Release(PacketId),
    /// So many topic filters.
    Subscribe(PacketId, usize),
    /// So many topic filters.
    Unsubscribe(PacketId, usize),
    Ping,
    Disconnect(Disconnect),
}

/// A valid PUBLISH.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Publish {
    pub(crate) topic: String,
    pub(crate) delivery: Delivery,
    pub(crate) retain: bool,
    pub(crate) dup: bool,
    pub(crate) payload: Bytes,
    pub(crate) content_type: Option<String>,
    pub(crate) user_properties: Vec<(String, String)>,
}

/// Quality of service, with the packet identifier that belongs to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// QoS 0: at most once.
    Unconfirmed,
    /// QoS 1: at least once, PUBACK.
    Confirmed(PacketId),
    /// QoS 2: exactly once, PUBREC, PUBREL, PUBCOMP.
    Assured(PacketId),
}

impl Delivery {
    /// 0, 1 or 2.
    pub(crate) fn qos(self) -> u8 {
        match self {
            Self::Unconfirmed => 0,
            Self::Confirmed(_) => 1,
            Self::Assured(_) => 2,
        }
    }
}

/// How a client says goodbye.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Disconnect {
    /// Reason code 0 deletes the Will; every other one lets it be published.
    pub(crate) normal: bool,
    /// Seconds, where the client changes its mind.
    pub(crate) session_expiry: Option<u32>,
}

/// A valid CONNECT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Connect {
    /// Empty: the server names the client.
    pub(crate) client_id: String,
    /// Clean session, clean start.
    pub(crate) clean: bool,
    /// Seconds, 0: none.
    pub(crate) keep_alive: u16,
    pub(crate) will: Option<Will>,
    /// Seconds that the session is wanted to outlive the connection; `u32::MAX`: for ever. In 3.1.1 that is what "clean session off" means.
    pub(crate) session_expiry: u32,
    /// Largest packet that the client takes, in bytes.
    pub(crate) packet_max: Option<u32>,
    /// The method of an authentication exchange, which nobody here speaks.
    pub(crate) authentication: Option<String>,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<Password>,
}

/// The message that is published when a connection ends without a goodbye.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Will {
    pub(crate) topic: String,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    pub(crate) payload: Bytes,
    /// Seconds that it waits, in case the client comes back.
    pub(crate) delay: u32,
    pub(crate) content_type: Option<String>,
    pub(crate) user_properties: Vec<(String, String)>,
}

impl Will {
    /// Bytes of its texts and its payload.
    pub(crate) fn size(&self) -> usize {
        let properties = self.user_properties.iter().map(|(name, value)| name.len() + value.len());
        self.topic.len()
            + self.payload.len()
            + self.content_type.as_ref().map_or(0, String::len)
            + properties.sum::<usize>()
    }
}

/// What came instead of a valid CONNECT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BadConnect {
    /// Not MQTT, or not a CONNECT: it gets no answer.
    Unintelligible(Violation),
    /// MQTT of a level that we do not speak.
    Level(u8),
    /// A CONNECT of a version that we speak, with an error in it.
    Invalid(Version, Violation),
    /// 3.1.1: an empty client identifier for a session that should outlive the connection.
    Nameless,
}

/// The protocol of one connection: decodes what the client sends, encodes what it is sent.
#[derive(Debug)]
pub(crate) struct Wire {
    codec: MqttCodec,
    /// Largest packet that is taken, in bytes with its header.
    packet_max: usize,
    /// Largest packet that the client takes, likewise.
    client_packet_max: Option<usize>,
}

impl Wire {
    /// Takes a CONNECT off the front of the buffer, once it is there as a whole, and learns from it what the connection speaks.
    pub(crate) fn accept(
        buffer: &mut BytesMut,
        packet_max: usize,
    ) -> Result<Option<(Self, Connect)>, BadConnect> {
        let Some(frame) = frame::connect(buffer, packet_max).map_err(BadConnect::Unintelligible)? else {
            return Ok(None);
        };
        let version = amend::level(frame.body(buffer))?;
        amend::connect(frame.body(buffer), version)?;
        let mut codec = match version {
            Version::V3 => MqttCodec::V3(v3::Codec::new(0)),
            Version::V5 => MqttCodec::V5(v5::Codec::new(0, 0)),
        };
        let connect = match decode(&mut codec, buffer) {
            Ok(MqttPacket::V3(v3::Packet::Connect(connect))) => inbound::connect_v3(*connect),
            Ok(MqttPacket::V5(v5::Packet::Connect(connect))) => inbound::connect_v5(*connect),
            Ok(_) => Err(Violation::Protocol("the first packet is not a CONNECT")),
            Err(violation) => Err(violation),
        };
        let connect = connect.map_err(|violation| BadConnect::Invalid(version, violation))?;
        let client_packet_max = connect.packet_max.map(|max| max as usize);
        Ok(Some((Self { codec, packet_max, client_packet_max }, connect)))
    }

    /// Which version this connection speaks.
    pub(crate) fn version(&self) -> Version {
        match self.codec {
            MqttCodec::V5(_) => Version::V5,
            MqttCodec::V3(_) | MqttCodec::Version(_) => Version::V3,
        }
    }

    /// Takes the next packet off the front of the buffer; `None` if it is not there as a whole. After an error the connection must end.
    pub(crate) fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Packet>, Violation> {
        let Some(frame) = frame::next(buffer, self.packet_max, self.version())? else {
            return Ok(None);
        };
        amend::packet(frame.first_byte, frame.body(buffer), self.version())?;
        match decode(&mut self.codec, buffer)? {
            MqttPacket::V3(packet) => inbound::packet_v3(packet).map(Some),
            MqttPacket::V5(packet) => inbound::packet_v5(packet).map(Some),
            MqttPacket::Version(_) => Err(Violation::Protocol("a second protocol version")),
        }
    }

    /// Appends a packet for the client to the buffer, unless the version has no such packet or the client takes none so large, as the standard wants it.
    pub(crate) fn encode(&mut self, reply: &Reply, buffer: &mut BytesMut) {
        outbound::encode(&mut self.codec, reply, self.client_packet_max, buffer);
    }
}

/// The front of the buffer must be a whole packet.
fn decode(codec: &mut MqttCodec, buffer: &mut BytesMut) -> Result<MqttPacket, Violation> {
    match codec.decode(buffer) {
        Ok(Some((packet, _))) => Ok(packet),
        Ok(None) => Err(Violation::Malformed("the packet ends too early")),
        Err(error) => Err(inbound::violation(&error)),
    }
}
