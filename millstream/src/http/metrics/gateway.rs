//! Devices.

use super::family::{Family, label};
use crate::pipeline::Observed;

pub(super) fn families(observed: &Observed) -> Vec<Family> {
    let Some(counters) = &observed.gateway else { return Vec::new() };
    let counts = counters.read();
    let mut refused = Family::counter(
        "millstream_gateway_refused_connections",
        "Clients that were told that they are not let in, by the reason that `lifecycle` has, too",
    );
    for (reason, clients) in counters.refusals() {
        refused.count([label("reason", reason)], clients);
    }
    let gauge = |name, help, value| Family::gauge(name, help).with([], value);
    let counter = |name, help, value| Family::counter(name, help).with([], value);
    vec![
        gauge("millstream_gateway_open_connections", "Clients that are connected", counts.connected),
        counter("millstream_gateway_connections", "Clients that were let in", counts.accepted),
        refused,
        counter("millstream_gateway_messages", "Messages that were given to the log", counts.messages),
        counter("millstream_gateway_bytes", "Bytes of these messages", counts.bytes),
        counter(
            "millstream_gateway_acknowledged_messages",
            "Messages whose acknowledgement was sent: the log has them",
            counts.acknowledged,
        ),
        counter(
            "millstream_gateway_denied_messages",
            "Messages that their device may not publish",
            counts.denied,
        ),
        counter(
            "millstream_gateway_lost_messages",
            "Messages of QoS 0 that the log did not take",
            counts.lost,
        ),
        gauge("millstream_gateway_in_flight_messages", "Messages that wait for the log", counts.in_flight),
        gauge(
            "millstream_gateway_in_flight_bytes",
            "Bytes of the messages that wait for the log",
            counts.in_flight_bytes,
        ),
    ]
}
