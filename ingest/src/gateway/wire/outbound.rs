//! What a client is sent.

use super::{PacketId, Version};
use crate::gateway::violation::Violation;
use crate::identity::access::Denial;
use bytes::{Bytes, BytesMut};
use rmqtt_codec::v5::{ConnectAckReason, DisconnectReasonCode, SubscribeAckReason, UnsubscribeAckReason};
use rmqtt_codec::{MqttCodec, MqttPacket, v3, v5};
use std::num::NonZeroU16;
use thiserror::Error;
use tokio_util::codec::Encoder;

/// Why a SUBSCRIBE fails, for those who speak MQTT 5.
const NO_SUBSCRIPTIONS: &str = "this gateway takes messages and delivers none";

/// Why a message is denied, for those who speak MQTT 5.
const NOT_ITS_TOPIC: &str = "the topic is not one of the device's own";

/// A packet for a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    /// CONNACK, welcome.
    Accept(Accepted),
    /// PUBACK.
    Acknowledge(PacketId),
    /// PUBREC.
    Received(PacketId),
    /// PUBACK of a message that its device may not publish. 3.1.1 has none that says so.
    Deny(PacketId),
    /// PUBREC, likewise.
    DenyReceived(PacketId),
    /// PUBCOMP.
    Complete {
        id: PacketId,
        /// Whether a message with this identifier was open.
        known: bool,
    },
    /// SUBACK that refuses every one of so many topic filters.
    RefuseSubscriptions(PacketId, usize),
    /// UNSUBACK of so many topic filters.
    Unsubscribed(PacketId, usize),
    /// PINGRESP.
    Pong,
    /// DISCONNECT. 3.1.1 has none from a server.
    Disconnect(DisconnectReasonCode, String),
}

/// What the client is told when it is accepted. All but the first is for MQTT 5.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Accepted {
    pub(crate) session_present: bool,
    /// The name we gave it.
    pub(crate) assigned_client_id: Option<String>,
    /// Seconds, where they are not what the client asked for.
    pub(crate) keep_alive: Option<u16>,
    /// Seconds, where they are not what the client asked for.
    pub(crate) session_expiry: Option<u32>,
    /// Messages of QoS 1 and 2 that may be under way at a time.
    pub(crate) receive_max: NonZeroU16,
    /// Bytes.
    pub(crate) packet_max: u32,
}

