//! From the codec's packets to ours, with the checks that the codec leaves to its user.

use super::{Connect, Delivery, Disconnect, Packet, Publish, Will};
use crate::gateway::violation::Violation;
use crate::identity::Password;
use crate::lifecycle::OWN_TOPICS;
use bytes::Bytes;
use millstream_model::topic::{BadTopic, check_publishable};
use rmqtt_codec::error::DecodeError;
use rmqtt_codec::types::{Publish as RawPublish, QoS};
use rmqtt_codec::v5::{DisconnectReasonCode, PublishProperties, UserProperties};
use rmqtt_codec::{v3, v5};

pub(super) fn connect_v3(raw: v3::Connect) -> Result<Connect, Violation> {
    let will = raw.last_will.map(|will| {
        check_topic(&will.topic)?;
        Ok(Will {
            topic: will.topic.to_string(),
            qos: will.qos.value(),
            retain: will.retain,
            payload: own(&will.message),
            delay: 0,
            content_type: None,
            user_properties: Vec::new(),
        })
    });
    Ok(Connect {
        client_id: text(&raw.client_id)?,
        clean: raw.clean_session,
        keep_alive: raw.keep_alive,
        will: will.transpose()?,
        session_expiry: if raw.clean_session { 0 } else { u32::MAX },
        packet_max: None,
        authentication: None,
        user: raw.username.map(|value| text(&value)).transpose()?,
        password: raw.password.map(|value| Password::new(own(&value))),
    })
}

pub(super) fn connect_v5(raw: v5::Connect) -> Result<Connect, Violation> {
    if raw.auth_data.is_some() && raw.auth_method.is_none() {
        return Err(Violation::Protocol("authentication data without a method"));
    }
    let will = raw.last_will.map(|will| {
        check_topic(&will.topic)?;
        check_response_topic(will.response_topic.as_deref())?;
        Ok(Will {
            topic: will.topic.to_string(),
            qos: will.qos.value(),
            retain: will.retain,
            payload: own(&will.message),
            delay: will.will_delay_interval_sec.unwrap_or(0),
            content_type: will.content_type.map(|value| text(&value)).transpose()?,
            user_properties: user_properties(will.user_properties)?,
        })
    });
    Ok(Connect {
        client_id: text(&raw.client_id)?,
        clean: raw.clean_start,
        keep_alive: raw.keep_alive,
        will: will.transpose()?,
        session_expiry: raw.session_expiry_interval_secs,
        packet_max: raw.max_packet_size.map(std::num::NonZero::get),
        authentication: raw.auth_method.map(|value| text(&value)).transpose()?,
        user: raw.username.map(|value| text(&value)).transpose()?,
        password: raw.password.map(|value| Password::new(own(&value))),
    })
}

pub(super) fn packet_v3(raw: v3::Packet) -> Result<Packet, Violation> {
    match raw {
        v3::Packet::Publish(raw) => publish(*raw).map(Packet::Publish),
        v3::Packet::PublishRelease { packet_id } => Ok(Packet::Release(packet_id)),
        v3::Packet::Subscribe { packet_id, topic_filters } => {
            Ok(Packet::Subscribe(packet_id, topic_filters.len()))
        }
        v3::Packet::Unsubscribe { packet_id, topic_filters } => {
            Ok(Packet::Unsubscribe(packet_id, topic_filters.len()))
        }
        v3::Packet::PingRequest => Ok(Packet::Ping),
        v3::Packet::Disconnect => Ok(Packet::Disconnect(Disconnect { normal: true, session_expiry: None })),
        _ => Err(Violation::Protocol("a packet that no client may send here")),
    }
}

pub(super) fn packet_v5(raw: v5::Packet) -> Result<Packet, Violation> {
    match raw {
        v5::Packet::Publish(raw) => publish(*raw).map(Packet::Publish),
        v5::Packet::PublishRelease(raw) => Ok(Packet::Release(raw.packet_id)),
        v5::Packet::Subscribe(raw) => Ok(Packet::Subscribe(raw.packet_id, raw.topic_filters.len())),
        v5::Packet::Unsubscribe(raw) => Ok(Packet::Unsubscribe(raw.packet_id, raw.topic_filters.len())),
        v5::Packet::PingRequest => Ok(Packet::Ping),
        v5::Packet::Disconnect(raw) => Ok(Packet::Disconnect(Disconnect {
            normal: raw.reason_code == DisconnectReasonCode::NormalDisconnection,
            session_expiry: raw.session_expiry_interval_secs,
        })),
        _ => Err(Violation::Protocol("a packet that no client may send here")),
    }
}

