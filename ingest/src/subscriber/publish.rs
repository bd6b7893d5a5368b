//! A message as a broker delivers it.
//!
//! Read by our own hand and not by the codec: of a message that is too large only the front is there, and whatever a broker lets pass (a topic that is not
//! UTF-8, a message expiry of 0, a heap of properties) would be sent again and again if it were refused.

use super::inbox::Packet;
use super::malformed::Malformed;
use super::settings::MqttVersion;
use crate::gateway::wire::{Delivery, PacketId};
use bytes::Bytes;

/// Longest front of a PUBLISH, up to where its properties begin: the fixed header, the topic with its length, the identifier, and the properties' length. Where less
/// is kept, it is not known of every message what it is, and one that cannot be acknowledged would be sent again and again.
pub(crate) const FRONT_MAX: u32 = 5 + 2 + u16::MAX as u32 + 2 + 4;

/// Most bytes of user properties that are kept of one message: what the gateway takes from a device.
const PROPERTIES_MAX: usize = 64 << 10;

/// Most user properties that are kept of one message: each takes 5 bytes on the wire and about 100 in memory.
const PROPERTIES_COUNT_MAX: usize = 1024;

const CONTENT_TYPE: u8 = 0x03;
const TOPIC_ALIAS: u8 = 0x23;
const USER_PROPERTY: u8 = 0x26;

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Publish {
    pub(crate) topic: String,
    pub(crate) delivery: Delivery,
    pub(crate) retain: bool,
    pub(crate) dup: bool,
    /// The whole payload, or its front.
    pub(crate) payload: Bytes,
    /// Bytes of the payload as it was published.
    pub(crate) payload_length: usize,
    pub(crate) content_type: Option<String>,
    pub(crate) user_properties: Vec<(String, String)>,
    /// Some properties are left out, because there are too many.
    pub(crate) properties_cut: bool,
}

impl Publish {
    /// Reads a packet that is a PUBLISH.
    ///
    /// # Errors
    /// If it is not as the standard wants it, in a way that leaves open what was meant.
    pub(crate) fn read(packet: Packet, version: MqttVersion) -> Result<Self, Malformed> {
        let (flags, length) = (packet.first_byte(), packet.length());
        let body = packet.into_body();
        let whole = body.len() == length;
        let mut walk = Walk { bytes: &body, at: 0 };
        let topic = walk.text().ok_or(Malformed::Short)?;
        let delivery = match flags >> 1 & 0b11 {
            0 => Delivery::Unconfirmed,
            1 => Delivery::Confirmed(walk.identifier()?),
            2 => Delivery::Assured(walk.identifier()?),
            _ => return Err(Malformed::Qos),
        };
        let properties_length = match version {
            MqttVersion::V5 => walk.variable().ok_or(Malformed::Short)?,
            MqttVersion::V311 => 0,
        };
        let properties_at = walk.at;
        let payload_at = properties_at + properties_length;
        let payload_length = length.checked_sub(payload_at).ok_or(Malformed::Short)?;
        let end = payload_at.min(body.len());
        let properties = body.get(properties_at..end).unwrap_or_default();
        let Properties { content_type, user_properties, cut } =
            Properties::read(properties, whole || payload_at <= body.len())?;
        Ok(Self {
            topic,
            delivery,
            retain: flags & 1 != 0,
            dup: flags & 0b1000 != 0,
            payload: body.slice(end..),
            payload_length,
            content_type,
            user_properties,
            properties_cut: cut,
        })
    }
}

#[derive(Debug, Default)]
struct Properties {
    content_type: Option<String>,
    user_properties: Vec<(String, String)>,
    cut: bool,
}