/// Why a CONNECT is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum Refusal {
    #[error("protocol level {0} is not spoken here")]
    Level(u8),
    #[error("a session that outlives its connection needs a client identifier")]
    Nameless,
    #[error("the client identifier is longer than {0} bytes")]
    LongClientId(usize),
    #[error("authentication exchanges are not supported")]
    Authentication,
    #[error("there are as many connections as there may be")]
    Connections,
    #[error("there are as many sessions as there may be")]
    Sessions,
    #[error("the Wills of all clients take as many bytes as they may")]
    Wills,
    #[error("the session cannot be kept safe now")]
    SessionStorage,
    #[error("the connection that this one takes over is still waiting for the log")]
    TakeOver,
    #[error("the Will's topic is not one of the device's own")]
    WillTopic,
    #[error("the client identifier's session belongs to somebody else")]
    Owned,
    #[error("{0}")]
    Denied(#[from] Denial),
    #[error("{0}")]
    Violation(#[from] Violation),
}

impl Refusal {
    /// The fixed code in lifecycle events.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Level(_) => "unsupported_protocol_version",
            Self::Nameless | Self::LongClientId(_) => "client_identifier_not_valid",
            Self::Authentication => "bad_authentication_method",
            Self::Connections => "connections_max",
            Self::Sessions => "sessions_max",
            Self::Wills => "will_bytes",
            Self::SessionStorage => "session_storage_failed",
            Self::TakeOver => "take_over_timeout",
            Self::WillTopic => "will_topic_not_authorized",
            Self::Owned => "client_identifier_of_another",
            Self::Denied(denial) => denial.reason(),
            Self::Violation(violation) => violation.reason(),
        }
    }

    /// Whether somebody may be trying out passwords.
    pub(crate) fn is_a_guess(&self) -> bool {
        matches!(self, Self::Denied(Denial::UnknownUser | Denial::WrongPassword))
    }

    fn code_v5(&self) -> ConnectAckReason {
        match self {
            Self::Level(_) => ConnectAckReason::UnsupportedProtocolVersion,
            Self::Nameless | Self::LongClientId(_) | Self::Owned | Self::Denied(Denial::ClientId { .. }) => {
                ConnectAckReason::ClientIdentifierNotValid
            }
            Self::Denied(Denial::UnknownUser | Denial::WrongPassword) => {
                ConnectAckReason::BadUserNameOrPassword
            }
            Self::Denied(Denial::Revoked(_) | Denial::CertificateRevoked) => ConnectAckReason::Banned,
            Self::Denied(Denial::Busy) => ConnectAckReason::ServerBusy,
            Self::Denied(_) | Self::WillTopic => ConnectAckReason::NotAuthorized,
            Self::Authentication => ConnectAckReason::BadAuthenticationMethod,
            Self::Connections | Self::Sessions | Self::Wills => ConnectAckReason::QuotaExceeded,
            Self::SessionStorage | Self::TakeOver => ConnectAckReason::ServerUnavailable,
            Self::Violation(violation) => {
                u8::from(violation.code()).try_into().unwrap_or(ConnectAckReason::UnspecifiedError)
            }
        }
    }

    /// 3.1.1 has no code for a violation: the connection is closed without an answer.
    fn code_v3(&self) -> Option<v3::ConnectAckReason> {
        match self {
            Self::Level(_) => Some(v3::ConnectAckReason::UnacceptableProtocolVersion),
            Self::Nameless | Self::LongClientId(_) | Self::Owned | Self::Denied(Denial::ClientId { .. }) => {
                Some(v3::ConnectAckReason::IdentifierRejected)
            }
            Self::Denied(Denial::UnknownUser | Denial::WrongPassword) => {
                Some(v3::ConnectAckReason::BadUserNameOrPassword)
            }
            Self::Denied(Denial::Busy) => Some(v3::ConnectAckReason::ServiceUnavailable),
            Self::Denied(_) | Self::WillTopic => Some(v3::ConnectAckReason::NotAuthorized),
            Self::Connections | Self::Sessions | Self::Wills | Self::SessionStorage | Self::TakeOver => {
                Some(v3::ConnectAckReason::ServiceUnavailable)
            }
            Self::Authentication | Self::Violation(_) => None,
        }
    }

    /// The CONNACK that says so; empty where the version has none for it.
    pub(crate) fn encode(&self, version: Version) -> Bytes {
        let mut buffer = BytesMut::new();
        let encoded = match version {
            Version::V3 => self.code_v3().map(|return_code| {
                let refused = v3::Packet::ConnectAck(v3::ConnectAck { return_code, session_present: false });
                v3::Codec::new(0).encode(refused, &mut buffer)
            }),
            Version::V5 => {
                let refused = v5::ConnectAck {
                    reason_code: self.code_v5(),
                    reason_string: Some(self.to_string().into()),
                    ..v5::ConnectAck::default()
                };
                Some(v5::Codec::new(0, 0).encode(v5::Packet::ConnectAck(Box::new(refused)), &mut buffer))
            }
        };
        if matches!(encoded, Some(Err(_))) {
            buffer.clear();
        }
        buffer.freeze()
    }
}

/// Appends the packet, unless the version has none like it or it is larger than the client takes; what is too large is tried without its text first.
pub(super) fn encode(codec: &mut MqttCodec, reply: &Reply, packet_max: Option<usize>, buffer: &mut BytesMut) {
    let start = buffer.len();
    for with_text in [true, false] {
        let packet = match codec {
            MqttCodec::V5(_) => Some(MqttPacket::V5(packet_v5(reply, with_text))),
            MqttCodec::V3(_) | MqttCodec::Version(_) => packet_v3(reply).map(MqttPacket::V3),
        };
        let encoded = packet.map(|packet| codec.encode(packet, buffer));
        let fits = packet_max.is_none_or(|max| buffer.len() - start <= max);
        if matches!(encoded, None | Some(Ok(()))) && fits {
            return;
        }
        buffer.truncate(start);
    }
}

