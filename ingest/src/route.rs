//! Which stream a message belongs to, and which device sent it.
//!
//! Decided by the MQTT topic alone; the payload is never looked at.

use millstream_model::name::{LogTopic, StreamName};
use millstream_model::stream::Stream;
use millstream_model::topic::DEVICE_ID;
use std::sync::Arc;

/// Finds the stream of a topic. The first stream in the order of the configuration wins, and within it the first pattern: patterns are not reordered by
/// how specific they are, so that the configuration reads from top to bottom.
#[derive(Debug, Clone, Default)]
pub struct Router {
    streams: Vec<Arc<Stream>>,
}

/// What becomes of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Where it is appended.
    pub log_topic: LogTopic,
    /// Which device sent it: the level that the stream's topic names `device_id`, else the MQTT client id.
    pub device_id: String,
    /// The stream that claims it; `None` if no stream does.
    pub stream: Option<StreamName>,
}

impl Router {
    /// A router over the configured streams, in the order of the configuration.
    #[must_use]
    pub fn new(streams: &[Arc<Stream>]) -> Self {
        Self { streams: streams.to_vec() }
    }

    /// Where a message goes. One that no stream claims goes to [`LogTopic::unrouted`].
    #[must_use]
    pub fn route(&self, topic: &str, client_id: &str) -> Route {
        for stream in &self.streams {
            let Some(captures) = stream.topics.iter().find_map(|pattern| pattern.captures(topic)) else {
                continue;
            };
            let device_id =
                captures.iter().find(|(name, _)| *name == DEVICE_ID).map_or(client_id, |(_, value)| *value);
            return Route {
                log_topic: stream.name.log_topic(),
                device_id: device_id.to_owned(),
                stream: Some(stream.name.clone()),
            };
        }
        Route { log_topic: LogTopic::unrouted(), device_id: client_id.to_owned(), stream: None }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use millstream_model::stream::{CloseRule, DatePartition, Misfit, Start};
    use std::time::Duration;

    /// A stream of which only name and topics matter.
    pub(crate) fn stream(name: &str, topics: &[&str]) -> Arc<Stream> {
        Arc::new(Stream {
            name: name.parse().unwrap(),
            topics: topics.iter().map(|topic| topic.parse().unwrap()).collect(),
            time: None,
            device_field: None,
            columns: Vec::new(),
            transform: None,
            on_mismatch: Misfit::Extra,
            on_bad_time: Misfit::Extra,
            column_limit: 256,
            date: DatePartition::Day,
            files: CloseRule { after: Duration::from_secs(60), size: 1, idle: Duration::from_secs(2) },
            start: Start::Refuse,
            sequence: None,
            keep: None,
        })
    }

    #[test]
    fn the_first_stream_and_its_first_pattern_win() {
        let router = Router::new(&[
            stream("weather", &["weather/{station}/{device_id}", "weather/#"]),
            stream("telemetry", &["devices/{device_id}/telemetry", "+/+", "weather/x/y"]),
        ]);
        let check = |topic: &str, expected: (&str, &str, Option<&str>)| {
            let route = router.route(topic, "client");
            let stream = route.stream.as_ref().map(StreamName::as_str);
            assert_eq!((route.log_topic.as_str(), route.device_id.as_str(), stream), expected, "{topic}");
        };
        check("weather/n/d1", ("millstream.weather", "d1", Some("weather")));
        check("weather/x/y", ("millstream.weather", "y", Some("weather")));
        check("weather/a/b/c", ("millstream.weather", "client", Some("weather")));
        check("devices/d7/telemetry", ("millstream.telemetry", "d7", Some("telemetry")));
        check("devices//telemetry", ("millstream.telemetry", "", Some("telemetry")));
        check("a/b", ("millstream.telemetry", "client", Some("telemetry")));
        check("a", ("millstream.unrouted", "client", None));
        check("$SYS/x", ("millstream.unrouted", "client", None));
    }
}
