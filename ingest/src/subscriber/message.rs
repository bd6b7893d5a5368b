//! From what a broker delivered to the log's record, and where it goes.

use super::publish::Publish;
use super::settings::SubscriberSettings;
use crate::gateway::routes::Routes;
use crate::lifecycle::{self, OWN_TOPICS};
use bytes::Bytes;
use millstream_log::LogError;
use millstream_model::arrival::Arrival;
use millstream_model::name::LogTopic;
use millstream_model::record::Record;
use millstream_model::time::Micros;

/// More than our own headers take of a record, without the topic.
const HEADERS: usize = 256;

/// Names of properties that are remembered because the log refused them; beyond, all properties are left out.
const REFUSED_MAX: usize = 16;

/// What the log takes of a message.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    message_max: usize,
    truncated_keep: usize,
    /// What the log takes, as far as it has told us.
    record_max: usize,
    /// Names of properties that it has refused.
    refused: Vec<String>,
}

impl Limits {
    pub(crate) fn new(settings: &SubscriberSettings) -> Self {
        let SubscriberSettings { message_max, truncated_keep, .. } = *settings;
        Self { message_max, truncated_keep, record_max: usize::MAX, refused: Vec::new() }
    }

    /// The log has refused a record of this size: one like it is cut from now on, so that the broker's next attempt succeeds.
    pub(crate) fn learn(&mut self, size: usize, error: &LogError) {
        match error {
            LogError::TooLarge { limit, .. } => {
                self.record_max = self.record_max.min(*limit).min(size.saturating_sub(1));
            }
            LogError::Header { name } if !self.refused.contains(name) && self.refused.len() < REFUSED_MAX => {
                self.refused.push(name.clone());
            }
            _ => {}
        }
    }

    /// Whether the log would refuse such properties.
    fn refuses(&self, properties: &[(String, String)]) -> bool {
        self.refused.len() >= REFUSED_MAX || properties.iter().any(|(name, _)| self.refused.contains(name))
    }
}

/// Where a message goes, and its record.
///
/// A broker does not say which client published a message. So where the stream's topic names no device, the topic itself is the device (with `_` for what no
/// device id may have): our own client id would make one device of all, and put them into one partition.
pub(crate) fn record(
    publish: Publish,
    routes: &Routes,
    received_at: Micros,
    limits: &Limits,
) -> (LogTopic, Record) {
    let named_by_topic = lifecycle::device_id(&publish.topic);
    let route = routes.route(&publish.topic, &named_by_topic);
    // Lifecycle events are our own; whoever publishes such a thing to a broker forges it.
    let log_topic =
        if publish.topic.starts_with(OWN_TOPICS) { LogTopic::unrouted() } else { route.log_topic };
    (log_topic, fit(publish, &route.device_id, received_at, limits))
}