fn packet_v3(reply: &Reply) -> Option<v3::Packet> {
    let packet = match *reply {
        Reply::Accept(ref accepted) => v3::Packet::ConnectAck(v3::ConnectAck {
            return_code: v3::ConnectAckReason::ConnectionAccepted,
            session_present: accepted.session_present,
        }),
        Reply::Acknowledge(packet_id) => v3::Packet::PublishAck { packet_id },
        Reply::Received(packet_id) => v3::Packet::PublishReceived { packet_id },
        Reply::Complete { id, .. } => v3::Packet::PublishComplete { packet_id: id },
        Reply::RefuseSubscriptions(packet_id, filters) => {
            v3::Packet::SubscribeAck { packet_id, status: vec![v3::SubscribeReturnCode::Failure; filters] }
        }
        Reply::Unsubscribed(packet_id, _) => v3::Packet::UnsubscribeAck { packet_id },
        Reply::Pong => v3::Packet::PingResponse,
        Reply::Deny(_) | Reply::DenyReceived(_) | Reply::Disconnect(..) => return None,
    };
    Some(packet)
}

fn packet_v5(reply: &Reply, with_text: bool) -> v5::Packet {
    match *reply {
        Reply::Accept(ref accepted) => v5::Packet::ConnectAck(Box::new(v5::ConnectAck {
            session_present: accepted.session_present,
            session_expiry_interval_secs: accepted.session_expiry,
            receive_max: accepted.receive_max,
            max_packet_size: Some(accepted.packet_max),
            assigned_client_id: accepted.assigned_client_id.clone().map(Into::into),
            server_keepalive_sec: accepted.keep_alive,
            topic_alias_max: 0,
            ..v5::ConnectAck::default()
        })),
        Reply::Acknowledge(packet_id) => {
            v5::Packet::PublishAck(v5::PublishAck { packet_id, ..v5::PublishAck::default() })
        }
        Reply::Received(packet_id) => {
            v5::Packet::PublishReceived(v5::PublishAck { packet_id, ..v5::PublishAck::default() })
        }
        Reply::Deny(packet_id) => v5::Packet::PublishAck(denied(packet_id, with_text)),
        Reply::DenyReceived(packet_id) => v5::Packet::PublishReceived(denied(packet_id, with_text)),
        Reply::Complete { id, known } => v5::Packet::PublishComplete(v5::PublishAck2 {
            packet_id: id,
            reason_code: if known {
                v5::PublishAck2Reason::Success
            } else {
                v5::PublishAck2Reason::PacketIdNotFound
            },
            ..v5::PublishAck2::default()
        }),
        Reply::RefuseSubscriptions(packet_id, filters) => v5::Packet::SubscribeAck(v5::SubscribeAck {
            packet_id,
            properties: Vec::new(),
            reason_string: with_text.then(|| NO_SUBSCRIPTIONS.into()),
            status: vec![SubscribeAckReason::ImplementationSpecificError; filters],
        }),
        Reply::Unsubscribed(packet_id, filters) => v5::Packet::UnsubscribeAck(v5::UnsubscribeAck {
            packet_id,
            properties: Vec::new(),
            reason_string: None,
            status: vec![UnsubscribeAckReason::NoSubscriptionExisted; filters],
        }),
        Reply::Pong => v5::Packet::PingResponse,
        Reply::Disconnect(reason_code, ref text) => v5::Packet::Disconnect(v5::Disconnect {
            reason_string: (with_text && !text.is_empty()).then(|| text.as_str().into()),
            ..v5::Disconnect::new(reason_code)
        }),
    }
}

fn denied(packet_id: PacketId, with_text: bool) -> v5::PublishAck {
    v5::PublishAck {
        packet_id,
        reason_code: v5::PublishAckReason::NotAuthorized,
        reason_string: with_text.then(|| NOT_ITS_TOPIC.into()),
        ..v5::PublishAck::default()
    }
}
