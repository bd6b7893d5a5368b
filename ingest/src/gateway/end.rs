//! How a connection ends, and what that means for its client.

use crate::gateway::violation::Violation;
use crate::identity::access::Denial;
use crate::session::SessionError;
use millstream_log::LogError;
use rmqtt_codec::v5::DisconnectReasonCode;
use std::io;

/// Why a connection ended.
#[derive(Debug)]
pub(crate) enum End {
    /// The client said goodbye.
    Disconnected,
    /// The client said goodbye and wants its Will published.
    DisconnectedWithWill,
    /// The client's end was closed.
    Closed,
    /// The network failed.
    Network(io::Error),
    /// The client reads nothing.
    NotReading,
    /// The client was silent for one and a half times its keep-alive.
    KeepAlive,
    /// A large packet did not come to its end in time.
    SlowPacket,
    /// The client broke the protocol.
    Violation(Violation),
    /// The same client connected again.
    TakenOver,
    /// The gateway stops.
    ShuttingDown,
    /// A client of 3.1.1 published to a topic that is not its own.
    NotAuthorized,
    /// The client's credential does not count any more.
    Expelled(Denial),
    /// The log did not take a message.
    Log(LogError),
    /// A session was not kept.
    Sessions(SessionError),
}

impl From<Violation> for End {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}

impl End {
    /// The fixed code in lifecycle events.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Disconnected => "disconnected",
            Self::DisconnectedWithWill => "disconnected_with_will",
            Self::Closed => "connection_closed",
            Self::Network(_) => "network_error",
            Self::NotReading => "write_timeout",
            Self::KeepAlive => "keep_alive_timeout",
            Self::SlowPacket => "packet_timeout",
            Self::Violation(violation) => violation.reason(),
            Self::TakenOver => "session_taken_over",
            Self::ShuttingDown => "server_shutting_down",
            Self::NotAuthorized => "topic_not_authorized",
            Self::Expelled(denial) => denial.reason(),
            Self::Log(_) => "log_failed",
            Self::Sessions(_) => "session_storage_failed",
        }
    }

    /// More about it, for a person.
    pub(crate) fn detail(&self) -> Option<String> {
        match self {
            Self::Network(error) => Some(error.to_string()),
            Self::Violation(violation) => Some(violation.to_string()),
            Self::Log(error) => Some(error.to_string()),
            Self::Sessions(error) => Some(error.to_string()),
            Self::Expelled(denial) => Some(denial.to_string()),
            _ => None,
        }
    }

    /// What an MQTT 5 client is told: reason code and text. A message that was not acknowledged must be sent again, so the text says so, not why.
    pub(crate) fn farewell(&self) -> Option<(DisconnectReasonCode, String)> {
        match self {
            Self::Disconnected
            | Self::DisconnectedWithWill
            | Self::Closed
            | Self::Network(_)
            | Self::NotReading => None,
            Self::KeepAlive => Some((DisconnectReasonCode::KeepAliveTimeout, String::new())),
            Self::SlowPacket => Some((
                DisconnectReasonCode::ImplementationSpecificError,
                "a large packet took too long".to_owned(),
            )),
            Self::Violation(violation) => Some((violation.code(), violation.to_string())),
            Self::TakenOver => Some((DisconnectReasonCode::SessionTakenOver, String::new())),
            Self::ShuttingDown => Some((DisconnectReasonCode::ServerShuttingDown, String::new())),
            Self::NotAuthorized => Some((DisconnectReasonCode::NotAuthorized, String::new())),
            Self::Expelled(denial) => Some((DisconnectReasonCode::AdministrativeAction, denial.to_string())),
            Self::Log(LogError::Full { .. }) => Some((
                DisconnectReasonCode::QuotaExceeded,
                "no room for messages now, connect and send again later".to_owned(),
            )),
            Self::Log(_) | Self::Sessions(_) => Some((
                DisconnectReasonCode::ServerBusy,
                "the message was not stored, connect and send it again".to_owned(),
            )),
        }
    }

    /// Whether the client is still there to hear of the messages that are under way.
    pub(crate) fn waits_for_acks(&self) -> bool {
        matches!(self, Self::Violation(_) | Self::ShuttingDown | Self::NotAuthorized | Self::Expelled(_))
    }

    /// A normal goodbye deletes the Will; and whoever may not be here any more has no last word.
    pub(crate) fn publishes_will(&self) -> bool {
        !matches!(self, Self::Disconnected | Self::Expelled(_))
    }

    /// Whether it is us who close, so that the client must be given time to read why.
    pub(crate) fn is_ours(&self) -> bool {
        !matches!(self, Self::Closed | Self::Network(_) | Self::NotReading)
    }
}
