//! The packets of a subscribing client, both versions behind one set of types.
//!
//! Messages are read by `publish`; everything else goes through `rmqtt-codec`, which sees one whole packet at a time and so keeps no state.

use super::inbox::Packet;
use super::malformed::Malformed;
use super::publish::Publish;
use super::settings::{MqttVersion, SubscriberSettings};
use super::term::Seconds;
use crate::gateway::wire::PacketId;
use bytes::{Bytes, BytesMut};
use rmqtt_codec::error::EncodeError;
use rmqtt_codec::types::QoS;
use rmqtt_codec::{v3, v5};
use std::time::Duration;
use tokio_util::codec::{Decoder, Encoder};

/// What to do where two take the session from each other.
const TAKEN_OVER: &str = "another program connects with our client id: each needs one of its own, as those that share a `group` have";

/// Encodes and decodes for one connection.
#[derive(Debug)]
pub(crate) enum Wire {
    V311(v3::Codec),
    V5(v5::Codec),
}

/// What a broker sends to a client that only subscribes.
#[derive(Debug)]
pub(crate) enum Inbound {
    Connected(Granted),
    /// The broker does not take the connection.
    Refused(String),
    Publish(Publish),
    /// PUBREL.
    Released(PacketId),
    /// SUBACK: for each filter the QoS that is granted, or why it is refused.
    Subscribed(PacketId, Vec<Result<u8, String>>),
    /// The broker ends the connection.
    Disconnected(String),
    /// A sign of life.
    Other,
}

/// What a goodbye means for the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Session {
    /// It stays as long as was agreed.
    Stays,
    /// The broker forgets it. In 3.1.1 that is said by the CONNECT.
    Ends,
}

/// What the broker grants a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Granted {
    pub(crate) session_present: bool,
    /// Seconds that it keeps the session without a connection, where they are others than we asked for.
    pub(crate) session_expiry: Option<u32>,
    /// Where the broker wants another keep-alive than we asked for.
    pub(crate) keep_alive: Option<Duration>,
}

impl Wire {
    pub(crate) fn new(version: MqttVersion) -> Self {
        match version {
            MqttVersion::V311 => Self::V311(v3::Codec::new(0)),
            MqttVersion::V5 => Self::V5(v5::Codec::new(0, 0)),
        }
    }

    pub(crate) fn version(&self) -> MqttVersion {
        match self {
            Self::V311(_) => MqttVersion::V311,
            Self::V5(_) => MqttVersion::V5,
        }
    }

    pub(crate) fn decode(&mut self, packet: Packet) -> Result<Inbound, Malformed> {
        if packet.is_publish() {
            return Publish::read(packet, self.version()).map(Inbound::Publish);
        }
        let mut frame = packet.into_frame();
        let decoded = match self {
            Self::V311(codec) => {
                codec.decode(&mut frame).map(|decoded| decoded.map(|(p, _)| inbound_v311(p)))
            }
            Self::V5(codec) => codec.decode(&mut frame).map(|decoded| decoded.map(|(p, _)| inbound_v5(p))),
        };
        match decoded {
            Ok(Some(inbound)) => Ok(inbound),
            Ok(None) => Err(Malformed::Packet("a packet that ends too early".to_owned())),
            Err(error) => Err(Malformed::Packet(error.to_string())),
        }
    }

    /// Keeps the session, takes no topic aliases, and names no packet limit: a broker drops in silence what is larger than that.
    pub(crate) fn connect(
        &mut self,
        settings: &SubscriberSettings,
        out: &mut BytesMut,
    ) -> Result<(), EncodeError> {
        let keep_alive = u16::try_from(settings.keep_alive.as_secs()).unwrap_or(u16::MAX).max(1);
        let client_id = settings.client_id.as_str().into();
        let username = settings.user.as_deref().map(Into::into);
        let password = settings.password.as_ref().map(|secret| Bytes::from(secret.expose().to_owned()));
        match self {
            Self::V311(codec) => {
                let connect = v3::Connect {
                    clean_session: settings.session_expiry.is_zero(),
                    keep_alive,
                    client_id,
                    username,
                    password,
                    ..v3::Connect::default()
                };
                codec.encode(connect.into(), out)
            }
            Self::V5(codec) => {
                let connect = v5::Connect {
                    clean_start: settings.session_expiry.is_zero(),
                    keep_alive,
                    session_expiry_interval_secs: Seconds::from(settings.session_expiry).0,
                    receive_max: Some(settings.receive_max),
                    topic_alias_max: 0,
                    client_id,
                    username,
                    password,
                    ..v5::Connect::default()
                };
                codec.encode(connect.into(), out)
            }
        }
    }

    /// QoS 1; retained messages only for a subscription that is new, which 3.1.1 cannot say.
    pub(crate) fn subscribe(
        &mut self,
        id: PacketId,
        filters: &[String],
        out: &mut BytesMut,
    ) -> Result<(), EncodeError> {
        match self {
            Self::V311(codec) => {
                let filters = filters.iter().map(|filter| (filter.as_str().into(), QoS::AtLeastOnce));
                codec.encode(v3::Packet::Subscribe { packet_id: id, topic_filters: filters.collect() }, out)
            }
            Self::V5(codec) => {
                let options = v5::SubscriptionOptions {
                    qos: QoS::AtLeastOnce,
                    no_local: false,
                    retain_as_published: false,
                    retain_handling: v5::RetainHandling::AtSubscribeNew,
                };
                let subscribe = v5::Subscribe {
                    packet_id: id,
                    id: None,
                    user_properties: Vec::new(),
                    topic_filters: filters.iter().map(|filter| (filter.as_str().into(), options)).collect(),
                };
                codec.encode(v5::Packet::Subscribe(subscribe), out)
            }
        }
    }

