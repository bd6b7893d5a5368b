//! The packets that a publishing client sends and gets, in either version of the protocol.

use crate::replay::message::Message;
use crate::replay::settings::{Connection, MqttVersion, Qos};
use bytes::{Bytes, BytesMut};
use rmqtt_codec::error::{DecodeError, EncodeError};
use rmqtt_codec::types::{Publish, QoS};
use rmqtt_codec::{v3, v5};
use std::num::{NonZeroU16, NonZeroU32};
use tokio_util::codec::{Decoder, Encoder};

/// Largest packet that we take, in bytes: a broker sends us nothing but acknowledgements, with a reason at most.
const INBOUND_MAX_BYTES: u32 = 64 * 1024;

/// Encodes and decodes for one connection.
#[derive(Debug)]
pub(crate) enum Codec {
    V311(v3::Codec),
    V5(v5::Codec),
}

/// What a broker sends to a client that only publishes.
#[derive(Debug)]
pub(crate) enum Inbound {
    Connected(Granted),
    /// `again`: it may be different later.
    Refused {
        reason: String,
        again: bool,
    },
    /// PUBACK.
    Acknowledged {
        id: NonZeroU16,
        refusal: Option<String>,
    },
    /// PUBREC.
    Received {
        id: NonZeroU16,
        refusal: Option<String>,
    },
    /// PUBCOMP.
    Completed {
        id: NonZeroU16,
    },
    /// The broker ends the connection.
    Disconnected {
        reason: String,
        again: bool,
    },
    /// A sign of life.
    Other,
}

/// What the broker grants a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Granted {
    pub(crate) session_present: bool,
    pub(crate) receive_max: NonZeroU16,
    /// Bytes.
    pub(crate) packet_max: Option<u32>,
    pub(crate) qos_max: Qos,
    /// Seconds, where the broker wants another keep-alive than we asked for.
    pub(crate) keep_alive: Option<u16>,
}

/// The fields of a CONNECT.
#[derive(Debug)]
pub(crate) struct Greeting<'s> {
    pub(crate) client_id: &'s str,
    pub(crate) clean: bool,
    pub(crate) settings: &'s Connection,
}

impl Codec {
    pub(crate) fn new(version: MqttVersion) -> Self {
        match version {
            MqttVersion::V311 => Self::V311(v3::Codec::new(INBOUND_MAX_BYTES)),
            MqttVersion::V5 => Self::V5(v5::Codec::new(INBOUND_MAX_BYTES, 0)),
        }
    }

    /// The next whole packet.
    pub(crate) fn decode(&mut self, inbox: &mut BytesMut) -> Result<Option<Inbound>, DecodeError> {
        Ok(match self {
            Self::V311(codec) => codec.decode(inbox)?.map(|(packet, _)| inbound_v311(packet)),
            Self::V5(codec) => codec.decode(inbox)?.map(|(packet, _)| inbound_v5(packet)),
        })
    }

    pub(crate) fn connect(&mut self, greeting: &Greeting<'_>, out: &mut BytesMut) -> Result<(), EncodeError> {
        let Greeting { client_id, clean, settings } = *greeting;
        let keep_alive = u16::try_from(settings.keep_alive.as_secs_f64().ceil() as u64).unwrap_or(u16::MAX);
        let credentials = settings.credentials.as_ref();
        let username = credentials.map(|credentials| credentials.user.as_str().into());
        let password = credentials.and_then(|credentials| credentials.password.clone()).map(Bytes::from);
        match self {
            Self::V311(codec) => {
                let connect = v3::Connect {
                    clean_session: clean,
                    keep_alive,
                    client_id: client_id.into(),
                    username,
                    password,
                    ..v3::Connect::default()
                };
                codec.encode(connect.into(), out)
            }
            Self::V5(codec) => {
                let connect = v5::Connect {
                    clean_start: clean,
                    keep_alive,
                    session_expiry_interval_secs: u32::try_from(settings.session_expiry.as_secs())
                        .unwrap_or(u32::MAX),
                    max_packet_size: NonZeroU32::new(INBOUND_MAX_BYTES),
                    client_id: client_id.into(),
                    username,
                    password,
                    ..v5::Connect::default()
                };
                codec.encode(connect.into(), out)
            }
        }
    }

