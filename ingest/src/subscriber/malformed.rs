//! What a broker should not send.

use thiserror::Error;

/// Why bytes of a broker cannot be understood. The connection ends.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum Malformed {
    #[error("its first packet is no CONNACK")]
    Greeting,
    #[error("a length of more than four bytes")]
    Length,
    #[error("a packet of {0} bytes that is no message")]
    TooLarge(usize),
    #[error("a message that ends too early")]
    Short,
    #[error("a message of QoS 3")]
    Qos,
    #[error("a message without packet identifier")]
    Identifier,
    #[error("a topic alias, although none is allowed")]
    TopicAlias,
    #[error("the unknown property {0:#04x}")]
    Property(u8),
    #[error("{0}")]
    Packet(String),
}