    pub(crate) fn unsubscribe(
        &mut self,
        id: PacketId,
        filters: &[String],
        out: &mut BytesMut,
    ) -> Result<(), EncodeError> {
        let topic_filters = filters.iter().map(|filter| filter.as_str().into()).collect();
        match self {
            Self::V311(codec) => codec.encode(v3::Packet::Unsubscribe { packet_id: id, topic_filters }, out),
            Self::V5(codec) => {
                let unsubscribe =
                    v5::Unsubscribe { packet_id: id, user_properties: Vec::new(), topic_filters };
                codec.encode(v5::Packet::Unsubscribe(unsubscribe), out)
            }
        }
    }

    /// PUBACK.
    pub(crate) fn acknowledge(&mut self, id: PacketId, out: &mut BytesMut) -> Result<(), EncodeError> {
        match self {
            Self::V311(codec) => codec.encode(v3::Packet::PublishAck { packet_id: id }, out),
            Self::V5(codec) => codec.encode(v5::Packet::PublishAck(acknowledgement(id)), out),
        }
    }

    /// PUBREC.
    pub(crate) fn receive(&mut self, id: PacketId, out: &mut BytesMut) -> Result<(), EncodeError> {
        match self {
            Self::V311(codec) => codec.encode(v3::Packet::PublishReceived { packet_id: id }, out),
            Self::V5(codec) => codec.encode(v5::Packet::PublishReceived(acknowledgement(id)), out),
        }
    }

    /// PUBCOMP.
    pub(crate) fn complete(&mut self, id: PacketId, out: &mut BytesMut) -> Result<(), EncodeError> {
        match self {
            Self::V311(codec) => codec.encode(v3::Packet::PublishComplete { packet_id: id }, out),
            Self::V5(codec) => {
                let complete = v5::PublishAck2 { packet_id: id, ..v5::PublishAck2::default() };
                codec.encode(v5::Packet::PublishComplete(complete), out)
            }
        }
    }

    pub(crate) fn ping(&mut self, out: &mut BytesMut) -> Result<(), EncodeError> {
        match self {
            Self::V311(codec) => codec.encode(v3::Packet::PingRequest, out),
            Self::V5(codec) => codec.encode(v5::Packet::PingRequest, out),
        }
    }

    pub(crate) fn disconnect(&mut self, session: Session, out: &mut BytesMut) -> Result<(), EncodeError> {
        match self {
            Self::V311(codec) => codec.encode(v3::Packet::Disconnect, out),
            Self::V5(codec) => {
                let session_expiry_interval_secs = (session == Session::Ends).then_some(0);
                let disconnect = v5::Disconnect { session_expiry_interval_secs, ..v5::Disconnect::default() };
                codec.encode(v5::Packet::Disconnect(disconnect), out)
            }
        }
    }
}

fn acknowledgement(id: PacketId) -> v5::PublishAck {
    v5::PublishAck { packet_id: id, ..v5::PublishAck::default() }
}

fn inbound_v311(packet: v3::Packet) -> Inbound {
    match packet {
        v3::Packet::ConnectAck(ack) if ack.return_code == v3::ConnectAckReason::ConnectionAccepted => {
            Inbound::Connected(Granted {
                session_present: ack.session_present,
                session_expiry: None,
                keep_alive: None,
            })
        }
        v3::Packet::ConnectAck(ack) => {
            Inbound::Refused(format!("{:?} (return code {})", ack.return_code, u8::from(ack.return_code)))
        }
        v3::Packet::SubscribeAck { packet_id, status } => {
            let results = status.into_iter().map(|status| match status {
                v3::SubscribeReturnCode::Success(qos) => Ok(qos.value()),
                v3::SubscribeReturnCode::Failure => Err("failure (0x80)".to_owned()),
            });
            Inbound::Subscribed(packet_id, results.collect())
        }
        v3::Packet::PublishRelease { packet_id } => Inbound::Released(packet_id),
        _ => Inbound::Other,
    }
}

fn inbound_v5(packet: v5::Packet) -> Inbound {
    match packet {
        v5::Packet::ConnectAck(ack) if ack.reason_code == v5::ConnectAckReason::Success => {
            Inbound::Connected(Granted {
                session_present: ack.session_present,
                session_expiry: ack.session_expiry_interval_secs,
                keep_alive: ack.server_keepalive_sec.map(|seconds| Duration::from_secs(seconds.into())),
            })
        }
        v5::Packet::ConnectAck(ack) => Inbound::Refused(say(
            &format!("{:?}", ack.reason_code),
            ack.reason_code.into(),
            ack.reason_string.as_deref(),
        )),
        v5::Packet::SubscribeAck(ack) => {
            let results = ack.status.iter().map(|status| match u8::from(*status) {
                qos @ 0..=2 => Ok(qos),
                code => Err(say(&format!("{status:?}"), code, ack.reason_string.as_deref())),
            });
            Inbound::Subscribed(ack.packet_id, results.collect())
        }
        v5::Packet::PublishRelease(release) => Inbound::Released(release.packet_id),
        v5::Packet::Disconnect(end) => {
            let reason =
                say(&format!("{:?}", end.reason_code), end.reason_code.into(), end.reason_string.as_deref());
            Inbound::Disconnected(if end.reason_code == v5::DisconnectReasonCode::SessionTakenOver {
                format!("{reason}; {TAKEN_OVER}")
            } else {
                reason
            })
        }
        _ => Inbound::Other,
    }
}

fn say(name: &str, code: u8, detail: Option<&str>) -> String {
    match detail {
        Some(detail) => format!("{name} (0x{code:02x}): {detail}"),
        None => format!("{name} (0x{code:02x})"),
    }
}
