//! What a client can do wrong.

use rmqtt_codec::v5::DisconnectReasonCode;
use thiserror::Error;

/// A breach of the protocol or of a limit. It ends the connection that committed it, and no other.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum Violation {
    /// Bytes that are no packet.
    #[error("malformed packet: {0}")]
    Malformed(&'static str),
    /// A packet that is no right one here.
    #[error("protocol error: {0}")]
    Protocol(&'static str),
    /// A topic that nobody may publish to.
    #[error("invalid topic name: {0}")]
    TopicName(&'static str),
    /// We announced that we take no topic alias.
    #[error("topic aliases are not offered")]
    TopicAlias,
    /// Longer than we announced.
    #[error("a packet of {size} bytes is larger than the limit of {max}")]
    PacketTooLarge {
        /// Bytes with header.
        size: usize,
        /// The limit.
        max: usize,
    },
    /// More messages under way than we announced.
    #[error("more than {0} messages are not acknowledged")]
    ReceiveMaximum(usize),
    /// More or longer properties than one packet may have.
    #[error("too many properties: {0}")]
    Properties(&'static str),
}

impl Violation {
    /// The reason code that MQTT 5 has for it.
    pub(crate) fn code(&self) -> DisconnectReasonCode {
        match self {
            Self::Malformed(_) => DisconnectReasonCode::MalformedPacket,
            Self::Protocol(_) => DisconnectReasonCode::ProtocolError,
            Self::TopicName(_) => DisconnectReasonCode::TopicNameInvalid,
            Self::TopicAlias => DisconnectReasonCode::TopicAliasInvalid,
            Self::PacketTooLarge { .. } => DisconnectReasonCode::PacketTooLarge,
            Self::ReceiveMaximum(_) => DisconnectReasonCode::ReceiveMaximumExceeded,
            Self::Properties(_) => DisconnectReasonCode::QuotaExceeded,
        }
    }

    /// The fixed code in lifecycle events.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed_packet",
            Self::Protocol(_) => "protocol_error",
            Self::TopicName(_) => "topic_name_invalid",
            Self::TopicAlias => "topic_alias_invalid",
            Self::PacketTooLarge { .. } => "packet_too_large",
            Self::ReceiveMaximum(_) => "receive_maximum_exceeded",
            Self::Properties(_) => "quota_exceeded",
        }
    }
}