impl Properties {
    /// `whole`: nothing of them was skipped.
    fn read(bytes: &[u8], whole: bool) -> Result<Self, Malformed> {
        let mut properties = Self { cut: !whole, ..Self::default() };
        let mut walk = Walk { bytes, at: 0 };
        let mut size = 0;
        while let Some(property) = walk.byte() {
            let known = match property {
                CONTENT_TYPE => walk.text().map(|text| properties.content_type = Some(text)),
                USER_PROPERTY => walk.text().zip(walk.text()).map(|(name, value)| {
                    size += name.len() + value.len();
                    if size > PROPERTIES_MAX || properties.user_properties.len() >= PROPERTIES_COUNT_MAX {
                        properties.cut = true;
                    } else {
                        properties.user_properties.push((name, value));
                    }
                }),
                TOPIC_ALIAS => return Err(Malformed::TopicAlias),
                0x01 => walk.skip(1),
                0x02 => walk.skip(4),
                0x08 | 0x09 => walk.data().map(drop),
                0x0B => walk.variable().map(drop),
                unknown => return Err(Malformed::Property(unknown)),
            };
            match known {
                Some(()) => {}
                None if whole => return Err(Malformed::Short),
                None => break,
            }
        }
        Ok(properties)
    }
}

/// Goes forward through bytes; nothing comes of what reaches beyond their end.
struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Walk<'a> {
    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn skip(&mut self, length: usize) -> Option<()> {
        self.take(length).map(drop)
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at + length)?;
        self.at += length;
        Some(taken)
    }

    fn number(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes([self.byte()?, self.byte()?]))
    }

    fn data(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?;
        self.take(length.into())
    }

    /// What is not UTF-8 becomes so, and what MQTT allows in no text is replaced, too: no log takes NUL in a header's name. The place of a bad byte shows.
    fn text(&mut self) -> Option<String> {
        let text = String::from_utf8_lossy(self.data()?);
        Some(if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text.into_owned() })
    }

    fn identifier(&mut self) -> Result<PacketId, Malformed> {
        self.number().ok_or(Malformed::Short).and_then(|id| PacketId::new(id).ok_or(Malformed::Identifier))
    }

    fn variable(&mut self) -> Option<usize> {
        let mut value = 0;
        for place in 0..4 {
            let byte = self.byte()?;
            value |= usize::from(byte & 0x7F) << (7 * place);
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subscriber::inbox::Inbox;
    use proptest::prelude::{any, proptest};
    use rmqtt_codec::types::{Publish as RawPublish, QoS};
    use rmqtt_codec::v3;
    use rmqtt_codec::v5::{self, PublishProperties};
    use tokio_util::codec::Encoder;

    fn read(bytes: &[u8], version: MqttVersion, packet_max: u32) -> Result<Publish, Malformed> {
        let mut inbox = Inbox::new(packet_max);
        inbox.bytes.extend_from_slice(bytes);
        Publish::read(inbox.next().unwrap().unwrap(), version)
    }

    fn raw(payload: &[u8], properties: Option<PublishProperties>) -> RawPublish {
        RawPublish {
            dup: true,
            retain: true,
            qos: QoS::AtLeastOnce,
            topic: "a/b".into(),
            packet_id: PacketId::new(7),
            payload: Bytes::copy_from_slice(payload),
            properties,
        }
    }

    fn encoded_v5(publish: RawPublish) -> bytes::BytesMut {
        let mut out = bytes::BytesMut::new();
        v5::Codec::new(0, 0).encode(publish.into(), &mut out).unwrap();
        out
    }

    fn expected(payload: &'static [u8]) -> Publish {
        Publish {
            topic: "a/b".to_owned(),
            delivery: Delivery::Confirmed(PacketId::new(7).unwrap()),
            retain: true,
            dup: true,
            payload: Bytes::from_static(payload),
            payload_length: payload.len(),
            content_type: None,
            user_properties: Vec::new(),
            properties_cut: false,
        }
    }

    #[test]
    fn what_the_codec_writes_is_read_in_either_version() {
        let mut out = bytes::BytesMut::new();
        v3::Codec::new(0).encode(raw(b"21.5", None).into(), &mut out).unwrap();
        assert_eq!(read(&out, MqttVersion::V311, 1000), Ok(expected(b"21.5")));
        let properties = PublishProperties {
            content_type: Some("text/plain".into()),
            message_expiry_interval: std::num::NonZeroU32::new(9),
            correlation_data: Some(Bytes::from_static(b"\x00\x01")),
            response_topic: Some("r".into()),
            is_utf8_payload: true,
            user_properties: vec![("traceparent".into(), "00-1".into())],
            ..PublishProperties::default()
        };
        let message = Publish {
            content_type: Some("text/plain".to_owned()),
            user_properties: vec![("traceparent".to_owned(), "00-1".to_owned())],
            ..expected(b"21.5")
        };
        let bytes = encoded_v5(raw(b"21.5", Some(properties)));
        assert_eq!(read(&bytes, MqttVersion::V5, 1000), Ok(message.clone()));
        // Five bytes less than the whole.
        let cut = Publish { payload: Bytes::new(), payload_length: 4, ..message };
        assert_eq!(read(&bytes, MqttVersion::V5, bytes.len() as u32 - 4), Ok(cut));
    }

    #[test]
    fn of_too_many_properties_some_are_kept() {
        let check = |count: usize, length: usize, packet_max: u32, kept: usize, payload: &str| {
            let property = |_| ("n".into(), "v".repeat(length).into());
            let properties = PublishProperties {
                user_properties: (0..count).map(property).collect(),
                ..PublishProperties::default()
            };
            let bytes = encoded_v5(raw(b"21.5", Some(properties)));
            let publish = read(&bytes, MqttVersion::V5, packet_max).unwrap();
            assert_eq!(publish.user_properties.len(), kept, "{count} of {length}");
            assert_eq!(publish.properties_cut, kept < count, "{count} of {length}");
            assert_eq!((&publish.payload[..], publish.payload_length), (payload.as_bytes(), 4));
        };
        check(1024, 1, 1 << 20, 1024, "21.5");
        check(1025, 1, 1 << 20, 1024, "21.5");
        check(3, 30_000, 1 << 20, 2, "21.5");
        // The packet is too large because of its properties: the payload was skipped with them.
        check(3, 1000, 2048, 2, "");
    }

    #[test]
    fn no_property_has_a_nul() {
        let bytes = b"\x30\x0f\0\x01a\x0a\x26\0\x02n\0\0\x03v\0wx";
        let publish = read(bytes, MqttVersion::V5, 1000).unwrap();
        let expected = ("n\u{fffd}".to_owned(), "v\u{fffd}w".to_owned());
        assert_eq!((publish.user_properties, &publish.payload[..]), (vec![expected], &b"x"[..]));
    }

    #[test]
    fn what_leaves_open_what_was_meant_is_refused_and_the_rest_is_not() {
        let check = |body: &[u8], flags: u8, expected: Result<&str, Malformed>| {
            let bytes = [&[0x30 | flags, u8::try_from(body.len()).unwrap()], body].concat();
            let topic = read(&bytes, MqttVersion::V5, 1000).map(|publish| publish.topic);
            assert_eq!(topic.as_deref(), expected.as_ref().map(|topic| *topic), "{body:?}");
        };
        check(b"\0\x01a\0", 0, Ok("a"));
        check(b"\0\x02a\xff\0", 0, Ok("a\u{fffd}"));
        check(b"\0\x02a\0\0", 0, Ok("a\u{fffd}"));
        check(b"\0\0\0", 0, Ok(""));
        check(b"\0\x01a\x05\x02\0\0\0\0x", 0, Ok("a"));
        check(b"\0\x01a\x03\x23\0\x01x", 0, Err(Malformed::TopicAlias));
        check(b"\0\x01a\x02\x99\x01x", 0, Err(Malformed::Property(0x99)));
        check(b"\0\x01a\x02\x02\x01x", 0, Err(Malformed::Short));
        check(b"\0\x01a\x09x", 0, Err(Malformed::Short));
        check(b"\0\x09a", 0, Err(Malformed::Short));
        check(b"\0\x01a\0\0\0", 2, Err(Malformed::Identifier));
        check(b"\0\x01a\0", 6, Err(Malformed::Qos));
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(flags in 0_u8..16, body: Vec<u8>, packet_max in 2_u32..100, v5 in any::<bool>()) {
            let version = if v5 { MqttVersion::V5 } else { MqttVersion::V311 };
            let mut bytes = vec![0x30 | flags];
            let mut length = body.len();
            loop {
                bytes.push((length % 128) as u8 | if length > 127 { 128 } else { 0 });
                length /= 128;
                if length == 0 {
                    break;
                }
            }
            bytes.extend(&body);
            if let Ok(publish) = read(&bytes, version, packet_max) {
                assert!(publish.payload.len() <= publish.payload_length);
            }
        }
    }
}
