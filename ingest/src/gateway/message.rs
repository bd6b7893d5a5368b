//! From what a device published to the log's record.

use crate::gateway::settings::GatewaySettings;
use crate::gateway::wire::{Publish, Will};
use crate::route::Route;
use bytes::Bytes;
use millstream_model::arrival::Arrival;
use millstream_model::record::Record;
use millstream_model::time::Micros;

/// The record of a message. Of a payload that is too large it has the head, in memory of its own, and says how long the whole was.
pub(crate) fn record(
    publish: Publish,
    route: &Route,
    received_at: Micros,
    settings: &GatewaySettings,
) -> Record {
    let length = publish.payload.len();
    let cut = length > settings.message_max;
    let payload = match publish.payload.get(..settings.truncated_keep.min(length)) {
        Some(head) if cut => Bytes::copy_from_slice(head),
        _ => publish.payload,
    };
    let arrival = Arrival {
        qos: publish.delivery.qos(),
        topic: publish.topic,
        retain: publish.retain,
        dup: publish.dup,
        received_at,
        content_type: publish.content_type,
        user_properties: publish.user_properties,
        truncated_from: cut.then_some(length as u64),
    };
    arrival.into_record(&route.device_id, payload)
}

/// The record of a Will. It is never too large: MQTT has two bytes for its length.
pub(crate) fn will_record(will: Will, route: &Route, received_at: Micros) -> Record {
    let arrival = Arrival {
        topic: will.topic,
        qos: will.qos,
        retain: will.retain,
        dup: false,
        received_at,
        content_type: will.content_type,
        user_properties: will.user_properties,
        truncated_from: None,
    };
    arrival.into_record(&route.device_id, will.payload)
}
