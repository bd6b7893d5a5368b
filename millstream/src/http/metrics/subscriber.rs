//! Somebody else's brokers, by subscriber.

use super::family::{Family, label};
use crate::pipeline::Observed;
use millstream_ingest::subscriber::Status;

/// A number of a status.
type Number = fn(&Status) -> u64;

pub(super) fn families(observed: &Observed) -> Vec<Family> {
    let gauges: [(&str, &str, Number); 2] = [
        (
            "millstream_subscriber_connected",
            "Whether the broker has accepted the connection and a subscription",
            |status| u64::from(status.connected),
        ),
        ("millstream_subscriber_in_flight_messages", "Messages that wait for the log", |status| {
            status.in_flight as u64
        }),
    ];
    let counters: [(&str, &str, Number); 8] = [
        ("millstream_subscriber_connections", "Connections that the broker accepted", |status| {
            status.generation
        }),
        (
            "millstream_subscriber_received_messages",
            "Messages that the broker delivered, those delivered again among them",
            |status| status.received,
        ),
        ("millstream_subscriber_acknowledged_messages", "Messages that were acknowledged", |status| {
            status.acknowledged
        }),
        (
            "millstream_subscriber_retained_messages",
            "Retained messages that only came because of a reconnect, and were dropped",
            |status| status.retained_dropped,
        ),
        (
            "millstream_subscriber_unwanted_messages",
            "Messages of subscriptions that are not configured any more, and were dropped",
            |status| status.unwanted_dropped,
        ),
        ("millstream_subscriber_lost_messages", "Messages of QoS 0 that the log did not take", |status| {
            status.lost
        }),
        (
            "millstream_subscriber_lost_sessions",
            "Sessions that the broker had forgotten, and with them what was published meanwhile",
            |status| status.sessions_lost,
        ),
        ("millstream_subscriber_errors", "Connections that ended, or could not be made", |status| {
            status.reconnects
        }),
    ];
    let fill = |mut family: Family, number: Number| {
        for (name, status) in &observed.subscribers {
            family.count([label("subscriber", name)], number(&status.borrow()));
        }
        family
    };
    let gauges = gauges.into_iter().map(|(name, help, number)| fill(Family::gauge(name, help), number));
    let counters = counters.into_iter().map(|(name, help, number)| fill(Family::counter(name, help), number));
    gauges.chain(counters).collect()
}