    pub(crate) fn publish(
        &mut self,
        message: &Message,
        qos: Qos,
        id: Option<NonZeroU16>,
        dup: bool,
        out: &mut BytesMut,
    ) -> Result<(), EncodeError> {
        let publish = Publish {
            dup,
            retain: false,
            qos: wire_qos(qos),
            topic: message.topic.as_ref().into(),
            packet_id: id,
            payload: message.payload.clone(),
            properties: None,
        };
        match self {
            Self::V311(codec) => codec.encode(publish.into(), out),
            Self::V5(codec) => codec.encode(publish.into(), out),
        }
    }

    pub(crate) fn release(&mut self, id: NonZeroU16, out: &mut BytesMut) -> Result<(), EncodeError> {
        match self {
            Self::V311(codec) => codec.encode(v3::Packet::PublishRelease { packet_id: id }, out),
            Self::V5(codec) => {
                let release = v5::PublishAck2 { packet_id: id, ..v5::PublishAck2::default() };
                codec.encode(v5::Packet::PublishRelease(release), out)
            }
        }
    }

    pub(crate) fn ping(&mut self, out: &mut BytesMut) -> Result<(), EncodeError> {
        match self {
            Self::V311(codec) => codec.encode(v3::Packet::PingRequest, out),
            Self::V5(codec) => codec.encode(v5::Packet::PingRequest, out),
        }
    }

    /// The end of a replay: in MQTT 5 the broker need not keep the session any longer.
    pub(crate) fn disconnect(&mut self, out: &mut BytesMut) -> Result<(), EncodeError> {
        match self {
            Self::V311(codec) => codec.encode(v3::Packet::Disconnect, out),
            Self::V5(codec) => {
                let disconnect =
                    v5::Disconnect { session_expiry_interval_secs: Some(0), ..v5::Disconnect::default() };
                codec.encode(v5::Packet::Disconnect(disconnect), out)
            }
        }
    }

    /// Bytes of a PUBLISH on the wire.
    pub(crate) fn publish_size(&self, message: &Message, qos: Qos) -> usize {
        let id = if qos == Qos::AtMostOnce { 0 } else { 2 };
        let properties = usize::from(matches!(self, Self::V5(_)));
        let rest = 2 + message.topic.len() + id + properties + message.payload.len();
        let length_bytes = match rest {
            0..0x80 => 1,
            0x80..0x4000 => 2,
            0x4000..0x20_0000 => 3,
            _ => 4,
        };
        1 + length_bytes + rest
    }
}

fn wire_qos(qos: Qos) -> QoS {
    match qos {
        Qos::AtMostOnce => QoS::AtMostOnce,
        Qos::AtLeastOnce => QoS::AtLeastOnce,
        Qos::ExactlyOnce => QoS::ExactlyOnce,
    }
}

fn inbound_v311(packet: v3::Packet) -> Inbound {
    match packet {
        v3::Packet::ConnectAck(ack) if ack.return_code == v3::ConnectAckReason::ConnectionAccepted => {
            Inbound::Connected(Granted {
                session_present: ack.session_present,
                receive_max: NonZeroU16::MAX,
                packet_max: None,
                qos_max: Qos::ExactlyOnce,
                keep_alive: None,
            })
        }
        v3::Packet::ConnectAck(ack) => Inbound::Refused {
            reason: format!("{:?} (return code {})", ack.return_code, u8::from(ack.return_code)),
            again: ack.return_code == v3::ConnectAckReason::ServiceUnavailable,
        },
        v3::Packet::PublishAck { packet_id } => Inbound::Acknowledged { id: packet_id, refusal: None },
        v3::Packet::PublishReceived { packet_id } => Inbound::Received { id: packet_id, refusal: None },
        v3::Packet::PublishComplete { packet_id } => Inbound::Completed { id: packet_id },
        _ => Inbound::Other,
    }
}