/// The record, cut down where it is too large: first the payload to its head, then the properties, then all of the payload.
fn fit(mut publish: Publish, device_id: &str, received_at: Micros, limits: &Limits) -> Record {
    if !publish.user_properties.is_empty() && limits.refuses(&publish.user_properties) {
        publish.user_properties.clear();
        publish.properties_cut = true;
    }
    let fixed = HEADERS + publish.topic.len() + device_id.len();
    let properties = publish.user_properties.iter().map(|(name, value)| name.len() + value.len() + 8);
    let described = properties.sum::<usize>() + publish.content_type.as_ref().map_or(0, String::len);
    let too_much = fixed + described + publish.payload_length > limits.record_max;
    // Where packets are kept to less than a message may have, the rest of it was never there.
    let skipped = publish.payload.len() < publish.payload_length;
    let cut = too_much || skipped || publish.properties_cut || publish.payload_length > limits.message_max;
    if cut {
        // In memory of its own, so that the rest goes.
        let head = publish.payload.get(..limits.truncated_keep).unwrap_or(&publish.payload);
        publish.payload = Bytes::copy_from_slice(head);
    }
    if cut && fixed + described + publish.payload.len() > limits.record_max {
        publish.user_properties.clear();
        publish.content_type = None;
        if fixed + publish.payload.len() > limits.record_max {
            publish.payload = Bytes::new();
        }
    }
    let arrival = Arrival {
        qos: publish.delivery.qos(),
        topic: publish.topic,
        retain: publish.retain,
        dup: publish.dup,
        received_at,
        content_type: publish.content_type,
        user_properties: publish.user_properties,
        truncated_from: cut.then_some(publish.payload_length as u64),
    };
    arrival.into_record(device_id, publish.payload)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::wire::Delivery;
    use crate::route::Router;
    use crate::route::tests::stream;
    use millstream_model::arrival::ArrivalView;
    use std::sync::Arc;

    fn publish(topic: &str, payload: usize) -> Publish {
        Publish {
            topic: topic.to_owned(),
            delivery: Delivery::Unconfirmed,
            retain: false,
            dup: false,
            payload: vec![b'x'; payload].into(),
            payload_length: payload,
            content_type: None,
            user_properties: vec![("n".to_owned(), "v".repeat(100))],
            properties_cut: false,
        }
    }

    #[test]
    fn the_topic_is_the_device_where_it_names_none() {
        let router = Router::new(&[
            stream("telemetry", &["devices/{device_id}/telemetry", "any/#"]),
            stream("lifecycle", &["$millstream/lifecycle"]),
        ]);
        let routes = Routes::new(Arc::new(router), Arc::new(()));
        let settings = SubscriberSettings::new("s", "mqtt://b".parse().unwrap(), Vec::new());
        let check = |topic: &str, expected: (&str, &str)| {
            let (log_topic, record) = record(publish(topic, 1), &routes, Micros(0), &Limits::new(&settings));
            assert_eq!((log_topic.as_str(), &*String::from_utf8_lossy(&record.key)), expected);
            assert_eq!(ArrivalView(&record).topic(), topic);
        };
        check("devices/d1/telemetry", ("millstream.telemetry", "d1"));
        check("any/hall/1", ("millstream.telemetry", "any_hall_1"));
        check("any/../x", ("millstream.telemetry", "any____x"));
        check("other", ("millstream.unrouted", "other"));
        check("$millstream/lifecycle", ("millstream.unrouted", "$millstream_lifecycle"));
    }

    #[test]
    fn what_is_too_large_is_cut_to_what_the_log_takes_and_says_how_long_it_was() {
        let settings = SubscriberSettings::new("s", "mqtt://b".parse().unwrap(), Vec::new());
        let limits = Limits { message_max: 2000, truncated_keep: 1000, ..Limits::new(&settings) };
        let check = |publish: Publish, record_max: usize, expected: (usize, Option<u64>, bool)| {
            let record = fit(publish, "d", Micros(0), &Limits { record_max, ..limits.clone() });
            let properties = record.headers.iter().any(|(name, _)| name == "n");
            let view = ArrivalView(&record);
            assert_eq!((record.value.len(), view.truncated_from(), properties), expected, "{record_max}");
            assert!(record.size() <= record_max);
        };
        check(publish("t", 2000), usize::MAX, (2000, None, true));
        check(publish("t", 2001), usize::MAX, (1000, Some(2001), true));
        check(Publish { properties_cut: true, ..publish("t", 3) }, usize::MAX, (3, Some(3), true));
        check(Publish { payload_length: 5000, ..publish("t", 10) }, usize::MAX, (10, Some(5000), true));
        check(Publish { payload_length: 1500, ..publish("t", 10) }, usize::MAX, (10, Some(1500), true));
        check(publish("t", 1900), 1800, (1000, Some(1900), true));
        check(publish("t", 1900), 1300, (1000, Some(1900), false));
        check(publish("t", 1900), 900, (0, Some(1900), false));
        check(publish("t", 400), 900, (400, None, true));
    }

    #[test]
    fn what_the_log_refuses_by_its_properties_comes_without_them_the_next_time() {
        let settings = SubscriberSettings::new("s", "mqtt://b".parse().unwrap(), Vec::new());
        let mut limits = Limits::new(&settings);
        let properties = |limits: &Limits, name: &str| {
            let user_properties = vec![(name.to_owned(), "v".to_owned())];
            let record = fit(Publish { user_properties, ..publish("t", 9) }, "d", Micros(0), limits);
            let has = record.headers.iter().any(|(header, _)| header == name);
            assert_eq!((record.value.len(), ArrivalView(&record).truncated_from()), (9, (!has).then_some(9)));
            has
        };
        assert!(properties(&limits, "n"));
        limits.learn(900, &LogError::Header { name: "n".to_owned() });
        assert!(!properties(&limits, "n") && properties(&limits, "m"));
        for n in 0..100 {
            limits.learn(900, &LogError::Header { name: n.to_string() });
        }
        assert!(!properties(&limits, "m"));
        assert_eq!(limits.refused.len(), REFUSED_MAX);
    }

    #[test]
    fn a_limit_is_learnt_from_the_logs_refusal() {
        let settings = SubscriberSettings::new("s", "mqtt://b".parse().unwrap(), Vec::new());
        let mut limits = Limits::new(&settings);
        limits.learn(900, &LogError::Unknown { detail: String::new() });
        assert_eq!(limits.record_max, usize::MAX);
        limits.learn(900, &LogError::TooLarge { size: 950, limit: 800 });
        assert_eq!(limits.record_max, 800);
        // A log that counts otherwise than we do.
        limits.learn(700, &LogError::TooLarge { size: 801, limit: 800 });
        assert_eq!(limits.record_max, 699);
    }
}
