//! How a message of a device stands in a [`Record`]'s headers.

use crate::record::Record;
use crate::time::Micros;
use bytes::Bytes;

/// MQTT topic of the message.
pub const TOPIC: &str = "mqtt.topic";
/// QoS it was published with: `0`, `1` or `2`.
pub const QOS: &str = "mqtt.qos";
/// RETAIN flag, `0` or `1`.
pub const RETAIN: &str = "mqtt.retain";
/// DUP flag, `0` or `1`.
pub const DUP: &str = "mqtt.dup";
/// When it reached us: RFC 3339, microseconds.
pub const RECEIVED_AT: &str = "received_at";
/// MQTT v5 content type, where the device gave one.
pub const CONTENT_TYPE: &str = "content-type";
/// Length of the payload as published, where it was above the message limit and only its head was kept.
pub const TRUNCATED_FROM: &str = "millstream.truncated_from";
/// Stands, without value, in a record that takes the place of one that a repair of the log could not save.
pub const LOST: &str = "millstream.lost";

/// What is known of a message beside its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    /// MQTT topic.
    pub topic: String,
    /// 0, 1 or 2.
    pub qos: u8,
    /// RETAIN flag.
    pub retain: bool,
    /// DUP flag.
    pub dup: bool,
    /// When it reached us.
    pub received_at: Micros,
    /// MQTT v5 content type.
    pub content_type: Option<String>,
    /// MQTT v5 user properties, in order.
    pub user_properties: Vec<(String, String)>,
    /// The payload's length as published, if only its head is in the record.
    pub truncated_from: Option<u64>,
}

impl Arrival {
    /// The log's record of this message.
    ///
    /// A user property that has the name of one of our own headers comes after ours, so that readers who take the first see ours.
    #[must_use]
    pub fn into_record(self, device_id: &str, payload: Bytes) -> Record {
        let flag = |on: bool| Bytes::from_static(if on { b"1" } else { b"0" });
        let truncated =
            self.truncated_from.map(|length| (TRUNCATED_FROM.to_owned(), Bytes::from(length.to_string())));
        let mut headers: Vec<(String, Bytes)> = truncated.into_iter().collect();
        headers.extend([
            (TOPIC.to_owned(), Bytes::from(self.topic)),
            (QOS.to_owned(), Bytes::from(self.qos.to_string())),
            (RETAIN.to_owned(), flag(self.retain)),
            (DUP.to_owned(), flag(self.dup)),
            (RECEIVED_AT.to_owned(), Bytes::from(self.received_at.to_string())),
        ]);
        if let Some(content_type) = self.content_type {
            headers.push((CONTENT_TYPE.to_owned(), Bytes::from(content_type)));
        }
        headers.extend(self.user_properties.into_iter().map(|(name, value)| (name, Bytes::from(value))));
        Record { key: Bytes::copy_from_slice(device_id.as_bytes()), value: payload, headers }
    }
}

/// Looks at the headers of a record without copying them. Headers that are missing or unreadable (a foreign producer's) read as absent.
#[derive(Debug, Clone, Copy)]
pub struct ArrivalView<'a>(pub &'a Record);

impl<'a> ArrivalView<'a> {
    fn header(self, name: &str) -> Option<&'a str> {
        let (_, value) = self.0.headers.iter().find(|(header, _)| header == name)?;
        std::str::from_utf8(value).ok()
    }

    /// MQTT topic; empty where it is missing.
    #[must_use]
    pub fn topic(self) -> &'a str {
        self.header(TOPIC).unwrap_or_default()
    }

    /// When the message reached us.
    #[must_use]
    pub fn received_at(self) -> Option<Micros> {
        self.header(RECEIVED_AT).and_then(Micros::from_rfc3339)
    }

    /// Length as published of a payload that was cut.
    ///
    /// Only where it is the very first header: a device, whose properties come last, cannot mark its message as cut.
    #[must_use]
    pub fn truncated_from(self) -> Option<u64> {
        let (name, value) = self.0.headers.first()?;
        let text = std::str::from_utf8(value).ok().filter(|_| name == TRUNCATED_FROM)?;
        text.parse().ok()
    }

    /// Whether the record only stands for a message that a repair of the log could not save.
    ///
    /// Only where it is the very first header: no device can make its message look lost.
    #[must_use]
    pub fn is_lost(self) -> bool {
        self.0.headers.first().is_some_and(|(name, _)| name == LOST)
    }

    /// Content type, where the device gave one.
    #[must_use]
    pub fn content_type(self) -> Option<&'a str> {
        self.header(CONTENT_TYPE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrival() -> Arrival {
        Arrival {
            topic: "a/b".to_owned(),
            qos: 1,
            retain: false,
            dup: true,
            received_at: Micros(1_500_000),
            content_type: None,
            user_properties: vec![],
            truncated_from: None,
        }
    }

    #[test]
    fn a_record_says_what_arrived() {
        let arrival =
            Arrival { content_type: Some("text/plain".to_owned()), truncated_from: Some(7), ..arrival() };
        let record = arrival.into_record("d1", Bytes::from_static(b"x"));
        let view = ArrivalView(&record);
        assert_eq!(
            (view.topic(), view.content_type(), view.truncated_from()),
            ("a/b", Some("text/plain"), Some(7))
        );
        assert_eq!(view.received_at(), Some(Micros(1_500_000)));
        assert_eq!((&record.key[..], &record.value[..]), (&b"d1"[..], &b"x"[..]));
    }

    #[test]
    fn a_devices_own_properties_come_last_and_forge_nothing() {
        let forged = [
            (TRUNCATED_FROM, "1"),
            (LOST, ""),
            (TOPIC, "other"),
            (RECEIVED_AT, "2000-01-01T00:00:00Z"),
            ("traceparent", "00-1"),
        ];
        let user_properties = forged.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        let record = Arrival { user_properties, ..arrival() }.into_record("d1", Bytes::new());
        let view = ArrivalView(&record);
        assert_eq!(
            (view.topic(), view.truncated_from(), view.received_at()),
            ("a/b", None, Some(Micros(1_500_000)))
        );
        assert!(!view.is_lost());
        assert_eq!(record.headers.last().unwrap().1, "00-1");
    }
}
