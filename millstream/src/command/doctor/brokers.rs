//! Somebody else's brokers: whether each answers, believes who we are, and shows whom we believe.

use super::Finding;
use crate::config::subscriber::Subscriber;
use millstream_ingest::subscriber::probe;

pub(super) async fn check(subscriber: &Subscriber) -> Finding {
    let subject = format!("subscriber {}", subscriber.name());
    let settings = match subscriber.settings() {
        Ok(settings) => settings,
        Err(error) => return Finding::failed(subject, format!("{error:#}")),
    };
    let broker = settings.broker.to_string();
    match probe(settings).await {
        Ok(()) => Finding::ok(subject, format!("{broker} lets us in")),
        Err(error) => {
            Finding::failed(subject, format!("{broker} cannot be used: {:#}", anyhow::Error::new(error)))
                .advice("compare broker, mqtt, user, password_file and ca with what the broker expects")
        }
    }
}