fn inbound_v5(packet: v5::Packet) -> Inbound {
    match packet {
        v5::Packet::ConnectAck(ack) => connected_v5(&ack),
        v5::Packet::PublishAck(ack) => Inbound::Acknowledged { id: ack.packet_id, refusal: refusal_v5(&ack) },
        v5::Packet::PublishReceived(ack) => {
            Inbound::Received { id: ack.packet_id, refusal: refusal_v5(&ack) }
        }
        // "Packet identifier not found" is no error after a resend: the broker had completed it already (MQTT 5, 3.7.2.1).
        v5::Packet::PublishComplete(ack) => Inbound::Completed { id: ack.packet_id },
        v5::Packet::Disconnect(end) => {
            use v5::DisconnectReasonCode as Code;
            let for_good = matches!(
                end.reason_code,
                Code::SessionTakenOver
                    | Code::NotAuthorized
                    | Code::AdministrativeAction
                    | Code::BadAuthenticationMethod
            );
            let reason =
                say(&format!("{:?}", end.reason_code), end.reason_code.into(), end.reason_string.as_deref());
            Inbound::Disconnected { reason, again: !for_good }
        }
        _ => Inbound::Other,
    }
}

fn connected_v5(ack: &v5::ConnectAck) -> Inbound {
    use v5::ConnectAckReason as Code;
    if ack.reason_code != Code::Success {
        let again = matches!(
            ack.reason_code,
            Code::ServerUnavailable
                | Code::ServerBusy
                | Code::ConnectionRateExceeded
                | Code::QuotaExceeded
                | Code::UnspecifiedError
        );
        let reason =
            say(&format!("{:?}", ack.reason_code), ack.reason_code.into(), ack.reason_string.as_deref());
        return Inbound::Refused { reason, again };
    }
    Inbound::Connected(Granted {
        session_present: ack.session_present,
        receive_max: ack.receive_max,
        packet_max: ack.max_packet_size,
        qos_max: match ack.max_qos {
            QoS::AtMostOnce => Qos::AtMostOnce,
            QoS::AtLeastOnce => Qos::AtLeastOnce,
            QoS::ExactlyOnce => Qos::ExactlyOnce,
        },
        keep_alive: ack.server_keepalive_sec,
    })
}

/// Reason codes from 0x80 on are failures: the broker does not have the message and does not want it.
fn refusal_v5(ack: &v5::PublishAck) -> Option<String> {
    let code = u8::from(ack.reason_code);
    (code >= 0x80).then(|| say(&format!("{:?}", ack.reason_code), code, ack.reason_string.as_deref()))
}

fn say(name: &str, code: u8, detail: Option<&str>) -> String {
    match detail {
        Some(detail) => format!("{name} (0x{code:02x}): {detail}"),
        None => format!("{name} (0x{code:02x})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::bad_line::Place;

    #[test]
    fn the_size_of_a_packet_is_known_before_it_is_made() {
        for version in [MqttVersion::V311, MqttVersion::V5] {
            for qos in [Qos::AtMostOnce, Qos::AtLeastOnce] {
                for payload in [0, 100, 120, 127, 128, 16_370, 16_384, 2_097_152] {
                    let mut codec = Codec::new(version);
                    let message = Message {
                        topic: "a/b".into(),
                        payload: vec![b'x'; payload].into(),
                        place: Place { file: Default::default(), line: 1 },
                    };
                    let mut out = BytesMut::new();
                    let id = (qos != Qos::AtMostOnce).then_some(NonZeroU16::MIN);
                    codec.publish(&message, qos, id, false, &mut out).unwrap();
                    assert_eq!(codec.publish_size(&message, qos), out.len(), "{version:?} {qos:?} {payload}");
                }
            }
        }
    }
}