fn publish(raw: RawPublish) -> Result<Publish, Violation> {
    let properties = raw.properties.unwrap_or_default();
    check_properties(&properties)?;
    if raw.topic.is_empty() {
        return Err(Violation::Protocol("a PUBLISH with neither topic nor topic alias"));
    }
    check_topic(&raw.topic)?;
    let identifier = || raw.packet_id.ok_or(Violation::Malformed("no packet identifier"));
    let delivery = match raw.qos {
        QoS::AtMostOnce => Delivery::Unconfirmed,
        QoS::AtLeastOnce => Delivery::Confirmed(identifier()?),
        QoS::ExactlyOnce => Delivery::Assured(identifier()?),
    };
    Ok(Publish {
        topic: raw.topic.to_string(),
        delivery,
        retain: raw.retain,
        dup: raw.dup,
        payload: raw.payload,
        content_type: properties.content_type.map(|value| text(&value)).transpose()?,
        user_properties: user_properties(properties.user_properties)?,
    })
}

fn check_properties(properties: &PublishProperties) -> Result<(), Violation> {
    if properties.topic_alias.is_some() {
        return Err(Violation::TopicAlias);
    }
    if !properties.subscription_ids.is_empty() {
        return Err(Violation::Protocol("a subscription identifier from a client"));
    }
    check_response_topic(properties.response_topic.as_deref())
}

/// A copy: a Will outlives the packet, and should not keep all of its bytes in memory.
fn own(payload: &[u8]) -> Bytes {
    Bytes::copy_from_slice(payload)
}

fn check_response_topic(topic: Option<&str>) -> Result<(), Violation> {
    match topic {
        Some(topic) if topic.contains(['+', '#', '\0']) => {
            Err(Violation::Protocol("a wildcard in a response topic"))
        }
        _ => Ok(()),
    }
}

fn check_topic(topic: &str) -> Result<(), Violation> {
    check_publishable(topic).map_err(|bad| match bad {
        BadTopic::Empty => Violation::TopicName("it is empty"),
        BadTopic::Character('\0') => Violation::Malformed("the character NUL in a text"),
        BadTopic::Character(_) => Violation::TopicName("it has a wildcard"),
        BadTopic::TooLong(_) => Violation::TopicName("it is too long"),
    })?;
    if topic.starts_with(OWN_TOPICS) {
        return Err(Violation::TopicName("topics under $millstream/ are not for devices"));
    }
    Ok(())
}

fn text(raw: &str) -> Result<String, Violation> {
    if raw.contains('\0') {
        Err(Violation::Malformed("the character NUL in a text"))
    } else {
        Ok(raw.to_owned())
    }
}

fn user_properties(raw: UserProperties) -> Result<Vec<(String, String)>, Violation> {
    raw.iter().map(|(name, value)| Ok((text(name)?, text(value)?))).collect()
}

/// What a failure of the codec is to us.
pub(super) fn violation(error: &DecodeError) -> Violation {
    match error {
        DecodeError::InvalidTopicName => Violation::TopicName("it is empty"),
        DecodeError::InvalidTopicFilter => {
            Violation::Protocol("a list of topic filters that is empty or has an empty one")
        }
        DecodeError::Utf8Error => Violation::Malformed("a text that is not UTF-8"),
        DecodeError::InvalidLength => Violation::Malformed("a length that does not fit"),
        DecodeError::PacketIdRequired => Violation::Malformed("no packet identifier"),
        DecodeError::ConnectReservedFlagSet => Violation::Malformed("the reserved flag of a CONNECT is set"),
        DecodeError::InvalidConnectFlags => Violation::Malformed("flags of a Will without the Will"),
        _ => Violation::Malformed("not as the standard has it"),
    }
}
